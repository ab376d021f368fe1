"""Explanation: what is wrong with a config, in words: where it stands, the value, the rule, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from pipeline.config.limits import in_words, out_of_range
from pipeline.config.task import TaskConfig
from pipeline.redact import redact

SECRET = ("api_key_env",)
"""Keys whose value no message shows: somebody may have written the key itself."""
_NUMBERS = {"int_type", "float_type", "int_from_float", "finite_number"}
_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
Loc = tuple[int | str, ...]


def explain(
    error: ValidationError,
    given: Mapping[str, Any],
    tree: Any,
    where: str,
    lines: Sequence[str],
    overrides: Sequence[str],
) -> str:
    """Every fault on a line of its own.

    `given`: what was validated; `tree`: the file's mapping, which knows lines; `overrides`: items of --set, which stand
    before the file.
    """
    faults: dict[Loc, list[Any]] = {}
    for fault in error.errors():
        faults.setdefault(_place(fault, given), []).append(fault)
    said = []
    for loc, found in faults.items():
        deeper = any(len(other) > len(loc) and other[: len(loc)] == loc for other in faults)
        if deeper and isinstance(found[0].get("input"), dict | list):
            continue  # one kind of value does not fit; what is wrong within the one that does is told by itself
        key = ".".join(map(str, loc)) or "config"
        line = _line(tree, loc)
        item = next((item for item in reversed(overrides) if _touches(item.partition("=")[0], key)), None)
        if item is not None and any(name in item for name in SECRET):
            item = item.partition("=")[0]
        place = f"--set {item}" if item else f"{where}:{line}" if line else where
        text = lines[line - 1].strip() if line and line <= len(lines) and not item else ""
        said.append(f"{place}: {key}: {_rule(found, loc, text)}")
    return redact("\n".join(said))


def _touches(overridden: str, key: str) -> bool:
    return f"{key}.".startswith(f"{overridden}.") or f"{overridden}.".startswith(f"{key}.")


def _place(fault: Any, given: Any) -> Loc:
    """The keys that lead to a fault, without what pydantic adds of its own: the kinds of a union."""
    loc: list[int | str] = []
    value = given
    for number, part in enumerate(fault["loc"], 1):
        last = number == len(fault["loc"])
        if (isinstance(value, Mapping) and part in value) or (
            isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
        ):
            value = value[part]
        elif not (last and fault["type"] in ("missing", "extra_forbidden")):
            continue
        loc.append(part)
    return tuple(loc)


def _line(tree: Any, loc: Loc) -> int | None:
    """Line (from 1) of the deepest part of `loc` that the file has."""
    line = None
    for part in loc:
        try:
            if isinstance(tree, CommentedMap) and part in tree:
                line = tree.lc.key(part)[0] + 1
            elif isinstance(tree, CommentedSeq) and isinstance(part, int) and part < len(tree):
                line = tree.lc.item(part)[0] + 1
            else:
                break
        except (KeyError, AttributeError, TypeError):
            break
        tree = tree[part]
    return line


def _rule(faults: Sequence[Any], loc: Loc, text: str) -> str:
    kinds = {fault["type"] for fault in faults}
    fault = faults[0]
    value = fault.get("input")
    shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
    if loc and loc[-1] in SECRET:
        shown = "this value"
    if "extra_forbidden" in kinds:
        near = difflib.get_close_matches(str(loc[-1]), sorted(_KEYS), 1, 0.6)
        if near and near[0] == str(loc[-1]):
            return "this key does not belong here; check the indentation, and what stands beside it"
        return "unknown key" + (f"; did you mean {near[0]!r}?" if near else "; remove it or check the spelling")
    if "missing" in kinds:
        return "is required and missing"
    if value is None:
        return "is blank; give it a value, or remove the key"
    if kinds & (_NUMBERS | _BOUNDS):
        return _number_rule(kinds, value, shown, loc)
    if "string_type" in kinds and not isinstance(value, str | dict | list):
        here = f" here ({text!r})" if text else ""
        return f"must be text, but YAML reads {shown} ({type(value).__name__}){here}; put it in quotes, spelled exactly as the data has it"
    if "string_type" in kinds:
        return f"{shown} is not text; write a single text"
    if "string_too_short" in kinds:
        return "is blank; write some text"
    if "tuple_type" in kinds or "list_type" in kinds:
        return f"{shown} is not a list; write it as [a, b]"
    if "dict_type" in kinds:
        return f"{shown} is not a mapping; write it as {{name: value}}"
    if "model_type" in kinds:
        model = next((kind for kind, _ in _kinds(loc) if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        keys = f" such as {', '.join(list(model.model_fields)[:4])}" if model else ""
        return f"{shown} is not a mapping; write its keys{keys} below it"
    if kinds & {"literal_error"}:
        if value is not None and loc[-1] == "human":
            return f"{shown} is not possible; write true where people are the strong side, or leave it out"
        expected = str(fault["ctx"]["expected"]).replace("'", "").replace("True", "true").replace("False", "false")
        return f"{shown} is not possible; write {expected}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    told = "value_error" in kinds and (isinstance(value, dict | list | BaseModel) or repr(value) in message)
    return message if told else f"{message}, got {shown}"


def _number_rule(kinds: set[str], value: Any, shown: str, loc: Loc) -> str:
    whole = ("int_type" in kinds and "float_type" not in kinds) or "int_from_float" in kinds
    if kinds & _BOUNDS:
        return out_of_range(shown, _limits(loc))
    limits = in_words(_limits(loc))
    wanted = "whole number" if whole else "finite number" if "finite_number" in kinds else "number"
    quoted = (
        "; write it without quotes" if isinstance(value, str) and value.strip().replace(".", "", 1).isdecimal() else ""
    )
    return f"{shown} is not a {wanted}{quoted}" + (f"; it must be {limits}" if limits and not quoted else "")


def _limits(loc: Loc) -> Interval:
    """The bounds of the number at a place of the config."""
    found = [bound for _, metadata in _kinds(loc) for bound in metadata if isinstance(bound, Gt | Ge | Lt | Le)]
    return Interval(**{name: getattr(bound, name) for bound in found for name in bound.__slots__})


def _kinds(loc: Loc) -> list[tuple[Any, tuple[Any, ...]]]:
    """The types, each with its constraints, that the config may have at a place."""
    kinds: list[tuple[Any, tuple[Any, ...]]] = [(TaskConfig, ())]
    for part in loc:
        inner: list[tuple[Any, tuple[Any, ...]]] = []
        for kind, _ in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                field: FieldInfo | None = kind.model_fields.get(str(part))
                if field is not None:
                    inner += _unfolded(field.annotation, tuple(_single(field)))
            elif get_origin(kind) in (dict, tuple):
                inner += _unfolded(get_args(kind)[-1 if get_origin(kind) is dict else 0], ())
        kinds = inner
    return kinds


def _unfolded(annotation: Any, metadata: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The members of a union, and what Annotated says of each."""
    own = tuple(getattr(annotation, "__metadata__", ()))
    flat = metadata + tuple(m for item in own for m in _single(item))
    if own:
        yield from _unfolded(annotation.__origin__, flat)
    elif get_origin(annotation) is not None and get_origin(annotation) not in (dict, tuple):
        for member in get_args(annotation):
            if member is not type(None):
                yield from _unfolded(member, flat)
    else:
        yield annotation, flat


def _single(item: Any) -> Iterator[Any]:
    """Constraints one by one, however they were written."""
    if isinstance(item, FieldInfo | GroupedMetadata):
        for part in item.metadata if isinstance(item, FieldInfo) else item:
            yield from _single(part)
    else:
        yield item


def _all_keys(model: type[BaseModel], found: set[str]) -> set[str]:
    for name, field in model.model_fields.items():
        found.add(name)
        stack = [field.annotation]
        while stack:
            kind = stack.pop()
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                _all_keys(kind, found)
            stack.extend(get_args(kind))
    return found


_KEYS = _all_keys(TaskConfig, set())
