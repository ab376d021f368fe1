"""Five populations with known truth, to hold promises against: a mixture of log-odds shown, and what they are worth.

L, the log-odds of the confidence shown, is .7 N(6, 1.6^2) + .3 N(1.2, 1.2^2), reflected at -1. The strong model is right with
probability .985 where the cheap one is, else .65. Truths are integrals over L on a fine grid.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

STRONG_WHERE_RIGHT, STRONG_WHERE_WRONG = 0.985, 0.65

CHEAP_RIGHT = {
    "S1": lambda x: expit(0.3 + 0.55 * x),
    "S2": lambda x: 0.25 + 0.722 * expit(1.1 * (x - 1)),
    "S3": lambda x: expit(0.3 + 0.55 * x) - 0.07 * expit(4 * (x - 7.6)),
    "S4": lambda x: np.full_like(x, 0.945),
    "S5": lambda x: 0.22 + 0.765 * expit(1.3 * (x - 4.9)),
}


@dataclass(frozen=True)
class Draw:
    confidence: np.ndarray
    cheap: np.ndarray
    strong: np.ndarray
    group: np.ndarray


class Population:
    """`grain` rounds the log-odds (heavy ties); None leaves them continuous. Truths are exact for both."""

    def __init__(self, name: str, grain: float | None = None) -> None:
        self.name, self.grain = name, grain
        edges = np.linspace(-1, 16, 170_001)
        middle = (edges[1:] + edges[:-1]) / 2
        density = sum(
            w * (norm.pdf(middle, m, s) + norm.pdf(-2 - middle, m, s)) for w, m, s in ((0.7, 6, 1.6), (0.3, 1.2, 1.2))
        )
        mass = density / density.sum()
        right = CHEAP_RIGHT[name](middle)
        shown = middle if grain is None else np.round(middle / grain) * grain
        self._at = expit(shown)
        # tails from the surest down: P(accepted), P(accepted, cheap wrong), P(accepted, loss) - P(accepted, win)
        self._accepted = self._from_above(mass)
        self._wrong = self._from_above(mass * (1 - right))
        self._loss = self._from_above(mass * ((1 - right) * STRONG_WHERE_WRONG - right * (1 - STRONG_WHERE_RIGHT)))
        differ = right * (1 - STRONG_WHERE_RIGHT) + (1 - right) * STRONG_WHERE_WRONG
        self._differ = self._from_above(mass * differ)
        self.strong_accuracy = float((mass * (right * STRONG_WHERE_RIGHT + (1 - right) * STRONG_WHERE_WRONG)).sum())
        self.cheap_accuracy = float((mass * right).sum())

    @staticmethod
    def _from_above(mass: np.ndarray) -> np.ndarray:
        return np.append(np.cumsum(mass[::-1])[::-1], 0.0)

    def _index(self, threshold: float | None) -> int:
        return len(self._at) if threshold is None else int(np.searchsorted(self._at, threshold, side="left"))

    def escalated(self, threshold: float | None) -> float:
        return 1 - float(self._accepted[self._index(threshold)])

    def accepted_error(self, threshold: float | None) -> float:
        i = self._index(threshold)
        return float(self._wrong[i] / self._accepted[i]) if self._accepted[i] > 0 else 0.0

    def loss(self, threshold: float | None) -> float:
        """Strong accuracy minus cascade accuracy."""
        return float(self._loss[self._index(threshold)])

    def differs(self, threshold: float | None) -> float:
        return float(self._differ[self._index(threshold)])

    def system_accuracy(self, threshold: float | None) -> float:
        return self.strong_accuracy - self.loss(threshold)

    def recall_given(self, threshold: float | None) -> float:
        """Labels are independent of the rest, so every label's recall is the system's accuracy."""
        return self.system_accuracy(threshold)

    def draw(self, n: int, rng: np.random.Generator, groups: int | None = None) -> Draw:
        """`n` rows. With `groups`, rows of one group share the value of L and their luck (fully correlated inside)."""
        count = n if groups is None else groups
        x = np.where(rng.random(count) < 0.7, rng.normal(6, 1.6, count), rng.normal(1.2, 1.2, count))
        x = np.where(x < -1, -2 - x, x)
        luck, luck_strong = rng.random(count), rng.random(count)
        group = (
            np.arange(n) if groups is None else np.concatenate([np.arange(groups), rng.integers(0, groups, n - groups)])
        )
        cheap = (luck < CHEAP_RIGHT[self.name](x)).astype(float)
        strong = (luck_strong < np.where(cheap == 1, STRONG_WHERE_RIGHT, STRONG_WHERE_WRONG)).astype(float)
        shown = x if self.grain is None else np.round(x / self.grain) * self.grain
        return Draw(expit(shown)[group], cheap[group], strong[group], group)


def fixed_levels(population: Population, rng: np.random.Generator, shares: np.ndarray, n: int = 600) -> np.ndarray:
    """Candidate thresholds from rows of their own, as the pipeline takes them from the fit split."""
    from pipeline.decide.thresholds import levels_at_shares

    return levels_at_shares(population.draw(n, rng).confidence, shares)


def log_odds(threshold: float) -> float:
    return float(logit(threshold))
