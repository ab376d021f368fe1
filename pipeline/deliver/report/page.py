"""Report: report.json rendered as one self-contained page, and written with its figures beside it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from pipeline.config.task import TaskConfig
from pipeline.deliver.formats.serialize import to_yaml
from pipeline.deliver.report import captions, figures, index
from pipeline.deliver.report import data as report_data
from pipeline.deliver.report.data import Artefacts
from pipeline.deliver.report.sweep import priced
from pipeline.deliver.report.templating import environment, our_own, read_template
from pipeline.errors import CascadeError
from pipeline.run.decision import Decision
from pipeline.run.directory import POLICY, Run, dump_json, read_json, sealed, write_bytes

PAGE, DATA, LATEST = "report.html", "report.json", "latest.json"


def write(
    run: Run | Decision,
    config: TaskConfig,
    reports_dir: Path,
    *,
    found: Artefacts | None = None,
    texts: Mapping[str, str] | None = None,
    latest: bool = True,
) -> Path:
    """Write reports/<task>/<run_id>/<decision_id>/ and refresh the index. Returns the path of the page.

    `found`: the run's artefacts where they are at hand; else they are read. The same artefacts give the same bytes. Raises UsageError where the recommendation is missing.
    """
    decided = run.decision_id if isinstance(run, Decision) else None
    name = "/".join((run.task, run.run_id, *([] if decided is None else [decided])))
    folder = reports_dir / name
    found = found or Artefacts.of(run)
    previous = previous_report(reports_dir, run.task, folder, found.record.get("started"))
    data = dump_json(sealed(report_data.build(run, config, found=found, texts=texts, previous=previous)))
    report = json.loads(data)
    drawn = figures.draw(report)
    page = render(report, drawn)
    for name, drawing in drawn.items():
        write_bytes(folder / "figures" / f"{name}.svg", drawing.svg)
        write_bytes(folder / "figures" / f"{name}.png", drawing.png)
    write_bytes(folder / DATA, data)
    if found.policy_bytes is not None:
        write_bytes(folder / POLICY, found.policy_bytes)
    write_bytes(folder / PAGE, page.encode("utf-8", "replace"))
    if latest:
        write_bytes(reports_dir / run.task / LATEST, dump_json(sealed({"run_id": run.run_id, "decision_id": decided})))
    index.refresh(reports_dir, {name: report})
    return folder / PAGE


def previous_report(reports_dir: Path, task: str, folder: Path, started: str | None) -> dict[str, Any] | None:
    """report.json of the task's newest run that started before this one; None for a first run."""
    found = []
    for path in sorted((reports_dir / task).rglob(DATA)):
        if path.parent != folder:
            try:
                other = read_json(path)
            except CascadeError:  # a damaged report of another run must not stop this one; the index names it
                continue
            if started is None or (other.get("started") or "") < started:
                found.append((str(other.get("started") or ""), path.parent.name, other))
    return max(found, key=lambda f: f[:2])[2] if found else None


def render(report: Mapping[str, Any], drawn: Mapping[str, figures.Drawing] | None = None) -> str:
    """The page. Everything on it comes from `report`, the content of report.json."""
    drawn = figures.draw(report, png=False) if drawn is None else drawn
    words = captions.captions(report)
    script = read_template("explorer.js")
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            figures={name: _figure(drawing, words[name]) for name, drawing in drawn.items()},
            captions=words,
            explorer=_explorer(report, drawn.get("decide")),
            style=our_own(read_template("style.css")),
            script=our_own(script),
            script_sha256=_digest(script),
            policy_yaml=None if report["use"]["policy"] is None else to_yaml(report["use"]["policy"]),
            config_yaml=to_yaml(report["provenance"]["config"]),
        )
    )


def _figure(drawing: figures.Drawing, caption: captions.Caption) -> Markup:
    return our_own(drawing.inline.replace("@title@", escape(caption.title)).replace("@desc@", escape(caption.takeaway)))


def _explorer(report: Mapping[str, Any], drawing: figures.Drawing | None) -> dict[str, Any] | None:
    """What the script needs: thresholds, where each lies in the drawing, and how its cost is made up."""
    sweep = report["decide"]["sweep"]
    if sweep is None or not sweep["columns"]["threshold"]:
        return None
    columns, prices = sweep["columns"], report["decide"]["prices"]
    across = columns["usd_per_1000" if priced(sweep) else "escalation_rate"]
    marks = None
    if drawing is not None:
        (x0, dx), (y0, dy) = drawing.to_x, drawing.to_y
        marks = [
            None if x is None or y is None else [round(x0 + dx * x, 2), round(y0 + dy * y, 2)]
            for x, y in zip(across, columns["system_accuracy"], strict=True)
        ]
    return {
        "recommended": sweep["recommended"],
        "thresholds": columns["threshold"],
        "usd": [None if v is None else float(f"{v:.6g}") for v in columns["usd_per_1000"]],
        "marks": marks,
        "prices": None
        if prices is None
        else [
            {"price": c["price"], "quantity": [float(f"{q:.7g}") for q in c["quantity"]]} for c in prices["components"]
        ],
    }


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
