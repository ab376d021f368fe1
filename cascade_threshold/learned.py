"""The learned signal: a logistic model over the other signals, held as plain numbers.

    z = intercept + sum of coef_i (x_i - mean_i) / scale_i + label[answer] + segment[segment] + sum of text_b w_b
    confidence = 1 / (1 + exp(-z))

where the last three terms, what the answer is, the request's segment and the hashed words of its text, are there only in models
that were chosen with them. As in learned deferral over token-level features (Gupta et al. 2024, arXiv 2404.10136). It is fitted
elsewhere, on rows that certify nothing; here its features are defined and its numbers evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, isfinite, log
from typing import Any, NamedTuple

from cascade_threshold.hashed_words import BUCKETS, score
from cascade_threshold.segment import segment_name

LOGIT_CLIP = 1e-6
"""Logits are taken of values clipped to [LOGIT_CLIP, 1 - LOGIT_CLIP]."""
_SIGNALS = ("first_token", "label_sequence", "mean", "minimum", "margin", "entropy", "label_probability")
LENGTHS = ("answer_tokens", "log_reply_tokens")
"""Tokens that spell the answer, and the logarithm of the tokens of the whole reply, an explanation before or after it included."""
FEATURES = (*(f"logit_{name}" for name in _SIGNALS), *_SIGNALS, *LENGTHS)
"""Features that a model may use: the logit of a signal, the signal itself, and the lengths."""


def features(
    signals: Mapping[str, float | None], answer_tokens: int | None, reply_tokens: int | None = None
) -> dict[str, float | None]:
    """Every feature of `FEATURES` for one measured reply; None where its signal is null, or its length is not told.

    ``signals``: values on [0, 1] by name (`Measurement.signals`); ``answer_tokens``: ``sum(Measurement.in_answer)``;
    ``reply_tokens``: ``len(Measurement.reply.tokens)``.
    """
    values = {name: signals.get(name) for name in _SIGNALS}
    row = {f"logit_{name}": None if value is None else logit(value) for name, value in values.items()} | values
    row["answer_tokens"] = float(answer_tokens) if answer_tokens else None
    row["log_reply_tokens"] = log(reply_tokens) if reply_tokens else None
    return row


def logit(value: float) -> float:
    """ln(p / (1 - p)) of p clipped to [1e-6, 1 - 1e-6]."""
    clipped = min(max(value, LOGIT_CLIP), 1.0 - LOGIT_CLIP)
    return log(clipped / (1.0 - clipped))


def check_learned(numbers: Mapping[str, Any]) -> None:
    """Raise ValueError, naming what is wrong, unless the numbers are a model that `learned_confidence` can evaluate.

    Expected: ``{"features": [names], "mean": [...], "scale": [...], "coef": [...], "intercept": x}``, and where the model reads
    them ``"labels": {label: x}``, ``"segments": {segment: x}`` and ``"text": [one x per bucket of hashed words]``.
    """
    missing = {"features", "mean", "scale", "coef", "intercept"} - set(numbers)
    if missing:
        raise ValueError(f"the learned signal lacks {', '.join(sorted(missing))}")
    names = list(numbers["features"])
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        raise ValueError(f"the learned signal uses unknown features: {', '.join(map(str, unknown))}")
    for part in ("mean", "scale", "coef"):
        if len(numbers[part]) != len(names):
            raise ValueError(f"the learned signal has {len(names)} features and {len(numbers[part])} values of {part}")
    labels, segments, text = numbers.get("labels", {}), numbers.get("segments", {}), numbers.get("text", ())
    for part, found in (("labels", labels), ("segments", segments)):
        if not isinstance(found, Mapping):
            raise ValueError(f"the learned signal has {part} that are not a mapping")
    if "text" in numbers and len(text) != BUCKETS:
        raise ValueError(f"the learned signal has {len(text)} weights of words, expected {BUCKETS}")
    parts = (numbers[part] for part in ("mean", "scale", "coef"))
    values = [numbers["intercept"], *labels.values(), *segments.values(), *text, *(x for part in parts for x in part)]
    if not all(type(value) in (int, float) and isfinite(value) for value in values):
        raise ValueError("the learned signal has a value that is not a finite number")
    if not all(scale > 0 for scale in numbers["scale"]):
        raise ValueError("the learned signal has a scale that is not positive")


def reads_text(numbers: Mapping[str, Any] | None) -> bool:
    """Whether a model reads the request's text."""
    return numbers is not None and "text" in numbers


def reads_segment(numbers: Mapping[str, Any] | None) -> bool:
    """Whether a model reads the request's segment."""
    return numbers is not None and "segments" in numbers


class Lack(NamedTuple):
    """What a request did not tell the model that reads it."""

    status: str
    reason: str


def lacking(numbers: Mapping[str, Any], *, text: str | None, segment: object) -> Lack | None:
    """Why a request has no confidence whatever the reply says; None where it tells all that the model reads.

    A segment that no fit row had is unknown: no number of the model and no test is about it. (One with few fit rows is
    known, and adds 0.)
    """
    if reads_text(numbers) and text is None:
        return Lack("no_text", "the model reads the request's text, and none was given")
    if reads_segment(numbers):
        name = segment_name(segment)
        if name is None:
            return Lack("no_segment", "the model reads the request's segment, and none was given")
        if name not in numbers["segments"]:
            return Lack("no_segment", f"the model was fitted on no row of segment {name[:80]!r}")
    return None


def learned_confidence(
    numbers: Mapping[str, Any],
    row: Mapping[str, float | None],
    *,
    answer: str | None = None,
    text: str | None = None,
    segment: object = None,
) -> float | None:
    """The model's confidence for one row of `features`; None when a feature of it is null, or the request is `lacking`.

    ``answer``: the predicted label; one that the model has no number for adds nothing. ``text``: the request's own text.
    ``segment``: its segment, as `segment_name` reads it.
    Raises ValueError for numbers that `check_learned` refuses, as far as it would change the result.
    """
    if lacking(numbers, text=text, segment=segment) is not None:
        return None
    z = float(numbers["intercept"])
    for name, mean, scale, coef in zip(
        numbers["features"], numbers["mean"], numbers["scale"], numbers["coef"], strict=True
    ):
        if name not in row:
            raise ValueError(f"the learned signal uses the unknown feature {name!r}")
        value = row[name]
        if value is None:
            return None
        z += coef * ((value - mean) / scale)
    if "labels" in numbers and answer is not None:
        z += numbers["labels"].get(answer, 0.0)
    if "segments" in numbers:
        z += numbers["segments"][segment_name(segment)]
    if "text" in numbers and text is not None:
        z += score(text, numbers["text"])
    if z != z:
        raise ValueError("the learned signal has a value that is not a finite number")
    return 1.0 / (1.0 + exp(-z)) if z >= 0 else exp(max(z, -745.0)) / (1.0 + exp(max(z, -745.0)))
