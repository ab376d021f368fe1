"""Interval of a difference of two accuracies on the same rows: Tango's score interval, or that of the groups' means.

Tango 1998 (Stat Med 17): all differences that the score test of paired proportions does not reject. It holds its level
where few rows or none differ, where the usual interval has no width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from pipeline.decide.arrays import Floats
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.curves.at_threshold import Estimate
from pipeline.decide.testing import clusters
from pipeline.decide.testing.intervals import clopper_pearson
from pipeline.decide.testing.tango import tango_interval


def paired_difference(
    mine: Floats, other: Floats, *, level: float, split: str, group: CodedTexts | npt.NDArray[np.object_] | None = None
) -> Estimate:
    """Mean of `mine` - `other` (n,), 1 right, 0 wrong, NaN unknown, over the rows where both are known.

    With `group`, groups are what is drawn: each enters by its mean, and the interval is Student's over groups.
    """
    known = ~np.isnan(mine) & ~np.isnan(other)
    n = int(known.sum())
    if n == 0:
        return Estimate(None, None, None, level, 0, split)
    difference = mine[known] - other[known]
    if group is not None:
        return mean_of_groups(difference, group[known], level=level, split=split)
    lower, upper = tango_interval(float((difference < 0).sum()), float((difference > 0).sum()), n, level)
    return Estimate(float(difference.mean()), lower, upper, level, n, split)


def mean_of_groups(
    values: Floats, group: CodedTexts | npt.NDArray[np.object_], *, level: float, split: str
) -> Estimate:
    """Mean over groups of each group's mean, with Student's interval; no interval from a single group.

    Where no group differs from the others it has no width, though a group that does may be rare: then so many may be by
    Clopper and Pearson's limit, each off by 1.
    """
    means = clusters.means(clusters.codes(group), values)
    k, mean = len(means), float(means.mean())
    if k < 2:
        return Estimate(mean, None, None, level, len(values), split)
    half = float(stdtrit(k - 1, (1 + level) / 2)) * float(means.std(ddof=1)) / float(np.sqrt(k))
    if np.ptp(means) == 0:
        half = float(clopper_pearson(0, k, level)[1])
    return Estimate(mean, mean - half, mean + half, level, len(values), split)
