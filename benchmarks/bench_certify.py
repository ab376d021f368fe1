"""CPU time of a certificate at 1,000 to 1,000,000 rows. Goals: under 1 s at 5,000 rows, under 5 s at 1,000,000.

CPU seconds, and as ratios in the same run: to one argsort of the confidences, and to the plain way to the same p-values,
which sums the trinomial law over all outcomes for every candidate and nuisance value (a few pairs are timed and scaled; at
1,000,000 rows that sum is out of reach and left out).

    python benchmarks/bench_certify.py [largest n]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from figure import Figure
from scipy.special import expit
from scipy.stats import binom

from pipeline.decide.certify import certify_accepted_accuracy, certify_match_strong, certify_system_accuracy
from pipeline.decide.testing.paired_score import NUISANCE_POINTS, score

WITHIN, DELTA, CANDIDATES = 0.02, 0.1, 100


def made(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = rng.normal(4, 2.5, n)
    cheap = (rng.random(n) < expit(0.3 + 0.55 * z)).astype(float)
    strong = (rng.random(n) < np.where(cheap, 0.96, 0.65)).astype(float)
    return expit(z), cheap, strong


def cpu(job: Callable[[], object], repeat: int = 3) -> float:
    best = float("inf")
    for _ in range(repeat):
        begun = time.process_time()
        job()
        best = min(best, time.process_time() - begun)
    return best


def plain(n: int) -> float:
    """Seconds that the plain sum would take for all candidates and nuisance values."""
    wins = np.arange(n // 8)
    losses = np.arange(n // 8)[:, None]

    def once() -> None:
        inside = score(losses, wins[None, :], n, WITHIN) <= -1.3
        last = inside.sum(axis=0) - 1
        win = 0.02
        binom.pmf(wins, n, win) @ binom.cdf(last, n - wins, (win + WITHIN) / (1 - win))

    return cpu(once, 1) * CANDIDATES * NUISANCE_POINTS


def report(n: int) -> list[Figure]:
    confidence, cheap, strong = made(n)
    levels = None
    jobs: dict[str, Callable[[], object]] = {
        "match_strong": lambda: certify_match_strong(
            confidence, cheap, strong, within=WITHIN, delta=DELTA, levels=levels
        ),
        "accepted_accuracy": lambda: certify_accepted_accuracy(
            confidence, cheap, at_least=0.9, delta=DELTA, levels=levels
        ),
        "system_accuracy": lambda: certify_system_accuracy(
            confidence, cheap, strong, at_least=0.85, delta=DELTA, levels=levels
        ),
    }
    floor = cpu(lambda: np.argsort(confidence))
    slow = plain(n) if n <= 5_000 else None
    goal = {5_000: 1.0, 1_000_000: 5.0}.get(n)
    figures = []
    for name, job in jobs.items():
        took = cpu(job)
        against = f"{slow / took:13,.0f}" if slow is not None and name == "match_strong" else f"{'-':>13}"
        print(f"{n:9,} {name:24} {took:8.3f} {took / floor:10.1f} {against}")
        figures.append(Figure(f"{name} certificate, {n:,} rows", took, "s of CPU", at_most=goal))
        if slow is not None and name == "match_strong":
            figures.append(Figure(f"speed-up over direct summation, {name}, {n:,} rows", slow / took, "times"))
    return figures


def main(largest: int = 1_000_000) -> list[Figure]:
    print(f"{'n':>9} {'certificate':24} {'CPU s':>8} {'x argsort':>10} {'plain / ours':>13}")
    return [f for n in (1_000, 5_000, 20_000, 1_000_000) if n <= largest for f in report(n)]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
