"""Index: reports/index.html, every task and decision in one table, and how each task moved over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.deliver.report.records import Report, read_report
from pipeline.deliver.report.templating import environment, our_own, read_template, script_digest
from pipeline.deliver.report.trend import trend
from pipeline.errors import CascadeError
from pipeline.run.atomic import write_bytes
from pipeline.run.diff import Asked, differences

MOST_RUNS = 50


def refresh(reports_dir: Path, at_hand: Mapping[str, Report] | None = None) -> Path:
    """Write reports/index.html from the report.json files that lie below. Returns its path.

    `at_hand`: reports that need not be read, by task and run.
    """
    tasks, unreadable = collect(reports_dir, at_hand)
    script = read_template("tables.js")
    page = (
        environment()
        .get_template("index.html.j2")
        .render(
            tasks=tasks,
            unreadable=unreadable,
            style=our_own(read_template("style.css")),
            script=our_own(script),
            script_sha256=script_digest(script),
        )
    )
    path = reports_dir / "index.html"
    write_bytes(path, page.encode("utf-8", "replace"))
    return path


def collect(reports_dir: Path, at_hand: Mapping[str, Report] | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """Tasks with their decisions, each newest first, and the names of reports that cannot be read."""
    runs: dict[str, list[dict[str, Any]]] = {}
    unreadable = []
    for path in sorted(reports_dir.rglob("report.json")):
        name = path.parent.relative_to(reports_dir).as_posix()
        try:
            line = _line(at_hand[name] if at_hand and name in at_hand else read_report(path), name)
        except (CascadeError, OSError):
            unreadable.append(name)
        else:
            runs.setdefault(name.split("/")[0], []).append(line)
    tasks = []
    for task, lines in runs.items():
        lines.sort(key=lambda r: (r["started"] or "", r["run_id"], r["decision_id"] or ""), reverse=True)
        for line, before in zip(lines, [*lines[1:], None], strict=True):
            line["changes"] = None if before is None else changes(line, before)
        tasks.append(
            {
                "task": task,
                "description": lines[0]["description"],
                "runs": lines[:MOST_RUNS],
                "trend": trend(list(reversed(lines[:MOST_RUNS]))),
                "left_out": max(0, len(lines) - MOST_RUNS),
            }
        )
    tasks.sort(key=lambda t: (t["runs"][0]["started"] or "", t["task"]), reverse=True)
    return tasks, unreadable


def _line(report: Report, name: str) -> dict[str, Any]:
    """A row of the table: figures as the cards of that report have them, re-weighted where they are."""
    quality, cost, verdict = report.card("quality"), report.card("cost"), report.verdict
    gravities = [warning.gravity for warning in report.warnings]
    models = {"cheap": report.models.cheap.name, "strong": report.models.strong.name}
    dataset, config = report.provenance.digests.dataset, report.provenance.config
    return {
        "measure": quality.name,
        "name": name,
        "run_id": report.run_id,
        "decision_id": report.decision_id,
        "started": report.started,
        "description": report.description,
        "verdict": "qualified" if verdict.qualified else verdict.code,
        "title": verdict.title,
        "demonstration": report.demonstration,
        "threshold": verdict.threshold,
        "quality": quality.estimate,
        "strong": quality.strong,
        "against": report.first.against,
        "escalation": report.card("escalation").estimate,
        "cost": cost.estimate,
        "saved": None if cost.change is None else -cost.change,
        "warnings": {gravity: gravities.count(gravity) for gravity in (3, 2, 1)},
        "dataset": dataset,
        "asked": Asked(dataset, None, report.provider, models, config),
    }


def changes(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What differs from the decision before: the verdict, the rows (None where it cannot be known), settings."""
    pair = now["dataset"], before["dataset"]
    return {
        "verdict": before["title"] if now["title"] != before["title"] else None,
        "dataset": None if None in pair else pair[0] != pair[1],
        "settings": [what for what in differences(before["asked"], now["asked"]) if not what.startswith("the rows")],
    }
