"""The map from a confidence to a probability of being right, as production evaluates it."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline

from cascade_threshold.calibrator import Calibrator
from cascade_threshold.logistic_form import CLIP

# one cubic and its neighbours, made by hand: value 0, 1, 2.5 and slope .6, .5, .7 at -2, 0, 3
HERMITE = CubicHermiteSpline([-2.0, 0.0, 3.0], [0.0, 1.0, 2.5], [0.6, 0.5, 0.7])
SPLINE = {"kind": "spline", "knots": [-2.0, 0.0, 3.0], "pieces": HERMITE.c[::-1].T.tolist()}
EXAMPLES: list[dict[str, Any]] = [
    {"kind": "none"},
    {"kind": "temperature", "slope": 0.6},
    {"kind": "platt", "slope": 0.5, "intercept": -1.2},
    {"kind": "beta", "a": 0.4, "b": 1.3, "c": 0.2},
    SPLINE,
    {"kind": "isotonic", "x": [0.2, 0.5, 0.9], "y": [0.1, 0.1, 0.8]},
]
by_kind = pytest.mark.parametrize("numbers", EXAMPLES, ids=lambda n: n["kind"])


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@by_kind
def test_numbers_survive_json_and_give_the_same_bits(numbers: dict[str, Any]) -> None:
    first = Calibrator.from_numbers(numbers)
    second = Calibrator.from_numbers(json.loads(json.dumps(first.to_numbers())))
    assert second == first
    assert all(second(p) == first(p) for p in np.linspace(0, 1, 501).tolist())


@by_kind
def test_it_never_decreases(numbers: dict[str, Any]) -> None:
    calibrator = Calibrator.from_numbers(numbers)
    values = [calibrator(p) for p in np.linspace(0, 1, 2001).tolist()]
    assert all(b >= a - 1e-15 for a, b in pairwise(values))  # type: ignore[operator]


@by_kind
def test_what_is_unknown_stays_unknown(numbers: dict[str, Any]) -> None:
    calibrator = Calibrator.from_numbers(numbers)
    assert calibrator(None) is None
    assert calibrator(math.nan) is None


number = st.floats(-1e6, 1e6)
positive = st.floats(0, 1e6)
anything = st.floats(allow_nan=True, allow_infinity=True)


@given(slope=positive, intercept=number, a=positive, b=positive, p=anything)
def test_every_float_is_read_as_a_probability_or_as_unknown(
    slope: float, intercept: float, a: float, b: float, p: float
) -> None:
    made = (
        {"kind": "temperature", "slope": slope},
        {"kind": "platt", "slope": slope, "intercept": intercept},
        {"kind": "beta", "a": a, "b": b, "c": intercept},
        *EXAMPLES,
    )
    for numbers in made:
        value = Calibrator.from_numbers(numbers)(p)
        assert value is None if math.isnan(p) else 0 <= value <= 1  # type: ignore[operator]


@pytest.mark.parametrize("p", [1e-5, 0.02, 0.3, 0.5, 0.77, 0.999])
def test_formulas_hold_in_closed_form(p: float) -> None:
    def expit(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    def read(**numbers: Any) -> float | None:
        return Calibrator.from_numbers(numbers)(p)

    assert read(kind="none") == p
    assert read(kind="temperature", slope=0.5) == pytest.approx(math.sqrt(p) / (math.sqrt(p) + math.sqrt(1 - p)))
    assert read(kind="platt", slope=1.0, intercept=math.log(3)) == pytest.approx(3 * p / (3 * p + 1 - p))
    assert read(kind="beta", a=1.0, b=1.0, c=0.0) == pytest.approx(p)
    assert read(kind="beta", a=2.0, b=0.5, c=-1.0) == pytest.approx(1 / (1 + math.e / (p**2 / (1 - p) ** 0.5)))
    z = logit(p)
    if -2 <= z <= 3:
        inside = float(HERMITE(z))
    else:  # straight on, with the slope that the curve has at its end
        inside = (z + 2) * 0.6 if z < -2 else 2.5 + (z - 3) * 0.7
    assert Calibrator.from_numbers(SPLINE)(p) == pytest.approx(expit(inside))
    assert Calibrator.from_numbers(EXAMPLES[5])(p) == pytest.approx(np.interp(p, [0.2, 0.5, 0.9], [0.1, 0.1, 0.8]))


def test_certainty_is_clipped_before_a_logit_is_taken() -> None:
    platt = Calibrator.from_numbers({"kind": "platt", "slope": 1.0, "intercept": 0.0})
    assert platt(1.0) == platt(1 - CLIP) == pytest.approx(1 - CLIP)
    assert platt(0.0) == platt(CLIP) == pytest.approx(CLIP)


@pytest.mark.parametrize(
    ("numbers", "strict"),
    [
        *((n, n["kind"] != "isotonic") for n in EXAMPLES),
        ({"kind": "platt", "slope": 0.0, "intercept": 1.0}, False),
        ({"kind": "temperature", "slope": 0.0}, False),
        ({"kind": "beta", "a": 0.0, "b": 0.1, "c": 0.0}, True),
        ({"kind": "beta", "a": 0.0, "b": 0.0, "c": 0.0}, False),
        ({"kind": "spline", "knots": [0.0, 1.0], "pieces": [[0.0, 0.0, 1.0, 0.0]]}, False),  # flat at its start
    ],
)
def test_strictly_increasing_ones_are_marked(numbers: dict[str, Any], strict: bool) -> None:
    calibrator = Calibrator.from_numbers(numbers)
    assert calibrator.strictly_increasing is strict
    assert calibrator.to_numbers()["strictly_increasing"] is strict


@pytest.mark.parametrize(
    "numbers",
    [
        {"kind": "magic"},
        {},
        {"kind": "platt", "slope": 1.0},
        {"kind": "platt", "slope": 1.0, "intercept": 0.0, "extra": 1.0},
        {"kind": "platt", "slope": -0.1, "intercept": 0.0},
        {"kind": "temperature", "slope": math.nan},
        {"kind": "temperature", "slope": True},
        {"kind": "temperature", "slope": "1"},
        {"kind": "beta", "a": 1.0, "b": math.inf, "c": 0.0},
        {"kind": "beta", "a": 1.0, "b": 1e7, "c": 0.0},
        {"kind": "spline", "knots": [0.0], "pieces": []},
        {"kind": "spline", "knots": [1.0, 0.0], "pieces": [[0.0, 1.0, 0.0, 0.0]]},
        {"kind": "spline", "knots": [0.0, 1.0], "pieces": [[0.0, 1.0, 0.0]]},
        {"kind": "spline", "knots": [0.0, 1.0], "pieces": [[0.0, 1.0, -2.0, 0.0]]},
        {"kind": "spline", "knots": [0.0, 1.0, 2.0], "pieces": [[0.0, 1.0, 0.0, 0.0], [5.0, 1.0, 0.0, 0.0]]},
        {"kind": "isotonic", "x": [0.1, 0.1], "y": [0.1, 0.2]},
        {"kind": "isotonic", "x": [0.1, 0.2], "y": [0.3, 0.2]},
        {"kind": "isotonic", "x": [0.1, 0.2], "y": [0.3, 1.2]},
        {"kind": "isotonic", "x": [], "y": []},
        {"kind": "isotonic", "x": [0.1], "y": [0.1, 0.2]},
    ],
)
def test_numbers_that_are_no_calibrator_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"calibrator|spline|expected"):
        Calibrator.from_numbers(numbers)
