"""`compare` against sums by hand on the artefacts, closed forms, and a simulation with a known difference."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from deliver.page import Page

from pipeline.__main__ import main
from pipeline.decide import comparison
from pipeline.deliver.report import formatting
from pipeline.run.directory import dump_json, sealed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two targets on one table, and one decision on rows of other names; the folders of all three."""
    folder = tmp_path_factory.mktemp("compare")
    draw, found = random.Random(1), {"folder": folder}
    lines = ["example_id,confidence,cheap_correct,strong_correct,cheap_usd,strong_usd,split"]
    splits = ("fit", "certify", "certify", "test")
    for i in range(1200):
        confidence = 1 - (i % 97) / 200
        right = int(draw.random() < (0.97 if confidence > 0.7 else 0.6))
        lines.append(
            f"r{i},{confidence},{right},{int(draw.random() < 0.95)},0.00001,{0.0005 + draw.random() / 1000},{splits[i % 4]}"
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("mine.yaml").write_text("task: mine\nkind: classify\ntarget: {kind: match_strong, within: 0.05}\n")
        Path("t.csv").write_text("\n".join(lines) + "\n")
        Path("other.csv").write_text(
            "\n".join(line.replace("r", "s", 1) if line[0] == "r" else line for line in lines[:900])
        )
        for name, more in (
            ("wide", ["--predictions", "t.csv"]),
            ("narrow", ["--predictions", "t.csv", "--set", "target.within=0.02"]),
            ("other", ["--predictions", "other.csv"]),
        ):
            before = set(Path("runs").glob("*/*/*/"))
            assert main(["evaluate", "mine.yaml", "--quiet", *more]) == 0
            (found[name],) = {p.resolve() for p in set(Path("runs").glob("*/*/*/")) - before}
    return found


def compared(decided: dict[str, Path], capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["compare", *arguments, "--json", "--quiet"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture(autouse=True)
def at_home(decided: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(decided["folder"])


def by_hand(folder: Path) -> pd.DataFrame:
    """Outcome of every test row, from the two artefacts."""
    threshold = json.loads((folder / "policy.json").read_text())["threshold"]
    rows = pd.read_parquet(folder / "predictions.parquet").query("split == 'test'").set_index("example_id")
    up = np.ones(len(rows), dtype=bool) if threshold is None else ~(rows["confidence"] >= threshold).to_numpy()
    return pd.DataFrame(
        {
            "up": up,
            "right": np.where(up, rows["strong_correct"], rows["cheap_correct"]).astype(float),
            "usd": rows["cheap_usd"] * (threshold is not None) + rows["strong_usd"] * up,
        },
        index=rows.index,
    )


def test_differences_are_those_of_the_rows(decided: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    result = compared(decided, capsys, str(decided["wide"]), str(decided["narrow"]), "--markdown", "c.md")
    a, b = by_hand(decided["wide"]), by_hand(decided["narrow"])
    b = b.loc[a.index]
    assert result["rows"] == "same"
    assert result["paired"]["rows"] == len(a)
    for name, column, scale in (("accuracy", "right", 1), ("escalation_rate", "up", 1), ("usd_per_1000", "usd", 1000)):
        of = result["figures"][name]
        assert of["first"] == pytest.approx(scale * a[column].mean())
        assert of["difference"]["value"] == pytest.approx(
            scale * (b[column].astype(float) - a[column].astype(float)).mean()
        )
        assert of["difference"]["lower"] <= of["difference"]["value"] <= of["difference"]["upper"]
    moved = set(a.index[b["up"] & ~a["up"]])
    assert result["hands"]["to_strong"]["rows"] == len(moved) > 0
    assert {r["example_id"] for r in result["hands"]["to_strong"]["listed"]} == moved
    assert result["changed"] == ["target.within: 0.05 → 0.02"]
    text = Path("c.md").read_text()
    assert "On the same" in text
    assert "target.within: 0.05 → 0.02" in text


def test_the_page_shows_the_figures_of_the_comparison_and_the_rows_that_moved(
    decided: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    result = compared(decided, capsys, str(decided["wide"]), str(decided["narrow"]), "--html", "c.html")
    page, a, b = Page(Path("c.html").read_text("utf-8")), by_hand(decided["wide"]), by_hand(decided["narrow"])
    assert page.faults == []
    tables = {node.attributes["aria-label"]: node for node in page.root.all("div", role="region")}
    shown = [[cell.text for cell in row.all("td")] for row in tables["Figures of both"].all("tbody")[0].all("tr")]
    for cells, name, unit in zip(shown[3:], result["figures"], ("share", "share", "usd"), strict=True):
        of = result["figures"][name]
        told = "usd" if unit == "usd" else "points"
        assert cells[:2] == [formatting.value(of[k], unit) for k in ("first", "second")]
        assert cells[2].lstrip("+").startswith(getattr(formatting, told)(of["difference"]["value"]).lstrip("+"))
        assert "[" in cells[2]
    moved = a.index[b["up"] & ~a["up"]]
    gained = int((b["right"] > a["right"])[moved].sum())
    lost = int((b["right"] < a["right"])[moved].sum())
    row = tables["Changed hands"].all("tbody")[0].all("tr")[0]
    assert [cell.text for cell in row.all("td")] == [str(len(moved)), str(gained), str(lost)]
    listed = tables["Each row that moved"].all("tbody")[0].all("tr")
    assert {row.all("th")[0].text for row in listed} == set(moved)
    assert "target.within: 0.05 → 0.02" in page.words
    assert compared(decided, capsys, str(decided["wide"]), str(decided["other"]), "--html", "d.html")["hands"] is None
    assert "different rows" in Page(Path("d.html").read_text("utf-8")).words


def test_rows_stay_out_where_a_config_forbids_them(
    decided: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("runs", "hidden")
    (copied,) = Path("hidden").glob(f"*/*/{decided['narrow'].name}")
    record = json.loads((copied / "decision.json").read_text())
    record["config"]["report"] = {"examples": "none"}
    (copied / "decision.json").write_bytes(dump_json(sealed({k: v for k, v in record.items() if k != "digest"})))
    result = compared(decided, capsys, str(decided["wide"]), str(copied), "--html", "h.html")
    assert result["hands"]["to_strong"]["rows"] > 0
    assert result["hands"]["to_strong"]["listed"] == []
    assert "They are not listed" in Path("h.html").read_text("utf-8")


def test_a_decision_and_itself_do_not_differ(decided: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    result = compared(decided, capsys, str(decided["wide"]), str(decided["wide"] / "policy.json"))
    assert {of["difference"]["value"] for of in result["figures"].values()} == {0.0}
    assert result["p_value"] == 1.0
    assert result["changed"] == []
    assert result["threshold"]["difference"] == 0.0


def test_graded_rows_that_a_later_question_wrote_again_keep_no_decision_from_being_compared(
    decided: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where strong answers are sampled, each target buys its own; the rows of a decision lie in its own folder."""
    runs = shutil.copytree(decided["folder"] / "runs", tmp_path / "runs")
    sides = [str(runs / decided[name].relative_to(decided["folder"].resolve() / "runs")) for name in ("wide", "narrow")]
    expected = compared(decided, capsys, str(decided["wide"]), str(decided["narrow"]))
    (Path(sides[0]).parent / "graded.parquet").write_bytes(b"more answers")
    found = compared(decided, capsys, *sides)
    assert found["figures"] == expected["figures"]
    with (Path(sides[0]) / "predictions.parquet").open("ab") as file:
        file.write(b"x")
    assert main(["compare", *sides]) == 2
    assert "predictions.parquet: is not what the decision was made of" in capsys.readouterr().err


def test_other_rows_are_compared_as_such_and_it_is_said(
    decided: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    result = compared(decided, capsys, str(decided["wide"]), str(decided["other"]))
    assert result["rows"] == "different"
    assert "0 rows in common" in result["why"]
    assert result["hands"] is None
    shutil.copy(decided["narrow"] / "policy.json", "alone.json")
    assert main(["compare", "alone.json", str(decided["other"]), "--runs-dir", "elsewhere"]) == 0
    assert "On different rows (the rows of alone.json are not at hand)" in capsys.readouterr().out
    assert compared(decided, capsys, "alone.json", str(decided["wide"]))["rows"] == "same", "its run's folder is found"


def test_a_run_folder_is_its_newest_decision_and_nothing_is_no_decision(
    decided: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    result = compared(decided, capsys, str(decided["wide"]), str(decided["wide"].parent))
    assert result["second"]["decision_id"] == decided["narrow"].name
    Path("empty").mkdir()
    for name in ("empty", "absent.json", "absent"):
        assert main(["compare", str(decided["wide"]), name, "--quiet"]) == 2


def test_mcnemar_and_the_interval_of_independent_figures_by_closed_form() -> None:
    zero, one = np.zeros(9), np.array([1.0] * 5 + [0.0] * 3 + [np.nan])
    assert comparison.mcnemar(zero, one) == pytest.approx(2 * 0.5**5)
    a = {"value": 0.5, "lower": 0.4, "upper": 0.6}
    b = {"value": 0.7, "lower": 0.6, "upper": 0.8}
    found = comparison.of_independent(a, b)
    assert found["value"] == pytest.approx(0.2)
    assert found["lower"] == pytest.approx(0.2 - 0.1 * 2**0.5)
    assert found["upper"] == pytest.approx(0.2 + 0.1 * 2**0.5)


def test_costs_that_cancel_out_differ_by_nothing() -> None:
    """Sampled answers count for several rows on one side and for one on the other: the same sum in another order."""
    alone = np.array([np.nan, 0.1, 0.2, 0.3, 0.7, 0.1])
    found = comparison.mean_difference(
        alone, alone[[0, 3, 1, 2, 5, 4]], np.array(list("abcdef"), dtype=object), split="test", seed=1
    )
    assert found.value == 0.0
    assert found.lower is not None
    assert found.lower < 0


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_of_costs_covers_the_known_difference(grouped: bool) -> None:
    """300 rows, alone or in 60 groups whose rows are alike; the true difference is 1."""
    rng, covered, tries = np.random.default_rng(3), 0, 200
    group = np.array([f"g{i // 5}" if grouped else f"r{i}" for i in range(300)], dtype=object)
    for seed in range(tries):
        noise = np.repeat(rng.exponential(2, 60), 5) if grouped else rng.exponential(2, 300)
        found = comparison.mean_difference(np.ones(300), noise, group, split="test", seed=seed)
        assert found.lower is not None
        assert found.upper is not None
        covered += found.lower <= 1 <= found.upper
    assert covered / tries >= 0.84  # 0.9 less three standard errors of 200 tries
