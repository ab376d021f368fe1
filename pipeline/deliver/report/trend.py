"""ReportTrend: how a task's decisions moved over time, as coordinates of a small drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pipeline.deliver.report.formatting import share

LEFT, RIGHT, TOP, BOTTOM = 52.0, 308.0, 10.0, 74.0
LEAST_SPAN = 0.02
"""Of the vertical axis, so that noise does not fill it."""


def trend(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Panels of accuracy (or agreement) and of escalation over the decisions, oldest first; None where fewer than two can be drawn.

    Decisions with the newest one's target and measure are joined by a line; others, such as experiments, stand alone.
    """
    dated = [(at, line) for line in lines if (at := _moment(line["started"])) is not None]
    if len(dated) < 2:
        return None
    times = [at for at, _ in dated]
    span = max(times) - min(times)
    newest = dated[-1][1]
    x = [LEFT + 6 + ((at - min(times)) / span if span else 0.5) * (RIGHT - LEFT - 12) for at in times]
    same = [_question(line) == _question(newest) for _, line in dated]
    quality = [line["quality"] if line["measure"] == newest["measure"] else None for _, line in dated]
    strong = [line["strong"] if line["measure"] == newest["measure"] == "accuracy" else None for _, line in dated]
    panels = [
        _panel(newest["measure"], x, same, quality, strong),
        _panel("escalated", x, same, [line["escalation"] for _, line in dated], None),
    ]
    return {
        "panels": [panel for panel in panels if panel is not None],
        "first": str(dated[0][1]["started"])[:10],
        "last": str(newest["started"])[:10],
        "n": len(dated),
        "joined": sum(same),
    }


def _moment(text: str | None) -> float | None:
    try:
        return None if text is None else datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _question(line: Mapping[str, Any]) -> tuple[str, Any]:
    return line["measure"], line["asked"].config["target"]


def _panel(
    name: str,
    x: Sequence[float],
    same: Sequence[bool],
    figures: Sequence[Mapping[str, Any] | None],
    strong: Sequence[Mapping[str, Any] | None] | None,
) -> dict[str, Any] | None:
    """One panel: points with whiskers, the line that joins the like ones, and the strong model's dashed."""
    known = [e["value"] is not None if e is not None else False for e in figures]
    if sum(known) < 2:
        return None
    others = [None] * len(x) if strong is None else [None if e is None else e["value"] for e in strong]
    ends = [
        v
        for e, k in zip(figures, known, strict=True)
        if k and e is not None
        for v in (e["value"], e["lower"], e["upper"])
        if v is not None
    ] + [v for v in others if v is not None]
    low, high = float(min(ends)), float(max(ends))
    room = max(0.0, LEAST_SPAN - (high - low)) / 2
    low, high = max(0.0, low - room), min(1.0, high + room)

    def y(value: float) -> float:
        return BOTTOM - (value - low) / ((high - low) or 1.0) * (BOTTOM - TOP)

    points = [
        {
            "x": f"{at:.1f}",
            "y": f"{y(e['value']):.1f}",
            "low": None if e["lower"] is None else f"{y(e['lower']):.1f}",
            "high": None if e["upper"] is None else f"{y(e['upper']):.1f}",
            "joined": joined,
        }
        for at, e, k, joined in zip(x, figures, known, same, strict=True)
        if k and e is not None
    ]
    return {
        "name": name,
        "points": points,
        "line": " ".join(f"{p['x']},{p['y']}" for p in points if p["joined"]),
        "strong": " ".join(
            f"{at:.1f},{y(v):.1f}" for at, v, joined in zip(x, others, same, strict=True) if v is not None and joined
        ),
        "low": share(low),
        "high": share(high),
    }
