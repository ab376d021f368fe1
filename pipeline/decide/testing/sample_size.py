"""Planning: how many labels a target needs, and what else the present ones would have certified."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing import threshold_search
from pipeline.decide.testing.certificate import Certificate
from pipeline.decide.testing.paired_score import GRID_MARGIN, gamma_for
from pipeline.decide.thresholds import levels_at_shares

LARGEST_FACTOR = 200.0
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


def labels_needed(
    rows: Rows,
    goal: Goal,
    *,
    certificate: Certificate,
    fit: Rows | None = None,
    human: bool = False,
) -> int | None:
    """How many further rows like these would certify the target with probability about 0.8, if their rates are the true ones.

    None when it is certified already, when the target has no test, or when no number up to 200 times as many would do.
    An estimate from the rows' own rates: it plans a collection and promises nothing.
    """
    if certificate.threshold is not None or goal.kind in ("budget", "total_cost") or np.isnan(rows.confidence).all():
        return None
    return _further(len(rows), _at_ranks(rows, goal, fit, human), keeping=0.0)


def _at_ranks(rows: Rows, goal: Goal, fit: Rows | None, human: bool) -> threshold_search.Trial:
    """The trial at every per cent of the rows, which is enough to plan with."""
    drawn = threshold_search.sample(rows, goal, fit=fit, human=human)
    levels = levels_at_shares(drawn.rows.confidence, np.arange(1, 101) / 100)
    return threshold_search.of_sample(drawn, goal, levels=levels, fit=fit)


def _further(n: int, prepared: threshold_search.Trial, *, keeping: float) -> int | None:
    """Rows beyond these `n` with which a candidate that keeps the share `keeping` or more would probably pass."""

    def enough(factor: float) -> bool:
        index = prepared.lowest(prepared.found.planned(factor))
        return index is not None and bool(prepared.laid.n_accepted[index] >= keeping * prepared.laid.n)

    sizes = [1.1**k for k in range(math.ceil(math.log(LARGEST_FACTOR) / math.log(1.1)) + 1)]
    first = _first_true(len(sizes), lambda i: enough(sizes[i]))
    return None if first is None else math.ceil(n * (sizes[first] - 1)) or 1


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
    further = _further(len(rows), _at_ranks(rows, _at(goal, stricter[0]), fit, human), keeping=USEFUL_SHARE)
    return None if further is None else {name: stricter[0], "labels_needed": further}


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
