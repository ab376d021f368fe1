"""Serialize: JSON values as YAML, TOML or .env, so that every reader gets the same values back.

YAML text is quoted always, so that a YAML 1.1 reader does not take the label `no` for false or `1e-06` for text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_PLAIN_ENV = re.compile(r"[A-Za-z0-9_./:@+,=%^~-]*")
"""Values that a shell takes as they are. docker --env-file keeps quotes as a part of the value, so only others are quoted."""


def to_yaml(value: Mapping[str, Any], comment: str = "") -> str:
    """YAML 1.1 and 1.2 in block style, with `comment` above it."""
    return _commented(comment) + "\n".join(_yaml(value, "")) + "\n"


def to_toml(value: Mapping[str, Any], comment: str = "") -> str:
    """TOML 1.0. TOML has no null: fields that are null are left out, at any depth."""
    return _commented(comment) + tomli_w.dumps(_without_null(value))


def to_env(values: Mapping[str, str], comment: str = "") -> str:
    """Lines NAME=value for a .env file; what is not plain is quoted for shells and dotenv readers alike."""
    return _commented(comment) + "".join(f"{name}={_env(value)}\n" for name, value in values.items())


def _commented(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def _yaml(value: Any, indent: str) -> list[str]:
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            lines += _entry(f"{indent}{_key(key)}:", inner, indent + "  ")
    else:
        for inner in value:
            nested = _yaml(inner, indent + "  ") if _is_block(inner) else [f"{indent}  {_inline(inner)}"]
            lines += [f"{indent}- {nested[0].lstrip()}", *nested[1:]]
    return lines


def _entry(head: str, value: Any, indent: str) -> list[str]:
    return [head, *_yaml(value, indent)] if _is_block(value) else [f"{head} {_inline(value)}"]


def _is_block(value: Any) -> bool:
    """Nested values go on lines of their own; short lists of scalars stay on one line."""
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list) and any(isinstance(v, Mapping | list) for v in value)


def _inline(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_inline(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text or "e" not in text else text.replace("e", ".0e", 1)
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) and key.casefold() not in _WORDS else _quoted(key)


def _quoted(text: str) -> str:
    """A JSON string, with what YAML does not allow in the open escaped too."""
    escaped = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else _escape(c) for c in escaped)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_null(v) for k, v in value.items() if v is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_null(v) for v in value if v is not None]
    return value


def _env(value: str) -> str:
    if _PLAIN_ENV.fullmatch(value):
        return value
    escaped = "".join(f"\\{c}" if c in '"\\$`' else c for c in value.replace("\n", " "))
    return f'"{escaped}"'
