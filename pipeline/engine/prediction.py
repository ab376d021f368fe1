"""Prediction: one example's answers, graded, as the row that all decisions are made from. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from cascade_threshold.signals import Measurement
from pipeline.config.vocabulary import LENGTHS, SIGNALS

CHEAP = (
    "cheap_answer",
    "cheap_status",
    "cheap_correct",
    "cheap_usd",
    "cheap_cached_tokens",
    "cheap_s",
    "label_probabilities",
    *LENGTHS,
    *(f"signal_{name}" for name in SIGNALS),
)
"""Columns of the cheap model's half of a graded row."""
STRONG = (
    "strong_answer",
    "strong_status",
    "strong_correct",
    "strong_usd",
    "strong_cached_tokens",
    "strong_s",
    "strong_probabilities",
)
"""Columns of the reference's half."""
_signals = itemgetter(*SIGNALS)


def correctness(answer: str | None, status: str | None, label: str | None) -> bool | None:
    """Whether an answer is right. Unknown (None) without a label or without a reply; no whole answer is wrong."""
    if label is None or status is None or status == "failed":
        return None
    return answer == label


def cheap_half(
    label: str | None, m: Measurement, usd: float | None, seconds: float | None, *, ranked: bool
) -> tuple[Any, ...]:
    """The values of CHEAP, of a row whose right answer is `label`.

    `ranked`: options and passages are ranked by the labels' probabilities, so they are kept: [(label, probability)].
    """
    usable = m.status == "ok"
    probabilities = m.label_probabilities if usable and ranked else None
    return (
        m.answer,
        m.status,
        correctness(m.answer, m.status, label),
        usd,
        m.reply.cached_tokens,
        seconds,
        None if probabilities is None else list(probabilities.items()),
        m.answer_tokens if usable else None,
        len(m.reply.tokens or ()) if usable else None,
        *_signals(m.signals),
    )


def strong_half(
    label: str | None,
    answer: str | None,
    status: str,
    usd: float | None,
    cached_tokens: int | None = None,
    seconds: float | None = None,
    probabilities: Mapping[str, float] | None = None,
) -> tuple[Any, ...]:
    """The values of STRONG. People's answer is the label itself. `probabilities` of the labels, where told."""
    return (
        answer,
        status,
        correctness(answer, status, label),
        usd,
        cached_tokens,
        seconds,
        None if probabilities is None else list(probabilities.items()),
    )
