"""Segments: rows counted between neighbouring thresholds, and the curves that follow from such counts.

With L ascending levels, segment s holds the rows with exactly s levels at or below their confidence: they are kept at the
levels 0..s-1 and escalated from level s on. Null confidences lie in segment 0. Inside a segment a *cell* is one
combination of (cheap correct, strong correct, weight), so the cells' counts are all that accuracy needs. One table of
counts or r bootstrap tables, shape (r, c), go through the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.predictions import Rows

Numbers = npt.NDArray[np.int32]
UNKNOWN = 2  # code of an unknown correctness, beside 0 wrong and 1 right


def segment_of(confidence: Floats, levels: Floats) -> Numbers:
    """How many of the ascending `levels` lie at or below each confidence; 0 for NaN, which is never accepted."""
    found = np.searchsorted(levels, confidence, side="right").astype(np.int32)
    found[np.isnan(confidence)] = 0
    return found


@dataclass(frozen=True)
class Segments:
    """Counts of rows per cell, cells ordered by segment.

    levels                  L
    count (c,)              rows per cell
    flags {name: (c,)}      the weight of a cell's rows where they count for: rows, cheap_right, cheap_known,
                            strong_right, strong_known; else 0. Where strong answers were sampled strong_right is what the
                            rows are estimated to be right (`Rows.estimated`), and all rows count as known but those whose
                            bought answer never came
    ends (L + 1,)           number of cells up to and including each segment
    segment, cell (n,)      of each row
    """

    levels: int
    count: Floats
    flags: dict[str, Floats]
    ends: Ints
    segment: Numbers
    cell: Numbers

    @classmethod
    def of(cls, rows: Rows, levels: Floats, weights: Floats | None = None) -> Segments:
        """Count `rows` between ascending `levels` (L,), each with its weight (n,) or 1. Few distinct weights are meant."""
        segment = segment_of(rows.confidence, levels)
        distinct, kind = np.ones((2, 1)), np.zeros(1, dtype=np.int64)
        if weights is not None or rows.sampled:
            each = np.stack([np.ones(len(rows)) if weights is None else weights, rows.strong_weight])
            distinct, kind = np.unique(each, axis=1, return_inverse=True)
        kinds = distinct.shape[1]
        key = segment.astype(np.int64)
        key *= 9
        key += 3 * _codes(rows.cheap_correct) + _codes(rows.strong_correct)
        key *= kinds
        key += kind
        counts = np.bincount(key, minlength=9 * (len(levels) + 1) * kinds)
        used = np.flatnonzero(counts)
        place = np.zeros(len(counts), dtype=np.int32)
        place[used] = np.arange(len(used))
        of_segment, rest = np.divmod(used, 9 * kinds)
        cheap, strong = np.divmod(rest // kinds, 3)
        weight, stands = distinct[:, rest % kinds]
        right, known = strong == 1, strong < UNKNOWN
        if rows.sampled:
            right = np.where(stands > 0, (cheap == 1) + stands * (right * 1.0 - (cheap == 1)), cheap == 1)
            known = known | (stands == 0)
        flags = {
            "rows": weight,
            "cheap_right": weight * (cheap == 1),
            "cheap_known": weight * (cheap < UNKNOWN),
            "strong_right": weight * right * known,
            "strong_known": weight * known,
        }
        ends = np.searchsorted(of_segment, np.arange(len(levels) + 1), side="right")
        return cls(len(levels), counts[used].astype(np.float64), flags, ends, segment, place[key])

    def per_segment(self, weights: Floats) -> Floats:
        """Sums of a number per row, (n,), over each segment, (L + 1,)."""
        return np.bincount(self.segment, weights, self.levels + 1).astype(np.float64)

    def known(self, counts: Floats) -> dict[str, Floats]:
        """From counts per cell (r, c): weight of the rows kept (`cheap_*`) or escalated (`strong_*`, `rows`) at each level.

        Shape (r, L) each; also `total` (r, 1) and `segment` (r, L + 1), the weight of all rows and per segment.
        """
        sums = {"rows": self._up_to(counts * self.flags["rows"])}
        for name, flag in self.flags.items():
            same = np.array_equal(flag, self.flags["rows"])
            sums[name] = sums["rows"] if same else self._up_to(counts * flag)
        out = {k: s[:, -1:] - s[:, :-1] if k.startswith("cheap") else s[:, :-1] for k, s in sums.items()}
        return out | {"total": sums["rows"][:, -1:], "segment": np.diff(sums["rows"], axis=1, prepend=0.0)}

    def _up_to(self, weighted: Floats) -> Floats:
        if weighted.shape[1] == 0:
            return np.zeros((len(weighted), self.levels + 1))
        sums = np.cumsum(weighted, axis=1)[:, np.maximum(self.ends - 1, 0)]
        sums[:, self.ends == 0] = 0.0
        return sums


def proportions(known: dict[str, Floats]) -> dict[str, Floats]:
    """Coverage, accepted accuracy and system accuracy, shape (r, L) each, NaN where undefined.

    System accuracy joins the kept and the escalated part by their shares, each part's accuracy taken over its graded rows:
    with strong answers missing at random it stays unbiased, while a mean over graded rows would favour the kept ones.
    """
    escalated, total = known["rows"], known["total"]
    kept = total - escalated
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = known["cheap_right"] / known["cheap_known"]
        strong = known["strong_right"] / known["strong_known"]
        system = (_part(kept, accuracy) + _part(escalated, strong)) / total
        return {"coverage": kept / total, "accepted_accuracy": accuracy, "system_accuracy": system}


@dataclass(frozen=True)
class Dollars:
    """Weighted sums of recorded dollars over the rows where they are known.

    cheap_sum, cheap_known (r,)              over all rows
    strong_sum, strong_known (r, L + 1)      per segment
    """

    cheap_sum: Floats
    cheap_known: Floats
    strong_sum: Floats
    strong_known: Floats

    @classmethod
    def of(cls, segments: Segments, rows: Rows) -> Dollars:
        """Sums of one table, r = 1."""
        weight = segments.flags["rows"][segments.cell]
        cheap_sum = (weight * np.nan_to_num(rows.cheap_usd)).sum()
        cheap_known = (weight * ~np.isnan(rows.cheap_usd)).sum()
        weight *= rows.strong_weight
        return cls(
            np.array([cheap_sum]),
            np.array([cheap_known]),
            segments.per_segment(weight * np.nan_to_num(rows.strong_usd))[None],
            segments.per_segment(weight * ~np.isnan(rows.strong_usd))[None],
        )

    def per_row(self, escalation: Floats) -> Floats:
        """Mean dollars per row at each level, (r, L): all rows pay the cheap call, the escalated share also the strong."""
        with np.errstate(divide="ignore", invalid="ignore"):
            strong = np.cumsum(self.strong_sum, axis=1)[:, :-1] / np.cumsum(self.strong_known, axis=1)[:, :-1]
            return (self.cheap_sum / self.cheap_known)[:, None] + _part(escalation, strong)


def _part(rows: Floats, mean: Floats) -> Floats:
    """rows x mean, and 0 where there are no rows and the mean is undefined."""
    return np.where(rows > 0, rows * mean, 0.0)


def _codes(correct: Floats) -> npt.NDArray[np.int8]:
    found = np.full(len(correct), UNKNOWN, dtype=np.int8)
    np.copyto(found, correct, casting="unsafe", where=~np.isnan(correct))
    return found
