"""The interval of two thresholds' difference against fresh rows of the same population, whose difference is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from decide.sampled import pooled

from pipeline.decide.certify import certify
from pipeline.decide.redrawn_thresholds import Choice, redrawn
from pipeline.decide.target import Goal

TIGHT, LOOSE = (Goal("match_strong", 0.1, within=within) for within in (0.04, 0.1))


def choices(rows, *goals):
    return [Choice(rows, rows.take(np.zeros(0, dtype=int)), goal, human=False) for goal in goals]


def test_a_decision_and_itself_move_together_and_what_never_certifies_has_no_interval() -> None:
    rows = pooled(200, np.random.default_rng(1))
    same = redrawn(*choices(rows, LOOSE, LOOSE), draws=6, seed=3)
    assert (same.lower, same.upper, same.certified, same.level) == (0.0, 0.0, 6, 0.9)
    never = redrawn(*choices(rows, LOOSE, replace(LOOSE, within=0.0001)), draws=6, seed=3)
    assert (never.lower, never.upper, never.certified) == (None, None, 0)


def test_the_same_seed_draws_the_same_rows_for_both() -> None:
    rows = pooled(200, np.random.default_rng(2))
    there, back = (redrawn(*choices(rows, *goals), draws=6, seed=5) for goals in ((TIGHT, LOOSE), (LOOSE, TIGHT)))
    assert there.lower is not None
    assert there.upper is not None
    assert back.lower == pytest.approx(-there.upper)
    assert back.upper == pytest.approx(-there.lower)
    assert redrawn(*choices(rows, TIGHT, LOOSE), draws=6, seed=5) == there


@pytest.mark.slow
def test_the_interval_holds_the_difference_that_fresh_rows_give() -> None:
    """Nominal 90 % of the intervals hold the median difference over fresh rows; of 10, fewer than 7 has a chance of 1.3 %."""
    rng = np.random.default_rng(8)

    def difference(rows) -> float:
        tight, loose = (certify(rows, goal, seed=0).threshold for goal in (TIGHT, LOOSE))
        assert tight is not None
        assert loose is not None
        return loose - tight

    known = float(np.median([difference(pooled(300, rng)) for _ in range(30)]))
    found = [redrawn(*choices(pooled(300, rng), TIGHT, LOOSE), draws=24, seed=k) for k in range(10)]
    assert sum(f.lower is not None and f.lower <= known <= f.upper for f in found) >= 7
