"""What the page on performance says is what was measured."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "run.py"))


def test_the_page_shows_every_figure_of_the_results(run: dict[str, Any]) -> None:
    results = json.loads((BENCHMARKS / "results.json").read_text("utf-8"))
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert page == run["page"](results)
    assert set(results["figures"]) == {path.stem.removeprefix("bench_") for path in BENCHMARKS.glob("bench_*.py")} - {
        "scale"
    }
    for figures in results["figures"].values():
        for figure in figures:
            (row,) = [line for line in page.splitlines() if line.startswith(f"| {figure['what']} |")]
            shown = row.split("|")[2].split()[0].replace(",", "")
            assert float(shown) == pytest.approx(figure["value"], rel=0.006)


@pytest.mark.parametrize(
    ("value", "bounds", "met"),
    [
        (1.0, {"at_most": 1.0}, True),
        (1.1, {"at_most": 1.0}, False),
        (0.9, {"at_least": 0.9}, True),
        (0.8, {"at_least": 0.9}, False),
        (5.0, {}, None),
    ],
)
def test_a_goal_is_met_at_its_bound(
    run: dict[str, Any], value: float, bounds: dict[str, float], met: bool | None
) -> None:
    assert run["Figure"]("what", value, "s", **bounds).met is met
