"""Bands: bootstrap uncertainty of the sweep's curves, drawn over cells instead of rows.

At fixed levels, resampling rows with replacement is the same as drawing the counts per cell (segment and grades) from a
multinomial, so a replicate costs the number of cells, whatever the number of rows. Dollars are not counts: given a
replicate's counts they get their segment means plus a normal term from the covariance inside the segment, which vanishes
where a segment holds one row, that is where the draw is the row bootstrap itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from pipeline.decide.intervals import clopper_pearson

Floats = npt.NDArray[np.float64]

SLICE = 2_000_000  # numbers per temporary array


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
    counts: Floats, dollars: tuple[Floats, Floats, Floats], *, level: float, replicates: int, rng: np.random.Generator
) -> dict[str, Bands]:
    """Bands of every banded column of the sweep.

    `counts` (L + 1, 3, 3): rows per segment by cheap and strong correctness (wrong, right, unknown). `dollars`: known
    share (L + 1, 2), mean (L + 1, 2) and covariance (L + 1, 3) of cheap and strong dollars per segment.
    """
    n, levels = int(counts.sum()), len(counts) - 1
    if n == 0:
        nothing = Bands(*(np.full(levels, np.nan) for _ in range(4)))
        names = (
            "coverage",
            "escalation_rate",
            "accepted_accuracy",
            "selective_risk",
            "system_accuracy",
            "usd_per_1000",
        )
        return dict.fromkeys(names, nothing)
    cells = _Cells.of(counts)
    point = cells.curves(cells.count[None], n)
    drawn = {name: np.empty((replicates, levels)) for name in (*point, "usd_per_1000")}
    size = max(1, SLICE // len(cells.count))
    for start in range(0, replicates, size):
        rows = slice(start, min(start + size, replicates))
        sample = rng.multinomial(n, cells.count / n, size=rows.stop - rows.start).astype(np.float64)
        for name, values in cells.curves(sample, n).items():
            drawn[name][rows] = values
        drawn["usd_per_1000"][rows] = 1000 * _usd(cells.per_segment(sample), dollars, rng)
    known = cells.known(cells.count[None])
    hits = {"coverage": (point["coverage"][0] * n, np.full(levels, float(n)))}
    hits["accepted_accuracy"] = (known["cheap_right"][0], known["cheap_known"][0])
    hits["system_accuracy"] = (
        (known["cheap_right"] + known["strong_right"])[0],
        (known["cheap_known"] + known["strong_known"])[0],
    )
    out = {name: _limits(point[name][0], drawn[name], level, hits[name]) for name in point}
    usd = 1000 * _usd(cells.per_segment(cells.count[None]), dollars, None)[0]
    out["usd_per_1000"] = _limits(usd, drawn["usd_per_1000"], level, None)
    out["escalation_rate"] = out["coverage"].complement()
    out["selective_risk"] = out["accepted_accuracy"].complement()
    return out


@dataclass(frozen=True)
class _Cells:
    """The non-empty cells in order of segment: `count` (c,), flags per cell, and `ends` (L + 1,) cells up to a segment."""

    count: Floats
    flags: dict[str, Floats]
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, counts: Floats) -> _Cells:
        segment, cheap, strong = np.nonzero(counts)
        flags = {
            "rows": np.ones(len(segment)),
            "cheap_right": (cheap == 1).astype(np.float64),
            "cheap_known": (cheap < 2).astype(np.float64),
            "strong_right": (strong == 1).astype(np.float64),
            "strong_known": (strong < 2).astype(np.float64),
        }
        ends = np.searchsorted(segment, np.arange(len(counts)), side="right")
        return cls(counts[segment, cheap, strong], flags, ends)

    def cumulative(self, sample: Floats, flag: str) -> Floats:
        """Flagged rows up to each segment, shape (r, L + 1)."""
        weights = self.flags[flag]
        sums = np.cumsum(sample if weights.all() else sample * weights, axis=1)
        return np.where(self.ends > 0, sums[:, np.maximum(self.ends - 1, 0)], 0.0)

    def per_segment(self, sample: Floats) -> Floats:
        return np.diff(self.cumulative(sample, "rows"), axis=1, prepend=0.0)

    def known(self, sample: Floats) -> dict[str, Floats]:
        """Rows kept (cheap_*) or escalated (strong_*) at each level that are right or graded, shape (r, L) each."""
        out = {}
        for name in self.flags:
            escalated = self.cumulative(sample, name)
            out[name] = escalated[:, -1:] - escalated[:, :-1] if name.startswith("cheap") else escalated[:, :-1]
        return out

    def curves(self, sample: Floats, n: int) -> dict[str, Floats]:
        k = self.known(sample)
        escalated = k["rows"]
        kept = n - escalated
        with np.errstate(divide="ignore", invalid="ignore"):
            accuracy, strong = k["cheap_right"] / k["cheap_known"], k["strong_right"] / k["strong_known"]
            system = np.where(kept > 0, kept * accuracy, 0.0) + np.where(escalated > 0, escalated * strong, 0.0)
            return {"coverage": kept / n, "accepted_accuracy": accuracy, "system_accuracy": system / n}


def _usd(rows: Floats, dollars: tuple[Floats, Floats, Floats], rng: np.random.Generator | None) -> Floats:
    """Mean dollars per row at each level, (r, L), of tables with `rows` (r, L + 1) per segment; without noise if no rng."""
    share, mean, (variance_cheap, variance_strong, covariance) = dollars[0], dollars[1], dollars[2].T
    known_cheap, known_strong = rows * share[:, 0], rows * share[:, 1]
    cheap, strong = known_cheap * mean[:, 0], known_strong * mean[:, 1]
    if rng is not None and (variance_cheap.any() or variance_strong.any()):
        sd = np.sqrt(variance_cheap)
        slope = np.divide(covariance, sd, out=np.zeros_like(sd), where=sd > 0)
        rest = np.sqrt(np.maximum(variance_strong - slope**2, 0.0))
        common, own = rng.standard_normal((2, *rows.shape))
        cheap = cheap + np.sqrt(known_cheap) * sd * common
        strong = strong + np.sqrt(known_strong) * (slope * common + rest * own)
    escalation = np.cumsum(rows, axis=1)[:, :-1] / rows.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_escalated = np.cumsum(strong, axis=1)[:, :-1] / np.cumsum(known_strong, axis=1)[:, :-1]
        per_row = cheap.sum(axis=1, keepdims=True) / known_cheap.sum(axis=1, keepdims=True)
    return np.asarray(per_row + np.where(escalation > 0, escalation * per_escalated, 0.0), dtype=np.float64)


def _limits(point: Floats, drawn: Floats, level: float, hits: tuple[Floats, Floats] | None) -> Bands:
    """Percentile and max-t limits from replicates (r, L); exact ones where a proportion is 0 or 1 and resampling is mute.

    `hits`: successes and trials of the proportion (L,), or None for a mean, which has no such ends.
    A replicate in which the curve is not defined at a level says nothing there and counts as the estimate.
    """
    defined = ~np.isnan(point)
    drawn = np.where(np.isnan(drawn), point, drawn)
    tails = [(1 - level) / 2, (1 + level) / 2]
    lower, upper = np.quantile(drawn, tails, axis=0)
    sd = drawn.std(axis=0)
    moving = defined & (sd > 1e-12 * np.maximum(1e-300, np.abs(point)))
    critical = 0.0
    if moving.any():
        furthest = (np.abs(drawn[:, moving] - point[moving]) / sd[moving]).max(axis=1)
        critical = float(np.quantile(furthest, level))
    sim_lower, sim_upper = point - critical * sd, point + critical * sd
    if hits is None:
        return Bands(lower, upper, np.maximum(sim_lower, 0.0), sim_upper)
    k, n = hits
    end = defined & ((k == 0) | (k == n))
    simultaneous = max(level, float(2 * ndtr(critical) - 1))
    for low, high, at in ((lower, upper, level), (sim_lower, sim_upper, simultaneous)):
        low[end], high[end] = clopper_pearson(k[end], n[end], at)
    return Bands(lower, upper, np.clip(sim_lower, 0, 1), np.clip(sim_upper, 0, 1))
