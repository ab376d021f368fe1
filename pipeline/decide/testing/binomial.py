"""Exact binomial tests and bounds for shares that are counted, such as errors among accepted rows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from pipeline.decide.arrays import Floats


def too_few_errors_p(errors: npt.ArrayLike, trials: npt.ArrayLike, limit: npt.ArrayLike) -> Floats:
    """P(at most this many errors) when the error rate is exactly `limit`: the p-value of H: rate >= limit.

    The arguments broadcast against each other; no trial at all gives p = 1.
    """
    k, m, rate = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (errors, trials, limit)))
    below_all = k < m
    p = special.betainc(np.where(below_all, m - k, 1.0), np.where(below_all, k, 0.0) + 1, 1 - rate)
    return np.asarray(np.where(below_all, p, 1.0), dtype=np.float64)


def quantile(p: float, trials: int, rate: float) -> int:
    """The smallest number of successes that is not exceeded with probability `p` or more; as scipy.stats.binom.ppf."""
    near = max(0, math.ceil(special.bdtrik(p, trials, rate)))
    return next(k for k in range(max(near - 1, 0), trials + 1) if k == trials or special.bdtr(k, trials, rate) >= p)


def upper_bound(successes: npt.ArrayLike, trials: npt.ArrayLike, alpha: float) -> Floats:
    """One-sided Clopper-Pearson upper bound: the true rate exceeds it with probability at most `alpha`."""
    k, m = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    open_end = k >= m
    bound = special.betaincinv(np.where(open_end, 1.0, k + 1), np.where(open_end, 1.0, m - k), 1 - alpha)
    return np.asarray(np.where(open_end, 1.0, bound), dtype=np.float64)
