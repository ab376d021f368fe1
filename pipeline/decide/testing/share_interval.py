"""Interval of a share where rows come in groups, or count with weights: exact where neither is the case.

Groups: Clopper-Pearson at the number of independent rows that vary as much as the group totals do, reduced by Student's
factor for the number of groups (Korn and Graubard 1998, Survey Methodology 24). It holds its level near 0 and 1, where
Student's and the percentile bootstrap's intervals are too narrow.
Weights: the limits of each stratum (Clopper-Pearson) joined by their variances (MOVER: Zou and Donner 2008, Stat Med 27), so
a heavy stratum of few rows widens the interval though none of them was wrong.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from pipeline.decide.testing.intervals import clopper_pearson

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
UNSEEN = 0.5


def share_interval(
    x: Floats,
    among: npt.NDArray[np.bool_],
    *,
    weights: Floats | None = None,
    group: Codes | None = None,
    level: float,
) -> tuple[float, float]:
    """Limits of the (weighted) share of `x` over the rows `among`; [0, 1] where there are none.

    x        (n,) in [0, 1], read where `among` holds
    among    (n,) the rows that the share is about; the others tell how large a part these are
    weights  (n,) how much each row counts; equal ones are a stratum
    group    (n,) number of each row's group; None where each row is one by itself
    """
    weight = np.ones(len(x)) if weights is None else weights
    mass = np.where(among, weight, 0.0)
    if mass.sum() <= 0:
        return 0.0, 1.0
    share = float(mass @ np.where(among, x, 0.0) / mass.sum())
    if group is not None:
        return _of_groups(share, np.where(among, x - share, 0.0) * mass / mass.sum(), mass, group, level)
    distinct = np.unique(weight[weight > 0])
    if len(distinct) == 1:
        n = int(np.count_nonzero(mass))
        lower, upper = clopper_pearson(share * n, n, level)
        return float(lower), float(upper)
    return _of_strata(share, x, among, weight, distinct, level)


def estimated_share_interval(
    x: Floats,
    among: npt.NDArray[np.bool_],
    *,
    bought: int,
    weights: Floats | None = None,
    group: Codes | None = None,
    level: float,
) -> tuple[float, float]:
    """Limits of a share that is the (weighted) mean of `x` (n,) over the rows `among`, where `x` lies beyond [0, 1] as well.

    Such values are unbiased row by row: an answer that was sampled stands for several rows. The limits are Clopper-Pearson's at
    the number of rows whose share varies as much as the mean does; [0, 1] where there are no rows.

    bought  strong answers that the values rest on: where nothing varies they are what was seen
    group   (n,) number of each row's group, whose totals are what varies; None where each row is one by itself
    """
    weight = np.where(among, 1.0 if weights is None else weights, 0.0)
    if weight.sum() <= 0:
        return 0.0, 1.0
    mean = float(weight @ np.where(among, x, 0.0) / weight.sum())
    off = weight / weight.sum() * np.where(among, x - mean, 0.0)
    held = weight if group is None else np.bincount(group, weight)
    if group is not None:
        off = np.bincount(group, off)[held > 0]
    units = len(off) if group is not None else int(np.count_nonzero(weight))
    share = min(max(mean, 0.0), 1.0)
    variance = float(off @ off) * units / max(units - 1, 1)
    rows = share * (1 - share) / variance if variance > 1e-18 and 0 < share < 1 else float(bought)
    if group is not None:  # groups of unequal size are fewer than they count
        alike = float(held.sum() ** 2 / (held**2).sum())
        rows = min(rows, float(effective_rows(np.array(share), np.array(variance), alike, level)))
    rows = max(min(rows, float(units)), 1.0)
    lower, upper = clopper_pearson(share * rows, rows, level)
    return float(lower), float(upper)


def effective_rows(share: Floats, variance: Floats, groups: Floats | float, level: float) -> Floats:
    """Independent rows whose share varies as much, with Student's factor for so many groups; the groups where nothing varies.

    Half a group that is all on the other side is added to the variance: rare groups that fail together are often not among
    those seen, and then the spread of the seen ones says nothing of them.
    """
    number = np.broadcast_to(np.asarray(groups, dtype=np.float64), np.shape(share))
    unseen = (UNSEEN * np.maximum(share, 1 - share) / number) ** 2
    found = share * (1 - share) / (variance + unseen)
    found = np.where((share <= 0) | (share >= 1), number, found)
    return np.asarray(found * student_factor(number, level) ** -2, dtype=np.float64)


def student_factor(groups: npt.ArrayLike, level: float) -> Floats:
    """Student's quantile for so many groups over the normal one: what an interval from their spread lacks."""
    tail = (1 + level) / 2
    return np.asarray(stdtrit(np.maximum(np.asarray(groups, dtype=np.float64) - 1, 1), tail) / ndtri(tail))


def _of_groups(share: float, residual: Floats, mass: Floats, group: Codes, level: float) -> tuple[float, float]:
    """`residual`, `mass` (n,): each row's part in the share's linear deviation, and how much it counts."""
    held = np.bincount(group, mass)
    present = held > 0
    totals, number = np.bincount(group, residual)[present], int(present.sum())
    if number < 2:
        return 0.0, 1.0
    variance = number / (number - 1) * float(((totals - totals.mean()) ** 2).sum())
    alike = float(held.sum() ** 2 / (held**2).sum())  # groups of equal size that weigh as much
    n = float(effective_rows(np.array(share), np.array(variance if variance > 1e-18 else 0.0), alike, level))
    lower, upper = clopper_pearson(share * n, n, level)
    return float(lower), float(upper)


def _of_strata(
    share: float, x: Floats, among: npt.NDArray[np.bool_], weight: Floats, distinct: Floats, level: float
) -> tuple[float, float]:
    z = float(ndtri((1 + level) / 2))
    total, below, above = float(weight[among].sum()), 0.0, 0.0
    for each in distinct:
        rows = weight == each
        inside = rows & among
        m, n = int(inside.sum()), int(rows.sum())
        if m == 0:
            continue
        rate = float(x[inside].mean())
        lower, upper = (float(limit) for limit in clopper_pearson(rate * m, m, level))
        part = (each * m / total) ** 2
        # how many rows of the stratum are among those counted is left to chance as well
        between = (z * each / total * (rate - share)) ** 2 * m * (1 - m / n)
        below += part * (rate - lower) ** 2 + between
        above += part * (upper - rate) ** 2 + between
    return max(0.0, share - below**0.5), min(1.0, share + above**0.5)
