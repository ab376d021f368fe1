"""Logistic form: a calibrator that is the logistic function of a weighted sum. Standard library only.

Most calibrators of a single confidence have this form and differ only in their features. One is added by a file that
defines a `LogisticForm` and by its name in `calibrator.FORMS`; the offline fit reads the same form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

CLIP = 1e-6


def clipped(p: float) -> float:
    """p within [1e-6, 1 - 1e-6], where its logit is finite."""
    return min(max(p, CLIP), 1.0 - CLIP)


def logit(p: float) -> float:
    """ln(p / (1 - p)) of p clipped to [1e-6, 1 - 1e-6]."""
    p = clipped(p)
    return math.log(p) - math.log1p(-p)


def expit(z: float) -> float:
    """1 / (1 + e^-z), without overflow."""
    if z >= 0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


class Term(NamedTuple):
    """One number of a form and what it multiplies."""

    name: str
    """Of the number, in calibration.json and policy.json."""
    feature: Callable[[float], float]
    """Of a confidence in [0, 1]: finite, and non-decreasing (or constant, for an intercept)."""
    start: float
    """Starting value of the fit, towards which a weak penalty pulls the number."""
    rising: bool = True
    """Whether the feature rises, so that a negative number would reverse the order of confidences."""


class LogisticForm(NamedTuple):
    """expit of the sum of number times feature, over the terms in their order."""

    terms: tuple[Term, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the numbers."""
        return tuple(term.name for term in self.terms)

    def __call__(self, p: float, numbers: Mapping[str, Any]) -> float:
        """The reading of a confidence in [0, 1]."""
        total = 0.0
        for term in self.terms:
            total += numbers[term.name] * term.feature(p)
        return expit(total)

    def strictly_increasing(self, numbers: Mapping[str, Any]) -> bool:
        """Whether some rising feature has a weight."""
        return any(numbers[term.name] > 0 for term in self.terms if term.rising)
