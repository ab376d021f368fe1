"""Prediction: one example's answers, graded, as the row that all decisions are made from. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cascade_threshold.signals import Measurement


def correctness(answer: str | None, status: str | None, label: str | None) -> bool | None:
    """Whether an answer is right. Unknown (None) without a label or without a reply; no whole answer is wrong."""
    if label is None or status is None or status == "failed":
        return None
    return answer == label


def prediction(
    row: Mapping[str, Any], cheap: Measurement, cheap_usd: float | None, cheap_s: float | None
) -> dict[str, Any]:
    """The cheap model's half of a graded row; the strong half is null until it is added. `row`: what was known before.

    `label_probabilities` is what options and passages are ranked by: [(label, probability)], None where null.
    """
    usable = cheap.status == "ok"
    ranked = cheap.label_probabilities if usable else None
    return {
        **row, "cheap_answer": cheap.answer, "cheap_status": cheap.status,
        "cheap_correct": correctness(cheap.answer, cheap.status, row["label"]), "cheap_usd": cheap_usd,
        "cheap_cached_tokens": cheap.reply.cached_tokens, "cheap_s": cheap_s,
        "strong_answer": None, "strong_status": None, "strong_correct": None, "strong_usd": None,
        "strong_cached_tokens": None, "strong_s": None,
        "label_probabilities": None if ranked is None else list(ranked.items()), "strong_probabilities": None,
        **{f"signal_{name}": value for name, value in cheap.signals.items()},
        "cheap_answer_tokens": sum(cheap.in_answer) if usable else None,
        "cheap_reply_tokens": len(cheap.reply.tokens or ()) if usable else None,
    }  # fmt: skip


def with_strong(
    row: Mapping[str, Any],
    answer: str | None,
    status: str,
    usd: float | None,
    cached_tokens: int | None = None,
    seconds: float | None = None,
    probabilities: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The row with the reference's answer. People's answer is the label itself. `probabilities` of the labels, where told."""
    graded = correctness(answer, status, row["label"])
    return {
        **row, "strong_answer": answer, "strong_status": status, "strong_correct": graded, "strong_usd": usd,
        "strong_cached_tokens": cached_tokens, "strong_s": seconds,
        "strong_probabilities": None if probabilities is None else list(probabilities.items()),
    }  # fmt: skip
