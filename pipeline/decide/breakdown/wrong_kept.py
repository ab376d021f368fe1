"""WrongKept: how many wrong answers each threshold keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.held_out import level_of
from pipeline.decide.testing.intervals import clopper_pearson
from pipeline.decide.testing.share_interval import limits


@dataclass(frozen=True)
class WrongKept:
    """Wrong answers kept, as shares of all requests at each threshold, shape (T,); NaN where unknown."""

    share: Floats
    lower: Floats
    upper: Floats

    @property
    def per_1000(self) -> tuple[Floats, Floats, Floats]:
        """Wrong answers kept per 1,000 requests, and its bounds."""
        lower, upper = (np.where(np.isnan(self.share), np.nan, 1000 * end) for end in (self.lower, self.upper))
        return 1000 * self.share, lower, upper

    @property
    def agreement(self) -> tuple[Floats, Floats, Floats]:
        """Share of requests that get the strong model's answer where no label is known, and its bounds."""
        lower, upper = (np.where(np.isnan(self.share), np.nan, 1 - end) for end in (self.upper, self.lower))
        return 1 - self.share, lower, upper


def wrong_kept(
    rows: CodedRows, split: str, thresholds: Floats, prevalence: Mapping[str, float] | None
) -> WrongKept | None:
    """The wrong answers that each of `thresholds` (T,) keeps on a split; without labels, answers that differ from the strong
    model's. None where no answer is graded.

    The share kept x the share of wrong ones among the kept that are graded; unknown where rows are kept and none of them is
    graded. Bounds are Clopper-Pearson's over the escalated and the graded rows, those of `share_interval` where rows are weighted,
    and at most at as many rows as there are groups.
    """
    inside = rows.of(split)
    confidence, weights = rows.numbers["confidence"][inside], rows.weights(split, prevalence)
    right = rows.right[inside]
    if not np.isfinite(right).any():
        return None
    known = ~np.isnan(confidence)
    order = np.argsort(confidence[known], kind="stable")
    at = np.searchsorted(confidence[known][order], thresholds, side="left")

    def above(amounts: Floats) -> Floats:
        """Sum over the rows kept at each threshold."""
        return np.concatenate([np.cumsum(amounts[known][order][::-1])[::-1], [0.0]])[at]

    graded = ~np.isnan(right)
    kept, told, wrong = (above(w) for w in (weights, weights * graded, weights * (right == 0)))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(kept > 0, kept / weights.sum() * wrong / told, 0.0)
        left_out = above(weights * ~graded), above(weights**2 * ~graded)
        total, squares = weights.sum() - left_out[0], weights @ weights - left_out[1]
        effective = total**2 / squares
        spread = above(weights**2 * (right == 0)) * (1 - 2 * share) + squares * share**2
        weighted = limits(share, spread / total**2, weights.max() / total, level_of(split))
    if rows.group is None and np.ptp(weights) > 0:
        return WrongKept(share, *weighted)
    if rows.group is not None:
        effective = np.minimum(effective, _alike(rows.group[inside], weights))
    return WrongKept(share, *clopper_pearson(share * effective, effective, level_of(split)))


def _alike(group: Ints, weights: Floats) -> float:
    """Groups of equal weight that vary as much: no more rows than these are told apart, however alike a group's are."""
    held = np.bincount(np.unique(group, return_inverse=True)[1], weights)
    return float(held.sum() ** 2 / (held**2).sum())
