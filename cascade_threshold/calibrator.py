"""Calibrator: a confidence read as a probability of being right. Standard library only, one number at a time.

Fitting is in `calibration`; this module is what production carries. A calibrator is a kind and a handful of numbers, and
every kind is non-decreasing, so a calibrated reading never contradicts the order of the confidences themselves.
Decisions are made on the confidence, never on the calibrated reading.

    none          p
    temperature   expit(s logit p)                          s >= 0, the inverse of the temperature (Guo et al. 2017)
    platt         expit(s logit p + i)                      s >= 0 (Platt 1999, on the logit)
    beta          expit(a ln p - b ln(1 - p) + c)           a, b >= 0 (Kull, Silva Filho and Flach 2017)
    spline        expit(cubic spline of logit p)            non-decreasing, linear beyond the outer knots
    isotonic      linear between the points of a step fit   never strictly increasing

p is clipped to [1e-6, 1 - 1e-6] before a logit or logarithm is taken. "Strictly increasing" means: between those limits.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from cascade_threshold.logistic_form import LogisticForm, Term, clipped, expit, logit

FORMS: dict[str, LogisticForm] = {
    "temperature": LogisticForm((Term("slope", logit, 1.0),)),
    "platt": LogisticForm((Term("slope", logit, 1.0), Term("intercept", lambda p: 1.0, 0.0, rising=False))),
    "beta": LogisticForm(
        (
            Term("a", lambda p: math.log(clipped(p)), 1.0),
            Term("b", lambda p: -math.log1p(-clipped(p)), 1.0),
            Term("c", lambda p: 1.0, 0.0, rising=False),
        )
    ),
}
"""Calibrators that are a logistic function of a weighted sum."""
_OTHERS = {"none": (), "spline": ("knots", "pieces"), "isotonic": ("x", "y")}
KINDS = ("none", *FORMS, "spline", "isotonic")
LARGEST = 1e6  # far beyond any coefficient of a sensible fit; keeps every sum finite


@dataclass(frozen=True)
class Calibrator:
    """A fitted map from a confidence in [0, 1] to a probability in [0, 1]; `None` stays `None`."""

    kind: str = "none"
    numbers: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = field(default=None, compare=False)
    """Why this kind was chosen, if it is not simply the one asked for."""
    selection: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)
    """Candidates of `auto`: kind, cv_nll (nat per row) and cv_nll_se."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"calibrator kind {self.kind!r} is not one of {', '.join(KINDS)}")
        form = FORMS.get(self.kind)
        expected = form.names if form else _OTHERS[self.kind]
        if set(self.numbers) != set(expected):
            raise ValueError(f"a {self.kind} calibrator has the numbers {list(expected)}, found {sorted(self.numbers)}")
        if form:
            _check_form(form, self.numbers)
        else:
            _CHECKS[self.kind](self.numbers)

    def __call__(self, confidence: float | None) -> float | None:
        """Probability of being right; None where the confidence is None or NaN. Values outside [0, 1] are clipped."""
        if confidence is None or math.isnan(confidence):
            return None
        p = min(max(float(confidence), 0.0), 1.0)
        form = FORMS.get(self.kind)
        return form(p, self.numbers) if form else _EVALUATIONS[self.kind](p, self.numbers)

    @property
    def strictly_increasing(self) -> bool:
        """Whether distinct confidences within [1e-6, 1 - 1e-6] keep distinct readings (up to the last bit)."""
        if form := FORMS.get(self.kind):
            return form.strictly_increasing(self.numbers)
        if self.kind == "spline":
            return all(_least_slope(piece, width) > 0 for piece, width in _pieces(self.numbers))
        return self.kind == "none"

    def to_numbers(self) -> dict[str, Any]:
        """A JSON-ready dict: kind, its numbers, and the derived `strictly_increasing`."""
        return {"kind": self.kind, **self.numbers, "strictly_increasing": self.strictly_increasing}

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, Any]) -> Calibrator:
        """Read `to_numbers` back. Raises ValueError on an unknown kind, a missing, odd or decreasing number."""
        inner = {k: v for k, v in numbers.items() if k not in ("kind", "strictly_increasing")}
        return cls(kind=str(numbers.get("kind", "")), numbers=inner)


def _none(p: float, numbers: Mapping[str, Any]) -> float:
    return p


