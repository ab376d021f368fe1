"""A run in which all rows certify, from the page to the comparison: one level of interval everywhere, and it says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deliver.runs import Made

from pipeline.__main__ import main

NOTE = "No row was held out: figures come from the rows that chose the threshold, with 99 % intervals."


def levels(value: Any, where: str = "") -> Iterator[tuple[str, float]]:
    """Every level of an interval in a JSON value, with its place."""
    if isinstance(value, dict):
        if isinstance(value.get("level"), float):
            yield where, value["level"]
        for key, inner in value.items():
            yield from levels(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from levels(inner, f"{where}[{i}]")


@pytest.fixture
def pooled(recorded: Callable[[str], Made]) -> Made:
    return recorded("pooled")


@pytest.mark.slow
def test_every_interval_of_report_recommendation_calibration_and_policy_is_at_99_per_cent(pooled: Made) -> None:
    for value in (pooled.data, *(pooled.json(n) for n in ("recommendation.json", "calibration.json", "policy.json"))):
        found = list(levels(value))
        assert found
        assert [place for place, level in found if level != 0.99] == []


@pytest.mark.slow
def test_all_rows_certify_and_the_page_says_that_none_was_held_out(pooled: Made) -> None:
    data = pooled.data
    assert data["verdict"]["certificate"]["n"] == data["decide"]["sweep"]["n"] == 700
    assert data["intervals"] == {"split": "certify", "level": 0.99, "note": NOTE}
    assert data["trust"]["optimism"] is None
    assert pooled.json("recommendation.json")["optimism"] is None
    assert not {"no_test", "no_fit", "small_fit", "small_test"} & {w["code"] for w in data["warnings"]}
    text = " ".join(pooled.page.split())
    assert "No row was held out: 99 % interval, on the" in text
    for other in ("90 % interval", "90 % band", "at 90 %"):
        assert other not in text


@pytest.mark.slow
def test_the_badge_is_qualified_where_the_interval_of_the_difference_reaches_the_promise(pooled: Made) -> None:
    verdict = pooled.data["verdict"]
    assert verdict["outcome"]["figure"] == verdict["difference"]
    assert verdict["qualified"] == (verdict["difference"]["lower"] < -0.05)
    assert verdict["title"].endswith("with a reservation") == verdict["qualified"]


def test_calibrated_readings_are_not_those_of_the_curve_drawn_through_the_same_rows(pooled: Made) -> None:
    calibration = pooled.json("calibration.json")
    assert calibration["cross_fitted"]
    table = pooled.table("reliability.parquet")
    assert set(table["split"]) == {"certify"}
    assert (
        table[(table["stage"] == "after") & (table["kind"] == "bin")]["n"].sum()
        == table[(table["stage"] == "before") & (table["kind"] == "bin")]["n"].sum()
    )


def test_it_is_exported_watched_and_compared_like_any_other(pooled: Made, tmp_path: Any, capsys: Any) -> None:
    assert pooled.command("export") == 0
    policy = next(pooled.folder.glob("reports/pooled/*/*/policy.json"))
    threshold = json.loads(policy.read_text())["threshold"]
    log = tmp_path / "log.jsonl"
    line = {"confidence": min(1.0, threshold + 0.001), "escalate": False, "cheap_status": "ok", "cheap_correct": True}
    log.write_text("".join(json.dumps(line) + "\n" for _ in range(50)))
    assert main(["monitor", "--policy", str(policy), "--log", str(log), "--quiet"]) == 0
    capsys.readouterr()
    assert (
        main(
            [
                "compare",
                str(policy.parent),
                str(policy.parent),
                "--json",
                "--quiet",
                "--runs-dir",
                str(pooled.folder / "runs"),
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["level"] == 0.99
    assert found["paired"]["split"] == "all"
    assert {figure["difference"]["level"] for figure in found["figures"].values()} == {0.99}
