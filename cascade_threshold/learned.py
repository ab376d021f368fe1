"""The learned signal: a logistic model over the other signals, held as plain numbers.

    z = intercept + sum of coef_i (x_i - mean_i) / scale_i,   confidence = 1 / (1 + exp(-z))

as in learned deferral over token-level features (Gupta et al. 2024, arXiv 2404.10136). It is fitted elsewhere, on rows
that certify nothing; here its features are defined and its numbers evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, isfinite, log
from typing import Any

LOGIT_CLIP = 1e-6
"""Logits are taken of values clipped to [LOGIT_CLIP, 1 - LOGIT_CLIP]."""
_SIGNALS = ("first_token", "label_sequence", "mean", "minimum", "margin", "entropy", "label_probability")
FEATURES = (*(f"logit_{name}" for name in _SIGNALS), *_SIGNALS, "answer_tokens")
"""Names that a model may use: the logit of a signal, the signal itself, and how many tokens the answer has."""


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

    Expected: ``{"features": [names], "mean": [...], "scale": [...], "coef": [...], "intercept": x}``.
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
    values = [*numbers["mean"], *numbers["scale"], *numbers["coef"], numbers["intercept"]]
    if not all(type(value) in (int, float) and isfinite(value) for value in values):
        raise ValueError("the learned signal has a value that is not a finite number")
    if not all(scale > 0 for scale in numbers["scale"]):
        raise ValueError("the learned signal has a scale that is not positive")


def learned_confidence(numbers: Mapping[str, Any], row: Mapping[str, float | None]) -> float | None:
    """The model's confidence for one row of `features`; None when a feature of it is null.

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
    if z != z:
        raise ValueError("the learned signal has a value that is not a finite number")
    return 1.0 / (1.0 + exp(-z)) if z >= 0 else exp(max(z, -745.0)) / (1.0 + exp(max(z, -745.0)))
