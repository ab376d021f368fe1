"""Decision log: the lines that `Cascade` writes in production, both models' answers where both were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade_threshold.label_text import label_text
from pipeline.collect.imports.answer import Answer, json_lines
from pipeline.errors import DataError


def read(path: Path, labels: Sequence[str] | None) -> list[Answer]:
    """The cheap answer of every line, and the strong one where it was asked. A line without an id is named by its number."""
    out = []
    for number, line in json_lines(path):
        if "action" not in line or "confidence" not in line:
            raise DataError(f"{path}:{number}: no action and confidence; this is not a line of a decision log")
        name = str(line.get("id") or f"line {number}")
        confidence = line["confidence"]
        known = isinstance(confidence, int | float) and not isinstance(confidence, bool)
        right, cheap, strong = (_label(path, number, line, key) for key in ("label", "cheap_answer", "strong_answer"))
        out.append(Answer(name, "cheap", cheap, float(confidence) if known else None, None, right))
        if strong is not None:
            out.append(Answer(name, "strong", strong, None, None, right))
    return out


def _label(path: Path, number: int, line: Mapping[str, Any], key: str) -> str | None:
    try:
        return label_text(line.get(key))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}:{number}: {key} is {str(line[key])[:80]}: {error}; write it as text") from None
