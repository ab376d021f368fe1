"""RedrawnThresholds: how far the difference of two certified thresholds moves when the rows that certify are drawn anew.

A threshold is chosen by a test, so its spread is that of the whole choice: each draw takes as many groups with replacement,
the same ones for both decisions, and runs both tests again on them. The percentiles of the differences are an interval for
the difference that this choice gives on average over such rows; a choice on fresh rows strays further, as it has a spread of
its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.decide.certify import certify
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.held_out import LEVEL
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal

FEWEST_CERTIFIED = 0.5
"""Share of the draws in which both must certify for an interval to be told."""


@dataclass(frozen=True)
class Choice:
    """What chooses a threshold: the rows that certify, in the order of the other's; the rows that do not; the target."""

    rows: Rows
    fit: Rows
    goal: Goal
    human: bool

    def threshold(self, places: np.ndarray, group: np.ndarray) -> float | None:
        """The threshold that the test chooses on the rows at these places, `group` telling copies apart."""
        drawn = replace(self.rows.take(places), group=CodedTexts.of(group))
        return certify(drawn, self.goal, human=self.human, fit=self.fit, max_unreadable=1.0, seed=0).threshold


@dataclass(frozen=True)
class Redrawn:
    """Interval of second minus first; None where one of them certifies nothing in too many of the draws."""

    lower: float | None
    upper: float | None
    level: float
    draws: int
    certified: int
    """Draws in which both certified a threshold."""


def redrawn(first: Choice, second: Choice, *, draws: int, seed: int) -> Redrawn:
    """Draw the groups of the certify rows `draws` times. The same seed gives the same interval."""
    rng, codes = np.random.default_rng(seed), np.unique(first.rows.group, return_inverse=True)[1]
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    differences = []
    for _ in range(draws):
        units = rng.integers(0, len(members), len(members))
        places = np.concatenate([members[u] for u in units])
        names = np.array([f"draw {k}" for k in range(len(units))], dtype=object)
        group = np.repeat(names, [len(members[u]) for u in units])
        found = [choice.threshold(places, group) for choice in (first, second)]
        if found[0] is not None and found[1] is not None:
            differences.append(found[1] - found[0])
    if len(differences) <= FEWEST_CERTIFIED * draws:
        return Redrawn(None, None, LEVEL, draws, len(differences))
    lower, upper = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Redrawn(float(lower), float(upper), LEVEL, draws, len(differences))