def _spline(p: float, numbers: Mapping[str, Any]) -> float:
    z, knots, pieces = logit(p), numbers["knots"], numbers["pieces"]
    i = min(max(bisect_right(knots, z) - 1, 0), len(pieces) - 1)
    c0, c1, c2, c3 = pieces[i]
    u = z - knots[i]
    if u < 0:  # left of the first knot
        return expit(c0 + c1 * u)
    over = z - knots[-1]
    if over > 0:
        u = knots[-1] - knots[i]
        end_slope = c1 + u * (2 * c2 + u * 3 * c3)
        return expit(c0 + u * (c1 + u * (c2 + u * c3)) + end_slope * over)
    return expit(c0 + u * (c1 + u * (c2 + u * c3)))


def _isotonic(p: float, numbers: Mapping[str, Any]) -> float:
    x, y = numbers["x"], numbers["y"]
    i = bisect_right(x, p)
    if i == 0:
        return float(y[0])
    if i == len(x):
        return float(y[-1])
    share = (p - x[i - 1]) / (x[i] - x[i - 1])
    return float(min(max(y[i - 1] + share * (y[i] - y[i - 1]), y[i - 1]), y[i]))


def _pieces(numbers: Mapping[str, Any]) -> list[tuple[list[float], float]]:
    knots = numbers["knots"]
    return [(piece, knots[i + 1] - knots[i]) for i, piece in enumerate(numbers["pieces"])]


def _least_slope(piece: list[float], width: float) -> float:
    """Smallest derivative of c0 + c1 u + c2 u^2 + c3 u^3 over 0 <= u <= width: at an end, or at the vertex."""
    _, c1, c2, c3 = piece
    at = [0.0, width]
    if c3 != 0 and 0 < -c2 / (3 * c3) < width:
        at.append(-c2 / (3 * c3))
    return min(c1 + u * (2 * c2 + u * 3 * c3) for u in at)


def _finite(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise ValueError(f"calibrator number {name} is {value!r}, expected a finite number of at most {LARGEST:g}")
    return float(value)


def _finite_list(name: str, value: object, least: int) -> list[float]:
    if not isinstance(value, list | tuple) or len(value) < least:
        raise ValueError(f"calibrator number {name} is {value!r}, expected a list of at least {least} numbers")
    return [_finite(name, v) for v in value]


def _check_form(form: LogisticForm, numbers: Mapping[str, Any]) -> None:
    for term in form.terms:
        if _finite(term.name, numbers[term.name]) < 0 and term.rising:
            raise ValueError(
                f"calibrator number {term.name} is {numbers[term.name]!r}: it would reverse the order of confidences"
            )


def _check_spline(numbers: Mapping[str, Any]) -> None:
    knots = _finite_list("knots", numbers["knots"], 2)
    if any(b <= a for a, b in pairwise(knots)):
        raise ValueError("calibrator knots do not increase")
    if not isinstance(numbers["pieces"], list | tuple) or len(numbers["pieces"]) != len(knots) - 1:
        raise ValueError(f"a spline of {len(knots)} knots has {len(knots) - 1} pieces")
    for piece in numbers["pieces"]:
        if len(_finite_list("pieces", piece, 4)) != 4:
            raise ValueError(f"a spline piece has four coefficients, found {piece!r}")
    end: float | None = None
    for piece, width in _pieces(numbers):
        c0, c1, c2, c3 = piece
        if _least_slope(piece, width) < -1e-9:
            raise ValueError("calibrator spline decreases")
        if end is not None and abs(c0 - end) > 1e-6 * max(1.0, abs(end)):
            raise ValueError("calibrator spline jumps at a knot")
        end = c0 + width * (c1 + width * (c2 + width * c3))


def _check_isotonic(numbers: Mapping[str, Any]) -> None:
    x, y = _finite_list("x", numbers["x"], 1), _finite_list("y", numbers["y"], 1)
    if len(x) != len(y):
        raise ValueError(f"isotonic calibrator: {len(x)} x and {len(y)} y")
    if any(b <= a for a, b in pairwise(x)) or any(b < a for a, b in pairwise(y)):
        raise ValueError("isotonic calibrator: x must increase and y must not decrease")
    if y[0] < 0 or y[-1] > 1:
        raise ValueError("isotonic calibrator: y lies outside [0, 1]")


_EVALUATIONS: dict[str, Callable[[float, Mapping[str, Any]], float]] = {
    "none": _none,
    "spline": _spline,
    "isotonic": _isotonic,
}
_CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "none": lambda numbers: None,
    "spline": _check_spline,
    "isotonic": _check_isotonic,
}
