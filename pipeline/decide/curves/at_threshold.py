"""AtThreshold: expected shares, dollars and seconds at a threshold, with intervals, on rows that did not choose it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.decide.arrays import Flags, Floats, Ints
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.curves.bootstrap import blocks_of
from pipeline.decide.held_out import LEVEL
from pipeline.decide.predictions import Rows
from pipeline.decide.testing.binomial import quantile
from pipeline.decide.testing.mean_interval import ratio_interval
from pipeline.decide.testing.share_interval import Seen, estimated_share, share_interval
from pipeline.decide.testing.tango import weighted_tango
from pipeline.decide.thresholds import accepted

MOST_MISSING = 0.1
"""Up to this share of a figure's rows, missing answers are treated as failures, which may depend on the answer."""


@dataclass(frozen=True)
class Estimate:
    """A figure, its interval at `level`, how many rows it rests on and which split they are of. None is unknown."""

    value: float | None
    lower: float | None
    upper: float | None
    level: float
    n: int
    split: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))

    def times(self, factor: float) -> Estimate:
        """The same in other units."""

        def scaled(x: float | None) -> float | None:
            return None if x is None else factor * x

        return replace(self, value=scaled(self.value), lower=scaled(self.lower), upper=scaled(self.upper))


class Expectation:
    """Estimates for one threshold on one split.

    Figures are of the average row. `weights` (n,), mean about 1, re-weight rows to production's label mix; None counts each
    row once. Intervals of shares are exact (Clopper-Pearson) where rows are by themselves and count alike; where groups have
    several rows, groups are what varies (`share_interval`). Where up to a tenth of what a share needs is missing, its
    interval reaches from the lower end with all of that wrong to the upper end with all of it right: what fails to come may
    be what is hard; larger gaps are plans, not failures. Means of dollars have intervals that allow for skewness, over groups where
    there are any (`mean_interval`), quantiles of seconds distribution-free ones from order statistics. `alone`: no cascade is run, everything goes straight to the strong model,
    so neither the dollars nor the seconds of the cheap call are spent.

    Where strong answers were sampled by the coin, what depends on them is estimated from the rows that it drew, each counted
    for those of its class that it stands for (`Rows.calibrated`, `share_interval`); seconds are unknown then.
    """

    def __init__(
        self,
        rows: Rows,
        threshold: float | None,
        *,
        split: str,
        human: bool = False,
        weights: Floats | None = None,
        alone: bool = False,
        seed: int,
        level: float = LEVEL,
    ) -> None:
        self._level = level
        self._rows, self._split, self._weights = rows, split, weights
        self._group = blocks_of(rows.group, seed=seed, at_most=max(1, len(rows)))
        self.kept, self._alone = accepted(rows.confidence, threshold), alone
        self.strong_correct = np.ones(len(rows)) if human else rows.strong_correct
        self.agree = rows.cheap_correct if human else rows.agree
        self._sampled = rows.sampled and not human
        self._used = rows.strong_weight > 0
        self._strong_value = self.strong_correct
        if self._sampled:
            proxy = np.nan_to_num(rows.cheap_correct, nan=0.0)
            self._strong_value = rows.stood_in(rows.strong_correct, proxy, self.kept, weights)

    def totals(self, costs: tuple[Floats, Floats]) -> dict[str, Estimate]:
        """Calls and errors together in USD per 1,000: as recommended, and of each model alone on the same rows.

        `costs`: of a row that the cheap model keeps, and of one that goes straight to the strong model, (n,) each.
        """
        kept, alone = costs
        cascade = alone if self._alone else np.where(self.kept, kept, self._rows.cheap_usd + alone)
        each = {"recommended": cascade, "cheap_only": kept, "strong_only": alone}
        return {name: self._mean(values).times(1000) for name, values in each.items()}

    def against_strong(self) -> Estimate:
        """Accuracy of the cascade minus the strong model's, paired by row; by strata of weights where rows are by themselves."""
        x = np.where(self.kept, self._rows.cheap_correct - self._strong_value, 0 * self._strong_value)
        found = self._mean(x)
        known = ~np.isnan(x)
        if self._weights is None or self._group is not None or self._sampled or found.value is None:
            return found
        lower, upper = weighted_tango(x[known], self._weights[known], self._level)
        return replace(found, lower=min(lower, found.value), upper=max(upper, found.value))

    @property
    def compared(self) -> Flags:
        """The rows on which the two models stand beside each other, (n,): where answers of one can be graded on a part of the
        rows only, those of that part, since another part may be harder; a few that failed to come are no plan."""
        strong, cheap = (~np.isnan(x) for x in (self._strong_value, self._rows.cheap_correct))
        both = strong & cheap
        partial = 0 < both.sum() < (1 - MOST_MISSING) * max(cheap.sum(), strong.sum())
        return both if partial else np.ones(len(cheap), dtype=bool)

    def all(self) -> dict[str, Estimate]:
        """Every figure of the recommendation, by name. Accuracies of a model alone are of the rows `compared`."""
        rows, kept = self._rows, self.kept
        compared = self.compared
        return {
            "coverage": self._share(kept.astype(np.float64)),
            "escalation_rate": self._share((~kept).astype(np.float64)),
            "accepted_accuracy": self._share(rows.cheap_correct, kept),
            "system_accuracy": self._whole(rows.cheap_correct, self.strong_correct),
            "strong_accuracy": self._of_strong(compared),
            "cheap_accuracy": self._share(np.where(compared, rows.cheap_correct, np.nan)),
            "agreement_with_strong": self._agreement(),
            "wrong_accepted_per_1000": self._whole(1 - rows.cheap_correct, np.zeros(len(rows))).times(1000),
            "usd_per_1000": (self._mean(rows.strong_usd, strong=True) if self._alone else self._spent()).times(1000),
            "cheap_usd_per_1000": self._mean(rows.cheap_usd).times(1000),
            "strong_usd_per_1000": self._mean(rows.strong_usd, strong=True).times(1000),
            **waiting(self._waited(), self._split, self._group, self._level),
        }

    def _waited(self) -> Floats:
        """Seconds of each row, (n,); NaN where they are not known, and throughout where they tell of one part alone."""
        rows, never = self._rows, np.broadcast_to(np.nan, len(self._rows))
        if self._sampled:  # a time never represents another row
            return never
        waited = rows.strong_s if self._alone else np.where(self.kept, rows.cheap_s, rows.cheap_s + rows.strong_s)
        return waited if self._told(waited) else never

    def _of_strong(self, among: Flags) -> Estimate:
        """The strong model alone, over the rows `among`."""
        if not self._sampled:
            return self._share(self.strong_correct, among)
        every = np.ones(len(self.kept), dtype=bool)
        return self._seen_in_part(self.strong_correct, every, self._classes(self.strong_correct), among)

    def _agreement(self) -> Estimate:
        if not self._sampled:
            return self._whole(self.agree, np.ones(len(self.kept)))
        same = np.where(self.kept, self.agree, 1.0)
        of = np.where(self.kept, self._classes(self.agree), 2)
        return self._seen_in_part(same, self.kept, of, np.ones(len(same), dtype=bool))

    def _classes(self, strong: Floats) -> Ints:
        return self._rows.answer_classes(self.kept, self._used & ~np.isnan(strong))

    def _seen_in_part(self, x: Floats, asking: Flags, of: Ints, among: Flags) -> Estimate:
        """The share of `x` (n,) over the rows `among`, where that of rows `asking` rests on strong answers: those of the coin
        stand for the others of their class `of`. Where up to a tenth of the rows never came the interval reaches from all of these
        wrong to all right."""
        used = ~asking | self._used
        never = among & used & np.isnan(x)
        stands = np.where(asking & self._used, self._rows.strong_weight, 1.0)

        def seen(came: Flags) -> Seen:
            return Seen(came & used, of, stands)

        value = estimated_share(x, among, weights=self._weights, seen=seen(~np.isnan(x)))
        if value is None:
            return self._unknown()
        few = never.sum() <= MOST_MISSING * among.sum()
        lower, upper = (
            share_interval(
                np.where(never, end, x),
                among,
                weights=self._weights,
                seen=seen(~np.isnan(x) | (never & few)),
                group=self._group,
                level=self._level,
            )[i]
            for i, end in enumerate((0.0, 1.0))
        )
        value = min(max(value, 0.0), 1.0)
        n = int((among & ~never).sum())
        return Estimate(value, min(lower, value), max(upper, value), self._level, n, self._split)

    def _share(self, x: Floats, among: Flags | None = None) -> Estimate:
        """The mean of `x` over the rows `among` where it is known."""
        known = ~np.isnan(x) if among is None else ~np.isnan(x) & among
        mean = self._average(x, known)
        inside = np.ones(len(x), dtype=bool) if among is None else among
        return self._unknown() if mean is None else self._interval(mean, x, inside)

    def _whole(self, of_kept: Floats, of_escalated: Floats) -> Estimate:
        """Share over kept and escalated rows together; each part's mean is taken over the rows where it is known."""
        final = np.where(self.kept, of_kept, of_escalated)
        known = ~np.isnan(final)
        if known.all():
            return self._share(final)
        if self._sampled and of_escalated is self.strong_correct:
            of = np.where(self.kept, 0, self._classes(self.strong_correct))
            return self._seen_in_part(final, ~self.kept, of, np.ones(len(final), dtype=bool))
        weights = self._counts(slice(None))
        value = 0.0
        for part in (self.kept, ~self.kept):
            if (mass := float(weights[part].sum())) > 0:
                mean = self._average(final, part & known)
                if mean is None:
                    return self._unknown()
                value += mass / float(weights.sum()) * mean
        return self._interval(value, final, np.ones(len(final), dtype=bool))

    def _counts(self, which: Flags | slice) -> Floats:
        """How much each of these rows counts."""
        return np.ones(len(self.kept))[which] if self._weights is None else self._weights[which]

    def _average(self, x: Floats, which: Flags) -> float | None:
        """Weighted mean over these rows; None where they are none, or count for nothing."""
        values, weights = x[which], self._counts(which)
        total = float(weights.sum())
        if total <= 0:
            return None
        return float(values[0]) if np.ptp(values) == 0 else float(weights @ values / total)

    def _interval(self, value: float, x: Floats, among: Flags) -> Estimate:
        """The interval of a share of `x` (n,), NaN where unknown, over the rows `among`."""
        value = min(max(value, 0.0), 1.0)
        missing = among & np.isnan(x)
        n = int((among & ~missing).sum())
        ends, known = (x, x), among & ~missing
        if 0 < missing.sum() <= MOST_MISSING * among.sum():
            ends, known = (np.where(missing, 0.0, x), np.where(missing, 1.0, x)), among
        limits = [
            share_interval(end, known, weights=self._weights, group=self._group, level=self._level) for end in ends
        ]
        lower, upper = limits[0][0], limits[1][1]
        return Estimate(value, min(lower, value), max(upper, value), self._level, n, self._split)

    def _mean(self, x: Floats, *, strong: bool = False) -> Estimate:
        """Mean over the rows where `x` is known; of `strong` answers that were sampled, each for the rows that it stands for."""
        stands = self._rows.strong_weight if strong and self._sampled else None
        known = ~np.isnan(x)
        known &= True if stands is None else stands > 0
        n = int(known.sum())
        if n == 0:
            return self._unknown()
        if np.ptp(x if known.all() else x[known]) == 0:  # exact, where sums would round
            same = float(x[np.argmax(known)])
            return Estimate(same, same, same, self._level, n, self._split)
        weights = np.where(known, self._counts(slice(None)) * (1.0 if stands is None else stands), 0.0)
        total, amounts = float(weights.sum()), np.where(known, x, 0.0)
        if total <= 0:
            return self._unknown()
        value = float(weights @ amounts / total)
        moved = weights * (amounts - value) / total
        return self._amount(
            value,
            moved[known],
            None if self._group is None else self._group[known],
            n,
            positive=bool((x[known] >= 0).all()),
        )

    def _amount(self, value: float, moved: Floats, group: Ints | None, n: int, *, positive: bool = True) -> Estimate:
        lower, upper = ratio_interval(value, moved, group, self._level)
        if positive and lower is not None:
            lower = max(lower, 0.0)
        return Estimate(value, lower, upper, self._level, n, self._split)

    def _told(self, x: Floats) -> bool:
        """Whether both the kept and the escalated rows have known values; otherwise one part would represent both."""
        return self._alone or all((part & ~np.isnan(x)).any() for part in (self.kept, ~self.kept) if part.any())

    def _spent(self) -> Estimate:
        """Mean dollars of a request, as the sweep counts them: mean cheap dollars, and the escalated share times the mean
        strong dollars of the escalated rows, each over the rows where they are known; unknown where none is."""
        cheap, strong, away = self._rows.cheap_usd, self._rows.strong_usd, ~self.kept
        whole = cheap + np.where(away, strong, 0.0)
        if not np.isnan(whole).any() and not self._sampled:
            return self._mean(whole)
        weights = self._counts(slice(None))
        stands = self._rows.strong_weight if self._sampled else 1.0
        of_cheap, of_strong = weights * ~np.isnan(cheap), weights * stands * (away & ~np.isnan(strong))
        asked, known, total = (float(w.sum()) for w in (of_cheap, of_strong, weights))
        escalated = float(weights[away].sum())
        if asked <= 0 or (escalated > 0 and known <= 0):
            return self._unknown()
        first, more = float(of_cheap @ np.nan_to_num(cheap)) / asked, 0.0
        moved = of_cheap * (np.nan_to_num(cheap) - first) / asked
        if escalated > 0:
            share, each = escalated / total, float(of_strong @ np.nan_to_num(strong)) / known
            more = share * each
            moved += (
                share * of_strong * (np.nan_to_num(strong) - each) / known + each * weights * (away - share) / total
            )
        return self._amount(first + more, moved, self._group, int((~np.isnan(whole)).sum()))

    def _unknown(self) -> Estimate:
        return Estimate(None, None, None, self._level, 0, self._split)


