"""ReportDotPlot: difference to the strong model by group as dots with intervals, in per cent of the drawing's width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.deliver.report.formatting import bare_points

MOST = 20
"""Groups drawn; the table has them all."""
WIDEST = 0.5
"""Where the axis ends, so that a group of three rows does not flatten the others."""
ROOM = 3.0
"""Per cent left free at both ends."""


def dot_plot(groups: Mapping[str, Any] | None, margin: float | None) -> dict[str, Any] | None:
    """Worst first, as `groups` come: a dot, its interval (cut off at the ends of the axis), zero, the promise and ticks.

    `margin`: how far behind the promise lets the whole be. None where no difference is known.
    """
    rows = [] if groups is None else [r for r in groups["rows"] if r["difference"]["value"] is not None][:MOST]
    if not rows:
        return None
    ends = [
        r["difference"][end] for r in rows for end in ("value", "lower", "upper") if r["difference"][end] is not None
    ]
    low = max(-WIDEST, min(-0.01, *ends, -(margin or 0.0) * 1.1))
    high = min(WIDEST, max(0.01, *ends))

    def at(value: float) -> str:
        return f"{ROOM + (100 - 2 * ROOM) * (min(max(value, low), high) - low) / (high - low):.2f}"

    step = _step(high - low)
    ticks = [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    dots = []
    for row in rows:
        difference = row["difference"]
        bounds = None if difference["lower"] is None else (at(difference["lower"]), at(difference["upper"]))
        dots.append({"row": row, "at": at(difference["value"]), "bounds": bounds})
    return {
        "dots": dots,
        "zero": at(0.0),
        "margin": None if margin is None else at(-margin),
        "ticks": [
            {"at": at(tick), "text": bare_points(round(tick, 6)).replace(".0", "").replace("±0", "0")} for tick in ticks
        ],
        "left_out": len(groups["rows"]) - len(rows) if groups is not None else 0,
        "level": rows[0]["difference"]["level"],
    }


def _step(span: float) -> float:
    """A round distance between ticks that makes three to seven of them."""
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(k * power for k in (1, 2, 5, 10) if span / (k * power) <= 6)
