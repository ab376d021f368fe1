"""Outcome: the very figure that a promise is about, on test rows, which had no part in making it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipeline.decide.advice.number_text import MINUS, limit, points
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing import clusters
from pipeline.decide.testing.intervals import clopper_pearson
from pipeline.decide.thresholds import accepted

Floats = npt.NDArray[np.float64]

LEVEL = 0.9


@dataclass(frozen=True)
class Outcome:
    """What the promise bounds from above, such as the loss against the strong model: its mean, 90 % interval and bound."""

    goal: Goal
    mean: float
    lower: float
    upper: float
    bound: float
    human: bool

    @property
    def broken(self) -> bool:
        """Whether the test rows lie beyond the bound."""
        return self.mean > self.bound

    @property
    def by_chance(self) -> bool:
        """Whether the interval reaches the promise."""
        return self.lower <= self.bound

    def words(self) -> str:
        """What the test rows show beside what is promised, and whether chance may explain the difference."""
        other, goal = "people" if self.human else "the strong model", self.goal
        # as many digits as tell the two apart
        seen = next(
            (r for r in (round(self.mean, digits) for digits in (3, 4, 5)) if r > self.bound), round(self.mean, 6)
        )
        low, high = self.lower, self.upper
        if goal.kind == "match_strong":
            text = f"the cascade is {points(seen)} worse than {other}; the promise is at most {points(self.bound)}"
        elif goal.kind == "agree_with_strong":
            text = f"{limit(seen)} of answers are not those of {other}; the promise is at most {limit(self.bound)}"
        elif goal.kind == "budget":
            text = f"{limit(seen)} of requests go to {other}; the promise is at most {limit(self.bound)}"
        else:
            low, high = 1 - self.upper, 1 - self.lower
            what = "the answers that the cheap model keeps" if goal.kind == "accepted_accuracy" else "all answers"
            text = f"{limit(1 - seen)} of {what} are right; the promise is at least {limit(goal.at_least)}"
        interval = f"[{100 * low:.1f}, {100 * high:.1f}]".replace("-", MINUS)
        sure = "Chance may explain that" if self.by_chance else "Chance alone hardly explains that"
        return f"On the test rows {text}. {sure} ({limit(LEVEL)} interval {interval})."


def outcome(part: Rows, goal: Goal, threshold: float, *, human: bool, grouped: bool) -> Outcome | None:
    """The outcome of `threshold` on the rows of `part`; rows without the needed answers are left out, None where none is left.

    `grouped`: the promise counts groups, so each enters by its mean and the interval is that of their spread.
    """
    kept = accepted(part.confidence, threshold)
    strong = np.ones(len(part)) if human else part.strong_correct
    if goal.kind == "match_strong":
        bad, bound = np.where(kept, strong - part.cheap_correct, 0.0), goal.limit
    elif goal.kind == "agree_with_strong":
        bad, bound = np.where(kept, 1 - (part.cheap_correct if human else part.agree), 0.0), goal.limit
    elif goal.kind == "accepted_accuracy":
        bad, bound = np.where(kept, 1 - part.cheap_correct, np.nan), 1 - goal.limit
    elif goal.kind == "system_accuracy":
        bad, bound = 1 - np.where(kept, part.cheap_correct, strong), 1 - goal.limit
    elif goal.escalation_rate is not None:
        bad, bound = (~kept).astype(np.float64), goal.escalation_rate
    else:
        return None
    known = ~np.isnan(bad)
    if not known.any():
        return None
    values = bad[known]
    if grouped:
        values = clusters.means(clusters.codes(part.group[known]), values)
    mean, n = float(values.mean()), len(values)
    if grouped or goal.kind == "match_strong":
        half = float(stats.norm.ppf((1 + LEVEL) / 2)) * float(values.std()) / np.sqrt(n)
        lower, upper = mean - half, mean + half
    else:
        lower, upper = (float(x) for x in clopper_pearson(values.sum(), n, LEVEL))
    return Outcome(goal, mean, lower, upper, bound, human)
