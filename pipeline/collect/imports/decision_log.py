"""Decision log: the lines that `Cascade` writes in production, both models' answers where both were asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.collect.imports.answer import Answer, json_lines
from pipeline.errors import DataError


def read(path: Path, labels: Sequence[str] | None) -> list[Answer]:
    """The cheap answer of every line, and the strong one where it was asked. A line without an id is named by its number."""
    out = []
    for number, line in json_lines(path):
        if "action" not in line or "confidence" not in line:
            raise DataError(f"{path}:{number}: no action and confidence; this is no line of a decision log")
        name = str(line.get("id") or f"line {number}")
        confidence, label = line["confidence"], line.get("label")
        known = isinstance(confidence, int | float) and not isinstance(confidence, bool)
        right = str(label) if label is not None else None
        out.append(Answer(name, "cheap", line.get("cheap_answer"), float(confidence) if known else None, None, right))
        if line.get("strong_answer") is not None:
            out.append(Answer(name, "strong", line["strong_answer"], None, None, right))
    return out
