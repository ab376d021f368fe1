"""Report: report.json rendered as one self-contained page, and written with its figures beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from pipeline.config.task import TaskConfig
from pipeline.deliver.formats.serialize import to_yaml
from pipeline.deliver.report import captions, downloads, index
from pipeline.deliver.report import data as report_data
from pipeline.deliver.report.artefacts import Artefacts
from pipeline.deliver.report.dot_plot import dot_plot
from pipeline.deliver.report.records import Report, read_report, report_of
from pipeline.deliver.report.sweep import priced
from pipeline.deliver.report.templating import environment, our_own, read_template, script_digest
from pipeline.errors import CascadeError
from pipeline.run.atomic import write_bytes
from pipeline.run.decision import Decision
from pipeline.run.directory import POLICY, dump_json, sealed

if TYPE_CHECKING:
    from pipeline.deliver.report import figures

PAGE, DATA, LATEST = "report.html", "report.json", "latest.json"
SWEEP_CSV, MISTAKES_CSV, CERTIFICATE = "sweep.csv", "mistakes.csv", "certificate.html"


def write(
    decision: Decision,
    config: TaskConfig,
    reports_dir: Path,
    *,
    found: Artefacts | None = None,
    texts: Mapping[str, str] | None = None,
    latest: bool = True,
) -> Path:
    """Write reports/<task>/<run_id>/<decision_id>/ and refresh the index. Returns the path of the page.

    `found`: the decision's artefacts where they are at hand; else they are read. The same artefacts give the same bytes. Raises
    UsageError where one is missing.
    """
    name = "/".join((decision.task, decision.run_id, decision.decision_id))
    folder = reports_dir / name
    found = found or Artefacts.of(decision)
    previous = previous_report(reports_dir, decision.task, folder, found.record.started)
    link = os.path.relpath(reports_dir / "index.html", folder).replace(os.sep, "/")
    built = report_data.build(decision, config, found, texts=texts, previous=previous, index_link=link)
    data = dump_json(sealed(built))
    report = json.loads(data)
    from pipeline.deliver.report import figures  # matplotlib takes longer to load than most commands to run

    drawn = figures.draw(report)
    page = render(report, drawn)
    for figure, drawing in drawn.items():
        write_bytes(folder / "figures" / f"{figure}.svg", drawing.svg)
        write_bytes(folder / "figures" / f"{figure}.png", drawing.png)
    write_bytes(folder / DATA, data)
    write_bytes(folder / POLICY, found.policy_bytes)
    write_bytes(folder / SWEEP_CSV, downloads.sweep_csv(found.sweep))
    if report["failures"]["mistakes"]:
        write_bytes(folder / MISTAKES_CSV, downloads.mistakes_csv(report["failures"]["mistakes"]))
    write_bytes(folder / CERTIFICATE, certificate(report).encode("utf-8", "replace"))
    write_bytes(folder / PAGE, page.encode("utf-8", "replace"))
    if latest:
        newest = {"run_id": decision.run_id, "decision_id": decision.decision_id}
        write_bytes(reports_dir / decision.task / LATEST, dump_json(sealed(newest)))
    index.refresh(reports_dir, {name: report_of(report, name)})
    return folder / PAGE


def previous_report(reports_dir: Path, task: str, folder: Path, started: str | None) -> Report | None:
    """The task's newest report that was started before this one; None for a first run."""
    found = []
    for path in sorted((reports_dir / task).rglob(DATA)):
        if path.parent != folder:
            try:
                other = read_report(path)
            except CascadeError:  # a damaged report of another run must not stop this one; the index names it
                continue
            if started is None or (other.started or "") < started:
                found.append((other.started or "", path.parent.name, other))
    return max(found, key=lambda f: f[:2])[2] if found else None


def render(report: Mapping[str, Any], drawn: Mapping[str, figures.Drawing] | None = None) -> str:
    """The page. Everything on it comes from `report`, the content of report.json."""
    if drawn is None:
        from pipeline.deliver.report import figures

        drawn = figures.draw(report, png=False)
    words = captions.captions(report)
    script = read_template("tables.js") + read_template("explorer.js")
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            figures={name: _figure(drawing, words[name]) for name, drawing in drawn.items()},
            captions=words,
            explorer=_explorer(report),
            plots=_plots(report),
            style=our_own(read_template("style.css")),
            script=our_own(script),
            script_sha256=script_digest(script),
            policy_yaml=to_yaml(report["use"]["policy"]),
            config_yaml=to_yaml(report["provenance"]["config"]),
        )
    )


def certificate(report: Mapping[str, Any]) -> str:
    """The certificate by itself, on one A4 page."""
    style = our_own(read_template("style.css"))
    return environment().get_template("certificate.html.j2").render(report=report, style=style)


def _plots(report: Mapping[str, Any]) -> dict[str, Any]:
    target = report["decide"]["target"]
    margin = target["within"] if target["kind"] == "match_strong" else None
    return {kind: dot_plot(report["failures"][kind], margin) for kind in ("labels", "segments")}


def _figure(drawing: figures.Drawing, caption: captions.Caption) -> Markup:
    return our_own(drawing.inline.replace("@title@", escape(caption.title)).replace("@desc@", escape(caption.takeaway)))


def _explorer(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the script needs: the curve as numbers, which thresholds passed the test, and how each cost is made up."""
    decide, sweep = report["decide"], report["decide"]["sweep"]
    if sweep is None or not sweep["columns"]["threshold"]:
        return None
    columns, prices, money = sweep["columns"], decide["prices"], report["first"]["money"]
    ties = report["health"]["confidence"]
    tied = ties is not None and ties["n"] and ties["largest_tie"] > 0.05 * ties["n"]
    return {
        "recommended": sweep["recommended"],
        "thresholds": columns["threshold"],
        "passed": columns["passed"],
        "usd": _short(columns["usd_per_1000"]) if priced(sweep) else None,
        "escalation": _short(columns["escalation_rate"]),
        "quality": _short(columns["system_accuracy"]),
        "lower": _short(columns["system_accuracy_lower"]),
        "upper": _short(columns["system_accuracy_upper"]),
        "whole": [_short(columns[f"system_accuracy_sim_{end}"]) for end in ("lower", "upper")],
        "quality_name": "accuracy" if sweep["quality"] == "accuracy" else "agreement",
        "rules": _lines(decide["baselines"], "usd_per_1000" if priced(sweep) else "escalation_rate"),
        "target": decide["target_line"],
        "other": "people" if decide["human"] else "strong",
        "money": None if money is None else money["per_1000"],
        "note": "Point at the curve to read a threshold, click or tap to choose it."
        + (" The thick green stretch passed the test." if any(columns["passed"]) else "")
        + (" The curve stops where many rows share one confidence." if tied else ""),
        "prices": None
        if prices is None
        else [
            {"price": c["price"], "quantity": [float(f"{q:.7g}") for q in c["quantity"]]} for c in prices["components"]
        ],
    }


def _lines(baselines: list[dict[str, Any]], across: str) -> dict[str, list[list[float | None]]]:
    """Each baseline as points of the chart, where both are known."""
    lines: dict[str, list[list[float | None]]] = {}
    for b in baselines:
        if b[across] is not None and b["system_accuracy"] is not None:
            lines.setdefault(b["name"], []).append(_short([b[across], b["system_accuracy"]]))
    return lines


def _short(column: list[float | None]) -> list[float | None]:
    return [None if v is None else float(f"{v:.6g}") for v in column]
