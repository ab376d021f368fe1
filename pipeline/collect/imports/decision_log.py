"""Decision log: the lines that `Cascade` writes in production, both models' answers where both were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

from cascade_threshold.label_text import label_text, truth_of
from cascade_threshold.policy import ACCEPT
from pipeline.collect.imports.answer import Answer, json_lines
from pipeline.errors import DataError


def read(path: Path, labels: Sequence[str] | None) -> list[Answer]:
    """The cheap answer of every line, and the strong one where it was asked. A line without an id is named by its number."""
    out = []
    for number, line in json_lines(path):
        if "action" not in line or "confidence" not in line:
            raise DataError(f"{path}:{number}: no action and confidence; this is not a line of a decision log")
        name = str(line.get("id") or f"line {number}")
        said = "answer" if "cheap_answer" not in line and line["action"] == ACCEPT else "cheap_answer"
        right, cheap, strong, verdict = (
            _label(path, number, line, key) for key in ("label", said, "strong_answer", "correct")
        )
        graded = None if right is not None or verdict is None else truth_of(verdict)
        out.append(Answer(name, "cheap", cheap, _confidence(path, number, line["confidence"]), graded, right))
        if strong is not None:
            out.append(Answer(name, "strong", strong, None, None, right))
    return out


def _confidence(path: Path, number: int, value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        found = nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = nan
    if not 0 <= found <= 1:
        raise DataError(
            f"{path}:{number}: confidence is {str(value)[:80]!r}, not a number in [0, 1]; write null where it is unknown"
        )
    return found


def _label(path: Path, number: int, line: Mapping[str, Any], key: str) -> str | None:
    try:
        return label_text(line.get(key))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}:{number}: {key} is {str(line[key])[:80]}: {error}; write it as text") from None
