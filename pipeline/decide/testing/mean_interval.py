"""Interval of a mean of skewed amounts, such as dollars, over rows or over groups of rows.

Student's interval and Hall's, in which a cubic transformation takes the skewness out (Hall 1992, JRSS B 54), joined: where
few amounts are independent, a few dear ones are often not among those seen. Simulated at 90 % with 20 groups whose amounts
are lognormal it covers .88 to .90, where percentiles of the bootstrap cover .77.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from pipeline.decide.arrays import Floats, Ints


def ratio_interval(
    value: float, deviations: Floats, group: Ints | None, level: float
) -> tuple[float | None, float | None]:
    """Limits of a figure that is a function of sums over rows; (None, None) from fewer than two rows or groups.

    `deviations` (n,): how much each row moves the figure, to first order (of a mean of x: (x - mean) / n). `group` (n,)
    numbers the groups that rows come in; None where each row is one by itself.
    """
    moved = deviations if group is None else np.bincount(np.unique(group, return_inverse=True)[1], deviations)
    number = len(moved)
    if number < 2:
        return None, None
    off = moved - moved.mean()
    variance = float((off**2).mean())
    if variance <= (1e-12 * value / number) ** 2:
        return value, value
    error = (number * number / (number - 1) * variance) ** 0.5
    skewness = float((off**3).mean()) / variance**1.5 / number**0.5
    lower, upper = skewed_interval(np.array([value]), np.array([error]), np.array([skewness]), number, level)
    return float(lower[0]), float(upper[0])


def skewed_interval(value: Floats, error: Floats, skewness: Floats, number: int, level: float) -> tuple[Floats, Floats]:
    """Limits from estimates, their standard errors and their sampling skewness, shape (L,) each; `number` of rows or groups."""
    quantile = float(stdtrit(max(number - 1, 1), (1 + level) / 2))
    lower = np.minimum(value - quantile * error, value - _skewed(quantile, skewness) * error)
    upper = np.maximum(value + quantile * error, value - _skewed(-quantile, skewness) * error)
    return lower, upper


def _skewed(quantile: float, skewness: Floats) -> Floats:
    """The studentised deviation t for which t + g t²/3 + g² t³/27 + g/6 is the quantile, g the skewness of the mean."""
    slight = np.abs(skewness) < 1e-6
    g = np.where(slight, 1.0, skewness)
    return np.asarray(np.where(slight, quantile, 3 / g * (np.cbrt(1 + g * (quantile - g / 6)) - 1)))
