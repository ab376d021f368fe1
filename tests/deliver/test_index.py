"""reports/index.html: tasks and decisions in one table, newest first, what changed, and the trend."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deliver.page import Node, Page, figures
from deliver.runs import Made

from pipeline.deliver.report import formatting, index
from pipeline.run.atomic import write_bytes
from pipeline.run.directory import dump_json

Recorded = Callable[[str], Made]


def add(folder: Path, data: dict[str, Any], task: str, number: int, started: str, **verdict: Any) -> dict[str, Any]:
    """report.json of a real run under another name and time, without its page."""
    run_id = f"{number:012d}"
    made: dict[str, Any] = copy.deepcopy(data) | {"task": task, "run_id": run_id, "started": started}
    made["verdict"] |= verdict
    made.pop("digest", None)  # it was over the run's own page
    write_bytes(folder / "reports" / task / run_id / "report.json", dump_json(made))
    return made


@pytest.fixture
def folder(tmp_path: Path, recorded: Recorded) -> Path:
    old, new, other = (recorded(name).data for name in ("certified", "hostile", "uncertified"))
    old["demonstration"] = True
    new["provenance"]["digests"] = old["provenance"]["digests"]
    new["verdict"] |= {"code": "certified", "title": "Certified"}
    add(tmp_path, old, "triage", 1, "2026-11-20T08:00:00Z")
    add(tmp_path, {**new, "demonstration": True}, "triage", 2, "2026-11-22T08:00:00Z")
    add(tmp_path, other, "moderation", 3, "2026-11-21T08:00:00Z")
    return tmp_path / "reports"


@pytest.mark.slow
def test_tasks_and_runs_come_newest_first(folder: Path) -> None:
    tasks, unreadable = index.collect(folder)
    assert [t["task"] for t in tasks] == ["triage", "moderation"]
    assert [r["run_id"][-1] for r in tasks[0]["runs"]] == ["2", "1"]
    assert unreadable == []


def test_what_changed_is_the_difference_of_two_report_json(folder: Path) -> None:
    changed = index.collect(folder)[0][0]["runs"][0]["changes"]
    assert changed["dataset"] is False
    assert changed["verdict"] is None


def test_settings_that_changed_are_named(folder: Path) -> None:
    path = folder / "triage" / f"{2:012d}" / "report.json"
    data = json.loads(path.read_text())
    data["provenance"]["config"]["target"]["within"] = 0.125
    data["models"]["strong"]["name"] = "another/model"
    path.write_text(json.dumps(data))
    settings = index.collect(folder)[0][0]["runs"][0]["changes"]["settings"]
    assert any("another/model" in what for what in settings)
    assert any(what.startswith("target.within: ") and what.endswith("→ 0.125") for what in settings)
    assert "another/model" in index.refresh(folder).read_text("utf-8")


def test_the_page_links_every_run_and_names_verdicts(folder: Path) -> None:
    path = index.refresh(folder)
    page = Page(path.read_text("utf-8"))
    assert page.faults == []
    links = {a["href"] for tag, a in page.elements if tag == "a"}
    assert links == {f"{t}/{k:012d}/report.html" for t, k in (("triage", 1), ("triage", 2), ("moderation", 3))}
    for words in ("Certified", "Not certified", "escalate all", "demonstration", "same rows"):
        assert words in page.words
    text = re.sub(r"<script>.*?</script>", "", path.read_text("utf-8"), flags=re.S)
    assert not re.search(r"(?:https?:)?//[a-z0-9]|<script", text)


def decisions(page: Page) -> list[Node]:
    """The rows of the one table, in order."""
    (table,) = page.root.all("table")
    return table.all("tbody")[0].all("tr")


def test_one_table_shows_every_decision_with_each_number_once(folder: Path) -> None:
    rows = decisions(Page(index.refresh(folder).read_text("utf-8")))
    assert ["newest" in (row.attributes["class"] or "") for row in rows] == [True, False, True]
    for row in rows:
        (link,) = row.all("a")
        data = json.loads((folder / (link.attributes["href"] or "")).with_name("report.json").read_text())
        cards = {c["key"]: c for c in data["cards"]}
        of = {key: formatting.estimate(c["estimate"], c["unit"]) for key, c in cards.items()}
        against, saved = data["verdict"]["difference"], cards["cost"].get("change")
        gravities = [w["gravity"] for w in data["warnings"]]
        wanted = [
            formatting.day(data["started"]),
            "",
            formatting.threshold(data["verdict"]["threshold"]),
            of["quality"],
            "" if against is None else f"{formatting.bare_points(against['value'])} {formatting.point_bounds(against)}",
            of["escalation"],
            of["cost"],
            "" if saved is None else formatting.share(-saved, 0),
            " ".join(str(gravities.count(g)) for g in (3, 2, 1) if g in gravities),
        ]
        cells = row.all("td")
        assert [figures(cell.text) for cell in cells] == [figures(text) for text in wanted]
        titles = [cell.attributes.get("title") or "" for cell in cells]
        for key, title in (("quality", titles[3]), ("escalation", titles[5]), ("cost", titles[6])):
            assert f"n = {cards[key]['estimate']['n']}" in title


@pytest.mark.slow
def test_agreement_is_not_called_accuracy(tmp_path: Path, recorded: Recorded) -> None:
    """Where no row has a label, and beside a decision of the same task that had labels."""
    unlabeled, labeled = recorded("unlabeled").data, recorded("certified").data
    add(tmp_path, unlabeled, "triage", 1, "2026-11-20T08:00:00Z", threshold=0.25)
    add(tmp_path, unlabeled, "triage", 2, "2026-11-21T08:00:00Z")
    add(tmp_path, labeled, "triage", 3, "2026-11-22T08:00:00Z")
    path = index.refresh(tmp_path / "reports")
    newest, *others = decisions(Page(path.read_text("utf-8")))
    assert "agreement" not in newest.text
    assert all("agreement" in row.text for row in others)
    assert all(row.all("td")[4].text == "–" for row in others)
    assert index.collect(tmp_path / "reports")[0][0]["trend"]["panels"][0]["name"] == "escalated"


@pytest.mark.slow
def test_weighted_tasks_show_the_weighted_difference(tmp_path: Path, recorded: Recorded) -> None:
    """Recomputed from the rows: each counts by its label's share in production over its share in the set."""
    made = recorded("enriched")
    data, frame = made.data, made.table("predictions.parquet")
    split = data["cards"][0]["estimate"]["split"]
    part = frame[frame["split"] == split]
    mix = {"work": 0.6, "personal": 0.2, "spam": 0.1, "other": 0.1}
    kept = (part["confidence"] >= data["verdict"]["threshold"]).to_numpy()
    moved = np.where(kept, part["cheap_correct"].to_numpy(float) - part["strong_correct"].to_numpy(float), 0.0)
    wanted = sum(share * moved[(part["label"] == label).to_numpy()].mean() for label, share in mix.items())
    (row,) = decisions(Page(index.refresh(made.folder / "reports").read_text("utf-8")))
    assert data["first"]["against"]["value"] == pytest.approx(wanted)
    assert data["first"]["against"]["lower"] < wanted < data["first"]["against"]["upper"]
    assert row.all("td")[4].text.startswith(formatting.bare_points(wanted))
    strong, mine = data["decide"]["ends"]["strong_only"]["accuracy"]["value"], data["cards"][0]["estimate"]["value"]
    assert mine - strong == pytest.approx(wanted, abs=1e-9)


