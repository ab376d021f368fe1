"""Simulations of the watch with known truth, many logs at once: how soon it alarms, and how often without cause."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.deliver.monitoring.eprocess import HEAD_START, LENGTH, LEVEL, lambdas

BOUND = 0.05
GOOD = 0.03
"""Error rate of the good past."""
FAULTS = (0.07, 0.08, 0.10, 0.15, 0.30)
PASTS = (0, 1000, 10_000)


class Logs:
    """Many logs at once, each a sequence of values under watch."""

    def __init__(self, runs: int, bound: float, lowest: float = 0.0) -> None:
        self._bets, self._bound = np.array(lambdas(bound, lowest))[:, None], bound
        self._wealth = np.full((len(self._bets), runs), HEAD_START * LENGTH)

    def take(self, values: Any) -> Any:
        """One more value in each log; E of each."""
        self._wealth = (1 + self._bets * (values - self._bound)) * (self._wealth + 1)
        return self._wealth.mean(axis=0) / (HEAD_START * LENGTH + LENGTH)


def alarm_share(error: float, labels: int, runs: int, seed: int, level: float = LEVEL) -> float:
    """Share of logs of so many labels, wrong at this rate, that raise an alarm."""
    rng, logs, alarmed = np.random.default_rng(seed), Logs(runs, BOUND), np.zeros(runs, dtype=bool)
    for _ in range(labels):
        alarmed |= logs.take(rng.random(runs) < error) >= 1 / level
    return float(alarmed.mean())


def median_delay(error: float, past: int, runs: int, seed: int, *, longest: int = 5000) -> float:
    """Median number of labels at this error rate up to the alarm, after a past of so many good labels without one."""
    rng, logs, needed = np.random.default_rng(seed), Logs(runs, BOUND), np.full(runs, np.inf)
    for _ in range(past):
        logs.take(rng.random(runs) < GOOD)
    for label in range(1, longest + 1):
        found = logs.take(rng.random(runs) < error) >= 1 / LEVEL
        needed = np.where(found & np.isinf(needed), label, needed)
        if np.isfinite(needed).mean() > 0.6:
            break
    return float(np.median(needed))


def paired_alarm_share(mean: float, bound: float, labels: int, runs: int, seed: int) -> float:
    """Share of logs in which the strong model's lead has this mean (losses 1.5 times the gains and the rest) that alarm."""
    rng, logs, alarmed = np.random.default_rng(seed), Logs(runs, bound, lowest=-1.0), np.zeros(runs, dtype=bool)
    gains = 0.015
    for _ in range(labels):
        u = rng.random(runs)
        alarmed |= logs.take(np.where(u < mean + gains, 1.0, np.where(u < mean + 2 * gains, -1.0, 0.0))) >= 1 / LEVEL
    return float(alarmed.mean())


if __name__ == "__main__":
    for fault in FAULTS:
        print(fault, [median_delay(fault, past, 2000, seed=5) for past in PASTS])
    print("false alarms", [(p, alarm_share(p, LENGTH, 2000, seed=6)) for p in (BOUND, 0.045)])
    for mean in (0.025, 0.035, 0.045, 0.055):
        print("paired", mean, paired_alarm_share(mean, 0.025, 6000, 1000, seed=7))
