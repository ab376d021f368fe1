"""Answer: what one model said to one row, as an evaluation tool's file tells it. Unknown is None, never 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum
from pathlib import Path
from typing import Any, NamedTuple

from cascade_threshold import json_text
from cascade_threshold.answers import AnswerSet
from cascade_threshold.completion import parse
from cascade_threshold.signals import measure
from pipeline.errors import DataError

MOST_LABELS = 60
"""More distinct texts than this are not a closed set of answers."""


@dataclass(frozen=True)
class Answer:
    """One row of one model."""

    example_id: str
    model: str
    answer: str | None = None
    confidence: float | None = None
    """Probability of the answer's tokens, in [0, 1]."""
    correct: bool | None = None
    """As the tool graded it."""
    label: str | None = None
    """The right answer, where the file tells it."""
    group: str | None = None
    usd: float | None = None
    unread: str | None = None
    """The reply's text where it came with logprobs and is none of the answers, so that they say nothing."""


class Said(NamedTuple):
    """What one completion says."""

    answer: str | None
    confidence: float | None
    model: str
    unread: str | None
    """As in `Answer`."""


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers. Raises DataError that names file and line."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    value = json_text.parse(line)
                except ValueError as error:
                    raise DataError(f"{path}:{number}: no JSON ({error}); each line is one object") from None
                if not isinstance(value, dict):
                    raise DataError(f"{path}:{number}: {type(value).__name__} where an object was expected")
                yield number, value
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; name the tool's own output file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}); unpack it, or save it as UTF-8") from None


def json_file(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises DataError."""
    try:
        value = json_text.parse(path.read_text("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; name the tool's own output file") from None
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds {type(value).__name__}, expected one JSON object")
    return value


def from_completions(bodies: Sequence[tuple[str, Mapping[str, Any]]], labels: Sequence[str] | None) -> dict[str, Said]:
    """What each completion says, by id.

    `labels`: the closed set of answers; without it the different texts of the replies are the set. The confidence is the
    probability of the answer's own tokens, None where there are no logprobs.
    """
    replies = {example_id: parse(body) for example_id, body in bodies}
    if labels is None:
        texts = sorted({reply.text.strip() for reply in replies.values() if reply.text and reply.text.strip()})
        labels = texts if 2 <= len(texts) <= MOST_LABELS else None
    answers = None if labels is None else AnswerSet.classify(labels)
    out: dict[str, Said] = {}
    for example_id, _ in bodies:
        reply = replies[example_id]
        model, told = reply.model or "", reply.text if reply.tokens else None
        if answers is None:
            out[example_id] = Said(reply.text, None, model, told)
            continue
        found = measure(reply, answers)
        value = found.signals.get("label_sequence") if found.status == "ok" else None
        out[example_id] = Said(found.answer, value, model, told if found.answer is None else None)
    return out


def probability(logprobs: Any) -> float | None:
    """exp of the sum of tokens' logprobs; None unless every one is a number of at most 0."""
    if not isinstance(logprobs, list) or not logprobs:
        return None
    values = [v for v in logprobs if isinstance(v, int | float) and not isinstance(v, bool) and v <= 1e-6]
    return exp(min(0.0, fsum(values))) if len(values) == len(logprobs) else None


def truth(value: Any) -> bool | None:
    """A grade as yes or no: true and 1, "C" of inspect; None for a share in between and anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return bool(value) if value in (0, 1) else None
    return {"C": True, "I": False, "correct": True, "incorrect": False}.get(value) if isinstance(value, str) else None
