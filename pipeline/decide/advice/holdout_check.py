"""HoldoutCheck: the figure that a promise bounds, on held-out rows or on the certify rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.decide.advice.number_text import MINUS, limit, points
from pipeline.decide.arrays import Floats
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.curves.at_threshold import Estimate, Expectation
from pipeline.decide.held_out import level_of
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing import clusters
from pipeline.decide.testing.intervals import clopper_pearson
from pipeline.decide.testing.paired_interval import mean_of_groups, paired_difference
from pipeline.decide.testing.sampled_interval import sampled_difference
from pipeline.decide.testing.share_interval import share_interval
from pipeline.decide.thresholds import accepted


@dataclass(frozen=True)
class Outcome:
    """The figure a promise bounds: the difference to the strong model, a share that is right, a share escalated.

    `bound` is the promise: at least so much, or with `at_most` at most.
    """

    goal: Goal
    figure: Estimate
    bound: float
    human: bool
    at_most: bool = False

    @property
    def broken(self) -> bool:
        """Whether the rows lie beyond the promise."""
        value = self.figure.value
        assert value is not None
        return value > self.bound if self.at_most else value < self.bound

    @property
    def reaches(self) -> bool:
        """Whether the interval reaches beyond the promise, or is unknown."""
        end = self.figure.upper if self.at_most else self.figure.lower
        return end is None or (end > self.bound if self.at_most else end < self.bound)

    @property
    def by_chance(self) -> bool:
        """Whether the interval holds values that keep the promise."""
        end = self.figure.lower if self.at_most else self.figure.upper
        return end is None or (end <= self.bound if self.at_most else end >= self.bound)

    @property
    def qualified(self) -> bool:
        """Whether the verdict needs a reservation: beyond the promise on held-out rows, or without any not clearly inside."""
        return self.broken or (self.figure.split != "test" and self.reaches)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "kind": self.goal.kind,
            "figure": self.figure.to_json(),
            "bound": self.bound,
            "at_most": self.at_most,
            "broken": self.broken,
            "reaches": self.reaches,
            "by_chance": self.by_chance,
            "qualified": self.qualified,
        }

    def words(self) -> str:
        """What the rows show beside what is promised, and whether chance may explain the difference."""
        other, goal = "people" if self.human else "the strong model", self.goal
        # enough digits to tell the two apart
        value = self.figure.value
        assert value is not None
        seen = next((r for r in (round(value, d) for d in (3, 4, 5)) if self._beyond(r)), round(value, 6))
        low, high = self.figure.lower, self.figure.upper
        if goal.kind == "match_strong":
            text = f"the cascade is {points(-seen)} worse than {other}; the promise is at most {points(-self.bound)}"
            low, high = None if high is None else -high, None if low is None else -low
        elif goal.kind == "agree_with_strong":
            text = f"{limit(seen)} of answers are those of {other}; the promise is at least {limit(self.bound)}"
        elif goal.kind == "budget":
            text = f"{limit(seen)} of requests go to {other}; the promise is at most {limit(self.bound)}"
        else:
            what = "the answers that the cheap model keeps" if goal.kind == "accepted_accuracy" else "all answers"
            text = f"{limit(seen)} of {what} are right; the promise is at least {limit(self.bound)}"
        rows = "test" if self.figure.split == "test" else "certify"
        if low is None or high is None:
            return f"On the {rows} rows {text}."
        interval = f"[{100 * low:.1f}, {100 * high:.1f}]".replace("-", MINUS)
        sure = "Chance may explain that" if self.by_chance else "Chance alone hardly explains that"
        return f"On the {rows} rows {text}. {sure} ({limit(self.figure.level)} interval {interval})."

    def _beyond(self, value: float) -> bool:
        return value > self.bound if self.at_most else value < self.bound


def outcome(
    part: Rows, goal: Goal, threshold: float, *, human: bool, grouped: bool, split: str = "test"
) -> Outcome | None:
    """The outcome of `threshold` on the rows of `part`; rows without the needed answers are left out, None where none is left.

    `grouped`: the promise counts groups, so each enters by its mean and the interval is that of their spread. Rows of
    another `split` than test made the promise themselves: their interval is at 99 %.
    """
    kept = accepted(part.confidence, threshold)
    strong = np.ones(len(part)) if human else part.strong_correct
    level = level_of(split)
    group = part.group if grouped else None
    if goal.kind == "match_strong" and part.sampled and not human:
        figure = sampled_difference(part, kept, level=level, split=split, group=group)
        return None if figure.value is None else Outcome(goal, figure, -goal.limit, human)
    if goal.kind == "match_strong":
        cascade = np.where(kept, part.cheap_correct, strong)
        figure = paired_difference(cascade, strong, level=level, split=split, group=group)
        return None if figure.value is None else Outcome(goal, figure, -goal.limit, human)
    if goal.kind == "agree_with_strong" and part.sampled and not human and not grouped:
        figure = Expectation(part, threshold, split=split, level=level, seed=0).all()["agreement_with_strong"]
        return None if figure.value is None else Outcome(goal, figure, 1 - goal.limit, human)
    if goal.kind == "agree_with_strong":
        good, bound = np.where(kept, part.cheap_correct if human else part.agree_estimate, 1.0), 1 - goal.limit
    elif goal.kind == "accepted_accuracy":
        good, bound = np.where(kept, part.cheap_correct, np.nan), goal.limit
    elif goal.kind == "system_accuracy":
        good, bound = np.where(kept, part.cheap_correct, strong), goal.limit
    elif goal.escalation_rate is not None:
        good, bound = (~kept).astype(np.float64), goal.escalation_rate
    else:
        return None
    figure = share(good, level=level, split=split, group=group)
    return None if figure.value is None else Outcome(goal, figure, bound, human, goal.escalation_rate is not None)


def share(
    good: Floats, *, level: float, split: str, group: CodedTexts | npt.NDArray[np.object_] | None = None
) -> Estimate:
    """Mean of 1, 0 or NaN (unknown) over the known rows: exact interval. With groups, the mean of theirs (`share_interval`), or
    Student's where values lie beyond 0 and 1, since some stand for several rows."""
    known = ~np.isnan(good)
    values, n = good[known], int(known.sum())
    if n == 0:
        return Estimate(None, None, None, level, 0, split)
    if group is not None:
        found = mean_of_groups(values, group[known], level=level, split=split)
        if found.value is None or found.lower is None or not np.isin(values, (0.0, 1.0)).all():
            return found
        numbered = clusters.codes(group[known])
        each = 1 / np.bincount(numbered)[numbered]
        low, high = share_interval(values, np.ones(n, dtype=bool), weights=each, group=numbered, level=level)
        return replace(found, lower=low, upper=high)
    mean = float(values.mean())
    lower, upper = clopper_pearson(values.sum(), n, level)
    return Estimate(mean, float(lower), float(upper), level, n, split)
