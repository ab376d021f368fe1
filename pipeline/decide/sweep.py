"""Sweep: what each threshold would have meant for coverage, accuracy, cost and latency, with bands.

Rows fall into the segments between neighbouring levels. All that the curves need are counts per segment of
(cheap right, strong right), each 0, 1 or unknown: one pass over the rows, one cumulative sum over the segments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.decide.bands import Bands, bands
from pipeline.decide.latency import cascade_quantiles
from pipeline.decide.rows import Rows

Floats = npt.NDArray[np.float64]

SPLITS = ("certify", "test", "all")
BANDED = ("coverage", "escalation_rate", "accepted_accuracy", "selective_risk", "system_accuracy", "usd_per_1000")
UNKNOWN = 2  # code of an unknown correctness, beside 0 wrong and 1 right


@dataclass(frozen=True)
class Segments:
    """Rows counted between levels: segment s holds the rows with exactly s of the L levels at or below their confidence.

    A row in segment s is kept by the levels 0..s-1 and escalated from level s on; null confidences lie in segment 0.

    counts          (L + 1, 3, 3)  rows by cheap and strong correctness: wrong, right, unknown
    usd_known       (L + 1, 2)     rows with known dollars of the cheap and the strong call
    usd_sum         (L + 1, 2)     their sums
    usd_covariance  (L + 1, 3)     within the segment: variances of cheap and strong dollars, and their covariance
    usd_unknown     (L + 1, 2)     rows whose dollars are unknown if kept, if escalated
    """

    counts: Floats
    usd_known: Floats
    usd_sum: Floats
    usd_covariance: Floats
    usd_unknown: Floats

    @property
    def n(self) -> int:
        """All rows."""
        return int(self.counts.sum())

    @classmethod
    def of(cls, rows: Rows, levels: Floats) -> Segments:
        """Count `rows` between ascending `levels` (L,)."""
        segment, size = segment_of(rows.confidence, levels), len(levels) + 1

        def per_segment(weights: Floats) -> Floats:
            return np.bincount(segment, weights, size).astype(np.float64)

        code = 3 * _codes(rows.cheap_correct) + _codes(rows.strong_correct)
        counts = np.bincount(9 * segment + code, minlength=9 * size).reshape(size, 3, 3).astype(np.float64)
        usd = (rows.cheap_usd, rows.strong_usd)
        known = [(~np.isnan(u)).astype(np.float64) for u in usd]
        filled = [np.nan_to_num(u, nan=0.0) for u in usd]
        usd_known = np.column_stack([per_segment(k) for k in known])
        usd_sum = np.column_stack([per_segment(f) for f in filled])
        mean = np.divide(usd_sum, usd_known, out=np.zeros_like(usd_sum), where=usd_known > 0)
        off = [k * (f - m[segment]) for k, f, m in zip(known, filled, mean.T, strict=True)]
        spread = [(off[0] ** 2, known[0]), (off[1] ** 2, known[1]), (off[0] * off[1], known[0] * known[1])]
        covariance = [(per_segment(s), per_segment(k)) for s, k in spread]
        return cls(
            counts=counts,
            usd_known=usd_known,
            usd_sum=usd_sum,
            usd_covariance=np.column_stack([np.divide(s, k, out=np.zeros(size), where=k > 0) for s, k in covariance]),
            usd_unknown=np.column_stack([per_segment(1 - known[0]), per_segment(1 - known[0] * known[1])]),
        )


def segment_of(confidence: Floats, levels: Floats) -> npt.NDArray[np.int64]:
    """How many of the ascending `levels` lie at or below each confidence; 0 for NaN, which is never accepted."""
    return np.where(np.isnan(confidence), 0, np.searchsorted(levels, confidence, side="right")).astype(np.int64)


def sweep(rows: Rows, levels: npt.ArrayLike, *, level: float = 0.9, replicates: int = 2000, seed: int) -> pd.DataFrame:
    """One row per split (certify, test, all) and threshold; a confidence >= threshold is kept, a null one escalates.

    `levels`: thresholds, any order; the same for all splits. Columns:

    split, threshold
    n, n_accepted            rows of the split; rows kept
    n_unknown                rows whose final answer cannot be graded at this threshold
    n_cost_unknown           rows whose dollars are unknown at this threshold
    coverage, escalation_rate          share kept, share escalated
    accepted_accuracy, selective_risk  of the kept rows that are graded, and its complement
    system_accuracy          share kept x accuracy of the kept + share escalated x strong accuracy of the escalated, each
                             over the rows where it is known; NaN where a part with rows has none known
    usd_per_1000             mean cheap dollars of all rows + share escalated x mean strong dollars of the escalated,
                             each over the rows where they are known, times 1,000
    latency_p50_s, latency_p95_s       smallest time within which that share of rows is answered; escalated rows wait for
                             both calls; over rows whose times are known
    <x>_lower, <x>_upper           pointwise band of x at `level`
    <x>_sim_lower, <x>_sim_upper   simultaneous band: holds for all thresholds of a split together

    Unknown numbers are NaN. `attrs` names band kinds, level, replicates and seed.
    """
    at = np.unique(np.asarray(levels, dtype=np.float64))
    tables = []
    for number, split in enumerate(SPLITS):
        part = rows.of(split)
        segments = Segments.of(part, at)
        rng = np.random.default_rng([seed, number])
        table = {"split": split, "threshold": at} | curves(segments)
        seconds = cascade_quantiles(segment_of(part.confidence, at), part.cheap_s, part.strong_s, len(at), (0.5, 0.95))
        table |= {"latency_p50_s": seconds[0], "latency_p95_s": seconds[1]}
        drawn = bands(segments.counts, _dollars(segments), level=level, replicates=replicates, rng=rng)
        tables.append(pd.DataFrame(table | _columns(drawn)))
    frame = pd.concat(tables, ignore_index=True)
    frame.attrs = {
        "band": "pointwise percentile bootstrap over cells; Clopper-Pearson where the estimate is 0 or 1",
        "band_sim": "simultaneous max-t bootstrap over cells",
        "band_level": level,
        "replicates": replicates,
        "seed": seed,
    }
    return frame


def curves(segments: Segments) -> dict[str, Floats]:
    """The exact columns of one split, shape (L,) each, from n on to usd_per_1000."""
    n = float(segments.n)
    escalated = np.cumsum(segments.counts, axis=0)[:-1]
    kept = segments.counts.sum(axis=0) - escalated
    n_kept, n_escalated = kept.sum(axis=(1, 2)), escalated.sum(axis=(1, 2))
    cheap_right, cheap_known = kept[:, 1].sum(axis=1), kept[:, :UNKNOWN].sum(axis=(1, 2))
    strong_right, strong_known = escalated[:, :, 1].sum(axis=1), escalated[:, :, :UNKNOWN].sum(axis=(1, 2))
    usd_unknown = np.cumsum(segments.usd_unknown, axis=0)[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = cheap_right / cheap_known
        strong_accuracy = strong_right / strong_known
        return {
            "n": np.full(len(n_kept), n).astype(np.int64),
            "n_accepted": n_kept.astype(np.int64),
            "n_unknown": (n - cheap_known - strong_known).astype(np.int64),
            "n_cost_unknown": (segments.usd_unknown[:, 0].sum() - usd_unknown[:, 0] + usd_unknown[:, 1]).astype(
                np.int64
            ),
            "coverage": n_kept / n,
            "escalation_rate": n_escalated / n,
            "accepted_accuracy": accuracy,
            "selective_risk": (cheap_known - cheap_right) / cheap_known,
            "system_accuracy": (_part(n_kept, accuracy) + _part(n_escalated, strong_accuracy)) / n,
            "usd_per_1000": 1000 * _usd_per_row(segments, n_escalated / n),
        }


def _part(rows: Floats, mean: Floats) -> Floats:
    """rows x mean, and 0 where there are no rows, whose mean nobody needs."""
    return np.where(rows > 0, rows * mean, 0.0)


def _usd_per_row(segments: Segments, escalation: Floats) -> Floats:
    cheap = segments.usd_sum[:, 0].sum() / segments.usd_known[:, 0].sum()
    strong = np.cumsum(segments.usd_sum[:, 1])[:-1] / np.cumsum(segments.usd_known[:, 1])[:-1]
    return np.asarray(cheap + _part(escalation, strong), dtype=np.float64)


def _codes(correct: Floats) -> npt.NDArray[np.int64]:
    return np.where(np.isnan(correct), UNKNOWN, correct).astype(np.int64)


def _dollars(segments: Segments) -> tuple[Floats, Floats, Floats]:
    """Per segment: known share, mean and covariance of cheap and strong dollars, for the bands."""
    rows = segments.counts.sum(axis=(1, 2))[:, None]
    share = np.divide(segments.usd_known, rows, out=np.zeros_like(segments.usd_known), where=rows > 0)
    mean = np.divide(
        segments.usd_sum, segments.usd_known, out=np.zeros_like(segments.usd_sum), where=segments.usd_known > 0
    )
    return share, mean, segments.usd_covariance


def _columns(drawn: dict[str, Bands]) -> dict[str, Floats]:
    columns = {}
    for name in BANDED:
        for kind in ("lower", "upper", "sim_lower", "sim_upper"):
            columns[f"{name}_{kind}"] = getattr(drawn[name], kind)
    return columns
