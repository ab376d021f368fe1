"""All metrics of `summary` and their intervals, against the subset that scikit-learn and model-diagnostics compute.

CPU seconds. Peers: scikit-learn's Brier score, log loss, AUROC, two average precisions and a ten-bin calibration curve;
model-diagnostics' CORP decomposition of both scores. Intervals: 500 replicates, against 500 of scikit-learn's resample with
Brier score and AUROC only (a few are timed and scaled).

    python benchmarks/bench_metrics.py [largest n]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from figure import Figure
from model_diagnostics.scoring import LogLoss, SquaredError, decompose
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.utils import resample

from pipeline.decide.metrics import summary, with_intervals


def with_sklearn(c: np.ndarray, y: np.ndarray) -> None:
    brier_score_loss(y, c)
    log_loss(y, c)
    roc_auc_score(y, c)
    average_precision_score(y, c)
    average_precision_score(1 - y, -c)
    calibration_curve(y, c, n_bins=10)


def with_model_diagnostics(c: np.ndarray, y: np.ndarray) -> None:
    decompose(y, c, scoring_function=SquaredError())
    decompose(y, c, scoring_function=LogLoss())


def resampled(c: np.ndarray, y: np.ndarray, replicates: int) -> None:
    for seed in range(replicates):
        a, b = resample(c, y, random_state=seed)
        brier_score_loss(b, a)
        roc_auc_score(b, a)


def intervals(c: np.ndarray, y: np.ndarray) -> None:
    with_intervals(c, y, replicates=500, seed=0)


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
        f"{'rows':>9} {'ours s':>8} {'sklearn':>8} {'ratio':>6} {'CORP peer':>9} {'ratio':>6} {'intervals':>9} {'sklearn':>8} {'ratio':>6}"
    )
    for n in (1_000, 10_000, 100_000, 1_000_000):
        if n > largest:
            break
        rng = np.random.default_rng(0)
        c = expit(rng.normal(2, 2, n))
        y = (rng.random(n) < c).astype(float)
        own, scikit, peer = (cpu(job, c, y) for job in (summary, with_sklearn, with_model_diagnostics))
        few = 20 if n < 100_000 else 2
        bars = cpu(intervals, c, y)
        rows = cpu(resampled, c, y, few) * 500 / few
        print(
            f"{n:>9,} {own:>8.3f} {scikit:>8.3f} {scikit / own:>6.1f} {peer:>9.3f} {peer / own:>6.1f} "
            f"{bars:>9.2f} {rows:>8.1f} {rows / bars:>6.0f}"
        )
        figures += [
            Figure(f"all metrics, {n:,} rows", own, "s of CPU"),
            Figure(f"speed-up over scikit-learn, which computes fewer metrics, {n:,} rows", scikit / own, "times"),
            Figure(f"speed-up over model-diagnostics, decompositions only, {n:,} rows", peer / own, "times"),
            Figure(
                f"speed-up of the intervals over 500 scikit-learn resamples of two metrics, {n:,} rows",
                rows / bars,
                "times",
            ),
        ]
    return figures


if __name__ == "__main__":
    main(*(int(float(n)) for n in sys.argv[1:]))
