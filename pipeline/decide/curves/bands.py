"""Bands: bootstrap uncertainty of the sweep's curves, drawn over cells or groups instead of rows.

At fixed levels, resampling rows with replacement is the same as drawing the counts per cell from a multinomial, so a
replicate costs the number of cells, whatever the number of rows. Dollars are not counts: given a replicate's rows per
segment they get the segment's mean plus a normal term from its covariance, which vanishes where a segment holds one row,
that is where the draw is the row bootstrap itself.

Where groups have several rows, whole groups are resampled, pooled at random into at most 2,000 blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtr

from pipeline.decide.arrays import Flags, Floats, Ints
from pipeline.decide.curves.bootstrap import draw_blocks
from pipeline.decide.curves.threshold_counts import Dollars, Segments, proportions
from pipeline.decide.predictions import Rows
from pipeline.decide.testing.intervals import clopper_pearson, wilson
from pipeline.decide.testing.mean_interval import skewed_interval
from pipeline.decide.testing.share_interval import effective_rows, student_factor

Draw = Callable[[int], tuple[dict[str, Floats], Dollars]]
"""Draw that many bootstrap tables: their `Segments.known` and their dollars."""

POISSON_ROWS = 20_000
"""From here on cells are drawn independently: given its total such a draw is the multinomial, every curve is a ratio to
that total, and the total differs from n by less than a percent; it takes half the time."""
SLICE = 250_000  # numbers per temporary array: small enough to stay in the cache
REPLICATES, LEVELS = 256, 128  # looked at at once, for the same reason


@dataclass(frozen=True)
class Bands:
    """Lower and upper limits at each level, shape (L,) each: pointwise, and simultaneous over all levels."""

    lower: Floats
    upper: Floats
    sim_lower: Floats
    sim_upper: Floats

    def complement(self) -> Bands:
        """The bands of one minus the curve."""
        return Bands(1 - self.upper, 1 - self.lower, 1 - self.sim_upper, 1 - self.sim_lower)


def bands(
    segments: Segments,
    rows: Rows,
    *,
    level: float,
    replicates: int,
    rng: np.random.Generator,
    blocks: Ints | None = None,
) -> dict[str, Bands]:
    """Bands of coverage, escalation_rate, accepted_accuracy, selective_risk, system_accuracy and usd_per_1000.

    `blocks` (n,): the block that each row is resampled with (see `resampling.blocks_of`); None resamples rows.
    """
    observed = segments.known(segments.count[None])
    point = proportions(observed) | {"usd_per_1000": np.zeros((1, segments.levels))}
    if len(rows) == 0:
        nothing = Bands(*(np.full(segments.levels, np.nan) for _ in range(4)))
        return dict.fromkeys((*point, "escalation_rate", "selective_risk"), nothing)
    point["usd_per_1000"] = 1000 * Dollars.of(segments, rows).per_row(1 - point["coverage"])
    draw = _cell_draws(segments, rows, rng) if blocks is None else _block_draws(segments, rows, blocks, rng)
    drawn = {name: np.empty((replicates, segments.levels)) for name in point}
    size = max(1, SLICE // len(segments.count))
    for start in range(0, replicates, size):
        part = slice(start, min(start + size, replicates))
        known, dollars = draw(part.stop - part.start)
        for name, values in proportions(known).items():
            drawn[name][part] = values
        drawn["usd_per_1000"][part] = 1000 * dollars.per_row(1 - drawn["coverage"][part])
    weight, count = segments.flags["rows"], segments.count
    scale = float((weight * count).sum() / (weight**2 * count).sum())  # effective rows per unit of weight
    hits = {
        "coverage": (observed["total"] - observed["rows"], np.broadcast_to(observed["total"], observed["rows"].shape)),
        "accepted_accuracy": (observed["cheap_right"], observed["cheap_known"]),
        "system_accuracy": (
            observed["cheap_right"] + observed["strong_right"],
            observed["cheap_known"] + observed["strong_known"],
        ),
    }
    groups = None if blocks is None else int(blocks.max()) + 1
    if groups is not None:
        scale *= groups / len(rows)  # where resampling shows no variation, the groups are the observations
    # what was drawn of a curve is free once its limits are known
    out = {"usd_per_1000": _of_amounts(point["usd_per_1000"][0], drawn.pop("usd_per_1000"), level, groups or len(rows))}
    for name, (k, n) in hits.items():
        out[name] = _limits(point[name][0], drawn.pop(name), level, (k[0] * scale, n[0] * scale), groups)
    out["escalation_rate"] = out["coverage"].complement()
    out["selective_risk"] = out["accepted_accuracy"].complement()
    return out


def _cell_draws(segments: Segments, rows: Rows, rng: np.random.Generator) -> Draw:
    n, share = len(rows), segments.count / len(rows)
    observed = segments.known(segments.count[None])["segment"][0]
    usd = _SegmentDollars.of(segments, rows, observed)

    def draw(size: int) -> tuple[dict[str, Floats], Dollars]:
        if n < POISSON_ROWS:
            counts = rng.multinomial(n, share, size=size)
        else:
            counts = rng.poisson(segments.count, size=(size, len(share)))
        known = segments.known(counts.astype(np.float64))
        return known, usd.draw(known["segment"], rng)

    return draw


def _block_draws(segments: Segments, rows: Rows, blocks: Ints, rng: np.random.Generator) -> Draw:
    """Whole blocks with replacement: one sparse product from block weights to cell counts and sums of dollars."""
    number, cells, size = int(blocks.max()) + 1, len(segments.count), segments.levels + 1
    weight = segments.flags["rows"][segments.cell]
    cheap_known, strong_known = ~np.isnan(rows.cheap_usd), ~np.isnan(rows.strong_usd)
    whole = np.zeros(len(rows), dtype=np.int64)
    parts = [
        (np.ones(len(rows)), segments.cell),
        (weight * np.nan_to_num(rows.cheap_usd), cells + whole),
        (weight * cheap_known, cells + 1 + whole),
        (weight * rows.strong_weight * np.nan_to_num(rows.strong_usd), cells + 2 + segments.segment),
        (weight * rows.strong_weight * strong_known, cells + 2 + size + segments.segment),
    ]
    values, columns = (np.concatenate(x) for x in zip(*parts, strict=True))
    width = cells + 2 + 2 * size
    table = csr_array((values, (columns, np.tile(blocks, len(parts)))), shape=(width, number))

    def draw(replicates: int) -> tuple[dict[str, Floats], Dollars]:
        counts, cheap, strong = np.split(draw_blocks(table, replicates, rng), [cells, cells + 2], axis=1)
        return segments.known(counts), Dollars(cheap[:, 0], cheap[:, 1], strong[:, :size], strong[:, size:])

    return draw


@dataclass(frozen=True)
class _SegmentDollars:
    """Per segment, shape (L + 1,): known share, mean and standard deviation of the dollars of a row."""

    share: tuple[Floats, Floats]
    mean: tuple[Floats, Floats]
    cheap_sd: Floats
    slope: Floats
    """Covariance of cheap and strong dollars over cheap_sd."""
    rest_sd: Floats
    """Standard deviation of strong dollars that cheap ones do not explain."""

    @classmethod
    def of(cls, segments: Segments, rows: Rows, observed: Floats) -> _SegmentDollars:
        def told(usd: Floats, each: Floats) -> tuple[Floats, Floats, Floats, Floats]:
            """Known rows, mean and variance per segment; and how far each row's dollars are from the mean, (n,)."""
            known = segments.per_segment(each)
            mean = _ratio(segments.per_segment(each * np.nan_to_num(usd)), known)
            off = mean[segments.segment]
            np.nan_to_num(np.subtract(usd, off, out=off), copy=False)
            return known, mean, _ratio(segments.per_segment(each * off**2), known), off

        each = segments.flags["rows"][segments.cell]
        each *= ~np.isnan(rows.cheap_usd)
        n_cheap, cheap, cheap_variance, off = told(rows.cheap_usd, each)
        cheap_sd = np.sqrt(cheap_variance)
        each = segments.flags["rows"][segments.cell]
        each *= ~np.isnan(rows.strong_usd)
        each *= rows.strong_weight
        n_strong, strong, variance, strong_off = told(rows.strong_usd, each)
        each *= ~np.isnan(rows.cheap_usd)
        n_both = segments.per_segment(each)
        each *= off
        each *= strong_off
        slope = _ratio(_ratio(segments.per_segment(each), n_both), cheap_sd)
        share = (_ratio(n_cheap, observed), _ratio(n_strong, observed))
        return cls(share, (cheap, strong), cheap_sd, slope, np.sqrt(np.maximum(variance - slope**2, 0.0)))

    def draw(self, rows: Floats, rng: np.random.Generator) -> Dollars:
        """Sums of dollars for tables with `rows` (r, L + 1) per segment."""
        known = rows * self.share[0], rows * self.share[1]
        cheap, strong = known[0] * self.mean[0], known[1] * self.mean[1]
        if self.cheap_sd.any() or self.rest_sd.any():
            common, own = rng.standard_normal((2, *rows.shape))
            cheap += np.sqrt(known[0]) * self.cheap_sd * common
            strong += np.sqrt(known[1]) * (self.slope * common + self.rest_sd * own)
        return Dollars(cheap.sum(axis=1), known[0].sum(axis=1), strong, known[1])


