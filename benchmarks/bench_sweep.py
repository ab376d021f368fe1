"""A sweep with simultaneous bands from 1,000 replicates, against a row bootstrap in numpy and one with scikit-learn's resample.

CPU seconds of one split at up to 1,000 levels. The peers compute the same three curves (coverage, accepted and system
accuracy) by one sort and one cumulative sum per replicate; a few replicates are timed and scaled to 1,000.

    python benchmarks/bench_sweep.py [largest n]
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from figure import Figure
from scipy.special import expit
from sklearn.utils import resample

from pipeline.decide.curves.bands import bands
from pipeline.decide.curves.threshold_counts import Segments
from pipeline.decide.predictions import Rows
from pipeline.decide.thresholds import sweep_levels

REPLICATES = 1000


def made(n: int) -> Rows:
    rng = np.random.default_rng(0)
    z = rng.normal(3, 2, n)
    right = (rng.random(n) < expit(0.3 + 0.55 * z)).astype(float)
    strong = (rng.random(n) < np.where(right, 0.985, 0.65)).astype(float)
    nothing = np.full(n, None, dtype=object)
    usd = rng.gamma(5, 1e-6, n), rng.gamma(5, 1e-5, n)
    unknown = np.full(n, np.nan)
    return Rows(
        example_id=nothing,
        split=nothing,
        group=nothing,
        segment=nothing,
        label=nothing,
        cheap_answer=nothing,
        strong_answer=nothing,
        confidence=expit(z),
        cheap_correct=right,
        strong_correct=strong,
        cheap_usd=usd[0],
        strong_usd=usd[1],
        cheap_s=unknown,
        strong_s=unknown,
    )


def ours(rows: Rows, levels: np.ndarray) -> None:
    segments = Segments.of(rows, levels)
    bands(segments, rows, level=0.9, replicates=REPLICATES, rng=np.random.default_rng(1))


def curves(confidence: np.ndarray, cheap: np.ndarray, strong: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """What a careful row bootstrap does in each replicate: one sort, cumulative sums, a look-up per level."""
    n, order = len(confidence), np.argsort(confidence)
    below = np.searchsorted(confidence[order], levels)
    cheap_right = np.append(0, np.cumsum(cheap[order]))
    strong_right = np.append(0, np.cumsum(strong[order]))
    kept_right = cheap_right[-1] - cheap_right[below]
    with np.errstate(invalid="ignore"):
        return np.stack([1 - below / n, kept_right / (n - below), (kept_right + strong_right[below]) / n])


def with_numpy(rows: Rows, levels: np.ndarray, replicates: int) -> None:
    rng = np.random.default_rng(1)
    for _ in range(replicates):
        index = rng.integers(0, len(rows), len(rows))
        curves(rows.confidence[index], rows.cheap_correct[index], rows.strong_correct[index], levels)


def with_sklearn(rows: Rows, levels: np.ndarray, replicates: int) -> None:
    for seed in range(replicates):
        curves(*resample(rows.confidence, rows.cheap_correct, rows.strong_correct, random_state=seed), levels)


def cpu(job: Callable[..., object], *arguments: object) -> float:
    """CPU seconds, the better of two runs."""
    taken = []
    for _ in range(2):
        start = time.process_time()
        job(*arguments)
        taken.append(time.process_time() - start)
    return min(taken)


def main(largest: int = 1_000_000) -> list[Figure]:
    figures = []
    print(
        f"{'rows':>9} {'levels':>6} {'ours s':>8} {'numpy s':>9} {'ratio':>6} {'sklearn s':>10} {'ratio':>6} {'peak MB':>8}"
    )
    for n in (10_000, 100_000, 1_000_000):
        if n > largest:
            break
        rows = made(n)
        levels = sweep_levels(rows.confidence)
        few = max(3, 200_000 // n)
        own = cpu(ours, rows, levels)
        plain = cpu(with_numpy, rows, levels, few) * REPLICATES / few
        scikit = cpu(with_sklearn, rows, levels, few) * REPLICATES / few
        tracemalloc.start()
        ours(rows, levels)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        print(
            f"{n:>9,} {len(levels):>6} {own:>8.2f} {plain:>9.1f} {plain / own:>6.0f} "
            f"{scikit:>10.1f} {scikit / own:>6.0f} {peak:>8.0f}"
        )
        whole = n == 1_000_000
        figures += [
            Figure(f"sweep with bands, {n:,} rows", own, "s of CPU"),
            Figure(
                f"speed-up over a row bootstrap in numpy, {n:,} rows",
                plain / own,
                "times",
                at_least=100 if whole else None,
            ),
            Figure(f"speed-up over scikit-learn's resample, {n:,} rows", scikit / own, "times"),
            Figure(f"memory in addition to the rows, {n:,} rows", peak, "MB", at_most=300 if whole else None),
        ]
    print("goal at 1,000,000: ratio to numpy at least 100, peak (beyond the rows) under 300 MB")
    return figures


if __name__ == "__main__":
    main(*(int(float(n)) for n in sys.argv[1:]))
