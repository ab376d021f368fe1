"""Dollars and thresholds read the same in a pull request's comment, in a comparison and on the page."""

from __future__ import annotations

import pytest

from pipeline import compare_command
from pipeline.deliver import summary


@pytest.mark.parametrize(
    ("dollars", "shown"),
    [(0.0, "$0"), (0.0741, "$0.0741"), (4.3, "$4.30"), (1234.5, "$1,234"), (1_500_000.0, "$1,500,000")],
)
def test_dollars_are_written_in_full_whatever_their_size(dollars: float, shown: str) -> None:
    assert summary.cost(dollars) == f"{shown} per 1,000"
    figure = {"first": dollars, "second": dollars, "difference": {"value": -dollars, "lower": None, "upper": None}}
    cut = {"first": 0.64949, "second": None, "same_signal": True, "difference": None}
    figures = dict.fromkeys((name for name, _, _ in compare_command.FIGURES), figure)
    sides = {side: {"verdict": "certified"} for side in ("first", "second")}
    by_name = {words: cells for words, *cells in compare_command.table({**sides, "threshold": cut, "figures": figures})}
    sign = "-" if dollars else "+"
    assert by_name["cost per 1,000 requests"] == [shown, shown, f"{sign}{shown}"]
    assert by_name["threshold"][:2] == ["0.64949", "none"], "the threshold itself, which .6495 is not"
