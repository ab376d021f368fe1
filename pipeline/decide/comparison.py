"""Comparison: paired differences, with intervals, between two decisions on the same rows; arrays in, numbers out.

A row's outcome under a decision: the strong model's where it escalates, else the cheap model's. Differences are second minus first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.decide.arrays import Flags, Floats
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.curves.at_threshold import Estimate
from pipeline.decide.curves.bootstrap import MOST_BLOCKS, blocks_of
from pipeline.decide.held_out import level_of
from pipeline.decide.predictions import Rows
from pipeline.decide.testing.paired_interval import paired_difference
from pipeline.decide.thresholds import accepted

DRAWS = 2000
ROUNDING = 1e-12
"""A mean this small beside the largest value is what rounding leaves of 0."""


@dataclass(frozen=True)
class Handled:
    """What a decision does with rows, in their order; NaN where unknown."""

    escalated: Flags
    correct: Floats
    usd: Floats

    @classmethod
    def by(cls, rows: Rows, threshold: float | None) -> Handled:
        """Under a threshold on the rows' own confidence; None: the strong model answers all, and the cheap one is not called."""
        strong_usd = rows.strong_usd
        if rows.sampled:  # an answer that the coin drew represents others
            strong_usd = np.where(rows.strong_weight > 0, rows.strong_weight * strong_usd, 0.0)
        escalated = np.ones(len(rows), dtype=bool) if threshold is None else ~accepted(rows.confidence, threshold)
        strong = rows.stood_in(rows.strong_correct, np.nan_to_num(rows.cheap_correct, nan=0.0), ~escalated)
        if threshold is None:
            return cls(escalated, strong, strong_usd)
        correct = np.where(escalated, strong, rows.cheap_correct)
        return cls(escalated, correct, rows.cheap_usd + np.where(escalated, strong_usd, 0.0))


@dataclass(frozen=True)
class Paired:
    """Differences, second minus first, over the same rows."""

    accuracy: Estimate
    p_value: float | None
    """McNemar's exact test of no difference in accuracy; None with groups, whose rows are not independent, and where strong
    answers were sampled."""
    escalation_rate: Estimate
    usd_per_1000: Estimate
    first: dict[str, float | None]
    second: dict[str, float | None]
    to_strong: Flags
    """Rows that the second escalates and the first did not."""
    to_cheap: Flags
    outcomes: tuple[Handled, Handled]
    """What the first and the second do with the rows."""


def paired(
    first: Handled, second: Handled, group: CodedTexts | npt.NDArray[np.object_], *, split: str, seed: int = 0
) -> Paired:
    """Compare two decisions on the rows that both handled, in one order. `group` (n,): rows that are drawn together.

    Rows of another `split` than test chose the thresholds: their intervals are at 99 %.
    """
    groups, level = None if blocks_of(group, seed=seed) is None else group, level_of(split)
    plain = all(np.isin(x[~np.isnan(x)], (0.0, 1.0)).all() for x in (first.correct, second.correct))
    accuracy = (
        paired_difference(second.correct, first.correct, level=level, split=split, group=groups)
        if plain
        else mean_difference(first.correct, second.correct, group, split=split, seed=seed)
    )
    moved = paired_difference(
        second.escalated.astype(float), first.escalated.astype(float), level=level, split=split, group=groups
    )
    return Paired(
        accuracy,
        mcnemar(first.correct, second.correct) if groups is None and plain else None,
        moved,
        mean_difference(1000 * first.usd, 1000 * second.usd, group, split=split, seed=seed),
        _figures(first, second),
        _figures(second, first),
        second.escalated & ~first.escalated,
        first.escalated & ~second.escalated,
        (first, second),
    )


def mcnemar(first: Floats, second: Floats) -> float | None:
    """Two-sided exact p-value of as many wins as losses among the rows that differ; None where no row is known."""
    known = ~np.isnan(first) & ~np.isnan(second)
    if not known.any():
        return None
    wins, losses = int((second[known] > first[known]).sum()), int((second[known] < first[known]).sum())
    from scipy import stats

    return 1.0 if wins + losses == 0 else float(stats.binomtest(wins, wins + losses).pvalue)


def mean_difference(
    first: Floats, second: Floats, group: CodedTexts | npt.NDArray[np.object_], *, split: str, seed: int
) -> Estimate:
    """Mean of second - first over the rows where both are known, with the percentile interval of a paired bootstrap.

    Whole groups are drawn where there are groups; beyond 2,000 units they are pooled at random into 2,000 blocks.
    """
    known, level = ~np.isnan(first) & ~np.isnan(second), level_of(split)
    n = int(known.sum())
    if n == 0:
        return Estimate(None, None, None, level, 0, split)
    difference, rng = (second - first)[known], np.random.default_rng(seed)
    blocks = blocks_of(group[known], seed=seed)
    if blocks is None:
        blocks = rng.permutation(n) % MOST_BLOCKS
    sums, sizes = np.bincount(blocks, weights=difference), np.bincount(blocks).astype(float)
    times = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=DRAWS)
    lower, upper = np.quantile(times @ sums / np.maximum(times @ sizes, 1.0), [(1 - level) / 2, (1 + level) / 2])
    mean = float(difference.mean())
    if abs(mean) <= ROUNDING * np.abs(difference).max():  # differences that cancel out
        mean = 0.0
    return Estimate(mean, float(lower), float(upper), level, n, split)


def of_independent(first: dict[str, float | None], second: dict[str, float | None]) -> dict[str, float | None]:
    """Difference of two estimates {value, lower, upper} on different rows, its interval by Zou and Donner's MOVER."""
    a, b = first["value"], second["value"]
    if a is None or b is None:
        return {"value": None, "lower": None, "upper": None}
    ends = first["lower"], first["upper"], second["lower"], second["upper"]
    if None in ends:
        return {"value": b - a, "lower": None, "upper": None}
    a_low, a_high, b_low, b_high = (float(end or 0.0) for end in ends)
    return {
        "value": b - a,
        "lower": b - a - math.hypot(b - b_low, a_high - a),
        "upper": b - a + math.hypot(b_high - b, a - a_low),
    }


def _figures(of: Handled, other: Handled) -> dict[str, float | None]:
    """Means over the rows where both decisions are known, so that their difference is the difference that is shown."""

    def mean(mine: Floats, its: Floats) -> float | None:
        known = ~np.isnan(mine) & ~np.isnan(its)
        return float(mine[known].mean()) if known.any() else None

    usd = mean(of.usd, other.usd)
    return {
        "accuracy": mean(of.correct, other.correct),
        "escalation_rate": float(of.escalated.mean()) if len(of.escalated) else None,
        "usd_per_1000": None if usd is None else 1000 * usd,
    }
