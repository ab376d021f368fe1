"""Digests: the canonical form of a JSON value, and its sha256, by which values are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

_text = json.encoder.encode_basestring  # what the encoder makes of a text


def canonical(value: Any) -> str:
    """A JSON value in canonical form: sorted keys, no white space."""
    return _CANONICAL.encode(value)


def digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form, as UTF-8."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def digest_of_list(*parts: str | Sequence[str] | None) -> str:
    """`digest` of a list of texts, lists of texts and nulls, several times as fast."""
    texts = ",".join(
        [
            _text(part) if isinstance(part, str) else "null" if part is None else f"[{','.join(map(_text, part))}]"
            for part in parts
        ]
    )
    return hashlib.sha256(f"[{texts}]".encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file. Raises OSError when it cannot be read."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
