"""The learned signal: a logistic model over the other signals, held as plain numbers.

    z = intercept + sum of coef_i (x_i - mean_i) / scale_i + label[answer] + sum of text_b w_b,   confidence = 1 / (1 + exp(-z))

where the last two terms, what the answer is and the hashed words of the request's text, are there only in models that were
chosen with them. As in learned deferral over token-level features (Gupta et al. 2024, arXiv 2404.10136). It is fitted elsewhere, on rows
that certify nothing; here its features are defined and its numbers evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, isfinite, log
from typing import Any

from cascade_threshold.hashed_words import BUCKETS, score

LOGIT_CLIP = 1e-6
"""Logits are taken of values clipped to [LOGIT_CLIP, 1 - LOGIT_CLIP]."""
_SIGNALS = ("first_token", "label_sequence", "mean", "minimum", "margin", "entropy", "label_probability")
FEATURES = (*(f"logit_{name}" for name in _SIGNALS), *_SIGNALS, "answer_tokens")
"""Features that a model may use: the logit of a signal, the signal itself, and the number of tokens in the answer."""


def features(signals: Mapping[str, float | None], answer_tokens: int) -> dict[str, float | None]:
    """Every feature of `FEATURES` for one measured reply; None where its signal is null.

    ``signals``: values on [0, 1] by name (`Measurement.signals`); ``answer_tokens``: ``sum(Measurement.in_answer)``.
    """
    values = {name: signals.get(name) for name in _SIGNALS}
    row = {f"logit_{name}": None if value is None else logit(value) for name, value in values.items()} | values
    row["answer_tokens"] = float(answer_tokens) if answer_tokens else None
    return row


def logit(value: float) -> float:
    """ln(p / (1 - p)) of p clipped to [1e-6, 1 - 1e-6]."""
    clipped = min(max(value, LOGIT_CLIP), 1.0 - LOGIT_CLIP)
    return log(clipped / (1.0 - clipped))


def check_learned(numbers: Mapping[str, Any]) -> None:
    """Raise ValueError, naming what is wrong, unless the numbers are a model that `learned_confidence` can evaluate.

    Expected: ``{"features": [names], "mean": [...], "scale": [...], "coef": [...], "intercept": x}``, and where the model reads
    them ``"labels": {label: x}`` and ``"text": [one x per bucket of hashed words]``.
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
    labels, text = numbers.get("labels", {}), numbers.get("text", ())
    if not isinstance(labels, Mapping):
        raise ValueError("the learned signal has labels that are no mapping")
    if "text" in numbers and len(text) != BUCKETS:
        raise ValueError(f"the learned signal has {len(text)} weights of words, expected {BUCKETS}")
    values = [*numbers["mean"], *numbers["scale"], *numbers["coef"], numbers["intercept"], *labels.values(), *text]
    if not all(type(value) in (int, float) and isfinite(value) for value in values):
        raise ValueError("the learned signal has a value that is not a finite number")
    if not all(scale > 0 for scale in numbers["scale"]):
        raise ValueError("the learned signal has a scale that is not positive")


def reads_text(numbers: Mapping[str, Any] | None) -> bool:
    """Whether a model reads the request's text."""
    return numbers is not None and "text" in numbers


def learned_confidence(
    numbers: Mapping[str, Any], row: Mapping[str, float | None], *, answer: str | None = None, text: str | None = None
) -> float | None:
    """The model's confidence for one row of `features`; None when a feature of it is null, or the text that it reads.

    ``answer``: the predicted label; one that the model has no number for adds nothing. ``text``: the request's own text.
    Raises ValueError for numbers that `check_learned` refuses, as far as it would change the result.
    """
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
    if "text" in numbers:
        if text is None:
            return None
        z += score(text, numbers["text"])
    if z != z:
        raise ValueError("the learned signal has a value that is not a finite number")
    return 1.0 / (1.0 + exp(-z)) if z >= 0 else exp(max(z, -745.0)) / (1.0 + exp(max(z, -745.0)))
