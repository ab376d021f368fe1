"""Splits that cannot carry a promise are refused with their counts and the remedy."""

from pipeline.decide.target import Goal
from pipeline.decide.testing.parts import fault

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


def test_single_rows_are_judged_later_by_what_they_show():
    split = ["fit"] * 10 + ["certify"] * 20 + ["test"] * 10
    assert fault(split, list(map(str, range(40))), SHARES, GOAL, human=False) is None
