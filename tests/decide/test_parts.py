"""Splits that cannot carry a promise are refused with their counts and the remedy."""

import numpy as np
import pytest

from pipeline.decide.certify import certify_match_strong
from pipeline.decide.target import Goal
from pipeline.decide.testing.parts import fault, rare_floor

GOAL = Goal("match_strong", 0.1, within=0.05)
SHARES = {"fit": 0.3, "certify": 0.5, "test": 0.2}


def test_an_empty_split_that_is_wanted_is_a_fault():
    found = fault(["fit"] * 50 + ["certify"] * 200, [f"g{i}" for i in range(250)], SHARES, GOAL, human=False)
    assert "split test is empty (250 rows in 250 groups, share 0.2)" in found
    assert fault(["certify"] * 200, [f"g{i}" for i in range(200)], {"certify": 1.0}, GOAL, human=False) is None
    no_test = {"fit": 0.5, "certify": 0.5, "test": 0.0}
    assert fault(["fit"] * 50 + ["certify"] * 200, list(map(str, range(250))), no_test, GOAL, human=False) is None


def test_fewer_groups_than_a_flawless_set_would_need():
    split = ["fit"] * 30 + ["certify"] * 400 + ["test"] * 20
    few = ["f"] * 30 + [f"c{i % 44}" for i in range(400)] + ["t"] * 20
    found = fault(split, few, SHARES, GOAL, human=False)
    assert "44 groups" in found
    assert "at least 46" in found or "at least 45" in found
    enough = ["f"] * 30 + [f"c{i % 60}" for i in range(400)] + ["t"] * 20
    assert fault(split, enough, SHARES, GOAL, human=False) is None
    assert fault(split, few, SHARES, Goal("total_cost", 0.1, usd_per_error=1.0), human=False) is None


def test_groups_that_are_copies_of_a_text_are_called_that():
    copies = fault(["certify"] * 80, ["same"] * 80, {"certify": 1.0}, GOAL, human=False, named=False)
    assert "80 rows of 1 different text, and target match_strong needs at least 46 different ones" in copies
    assert "dataset.group" not in copies
    empty = fault(["certify"] * 80, ["same"] * 80, {"certify": 0.5, "test": 0.5}, GOAL, human=False, named=False)
    assert "rows with the same text are one group and stay in one split: label more groups" in empty


@pytest.mark.parametrize("delta", [0.1, 0.1 / 12])
def test_paid_rows_that_could_not_certify_if_all_were_right_are_refused(delta: float):
    """What is refused is never certified, if every row is right; at the usual certainty the next row is enough."""
    goal, rng = Goal("match_strong", delta, within=0.05), np.random.default_rng(0)

    def refused(n: int) -> str | None:
        return fault(["certify"] * n, list(map(str, range(n))), {"certify": 1.0}, goal, human=False, paid=True)

    def certified(n: int) -> bool:
        right = np.ones(n, dtype=bool)
        return certify_match_strong(rng.random(n), right, right, within=0.05, delta=delta).threshold is not None

    n = next(n for n in range(2, 400) if refused(n) is None)
    assert n > 20
    assert certified(n) or delta < 0.1
    assert not certified(n - 1)
    assert f"needs at least {n} even without a single error" in str(refused(n - 1))
    assert f"--limit {n - 1}" in str(refused(n - 1))


def test_agreement_of_a_sample_needs_as_many_rows_as_are_drawn():
    goal = Goal("agree_with_strong", 0.1, within=0.05)
    rows = {"group": list(map(str, range(60))), "shares": {"certify": 1.0}, "goal": goal, "human": False, "paid": True}
    assert fault(["certify"] * 60, rate=1.0, **rows) is None  # 45 are enough
    assert "at least 90, of which 50% are asked" in fault(["certify"] * 60, rate=0.5, **rows)


def test_a_floor_that_too_few_rows_could_ever_show_is_named():
    goal = Goal(
        "match_strong", 0.1, within=0.05, label_floors={"threat": 0.9, "hate": 0.5}, label_groups={"hate": ["x", "y"]}
    )
    label, split = ["x", "y", "threat", "ok"] * 20, ["certify"] * 80
    found = rare_floor(label, [None] * 80, split, goal)  # 0.9**21 = .109, 0.9**22 = .098
    assert "the floor of 0.9 for threat needs at least 22 certify rows" in found
    assert "there are 20" in found
    assert rare_floor(label + ["threat"] * 2, [None] * 82, ["certify"] * 82, goal) is None


def test_single_rows_are_judged_later_by_what_they_show():
    split = ["fit"] * 10 + ["certify"] * 20 + ["test"] * 10
    assert fault(split, list(map(str, range(40))), SHARES, GOAL, human=False) is None
