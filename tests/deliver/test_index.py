"""reports/index.html: tasks and runs, newest first, and what changed."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deliver.page import Page, figures
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


def test_tasks_and_runs_come_newest_first(folder: Path) -> None:
    tasks, unreadable = index.collect(folder)
    assert [t["task"] for t in tasks] == ["triage", "moderation"]
    assert [r["run_id"][-1] for r in tasks[0]["runs"]] == ["2", "1"]
    assert unreadable == []


def test_what_changed_is_the_difference_of_two_report_json(folder: Path) -> None:
    new, old = (json.loads((folder / "triage" / f"{k:012d}" / "report.json").read_text()) for k in (2, 1))
    changed = index.collect(folder)[0][0]["runs"][0]["changes"]
    values = {
        k: [next(c for c in d["cards"] if c["key"] == k)["estimate"]["value"] for d in (new, old)]
        for k in ("quality", "cost")
    }
    assert changed["quality"] == pytest.approx(values["quality"][0] - values["quality"][1])
    assert changed["cost"] == pytest.approx(values["cost"][0] / values["cost"][1] - 1)
    assert changed["threshold"] == [old["verdict"]["threshold"], new["verdict"]["threshold"]]
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
    for words in ("Certified", "Not certified", "escalate all", "demonstration models", "same dataset", "first run"):
        assert words in page.words
    assert not re.search(r"(?:https?:)?//[a-z0-9]|<script", path.read_text("utf-8"))


def test_figures_carry_their_number_of_rows(folder: Path) -> None:
    page = Page(index.refresh(folder).read_text("utf-8"))
    runs = [run for task in index.collect(folder)[0] for run in task["runs"]]
    wanted = [
        f"n = {run[key]['n']}, test split" for run in runs for key in ("quality", "escalation", "cost") if run[key]["n"]
    ]
    titles = [a["title"] for tag, a in page.elements if tag == "td" and "title" in a]
    assert sorted(titles) == sorted(wanted)
    assert len(wanted) >= 6
    assert wanted[0] in page.words


def test_agreement_is_not_called_accuracy(tmp_path: Path, recorded: Recorded) -> None:
    """Where no row has a label, and beside a run of the same task that had labels."""
    unlabeled, labeled = recorded("unlabeled").data, recorded("certified").data
    add(tmp_path, unlabeled, "triage", 1, "2026-11-20T08:00:00Z", threshold=0.25)
    add(tmp_path, unlabeled, "triage", 2, "2026-11-21T08:00:00Z")
    words = Page(index.refresh(tmp_path / "reports").read_text("utf-8")).words
    assert "accuracy" not in words.lower()
    assert "threshold was 0.25; agreement" in words
    add(tmp_path, labeled, "triage", 3, "2026-11-22T08:00:00Z")
    words = Page(index.refresh(tmp_path / "reports").read_text("utf-8")).words
    assert "Accuracy or agreement" in words
    newest, before, _ = index.collect(tmp_path / "reports")[0][0]["runs"]
    assert newest["changes"]["quality"] is None
    assert before["changes"]["quality"] is not None


def test_every_card_and_row_shows_what_its_report_json_has(folder: Path) -> None:
    sections = Page(index.refresh(folder).read_text("utf-8")).root.all("section", class_="task")
    assert len(sections) == 2
    for section in sections:
        rows = section.all("tbody")[0].all("tr")
        for k, row in enumerate(rows):
            (link,) = row.all("a")
            data = json.loads((folder / (link.attributes["href"] or "")).with_name("report.json").read_text())
            of = {c["key"]: formatting.estimate(c["estimate"], c["unit"]) for c in data["cards"]}
            wanted = [formatting.threshold(data["verdict"]["threshold"]), of["quality"], of["escalation"], of["cost"]]
            assert [figures(cell.text) for cell in row.all("td")[2:6]] == [figures(text) for text in wanted]
            if k == 0:
                cards = [card.but("h3").partition("n =")[0] for card in section.all("li", class_="card")]
                assert [figures(text) for text in cards] == [figures(text) for text in wanted]


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
