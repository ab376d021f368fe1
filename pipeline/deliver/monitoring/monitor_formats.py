"""MonitorFormats: the monitor's report as text, JSON, Prometheus metrics or Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

VERDICTS = ("holds", "drift", "untested", "broken")


def rendered(report: Mapping[str, Any], format: str) -> str:
    """The report of `monitor.check` as text in one of FORMATS, ending with a line break."""
    return FORMATS[format](report)


def _text(report: Mapping[str, Any]) -> str:
    return "\n".join(report["text"]) + "\n"


def _json(report: Mapping[str, Any]) -> str:
    return json.dumps(report, ensure_ascii=False, allow_nan=False) + "\n"


def _prometheus(report: Mapping[str, Any]) -> str:
    """Text exposition format 0.0.4, for the node exporter's textfile collector. What is unknown has no sample."""
    task = _escaped(report["task"])
    lines: list[str] = []

    def gauge(name: str, about: str, samples: list[tuple[str, Any]]) -> None:
        known = [(labels, float(value)) for labels, value in samples if value is not None]
        if known:
            lines.extend([f"# HELP cascade_{name} {about}", f"# TYPE cascade_{name} gauge"])
            lines.extend(f'cascade_{name}{{task="{task}"{labels}}} {value:.17g}' for labels, value in known)

    gauge(
        "monitor_verdict",
        "1 for the verdict that was reached, 0 for the others.",
        [(f',verdict="{v}"', report["verdict"] == v) for v in VERDICTS],
    )
    gauge("monitor_holds", "0 when the promise no longer holds.", [("", report["holds"])])
    gauge("monitor_tested", "1 when labels or strong answers tested the promise.", [("", report["tested"])])
    gauge("monitor_unread_labels", "Lines that carry a label and could not be read.", [("", report["unread_labels"])])
    gauge("monitor_readable_share", "Share of the lines that could be read.", [("", report["readable_share"])])
    gauge(
        "monitor_lines",
        "Lines of the log by what became of them.",
        [(f',fate="{fate}"', n) for fate, n in report["lines"].items()],
    )
    for name, about, key in (
        ("monitor_evidence", "Largest e-value against the promise.", "largest"),
        ("monitor_evidence_limit", "The e-value that raises the alarm.", "needed"),
        ("monitor_labels", "Accepted answers that were tested.", "labels"),
        ("monitor_errors", "Errors among them (paired: strong right minus cheap right).", "errors"),
        ("monitor_error_bound", "Rate of errors that the policy allows.", "bound"),
    ):
        gauge(name, about, [(f',kind="{e["kind"]}"', e[key]) for e in report["evidence"] if e["tested"]])
    gauge(
        "monitor_drift_alarm",
        "1 when a check without labels says that production changed.",
        [(f',check="{_escaped(c["name"])}"', c["alarm"]) for c in report["checks"] if c["observed"] is not None],
    )
    gauge(
        "monitor_review_overdue",
        "1 when the policy's day of review has passed.",
        [("", report["review_overdue"] is not None)],
    )
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _markdown(report: Mapping[str, Any]) -> str:
    first, *rest = report["text"]
    lines = [f"### {_cell(report['task'])}: {report['verdict']}", "", _cell(first), ""]
    lines += [f"- {_cell(sentence)}" for sentence in rest]
    if report["weeks"]:
        lines += ["", "| week that ends | judged | escalated | labels | wrong |", "|---|---|---|---|---|"]
        lines += [
            f"| {w['ends'][:10]} | {w['judged']} | {w['escalated'] / w['judged']:.1%} | {w['labels']} | {w['errors']} |"
            for w in report["weeks"]
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


FORMATS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "text": _text,
    "json": _json,
    "prometheus": _prometheus,
    "markdown": _markdown,
}
