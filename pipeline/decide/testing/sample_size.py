"""SampleSize: how many labels a target needs, and what else the present ones would have certified."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing import threshold_search
from pipeline.decide.testing.certificate import Certificate
from pipeline.decide.testing.growth import DRAWS, Growth
from pipeline.decide.testing.paired_score import GRID_MARGIN, gamma_for

LARGEST_FACTOR = 200.0
CHANCE = 0.72
"""Probability of a certificate that planning aims at, over all rates that the rows leave possible and that can be certified at
all; about .8 of the collections are (measured)."""
LIKELY, SURE = 0.7, 0.9
"""Least share of these rates that can be certified at all for a number to be named, and for one to be planned with."""
ALMOST_ALL = 0.95
"""Between the two the rows tell too little of the curve: then the number is named with which so many of those that can be
certified are, and beside it the one with which half of them are."""
RATES, NEAR = (0.1, 0.25, 0.5, 1.0), 0.05
"""Rates of the coin that are planned with, and by how much one must exceed the present one."""
MOST_ROWS = 10_000
STEP = 1.5
"""How much larger each number of rows is that is tried."""
_NINE_IN_TEN = 1.2816
USEFUL_SHARE = 0.1
"""A tighter target counts as certified when a tenth of the rows stays with the cheap model."""
# fmt: off
WITHIN_STEPS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3)
AT_LEAST_STEPS = (0.999, 0.998, 0.997, 0.995, 0.99, 0.985, 0.98, 0.975, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.91, 0.9, 0.88, 0.86,
                  0.84, 0.82, 0.8, 0.78, 0.75, 0.72, 0.7, 0.65, 0.6, 0.55, 0.5)
# fmt: on


def fewest_rows(goal: Goal, *, human: bool = False) -> int | None:
    """Rows (groups, where groups are counted) below which not even flawless ones pass; None where there is no such number.

    For accepted_accuracy these are accepted rows.
    """
    if goal.kind == "match_strong" and not human:
        return _flawless(1 - goal.limit, (goal.delta - gamma_for(goal.delta)) / (1 + GRID_MARGIN))
    if goal.paired:
        return _flawless(1 - goal.limit, goal.delta)
    if goal.kind in ("accepted_accuracy", "system_accuracy"):
        return _flawless(goal.limit, goal.delta)
    return None if goal.escalation_rate is None else _flawless(1 - goal.escalation_rate, goal.delta)


def _flawless(rate: float, delta: float) -> int | None:
    return math.ceil(math.log(delta) / math.log(rate) - 1e-9) if delta > 0 else None


@dataclass(frozen=True)
class Further:
    """Rows beyond the present ones with which a threshold would probably be certified: see `CHANCE`, and `ALMOST_ALL` where that is wide open.

    `rows` None: no number up to `LARGEST_FACTOR` times as many would do; `chance` is the probability at `rows`, or at that many.
    None for groups that are tested by their means, whose plan knows no chance. `fewer`: a smaller number that may do as well, where
    it is wide open.
    """

    rows: int | None
    chance: float | None
    fewer: int | None = None


def labels_needed(
    rows: Rows, goal: Goal, *, certificate: Certificate, fit: Rows | None = None, human: bool = False, seed: int = 0
) -> Further | None:
    """How many further rows like these would probably certify the target: see `Further` and `growth`.

    None when it is certified already or when the target has no test. Where no smaller number certifies anything at all, the
    chance may be larger. It plans a collection and promises nothing.
    """
    if certificate.threshold is not None or goal.kind in ("budget", "total_cost") or np.isnan(rows.confidence).all():
        return None
    return _further(rows, goal, fit, human, keeping=0.0, seed=seed)


def to_collect(further: int, part: int, rows: int) -> int:
    """Labels of which about `further` or more fall into the part that got `part` of `rows` by a hash, in nine of ten draws.

    The share of the part is only seen on those rows. Where all of them are in it, every label is.
    """
    share = part / rows

    def enough(m: int) -> bool:
        spread = math.sqrt(m * share * (1 - share) * (1 + m / rows))
        return m * share - _NINE_IN_TEN * spread >= further

    high = max(further, 1)
    if share == 1:
        return high
    while not enough(high):
        if high > LARGEST_FACTOR * rows / share:
            return math.ceil(further / share)  # beyond what a share seen on so few rows can tell
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _further(rows: Rows, goal: Goal, fit: Rows | None, human: bool, *, keeping: float, seed: int) -> Further:
    """Rows beyond these with which a threshold that keeps more than the share `keeping` would probably pass."""
    drawn = threshold_search.sample(rows, goal, fit=fit, human=human)
    trial = threshold_search.to_plan_with(drawn, goal, fit=fit)
    n, least = len(drawn.rows), fewest_rows(goal, human=human) or 1
    if drawn.group is not None:
        plan = Further(_of_groups(n, trial, keeping), None)
    else:
        plan = _of_draws(Growth(drawn, trial, rate=_rate(drawn.rows, goal, human), seed=seed), least, keeping)
    # one row may stand for a group
    each = len(rows) / n
    return replace(
        plan,
        rows=None if plan.rows is None else math.ceil(plan.rows * each),
        fewer=None if plan.fewer is None else math.ceil(plan.fewer * each),
    )


def _of_draws(grown: Growth, least: int, keeping: float) -> Further:
    """Of a paired loss few kept rows keep any promise, so it is always within reach; an error rate among the kept may not be."""
    n, reach = grown.n, np.ones(DRAWS, dtype=bool)
    if not grown.goal.paired:
        reach = grown.certified(math.ceil(LARGEST_FACTOR * n), keeping=keeping)
    if reach.mean() < LIKELY:
        return Further(None, float(reach.mean()))
    chances = dict[int, float]()

    def number(wanted: float) -> int | None:
        def enough(m: int) -> bool:
            certified = grown.certified(m, keeping=keeping)
            chances[m] = float(certified.mean())
            return float(certified[reach].mean()) >= wanted

        return _search(n, least, enough)

    if reach.mean() >= SURE:
        further = number(CHANCE)
        return Further(further, chances[max(chances) if further is None else further])
    further, fewer = number(ALMOST_ALL), number(0.5)
    return Further(further, chances[max(chances) if further is None else further], fewer)


def larger_rates(
    rows: Rows, goal: Goal, *, fit: Rows | None = None, human: bool = False, seed: int = 0
) -> list[dict[str, float]]:
    """What a larger rate of `strong.sample` would probably bring on the same certify rows, which is another look at them.

    Keys of each: q, chance (that a threshold is certified), escalation_rate (on average where one is). The first entry is the
    present rate by the same reckoning. Empty where answers are not sampled or no
    win was ever looked for, where groups are tested by their means or floors too, and above `MOST_ROWS`, where a rate gains little.
    """
    rate = _rate(rows, goal, human)
    if rate is None or goal.floored or np.isnan(rows.confidence).all():
        return []
    drawn = threshold_search.sample(rows, goal, fit=fit, human=human)
    rate = _rate(drawn.rows, goal, human)
    if drawn.group is not None or not rate or rate >= 1 or len(drawn.rows) > MOST_ROWS:
        return []
    grown = Growth(drawn, threshold_search.to_plan_with(drawn, goal, fit=fit), rate=rate, seed=seed)
    out = []
    for q in (rate, *(q for q in RATES if q > rate * (1 + NEAR))):
        chance, escalated = grown.at_rate(q)
        out.append({"q": q, "chance": chance, "escalation_rate": escalated})
    return out


def _rate(rows: Rows, goal: Goal, human: bool) -> float | None:
    return float(np.mean(rows.drawn == 1)) if rows.sampled and goal.paired and not human else None


def _search(n: int, least: int, enough: Callable[[int], bool]) -> int | None:
    """The smallest number of further rows that is enough, to a fortieth of all, where `n` are there and `least` are needed."""
    low, high = max(least - n - 1, 0), max(least - n, 1)
    while not enough(high):
        if high >= LARGEST_FACTOR * n:
            return None
        low, high = high, math.ceil((n + high) * STEP) - n
    while high - low > max(1, (n + high) // 40):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _of_groups(n: int, trial: threshold_search.Trial, keeping: float) -> int | None:
    """As `_further` for means of groups, whose p-values at the present rates are powers of those of today."""
    planned = trial.found.planned
    assert planned is not None

    def enough(further: int) -> bool:
        index = trial.lowest(planned(1 + further / n))
        return index is not None and bool(trial.laid.n_accepted[index] > keeping * trial.laid.n)

    return _search(n, 1, enough)


def tightest(
    rows: Rows,
    goal: Goal,
    *,
    fit: Rows | None = None,
    human: bool = False,
) -> dict[str, Any] | None:
    """The strictest round value of the target that these rows would certify for a tenth of the traffic or more.

    Exploratory: it is chosen after looking, so it carries no promise until fresh rows certify it. None where there is none.
    Keys: within or at_least, threshold, escalation_rate, exploratory (True).
    """
    if goal.kind in ("budget", "total_cost") or np.isnan(rows.confidence).all():
        return None
    name = "within" if goal.paired else "at_least"
    steps = sorted({*WITHIN_STEPS, goal.limit}) if goal.paired else sorted({*AT_LEAST_STEPS, goal.limit}, reverse=True)
    drawn, found = threshold_search.sample(rows, goal, fit=fit, human=human), dict[int, Certificate]()

    def passes(i: int) -> bool:
        found[i] = threshold_search.of_sample(drawn, _at(goal, steps[i]), fit=fit).certificate()
        return found[i].threshold is not None and found[i].escalation_rate <= 1 - USEFUL_SHARE

    first = _first_true(len(steps), passes)
    if first is None:
        return None
    best = found[first]
    if goal.paired and 1 - best.escalation_rate <= steps[first]:
        return None  # all that is kept might be wrong and the promise would hold: it says nothing
    return {
        name: steps[first],
        "threshold": best.threshold,
        "escalation_rate": best.escalation_rate,
        "exploratory": True,
    }


def tighter(
    rows: Rows,
    goal: Goal,
    *,
    certificate: Certificate,
    best: Mapping[str, Any] | None,
    fit: Rows | None = None,
    human: bool = False,
    seed: int = 0,
) -> dict[str, Any] | None:
    """The next round value stricter than what is certified and than `best`, and how many further rows would certify it.

    `best` is what `tightest` found. None where nothing is certified, no stricter value is left, or no number up to 200 times
    as many rows would do. Keys: within or at_least, labels_needed. As in `labels_needed` it plans, and promises nothing.
    """
    if not certificate.certified or goal.kind in ("budget", "total_cost"):
        return None
    name = "within" if goal.paired else "at_least"
    reached = (goal.limit, (best or {}).get(name, goal.limit))
    stricter = (
        [x for x in WITHIN_STEPS[::-1] if x < min(reached)]
        if goal.paired
        else [x for x in AT_LEAST_STEPS[::-1] if x > max(reached)]
    )
    if not stricter:
        return None
    further = _further(rows, _at(goal, stricter[0]), fit, human, keeping=USEFUL_SHARE, seed=seed)
    return None if further.rows is None else {name: stricter[0], "labels_needed": further.rows}


def _at(goal: Goal, limit: float) -> Goal:
    return replace(goal, within=limit) if goal.paired else replace(goal, at_least=limit)


def _first_true(n: int, holds: Callable[[int], bool]) -> int | None:
    """The first index at which a statement that stays true once true holds, by bisection."""
    if not holds(n - 1):
        return None
    low, high = -1, n - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
