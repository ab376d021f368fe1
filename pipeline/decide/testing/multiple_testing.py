"""Testing several thresholds at one error rate, in an order that is fixed beforehand."""

from __future__ import annotations

import numpy as np

from pipeline.decide.arrays import Flags, Floats


def fixed_sequence(p_values: Floats, delta: float) -> int:
    """How many hypotheses are rejected in order, each at the full `delta`, stopping at the first that is not.

    Controls the family-wise error under any dependence (Maurer, Hothorn & Lehmacher 1995).
    """
    failed = np.flatnonzero(~(p_values <= delta))
    return int(failed[0]) if len(failed) else len(p_values)


def fallback(p_values: Floats, weights: Floats, delta: float) -> Flags:
    """Which hypotheses are rejected when each owns a share of delta and hands it on after a rejection.

    `weights` sum to at most 1. Unlike one fixed sequence it cannot be stopped by an early failure, because later starts
    own a share themselves. Controls the family-wise error under any dependence (Wiens 2003; Wiens & Dmitrienko 2005).
    """
    rejected = np.zeros(len(p_values), dtype=bool)
    carried = 0.0
    for i, p in enumerate(p_values):
        level = float(weights[i]) * delta + carried
        # a level of 0 rejects nothing, not even an exact p of 0
        rejected[i] = level > 0 and bool(p <= level)
        carried = level if rejected[i] else 0.0
    return rejected


def start_weights(shares: Floats, starts: dict[float, float]) -> Floats:
    """Weights for `fallback`: each start's weight goes to the level whose share is nearest to it (the smaller, if tied)."""
    weights = np.zeros(len(shares))
    for share, weight in starts.items():
        weights[int(np.argmin(np.abs(shares - share)))] += weight
    return weights