def waiting(seconds: Floats, split: str, group: Ints | None = None, level: float = LEVEL) -> dict[str, Estimate]:
    """Median and 95th percentile of `seconds` (n,), NaN where unknown: latency_p50_s and latency_p95_s.

    The value is the smallest observed time that covers the share; the interval is of order statistics, whatever the law.
    """
    return {f"latency_p{100 * q:.0f}_s": _quantile(seconds, q, split, group, level) for q in (0.5, 0.95)}


def _quantile(x: Floats, q: float, split: str, group: Ints | None, level: float) -> Estimate:
    known = ~np.isnan(x)
    ordered = np.sort(x[known])
    n = len(ordered)
    if n == 0:
        return Estimate(None, None, None, level, 0, split)
    value = float(ordered[max(1, math.ceil(q * n - 1e-9)) - 1])
    if group is None:
        tail = (1 - level) / 2
        low, high = quantile(tail, n, q), quantile(1 - tail, n, q) + 1
    else:  # Woodruff (1952): the interval of the share of times up to the value, read off as times
        least, most = share_interval((x <= value).astype(np.float64), known, group=group, level=level)
        low, high = math.floor(least * n), math.ceil(most * n) + (most >= 1)
    lower = float(ordered[low - 1]) if low >= 1 else None
    upper = float(ordered[high - 1]) if high <= n else None
    return Estimate(value, lower, upper, level, n, split)


def mix_factors(counts: Mapping[str, int], n: int, prevalence: Mapping[str, float]) -> dict[str, float]:
    """Weight of a row by its label, where `counts` of `n` rows carry each: production's share over that of the rows."""
    return {name: share * n / counts[name] for name, share in prevalence.items() if counts.get(name)}


def mix_weights(label: CodedTexts | npt.NDArray[np.object_], prevalence: Mapping[str, float]) -> Floats:
    """Weights (n,) that turn the labeled set's mix of labels into production's; 0 for rows without a listed label."""
    members = {name: np.asarray(label == name, dtype=bool) for name in prevalence}
    factors = mix_factors({name: int(rows.sum()) for name, rows in members.items()}, len(label), prevalence)
    out = np.zeros(len(label))
    for name, factor in factors.items():
        out[members[name]] = factor
    return out


def mix_by_split(rows: Rows, prevalence: Mapping[str, float] | None) -> Floats | None:
    """Weights (n,) that give every split production's label mix; None where the set has it already."""
    if prevalence is None:
        return None
    weights = np.zeros(len(rows))
    for split in rows.split.present:
        part = rows.split == split
        weights[part] = mix_weights(rows.label[part], prevalence)
    return weights