def test_the_trend_joins_decisions_of_one_target_in_time(tmp_path: Path, recorded: Recorded) -> None:
    data = recorded("certified").data
    weeks = [f"2026-11-{day:02d}T08:00:00Z" for day in (1, 8, 22)]
    for k, week in enumerate(weeks):
        made = add(tmp_path, data, "triage", k, week)
        made["cards"][0]["estimate"]["value"] = 0.9 + k / 100
        write_bytes(tmp_path / "reports" / "triage" / f"{k:012d}" / "report.json", dump_json(made))
    other = copy.deepcopy(data)
    other["provenance"]["config"]["target"]["within"] = 0.5
    add(tmp_path, other, "triage", 9, "2026-11-15T08:00:00Z")
    found = index.collect(tmp_path / "reports")[0][0]["trend"]
    points = found["panels"][0]["points"]
    x = [float(p["x"]) for p in points]
    assert (x[1] - x[0]) * 2 == pytest.approx(x[3] - x[1], abs=0.3)  # one week and two
    assert [p["joined"] for p in points] == [True, True, False, True]
    line = [tuple(map(float, at.split(","))) for at in found["panels"][0]["line"].split()]
    assert line == [(float(p["x"]), float(p["y"])) for p in points if p["joined"]]
    assert line[0][1] > line[1][1] > line[2][1]  # up the page as accuracy rises
    page = index.refresh(tmp_path / "reports").read_text("utf-8")
    assert page.count("<polyline") == 3  # accuracy, the strong model beside it, escalation


def test_a_damaged_report_is_named_and_does_not_hide_the_others(folder: Path) -> None:
    (folder / "triage" / f"{1:012d}" / "report.json").write_text("{")
    write_bytes(folder / "odd" / "x" / "report.json", b'{"schema": "cascade-report/0"}')
    tasks, unreadable = index.collect(folder)
    assert sorted(unreadable) == ["odd/x", f"triage/{1:012d}"]
    assert len(tasks) == 2
    words = Page(index.refresh(folder).read_text("utf-8")).words
    assert "Reports that cannot be read" in words


def test_the_index_of_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    assert "make evaluate" in Page(index.refresh(tmp_path).read_text("utf-8")).words


def test_writing_a_report_refreshes_the_index(recorded: Recorded) -> None:
    made = recorded("uncertified")
    assert made.data["run_id"] in (made.folder / "reports" / "index.html").read_text("utf-8")
