"""reports/index.html: tasks and runs, newest first, and what changed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from deliver import artefacts
from deliver.page import Page, figures

from pipeline.deliver.report import data as report_data
from pipeline.deliver.report import formatting, index
from pipeline.deliver.report import page as report
from pipeline.run.directory import dump_json, write_bytes


def add(folder: Path, task: str, number: int, started: str, **changes: Any) -> dict[str, Any]:
    """report.json of a run, without its page."""
    run_id = f"{number:012d}"
    run, config = artefacts.write_run(
        folder / "runs", task=task, run_id=run_id, started=started, levels=15, rows=200, **changes
    )
    data: dict[str, Any] = json.loads(dump_json(report_data.build(run, config)))
    write_bytes(folder / "reports" / task / run_id / "report.json", dump_json(data))
    return data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add(tmp_path, "triage", 1, "2026-11-20T08:00:00Z")
    add(tmp_path, "triage", 2, "2026-11-22T08:00:00Z", seed=8)
    add(tmp_path, "moderation", 3, "2026-11-21T08:00:00Z", verdict="uncertified", provider="together")
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


def test_agreement_is_not_called_accuracy(tmp_path: Path) -> None:
    """Where no row has a label, and beside a run of the same task that had labels."""
    add(tmp_path, "triage", 1, "2026-11-20T08:00:00Z", gold=False)
    add(tmp_path, "triage", 2, "2026-11-21T08:00:00Z", gold=False, seed=8)
    words = Page(index.refresh(tmp_path / "reports").read_text("utf-8")).words
    assert "accuracy" not in words.lower()
    assert re.search(r"threshold was [\d.]+; agreement [+−][\d.]+\s", words)
    add(tmp_path, "triage", 3, "2026-11-22T08:00:00Z")
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


def test_writing_a_report_refreshes_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.figures, "draw", lambda *_, **__: {})
    run, config = artefacts.write_run(tmp_path / "runs", levels=15, rows=200)
    report.write(run, config, tmp_path / "reports")
    assert run.run_id in (tmp_path / "reports" / "index.html").read_text("utf-8")
