"""Intervals for one proportion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from pipeline.decide.arrays import Floats


def clopper_pearson(k: npt.ArrayLike, n: npt.ArrayLike, level: float = 0.9) -> tuple[Floats, Floats]:
    """Exact two-sided interval for a proportion from k successes of n; [0, 1] where n is 0. Broadcasts."""
    hits, size = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64))
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        lower = np.where(hits > 0, betaincinv(hits, size - hits + 1, tail), 0.0)
        upper = np.where(hits < size, betaincinv(hits + 1, size - hits, 1 - tail), 1.0)
    return lower, upper


def wilson(k: npt.ArrayLike, n: npt.ArrayLike, z: float) -> tuple[Floats, Floats]:
    """Wilson score interval of a proportion at z standard errors; [0, 1] where n is 0. Broadcasts."""
    hits, size = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64))
    rows = np.where(size > 0, size, 1.0)
    rate, spread = np.where(size > 0, hits / rows, 0.5), z * z / rows
    centre = (rate + spread / 2) / (1 + spread)
    half = z * np.sqrt(rate * (1 - rate) / rows + spread / rows / 4) / (1 + spread)
    lower = np.where((size > 0) & (hits > 0), np.maximum(centre - half, 0), 0.0)
    upper = np.where((size > 0) & (hits < size), np.minimum(centre + half, 1), 1.0)
    return lower, upper
