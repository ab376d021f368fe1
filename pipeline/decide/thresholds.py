"""Thresholds: the candidates, written as the shortest decimals that split the data the same way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal

import numpy as np

from pipeline.decide.arrays import Flags, Floats, Ints


def shortest_decimal(lo: float, hi: float) -> float:
    """The decimal t with the fewest digits that satisfies lo < t <= hi (the smallest such, for equal length).

    Any point of (lo, hi] makes the same decisions on the data, so the readable one is taken, and nothing needs rounding
    afterwards. Comparisons are made on the doubles themselves. Raises ValueError unless 0 <= lo < hi or lo is -inf.
    """
    if not lo < hi:
        raise ValueError(f"no decimal lies between {lo!r} and {hi!r}")
    if lo < 0 <= hi:
        return 0.0
    low = Decimal(lo)
    for digits in range(18):
        step = Decimal(1).scaleb(-digits)
        t = (low / step).to_integral_value(rounding=ROUND_CEILING) * step
        for candidate in (t, t + step):
            value = float(candidate)
            if lo < value <= hi:
                return value
    return hi


def accepted(confidence: Floats, threshold: float | None) -> Flags:
    """Which rows the cheap model keeps: confidence >= threshold; a null confidence (NaN) or no threshold escalates."""
    if threshold is None:
        return np.zeros(len(confidence), dtype=bool)
    with np.errstate(invalid="ignore"):
        return np.asarray(confidence >= threshold)


def in_stretch(threshold: float | None, stretches: Sequence[Sequence[float | None]]) -> bool:
    """Whether a threshold lies in one of the stretches (above, up to] that passed a test; None is an open end."""
    return threshold is not None and any(
        (above is None or threshold > above) and (up_to is None or threshold <= up_to) for above, up_to in stretches
    )


def cuts(confidence: Floats) -> tuple[Floats, Ints]:
    """Distinct confidences, ascending, and how many rows lie at or above each. NaN counts nowhere."""
    values, counts = np.unique(confidence[~np.isnan(confidence)], return_counts=True)
    return values, np.cumsum(counts[::-1])[::-1].astype(np.int64)


def threshold_at(values: Floats, index: int) -> float:
    """The threshold that accepts the distinct confidences values[index:] and escalates the rest."""
    if index <= 0:
        return 0.0
    return shortest_decimal(float(values[index - 1]), float(values[index]))


def _at_indices(values: Floats, indices: Ints) -> Floats:
    return np.array([threshold_at(values, int(i)) for i in indices], dtype=np.float64)


def levels_at_shares(confidence: Floats, shares: Floats) -> Floats:
    """Thresholds that accept about these shares of all rows, each moved out to the end of its tie block.

    `confidence` shape (n,), NaN for null; `shares` in (0, 1]. Returns the distinct thresholds in descending order, that
    is from few rows accepted to many. Shares beyond the rows that have a confidence end at 0.0.
    """
    values, at_or_above = cuts(confidence)
    if len(values) == 0:
        return np.zeros(0)
    wanted = np.ceil(np.asarray(shares) * len(confidence) - 1e-9)
    # at_or_above falls with the index: the last index that still accepts at least the wanted number of rows
    indices = len(values) - 1 - np.searchsorted(at_or_above[::-1], wanted, side="left")
    return _at_indices(values, np.unique(np.clip(indices, 0, len(values) - 1)))[::-1]


def sweep_levels(confidence: Floats, must_include: Floats | None = None, at_most: int = 1000) -> Floats:
    """At most `at_most` ascending thresholds over the observed confidences, with all of `must_include` among them.

    Starts at 0.0 (everything with a confidence is kept). Evenly spaced by rank when there are more distinct values than
    room, so dense regions get more levels. The last level lies above the largest confidence where that is possible
    (nothing is kept), which draws the strong model's end of the curve.
    """
    fixed = np.unique(np.concatenate([[0.0], np.zeros(0) if must_include is None else np.asarray(must_include)]))
    values, _ = cuts(confidence)
    if len(values) and values[-1] < 1.0:
        fixed = np.unique(np.append(fixed, threshold_at(np.append(values, 1.0), len(values))))
    room = at_most - len(fixed)
    if len(values) > 1 and room > 0:
        if len(values) - 1 <= room:
            indices = np.arange(1, len(values))
        else:
            ordered = np.sort(confidence[~np.isnan(confidence)])
            picks = ordered[np.linspace(0, len(ordered) - 1, room).astype(np.int64)]
            indices = np.unique(np.searchsorted(values, picks))
        fixed = np.unique(np.concatenate([fixed, _at_indices(values, indices)]))
    return fixed[: math.floor(at_most)] if len(fixed) > at_most else fixed


def candidate_levels(confidence_fit: Floats) -> Floats:
    """The thresholds a certificate may choose from: those that accept 1 %, 2 %, ... 100 % of the fit rows, descending.

    Taken from rows that do not certify, they are fixed beforehand, which makes the test's promise exact.
    """
    return levels_at_shares(confidence_fit, np.arange(1, 101) / 100)
