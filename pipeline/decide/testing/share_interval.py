"""Interval of a share where rows come in groups, count with weights, or were seen in part: exact where none is the case.

Groups: Clopper-Pearson at the number of independent rows that vary as much as the group totals do, reduced by Student's
factor for the number of groups (Korn and Graubard 1998, Survey Methodology 24). It holds its level near 0 and 1, where
Student's and the percentile bootstrap's intervals are too narrow.
Weights, and outcomes seen on a part of the rows: the weighted share's variance says how many rows vary as much, and the end
towards which the share can still move reckons with one more row on that side, the heaviest one (Fay and Feuer 1997, Stat Med
16, with beta laws in place of gamma ones). So a heavy row widens the interval though none of them was wrong. Where all rows count alike it
is Clopper-Pearson's interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, ndtri, stdtrit

from pipeline.decide.arrays import Flags, Floats, Ints
from pipeline.decide.testing.intervals import clopper_pearson

UNSEEN = 0.5


@dataclass(frozen=True)
class Seen:
    """Which outcomes were seen, where not all were: they stand for the others of their class.

    known     (n,) whether the row's outcome was seen
    of        (n,) number of each row's class
    stands    (n,) how many rows a seen one stands for, compared with others of its class
    """

    known: Flags
    of: Ints
    stands: Floats


def estimated_share(
    x: Floats, among: Flags, *, weights: Floats | None = None, seen: Seen | None = None
) -> float | None:
    """The (weighted) share that `share_interval` has the limits of; None where there are no rows, or a class has none seen."""
    mass = _mass(among, weights)
    if mass.sum() <= 0:
        return None
    counts = _counts(mass, seen)
    return None if counts is None else _mean(x, counts)


def share_interval(
    x: Floats,
    among: Flags,
    *,
    weights: Floats | None = None,
    seen: Seen | None = None,
    group: Ints | None = None,
    level: float,
) -> tuple[float, float]:
    """Limits of the (weighted) share of `x` over the rows `among`; [0, 1] where there are none.

    x        (n,) in [0, 1], read where `among` holds and the row is seen
    among    (n,) the rows that the share is about; the others tell how large a part these are
    weights  (n,) how much each row counts
    seen     which outcomes were seen, where not all were
    group    (n,) number of each row's group; None where each row is one by itself
    """
    mass = _mass(among, weights)
    if mass.sum() <= 0:
        return 0.0, 1.0
    mass = mass / mass.sum()
    counts = _counts(mass, seen)
    if counts is None:
        return 0.0, 1.0
    told, share = np.where(counts > 0, x, 0.0), _mean(x, counts)
    off = counts * (told - share)
    if seen is not None:
        of_class = np.bincount(seen.of, mass)
        rate = np.bincount(seen.of, counts * told) / np.where(of_class > 0, of_class, 1.0)
        off = counts * (told - rate[seen.of]) * _spread(seen)[seen.of] + mass * (rate[seen.of] - share)
    if group is not None:
        return _of_groups(share, off, (mass, counts), group, level)
    if seen is None and np.ptp(mass[mass > 0]) == 0:
        lower, upper = clopper_pearson(share * np.count_nonzero(mass), np.count_nonzero(mass), level)
        return float(lower), float(upper)
    lower, upper = limits(np.array(share), np.array(off @ off), np.array(counts.max()), level)
    return float(lower), float(upper)


def limits(share: Floats, variance: Floats, heaviest: Floats, level: float) -> tuple[Floats, Floats]:
    """Limits of weighted shares from the variance of each and the part that its heaviest row has in it; broadcasts."""
    tail = (1 - level) / 2
    return _lower(share, variance, heaviest, tail), 1 - _lower(1 - share, variance, heaviest, tail)


def _mean(x: Floats, counts: Floats) -> float:
    values = x[counts > 0]
    if np.ptp(values) == 0:  # exact, where sums would round
        return float(values[0])
    return min(max(float(counts[counts > 0] @ values), 0.0), 1.0)


def _mass(among: Flags, weights: Floats | None) -> Floats:
    return np.where(among, 1.0 if weights is None else weights, 0.0)


def _counts(mass: Floats, seen: Seen | None) -> Floats | None:
    """The share that each row has in the estimate, (n,): that of the unseen ones goes to the seen ones of their class."""
    if seen is None:
        return np.asarray(mass / mass.sum(), dtype=np.float64)
    drawn = np.where(seen.known, mass * seen.stands, 0.0)
    whole, came = np.bincount(seen.of, mass), np.bincount(seen.of, drawn)
    if (came[whole > 0] <= 0).any():
        return None
    return np.asarray(drawn * (whole / np.where(came > 0, came, 1.0))[seen.of] / mass.sum())


def _spread(seen: Seen) -> Floats:
    """Factor for deviations from the mean of a class that is itself of the few rows seen, (classes,)."""
    rows, few = np.bincount(seen.of), np.bincount(seen.of, seen.known)
    return np.where(few < rows, np.sqrt(few / np.maximum(few - 1, 1)), 1.0)


def _lower(share: Floats, variance: Floats, heaviest: Floats, tail: float) -> Floats:
    """Lower limit of a share; the upper one is that of its complement.

    Below a half: Clopper-Pearson's at as many rows as vary so much. Above, one more failure is reckoned with, of the `heaviest` row.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = share * (1 - share) / variance
        below = np.where(share > 0, betaincinv(share * rows, (1 - share) * rows + 1, tail), 0.0)
        failing = 1 - share + heaviest
        unseen = variance + heaviest**2 * (1 - 2 * (1 - share) - heaviest)
        rows = failing * (1 - failing) / np.where(unseen > 0, unseen, variance)
        above = 1 - betaincinv(failing * rows, (1 - failing) * rows + 1, 1 - tail)
    return np.asarray(np.where(share <= 0.5, below, np.where(failing < 1, above, 0.0)), dtype=np.float64)


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


def _of_groups(
    share: float, residual: Floats, counts: tuple[Floats, Floats], group: Ints, level: float
) -> tuple[float, float]:
    """`residual` (n,): each row's part in the share's linear deviation; `counts`: how much it is of all rows, and of those seen."""
    present, held = np.bincount(group, counts[0]) > 0, np.bincount(group, counts[1])
    totals, number = np.bincount(group, residual)[present], int(present.sum())
    if number < 2:
        return 0.0, 1.0
    variance = number / (number - 1) * float(((totals - totals.mean()) ** 2).sum())
    alike = float(held.sum() ** 2 / (held**2).sum())  # groups of equal size that weigh as much
    n = float(effective_rows(np.array(share), np.array(variance if variance > 1e-18 else 0.0), alike, level))
    lower, upper = clopper_pearson(share * n, n, level)
    return float(lower), float(upper)
