"""Audit: what a line says about correctness: its label, a human verdict, or the strong model's answer.

Labels are read as everywhere: 5 and 5.0 are "5", true is "true" (and yes for a judge), and texts are compared as the set compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cascade_threshold.answers import AnswerSet
from cascade_threshold.label_text import label_text, truth_of
from cascade_threshold.policy import Policy


class Audit(NamedTuple):
    """Found in one line."""

    wrong: bool | None = None
    disagrees: bool | None = None
    lost: int | None = None
    unreadable: bool = False
    """The line carries a label or a verdict that could not be read."""


class AuditReader:
    """Reads the audit of lines decided by one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def read(self, line: Mapping[str, Any], answer: Any) -> Audit:
        """What the line says about `answer`, the cheap model's."""
        answers = self._answers(line.get("options"))
        said = self._label(line.get("label"), answers)
        cheap = self._label(answer, answers)
        strong = self._label(line.get("strong_answer"), answers)
        verdict = _verdict(line.get("correct"))
        wrong = None if verdict is None else not verdict
        if wrong is None and said is not None and cheap is not None:
            wrong = said != cheap
        two = answers is not None and len(answers.labels) == 2
        spoilt = (_given(line, "correct") and verdict is None) or (
            wrong is None and (said is not None or _given(line, "label"))
        )
        disagrees = None if strong is None or cheap is None else strong != cheap
        return Audit(wrong, disagrees, _lost(wrong, disagrees, said, strong, two), spoilt)

    def _answers(self, options: Any) -> AnswerSet | None:
        try:
            return self._policy.answer_set(options)
        except (TypeError, ValueError):
            return None

    def _label(self, value: Any, answers: AnswerSet | None) -> str | None:
        """The label that a value means; what it says itself where the set is not known. None for what is no label."""
        try:
            if answers is not None:
                return answers.label_of(value)
            text = label_text(value)
        except (TypeError, ValueError):
            return None
        return None if text is None else text.strip()


def _lost(wrong: bool | None, disagrees: bool | None, label: str | None, strong: str | None, two: bool) -> int | None:
    """Strong right minus cheap right. Where the right answer is not named, and there are more than two, a strong answer that
    differs from a wrong one may be wrong as well: then the line is skipped, so that not only evidence in the cheap model's favour counts."""
    if wrong is None or disagrees is None or (label is None and not two):
        return None
    if not disagrees:
        return 0
    return -1 if not wrong else 1 if label is None else int(strong == label)


def _given(line: Mapping[str, Any], name: str) -> bool:
    """Whether the line has a value there: a blank, or a null written as a word that is no label, is none."""
    value = line.get(name)
    if isinstance(value, str):
        return value.strip().casefold() not in ("", "null", "none", "nan")
    return value is not None and value == value


def _verdict(value: Any) -> bool | None:
    try:
        return truth_of(label_text(value) or "")
    except (TypeError, ValueError):
        return None
