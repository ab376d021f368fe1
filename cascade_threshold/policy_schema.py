"""PolicySchema: reads and checks a policy file before any decision is made with it. Standard library only.

The JSON Schema in schemas/policy.schema.json is the only definition of the format; `problems` evaluates the few keywords
that it uses, so that production needs no validator package.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from cascade_threshold import json_text
from cascade_threshold.errors import DataError, UsageError

SCHEMA = "cascade-policy/1"
ROLES = ("cheap", "strong")
"""The two sides of a policy."""
MOST_BYTES = 16_000_000
"""Of a policy file; one has a few thousand."""

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON Schema of a policy, as shipped in the package."""
    text = (Path(__file__).parent / "schemas" / "policy.schema.json").read_text("utf-8")
    return dict(json.loads(text))


def canonical(value: Any) -> bytes:
    """A JSON value in the form that is digested: sorted keys, no white space, UTF-8. Raises ValueError on NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def digest(document: Mapping[str, Any]) -> str:
    """sha256 of everything in the document but its `digest`, 64 hex digits."""
    return hashlib.sha256(canonical({k: v for k, v in document.items() if k != "digest"})).hexdigest()


def part_digests(document: Mapping[str, Any]) -> dict[str, str]:
    """Shortened digests of the parts ("threshold", "cheap.model"), from which an edit is named."""
    parts = {path: value for path, value in _parts(document) if path not in ("digest", "digests")}
    return {path: hashlib.sha256(canonical(value)).hexdigest()[:8] for path, value in sorted(parts.items())}


def _parts(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping) and value and key not in ("versions", "digests", "calibrator"):
            yield from ((f"{key}.{inner}", part) for inner, part in value.items())
        else:
            yield key, value


def edits(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the parts that differ from what was digested; empty when the document is as it was written."""
    if digest(document) == document["digest"]:
        return ()
    written, found = document.get("digests") or {}, part_digests(document)
    names = {name for name in written.keys() | found.keys() if written.get(name) != found.get(name)}
    return tuple(sorted(names)) if written and names else ("something",)


def read(path: str | Path) -> dict[str, Any]:
    """A policy document from a file, checked. Raises UsageError (no such file) or DataError (names what is wrong)."""
    path = Path(path)
    try:
        with path.open("rb") as handle:
            raw = handle.read(MOST_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such policy; `recommend` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a policy ({error})") from None
    if len(raw) > MOST_BYTES:
        raise DataError(f"{path}: not a policy, it has more than {MOST_BYTES:,} bytes")
    try:
        document = json_text.parse(text, parse_constant=_refuse, object_pairs_hook=_unique)
    except ValueError as error:
        raise DataError(f"{path}: not a policy, the JSON is damaged ({error}); export or recommend it again") from None
    return checked(document, str(path))


def checked(document: Any, where: str = "policy") -> dict[str, Any]:
    """The document itself, if it follows the schema. Raises DataError naming every field that does not."""
    if not isinstance(document, dict) or "schema" not in document:
        raise DataError(f"{where}: not a policy; the field schema must be {SCHEMA!r}")
    found = document["schema"]
    if found != SCHEMA:
        newer = re.fullmatch(r"cascade-policy/(\d+)", str(found))
        hint = (
            "it was written by another version of this package; install that one or calibrate again"
            if newer
            else "this is another kind of file"
        )
        raise DataError(f"{where}: schema is {found!r}, this version reads {SCHEMA!r}; {hint}")
    wrong = list(problems(document, schema()))
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise DataError(f"{where}: {shown}")
    if document["verdict"] in ESCALATES_ALL and document["threshold"] is not None:
        raise DataError(
            f"{where}: verdict is {document['verdict']!r}, which escalates everything, and threshold is {document['threshold']!r}; "
            "write null as the threshold, or recommend again"
        )
    return document


ESCALATES_ALL = ("uncertified", "strong_only")
"""Verdicts without a threshold."""


def problems(value: Any, rule: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """What in a JSON value breaks a schema, one sentence each, with the path of the field.

    Knows $ref within the file, type, const, enum, required, properties, items, minItems, minimum, maximum,
    exclusiveMinimum and pattern, which is all that the policy's schema uses.
    """
    while "$ref" in rule:
        rule = schema()["$defs"][rule["$ref"].rsplit("/", 1)[1]]
    name = path or "the policy"
    if "type" in rule and not _is(value, rule["type"]):
        kinds = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
        yield f"{name} is {_shown(value)}, expected {' or '.join(kinds)}"
        return
    if "const" in rule and value != rule["const"]:
        yield f"{name} is {_shown(value)}, expected {rule['const']!r}"
    if "enum" in rule and value not in rule["enum"]:
        yield f"{name} is {_shown(value)}, expected one of {', '.join(json.dumps(v) for v in rule['enum'])}"
    if isinstance(value, str) and "pattern" in rule and not re.search(rule["pattern"], value):
        yield f"{name} is {_shown(value)}, expected text like {rule['pattern']}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "minimum" in rule and not value >= rule["minimum"]:
            yield f"{name} is {value!r}, expected at least {rule['minimum']}"
        if "maximum" in rule and not value <= rule["maximum"]:
            yield f"{name} is {value!r}, expected at most {rule['maximum']}"
        if "exclusiveMinimum" in rule and not value > rule["exclusiveMinimum"]:
            yield f"{name} is {value!r}, expected more than {rule['exclusiveMinimum']}"
    if isinstance(value, dict):
        for key in rule.get("required", ()):
            if key not in value:
                yield f"{path}.{key} is missing" if path else f"{key} is missing"
        for key, inner in rule.get("properties", {}).items():
            if key in value:
                yield from problems(value[key], inner, f"{path}.{key}" if path else key)
    if isinstance(value, list):
        if len(value) < rule.get("minItems", 0):
            yield f"{name} has {len(value)} entries, expected at least {rule['minItems']}"
        if "items" in rule:
            for index, item in enumerate(value):
                yield from problems(item, rule["items"], f"{name}[{index}]")


def _is(value: Any, kinds: str | list[str]) -> bool:
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if isinstance(value, _TYPES[kind]) and not (isinstance(value, bool) and kind in ("integer", "number")):
            return True
        if kind == "integer" and isinstance(value, float) and value.is_integer():
            return True
    return False


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(k for k in keys if keys.count(k) > 1)!r} is given twice")
    return seen
