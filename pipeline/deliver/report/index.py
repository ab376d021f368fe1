"""Index: reports/index.html, every task and run with its verdict, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.deliver.report.templating import environment, our_own, read_template
from pipeline.errors import CascadeError
from pipeline.run.atomic import write_bytes
from pipeline.run.diff import differences
from pipeline.run.directory import read_json

MOST_RUNS = 50


def refresh(reports_dir: Path, at_hand: Mapping[str, dict[str, Any]] | None = None) -> Path:
    """Write reports/index.html from the report.json files that lie below. Returns its path.

    `at_hand`: reports that need not be read, by task and run.
    """
    tasks, unreadable = collect(reports_dir, at_hand)
    page = (
        environment()
        .get_template("index.html.j2")
        .render(tasks=tasks, unreadable=unreadable, style=our_own(read_template("style.css")))
    )
    path = reports_dir / "index.html"
    write_bytes(path, page.encode("utf-8", "replace"))
    return path


def collect(
    reports_dir: Path, at_hand: Mapping[str, dict[str, Any]] | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Tasks with their runs, each newest first, and the names of reports that cannot be read."""
    runs: dict[str, list[dict[str, Any]]] = {}
    unreadable = []
    for path in sorted(reports_dir.rglob("report.json")):
        name = path.parent.relative_to(reports_dir).as_posix()
        try:
            line = _line((at_hand or {}).get(name) or read_json(path), name)
        except (CascadeError, OSError, KeyError, TypeError, AttributeError):
            unreadable.append(name)
        else:
            runs.setdefault(name.split("/")[0], []).append(line)
    tasks = []
    for task, lines in runs.items():
        lines.sort(key=lambda r: (r["started"] or "", r["run_id"]), reverse=True)
        for line, before in zip(lines, [*lines[1:], None], strict=True):
            line["changes"] = None if before is None else changes(line, before)
        tasks.append(
            {
                "task": task,
                "description": lines[0]["description"],
                "measures": sorted({line["measure"] for line in lines[:MOST_RUNS]}),
                "runs": lines[:MOST_RUNS],
                "left_out": max(0, len(lines) - MOST_RUNS),
            }
        )
    tasks.sort(key=lambda t: (t["runs"][0]["started"] or "", t["task"]), reverse=True)
    return tasks, unreadable


def _line(report: dict[str, Any], name: str) -> dict[str, Any]:
    cards = {card["key"]: card["estimate"] for card in report["cards"]}
    return {
        "measure": next(card["name"] for card in report["cards"] if card["key"] == "quality"),
        "name": name,
        "run_id": report["run_id"],
        "started": report["started"],
        "description": report["description"],
        "verdict": report["verdict"]["code"],
        "title": report["verdict"]["title"],
        "demonstration": report["demonstration"],
        "threshold": report["verdict"]["threshold"],
        "quality": cards["quality"],
        "escalation": cards["escalation"],
        "cost": cards["cost"],
        "dataset": (report["provenance"]["digests"] or {}).get("dataset"),
        "record": {
            "config": report["provenance"]["config"] or {}, "digests": report["provenance"]["digests"] or {}, "provider": report["provider"],
            "models": {role: {"name": report["models"][role]["name"]} for role in ("cheap", "strong")},
        },
    }  # fmt: skip


def changes(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What differs from the run before: verdict, threshold, quality, cost, dataset (None where it cannot be known), settings.

    Accuracy and agreement are different measures, and have no difference.
    """

    def difference(key: str) -> float | None:
        pair = (now[key]["value"], before[key]["value"])
        return None if None in pair else pair[0] - pair[1]

    def differs(key: str) -> bool | None:
        return None if now[key] is None or before[key] is None else now[key] != before[key]

    cost, old = now["cost"]["value"], before["cost"]["value"]
    return {
        "verdict": before["title"] if now["verdict"] != before["verdict"] else None,
        "threshold": [before["threshold"], now["threshold"]] if before["threshold"] != now["threshold"] else None,
        "quality": difference("quality") if now["measure"] == before["measure"] else None,
        "cost": None if cost is None or not old else cost / old - 1,
        "dataset": differs("dataset"),
        "settings": [what for what in differences(before["record"], now["record"]) if not what.startswith("the rows")],
    }
