"""Sweep: what each threshold would have meant for coverage, accuracy, cost and latency, with bands."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.curves.at_threshold import Estimate
from pipeline.decide.curves.bands import bands
from pipeline.decide.curves.bootstrap import blocks_of
from pipeline.decide.curves.latency import cascade_quantiles
from pipeline.decide.curves.threshold_counts import Dollars, Segments, proportions
from pipeline.decide.predictions import Rows

SPLITS = ("certify", "test", "all")
BANDED = ("coverage", "escalation_rate", "accepted_accuracy", "selective_risk", "system_accuracy", "usd_per_1000")


def sweep(
    rows: Rows,
    levels: npt.ArrayLike,
    *,
    level: float = 0.9,
    replicates: int = 2000,
    seed: int,
    weights: npt.ArrayLike | None = None,
) -> pd.DataFrame:
    """One row per split (certify, test, all) and threshold; a confidence >= threshold is kept, a null one escalates.

    `levels`: thresholds, any order; the same for all splits. `weights` (n,): how much each row counts where the labeled mix
    is not production's (few distinct values, such as one per label); None counts all alike. Columns:

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
                             both calls; over rows whose times are known, each counted once; NaN where those of the kept
                             rows, or those of the escalated, are all unknown
    <x>_lower, <x>_upper           pointwise band of x at `level`
    <x>_sim_lower, <x>_sim_upper   simultaneous band: holds for all thresholds of a split together

    Where strong answers were sampled by the coin they count for the rows that they stand for, and times are NaN.
    Where groups have several rows, bands resample groups. Unknown numbers are NaN. `attrs` names band kinds, level,
    replicates, seed and the unit that was resampled. Raises ValueError on levels or weights that are NaN.
    """
    at = np.unique(np.asarray(levels, dtype=np.float64))
    weight = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
    if np.isnan(at).any() or np.isnan(weight).any() or (weight < 0).any():
        raise ValueError("levels and weights must be numbers, weights not negative")
    groups = blocks_of(rows.group, seed=seed, at_most=len(rows))
    tables: list[pd.DataFrame] = []
    for number, split in enumerate(SPLITS):
        chosen = np.ones(len(rows), dtype=bool) if split == "all" else np.asarray(rows.split == split, dtype=bool)
        part = rows.of(split)
        if split == "all" and (same := [t for t in tables if len(rows) and (t["n"] == len(rows)).all()]):
            tables.append(same[0].assign(split="all"))  # every row certifies, or is a test row: the same curves
            continue
        segments = Segments.of(part, at, None if weights is None else weight[chosen])
        blocks = None if groups is None else blocks_of(groups[chosen], seed=seed)
        rng = np.random.default_rng([seed, number])
        limits = bands(segments, part, level=level, replicates=replicates, rng=rng, blocks=blocks)
        table = {"split": split, "threshold": at} | _curves(segments, part) | _latency(segments, part)
        for name in BANDED:
            for kind in ("lower", "upper", "sim_lower", "sim_upper"):
                table[f"{name}_{kind}"] = getattr(limits[name], kind)
        tables.append(pd.DataFrame(table))
    frame = pd.concat(tables, ignore_index=True)
    frame.attrs = {
        "band": "pointwise percentile bootstrap; Clopper-Pearson where the estimate is 0 or 1",
        "band_sim": "simultaneous max-t bootstrap, in score form for proportions",
        "band_level": level,
        "band_unit": "rows" if groups is None else "groups",
        "replicates": replicates,
        "seed": seed,
    }
    return frame


def with_estimates(frame: pd.DataFrame, threshold: float | None, expected: Mapping[str, Estimate]) -> pd.DataFrame:
    """The table with the recommendation's own intervals at its threshold, so that one figure has one interval everywhere.

    Where an estimate is of the same figure and split; the simultaneous band contains the pointwise one.
    """
    if threshold is None:
        return frame
    out = frame.copy()
    out.attrs = dict(frame.attrs)
    for name in BANDED:
        estimate = expected.get(name)
        if estimate is None or estimate.value is None or estimate.lower is None or estimate.upper is None:
            continue
        at = (out["threshold"] == threshold) & (out["split"] == estimate.split)
        at &= np.isclose(out[name], estimate.value, rtol=1e-9, atol=1e-12)
        out.loc[at, [f"{name}_lower", f"{name}_upper"]] = estimate.lower, estimate.upper
        out.loc[at, f"{name}_sim_lower"] = np.fmin(out.loc[at, f"{name}_sim_lower"], estimate.lower)
        out.loc[at, f"{name}_sim_upper"] = np.fmax(out.loc[at, f"{name}_sim_upper"], estimate.upper)
    return out


def _curves(segments: Segments, rows: Rows) -> dict[str, Floats]:
    """The exact columns of one split, shape (L,) each, from n on to usd_per_1000."""
    curve = {name: values[0] for name, values in proportions(segments.known(segments.count[None])).items()}
    escalation = 1 - curve["coverage"]
    gone = np.cumsum(segments.per_segment(np.ones(len(rows))))[:-1]
    return {
        "n": np.full(segments.levels, len(rows)),
        "n_accepted": (len(rows) - gone).astype(np.int64),
        "n_unknown": _missing(segments, rows.cheap_correct, rows.strong_estimate),
        "n_cost_unknown": _missing(
            segments, rows.cheap_usd, rows.cheap_usd + np.where(rows.strong_weight > 0, rows.strong_usd, 0.0)
        ),
        "coverage": curve["coverage"],
        "escalation_rate": escalation,
        "accepted_accuracy": curve["accepted_accuracy"],
        "selective_risk": 1 - curve["accepted_accuracy"],
        "system_accuracy": np.clip(curve["system_accuracy"], 0.0, 1.0),  # sampled answers may add up to more
        "usd_per_1000": 1000 * Dollars.of(segments, rows).per_row(escalation[None])[0],
    }


def _missing(segments: Segments, if_kept: Floats, if_escalated: Floats) -> Ints:
    """Rows at each level for which the number that counts there is NaN."""
    kept, escalated = (np.cumsum(segments.per_segment(np.isnan(x).astype(np.float64))) for x in (if_kept, if_escalated))
    return np.asarray(kept[-1] - kept[:-1] + escalated[:-1]).astype(np.int64)


def _latency(segments: Segments, rows: Rows) -> dict[str, Floats]:
    if rows.sampled:  # a time never represents another row
        return dict.fromkeys(("latency_p50_s", "latency_p95_s"), np.full(segments.levels, np.nan))
    quantiles = cascade_quantiles(segments.segment, rows.cheap_s, rows.strong_s, segments.levels, (0.5, 0.95))
    silent = np.zeros(segments.levels, dtype=bool)  # a part has rows and no time of any: the other cannot stand for it
    for kept, times in ((True, rows.cheap_s), (False, rows.cheap_s + rows.strong_s)):
        counts = [
            np.cumsum(np.bincount(segments.segment[which], minlength=segments.levels + 1))
            for which in (slice(None), ~np.isnan(times))
        ]
        those, known = (c[-1] - c[:-1] if kept else c[:-1] for c in counts)
        silent |= (those > 0) & (known == 0)
    p50, p95 = np.where(silent, np.nan, quantiles)
    return {"latency_p50_s": p50, "latency_p95_s": p95}