def _of_amounts(point: Floats, drawn: Floats, level: float, number: int) -> Bands:
    """Limits of a mean of amounts from replicates (r, L) of `number` rows or groups, allowing for skewness (`mean_interval`).

    `drawn` is used up.
    """
    np.copyto(drawn, point, where=np.isnan(drawn))
    sd = _deviation(drawn) * (number / max(number - 1, 1)) ** 0.5
    moving = _moving(point, sd)
    critical = _critical(point, drawn, sd, moving, level)
    drawn -= drawn.mean(axis=0)
    skewness = np.divide(np.power(drawn, 3, out=drawn).mean(axis=0), sd**3, out=np.zeros_like(sd), where=moving)
    lower, upper = skewed_interval(point, np.where(moving, sd, 0.0), skewness, number, level)
    lower = np.maximum(lower, 0.0)
    width = critical * float(student_factor(number, level)) * sd
    return Bands(lower, upper, np.minimum(np.maximum(point - width, 0.0), lower), np.maximum(point + width, upper))


def _parts(drawn: Floats) -> list[Floats]:
    """Replicates (r, L) in parts of some levels each."""
    return np.array_split(drawn, max(1, -(-drawn.shape[1] // LEVELS)), axis=1)


def _deviation(drawn: Floats) -> Floats:
    """Standard deviation of the replicates (r, L) at each level."""
    return np.concatenate([part.std(axis=0) for part in _parts(drawn)])


def _moving(point: Floats, sd: Floats) -> Flags:
    """Where resampling changes the curve at all."""
    return ~np.isnan(point) & (sd > 1e-12 * np.maximum(1e-300, np.abs(point)))


def _critical(point: Floats, drawn: Floats, sd: Floats, moving: Flags, level: float) -> float:
    """How many standard errors the furthest point of a replicate lies off, in the share `level` of the replicates."""
    if not moving.any():
        return 0.0
    furthest = np.empty(len(drawn))
    for start in range(0, len(drawn), REPLICATES):
        part = slice(start, start + REPLICATES)
        off = drawn[part, moving]
        off -= point[moving]
        furthest[part] = (np.abs(off, out=off) / sd[moving]).max(axis=1)
    return float(np.quantile(furthest, level))


def _ratio(a: Floats, b: Floats) -> Floats:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _limits(point: Floats, drawn: Floats, level: float, hits: tuple[Floats, Floats], groups: int | None) -> Bands:
    """Percentile and max-t limits from replicates (r, L); exact ones where a proportion is 0 or 1 and resampling shows no variation.

    `hits`: successes and trials of the proportion (L,). Of `groups` resampled, a proportion has Clopper-Pearson's limits at
    as many rows as vary so much (`share_interval`).
    A replicate in which the curve is not defined at a level says nothing there and counts as the estimate. `drawn` is used up.
    """
    defined = ~np.isnan(point)
    np.copyto(drawn, point, where=np.isnan(drawn))
    sd, ends = _deviation(drawn), [(1 - level) / 2, (1 + level) / 2]
    lower, upper = np.concatenate([np.quantile(part, ends, axis=0) for part in _parts(drawn)], axis=1)
    if groups is not None:
        factor = float(student_factor(groups, level)) * (groups / max(groups - 1, 1)) ** 0.5
        lower, upper, sd = point + factor * (lower - point), point + factor * (upper - point), factor * sd
    moving = _moving(point, sd)
    critical = _critical(point, drawn, sd, moving, level)
    # at critical standard errors the score interval keeps the skewness near 0 and 1 that point +- critical sd ignores
    rows = np.divide(point * (1 - point), sd**2, out=np.zeros_like(point), where=moving)
    sim_lower, sim_upper = wilson(np.where(moving, point, 0.0) * rows, rows, critical)
    sim_lower, sim_upper = np.where(defined, sim_lower, np.nan), np.where(defined, sim_upper, np.nan)
    k, n = hits
    if groups is not None:
        inner = moving & (point > 0) & (point < 1)
        alike = effective_rows(point[inner], (sd[inner] / float(student_factor(groups, level))) ** 2, groups, level)
        lower[inner], upper[inner] = clopper_pearson(point[inner] * alike, alike, level)
    # near 0 and 1 the two are computed differently, and the simultaneous band must contain the pointwise one
    sim_lower, sim_upper = np.fmin(sim_lower, lower), np.fmax(sim_upper, upper)
    end = defined & ((point == 0) | (point == 1))
    simultaneous = max(level, float(2 * ndtr(critical) - 1))
    for low, high, at in ((lower, upper, level), (sim_lower, sim_upper, simultaneous)):
        low[end], high[end] = clopper_pearson(k[end], n[end], at)
    # where answers were sampled a replicate may lie beyond what a share can be
    lower, upper, sim_lower, sim_upper = (np.clip(limit, 0.0, 1.0) for limit in (lower, upper, sim_lower, sim_upper))
    return Bands(lower, upper, sim_lower, sim_upper)
