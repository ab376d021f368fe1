"""Tango's score interval of a difference of two shares on the same rows, and of one that is weighted by strata.

Tango 1998 (Stat Med 17): all differences that the score test of paired proportions does not reject. The limits of strata are
joined by their variances (MOVER: Zou and Donner 2008, Stat Med 27): a heavy stratum of few rows, none of which differs, widens
the interval, where its spread would say nothing.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from pipeline.decide.arrays import Floats
from pipeline.decide.testing.paired_score import score

_HALVINGS = 60


def tango_interval(losses: float, wins: float, n: int, level: float) -> tuple[float, float]:
    """Lower and upper bound of P(win) - P(loss) after `losses` and `wins` on n rows; n >= 1, 0 < level < 1."""
    limit = float(ndtri((1 + level) / 2))

    def distance(loss: float) -> float:
        """The score statistic of a loss rate minus win rate of `loss`; falls as it grows."""
        if loss >= 0:
            return float(score(losses, wins, n, min(loss, 1 - 1e-12)))
        return -float(score(wins, losses, n, min(-loss, 1 - 1e-12)))

    def root(wanted: float) -> float:
        low, high = -1.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if middle == 0.0 and losses + wins == 0:  # no row differs: the statistic is 0 / 0 here
                middle = 1e-12
            low, high = (middle, high) if distance(middle) > wanted else (low, middle)
        return (low + high) / 2

    return -root(-limit), -root(limit)


def weighted_tango(difference: Floats, weights: Floats, level: float) -> tuple[float, float]:
    """Limits of the weighted mean of `difference` (n,), each -1, 0 or 1; rows of one weight are a stratum.

    Raises ValueError where no row counts.
    """
    total = float(weights.sum())
    if total <= 0:
        raise ValueError("no row counts")
    value, below, above = float(weights @ difference / total), 0.0, 0.0
    for each in np.unique(weights[weights > 0]):
        mine = difference[weights == each]
        lower, upper = tango_interval(float((mine < 0).sum()), float((mine > 0).sum()), len(mine), level)
        part, mean = (float(each) * len(mine) / total) ** 2, float(mine.mean())
        below, above = below + part * (mean - lower) ** 2, above + part * (upper - mean) ** 2
    return value - below**0.5, value + above**0.5
