"""Figures: report.json's tables drawn with matplotlib. Nothing is computed here.

Each figure is drawn small (4.8 in) with type that stays legible on a telephone, in Okabe-Ito colours with a dash or a
marker of its own for every series. Foreign text (labels, segments, model names) never enters a figure.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.deliver.report import formatting
from pipeline.deliver.report.sweep import priced

BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, INK, GREY = (
    "#0072B2",
    "#E69F00",
    "#007a5a",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#1d2530",
    "#6b7480",
)

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cascade-threshold",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 7.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Drawing:
    """A drawn figure: inline SVG for the page, SVG and PNG files."""

    name: str
    inline: str
    svg: bytes
    png: bytes


def draw(report: Mapping[str, Any], *, png: bool = True) -> dict[str, Drawing]:
    """Every figure for which the report has data, by name. Without `png` only the SVG is drawn, in half the time."""
    return {name: _finish(name, paint, png) for name, paint in painters(report).items()}


def painters(report: Mapping[str, Any]) -> dict[str, Callable[[Axes], None]]:
    """What paints each figure for which the report has data, on axes of any size, by name."""
    trust, sweep, level = report["trust"], report["decide"]["sweep"], f"{100 * report['intervals']['level']:.3g} %"
    made: dict[str, Callable[[Axes], None]] = {}
    if sweep is not None and len(set(zip(*_curve(sweep), strict=True))) > 1:  # one end alone is no curve
        made["decide"] = lambda axes: _decide(axes, report["decide"])
    if trust["reliability"]:
        made["reliability"] = partial(_reliability, data=trust["reliability"], level=level)
    if trust["histogram"] and trust["histogram"]["n"] > trust["histogram"]["null"]:
        made["histogram"] = lambda axes: _histogram(axes, trust["histogram"], report["verdict"]["threshold"])
    if trust["risk"]:
        made["risk"] = lambda axes: _risk(axes, trust["risk"], level)
    if sum(s["difference"] is not None for s in trust["signals"]) > 1:
        made["signals"] = lambda axes: _signals(axes, trust["signals"])
    return made


def _finish(name: str, paint: Callable[[Axes], None], png: bool) -> Drawing:
    """Paint on a canvas with fixed margins (a layout engine would take as long again) and a legend below the axes."""
    square = name == "reliability"
    width, height = (4.2, 5.35) if square else (4.8, 3.9 if name == "decide" else 3.4)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=144)
        axes = figure.add_axes((0, 0, 1, 1))
        paint(axes)
        series = axes.get_legend_handles_labels()[1]
        columns = 3 if len(series) > 4 and not square else max(1, min(2, len(series)))
        below = 0.55 + 0.175 * -(-len(series) // columns)
        left = 1.8 if name == "signals" else 0.68
        tall = height - below - 0.12
        if square:  # a unit as long upwards as across, and room for the density under it
            tall = width - left - 0.26
            below = height - tall - 0.12
        axes.set_position((left / width, below / height, 1 - (left + 0.26) / width, tall / height))
        if series:
            figure.legend(loc="lower center", ncols=columns, handlelength=2.4, columnspacing=1.4)
        svg, raster = io.BytesIO(), io.BytesIO()
        FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
            svg, metadata={"Date": None, "Creator": None}
        )
        figure.dpi = 144  # drawing SVG leaves it at 72
        if png:
            FigureCanvasAgg(figure).print_png(raster, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return Drawing(name, _inline(svg.getvalue().decode(), name), svg.getvalue(), raster.getvalue())


def _inline(svg: str, name: str) -> str:
    """The drawing for use inside a page: no header, no metadata, no address, no global style, ids of its own."""
    prefix = f"drawing-{name}"
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.S)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", body, flags=re.S)
    body = re.sub(r'\s(?:xmlns(?::xlink)?|version)="[^"]*"', "", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    body = body.replace("'DejaVu Sans'", "system-ui").replace("DejaVu Sans", "system-ui")
    # hundredths of a point are enough in attributes, and a third smaller; the text between tags is left alone
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), body)
    body = re.sub(r' d="([^"]{400,})"', lambda path: f' d="{_shorter(path[1])}"', body)
    box = re.search(r'viewBox="([^"]+)"', body)
    place = box.group(1) if box else "0 0 1 1"
    # sizes, so that the drawing has one where no style sheet is let in
    width, height = place.split()[2:]
    head = f'<svg width="{width}" height="{height}" viewBox="{place}" role="img" aria-labelledby="{prefix}-title {prefix}-desc" focusable="false">'
    inner = body[body.index(">") + 1 :].strip()
    return (
        head
        + f'<title id="{prefix}-title">@title@</title><desc id="{prefix}-desc">@desc@</desc>'
        + re.sub(r"\n\s*", "\n", inner)
    )


def _shorter(path: str) -> str:
    """A long path to a tenth of a point, which no eye sees, without the spaces that SVG does not need."""
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", re.sub(r"(\d\.\d)\d+", r"\1", path)).strip()


def _percent_axis(axis: Any) -> None:
    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v * 100:.6g} %"))


def _known(*columns: Any) -> tuple[np.ndarray, ...]:
    """Columns as float arrays at the places where all are known."""
    arrays = [np.array([np.nan if v is None else v for v in c], dtype=float) for c in columns]
    keep = ~np.isnan(np.stack(arrays)).any(axis=0)
    return tuple(a[keep] for a in arrays)


def _curve(sweep: Mapping[str, Any], *more: str) -> tuple[np.ndarray, ...]:
    """Cost (or escalation), accuracy and `more` columns of the thresholds where all are known.

    The last row asks no cheap model: it is the strong model's own point, not one of the curve.
    """
    last = -1 if sweep["columns"]["threshold"] and sweep["columns"]["threshold"][-1] is None else None
    across = "usd_per_1000" if priced(sweep) else "escalation_rate"
    return _known(*(sweep["columns"][name][:last] for name in (across, *(more or ("system_accuracy",)))))


def _band(axes: Axes, x: np.ndarray, low: np.ndarray, high: np.ndarray, **style: Any) -> None:
    """A band with its entry in the legend, where there is any to be seen."""
    if len(x) > 1:
        axes.fill_between(x, low, high, linewidth=0, **style)


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """A line with its entry in the legend: a dot where there is one point, nothing where there is none."""
    if len(x):
        axes.plot(x, y, marker="o" if len(x) == 1 else None, markersize=4, **style)


def _decide(axes: Axes, decide: Mapping[str, Any]) -> None:
    sweep = decide["sweep"]
    best = sweep["recommended"]
    chosen = None if best is None else {name: values[best] for name, values in sweep["columns"].items()}
    dollars = priced(sweep)
    across = "usd_per_1000" if dollars else "escalation_rate"
    level = f"{sweep['level'] * 100:.3g} %"
    whole = _curve(sweep, "system_accuracy_sim_lower", "system_accuracy_sim_upper")
    _band(axes, *whole, color=BLUE, alpha=0.09, label=f"{level} band, whole line")
    pointwise = _curve(sweep, "system_accuracy_lower", "system_accuracy_upper")
    _band(axes, *pointwise, color=BLUE, alpha=0.17, label=f"{level} band, one point")
    _line(axes, *_curve(sweep), color=BLUE, linewidth=1.8, label="cascade")
    for name, colour, dash in (
        ("random", GREY, (0, (1, 1.5))),
        ("router", PURPLE, (0, (4, 2))),
        ("oracle", GREEN, (0, (6, 1.5, 1, 1.5))),
    ):
        points = [b for b in decide["baselines"] if b["name"] == name]
        bx, by = _known([b[across] for b in points], [b["system_accuracy"] for b in points])
        title = {"random": "random escalation", "router": "text-only router", "oracle": "oracle"}[name]
        _line(axes, bx, by, color=colour, linestyle=dash, linewidth=1.3, label=title)
    if decide["target_line"] is not None:
        axes.axhline(decide["target_line"], color=VERMILION, linestyle=(0, (5, 3)), linewidth=1.1, label="target")
    for role, marker, colour, at in (("cheap", "s", ORANGE, 0.0), ("strong", "D", GREEN, 1.0)):
        end = decide["ends"][f"{role}_only"]
        ex, ey = (end["usd_per_1000"]["value"] if dollars else at), end["accuracy"]["value"]
        if ex is not None and ey is not None and sweep["quality"] == "accuracy":
            axes.plot(
                [ex],
                [ey],
                marker=marker,
                color=colour,
                markersize=6,
                linestyle="none",
                markeredgecolor=INK,
                markeredgewidth=0.6,
                label="people alone" if role == "strong" and decide["human"] else f"{role} model alone",
            )
    if chosen is not None and chosen[across] is not None and chosen["system_accuracy"] is not None:
        _recommended(axes, chosen[across], chosen["system_accuracy"])
    axes.set_xlabel("cost, USD per 1,000 requests" if dollars else "escalation rate")
    if not dollars:
        _percent_axis(axes.xaxis)
    axes.set_ylabel("accuracy" if sweep["quality"] == "accuracy" else "agreement with the strong model")
    _percent_axis(axes.yaxis)


def _recommended(axes: Axes, x: float, y: float) -> None:
    """A star at the recommended threshold, above the other marks."""
    axes.plot(
        [x],
        [y],
        marker="*",
        color=VERMILION,
        markersize=11,
        linestyle="none",
        markeredgecolor=INK,
        markeredgewidth=0.6,
        label="recommended",
        zorder=5,
    )


def _reliability(axes: Axes, data: Mapping[str, Any], level: str) -> None:
    """The curve that counts with its band and bins; what it was before calibration dashed; under them where the rows lie."""
    main, first = data["after"] or data["before"], data["before"] if data["after"] else None
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=(0, (1, 1.5)), label="perfect")
    columns = ([c[name] for c in main["corp"]] for name in ("mean_confidence", "band_lower", "band_upper"))
    _band(axes, *_known(*columns), color=GREY, alpha=0.2, label="if calibrated")
    if first is not None:
        x, y = _known(*([c[name] for c in first["corp"]] for name in ("mean_confidence", "accuracy")))
        _line(axes, x, y, color=ORANGE, linewidth=1.3, linestyle=(0, (4, 2)), label="before calibration")
    x, y = _known(*([c[name] for c in main["corp"]] for name in ("mean_confidence", "accuracy")))
    _line(axes, x, y, color=BLUE, linewidth=1.7, label="observed (CORP)" if first is None else "after calibration")
    names = ("mean_confidence", "accuracy", "accuracy_lower", "accuracy_upper")
    x, y, low, high = _known(*([b[c] for b in main["bin"]] for c in names))
    if len(x):
        axes.errorbar(
            x,
            y,
            yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)],
            fmt="o",
            color=VERMILION,
            markersize=3.5,
            elinewidth=0.8,
            capsize=2,
            label=f"bins, {level} interval",
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share right")
    for axis in (axes.xaxis, axes.yaxis):
        _percent_axis(axis)
    axes.tick_params(labelbottom=False)
    under = axes.inset_axes((0, -0.22, 1, 0.17))
    styles: tuple[tuple[Any, dict[str, Any]], ...] = (
        (main, {"color": BLUE, "alpha": 0.55, "fill": True}),
        (first, {"color": ORANGE, "linestyle": (0, (4, 2))}),
    )
    for entry, style in styles:
        if entry is not None and entry["density"] is not None:
            under.stairs(entry["density"], np.linspace(0, 1, len(entry["density"]) + 1), **style)
    under.set(xlim=(0, 1), xlabel="confidence", ylabel="rows")
    under.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    _percent_axis(under.xaxis)


def _histogram(axes: Axes, data: Mapping[str, Any], threshold: float | None) -> None:
    """Bars as wide as their bins on the axis that is drawn."""
    places, right, wrong = (np.array(data[name], dtype=float) for name in ("places", "right", "wrong"))
    left, wide = places[:-1], np.diff(places)
    style: dict[str, Any] = {"align": "edge", "linewidth": 0.6}
    if right.any():
        axes.bar(left, right, wide, color=SKY, edgecolor=BLUE, label="right", **style)
    if wrong.any():
        axes.bar(
            left, -wrong, wide, color=ORANGE, edgecolor=VERMILION, hatch="////", label="wrong (below the line)", **style
        )
    if any(data["unknown"]):
        axes.bar(left, data["unknown"], wide, bottom=right, color="#d5d8dd", edgecolor=GREY, label="not known", **style)
    axes.axhline(0, color=INK, linewidth=0.8)
    if threshold is not None and threshold in data["edges"]:
        at = places[data["edges"].index(threshold)]
        axes.axvline(at, color=INK, linestyle=(0, (5, 3)), linewidth=1.2, label="threshold")
    if data["scale"] == "nines":
        shown = [0.0, *([0.5] if places[-1] - places[0] < 2 else []), *(1 - 10.0**-k for k in range(1, 7))]
        ticks = [p for p in shown if places[0] - 1e-9 <= -np.log10(1 - p) <= places[-1] + 1e-9]
        axes.set_xticks([-np.log10(1 - p) for p in ticks], [f"{100 * p:.6g} %" for p in ticks])
    else:
        _percent_axis(axes.xaxis)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{abs(v):,.0f}"))
    axes.set(xlim=(places[0], places[-1]), xlabel="confidence", ylabel="requests")


def _risk(axes: Axes, risk: Mapping[str, Any], level: str) -> None:
    """Scaled to its data: the first few rows, where a curve jumps and its band spans everything, may leave at the top."""
    columns, here = risk["columns"], risk["recommended"]
    x, y = _known(columns["coverage"], columns["selective_risk"])
    if "selective_risk_lower" in columns:
        across, low, high = _known(
            columns["coverage"], columns["selective_risk_lower"], columns["selective_risk_upper"]
        )
        # below a few rows the interval spans everything
        known = high - low < 0.5
        _band(axes, across[known], low[known], high[known], color=BLUE, alpha=0.15, label=f"{level} band")
    _line(axes, x, y, color=BLUE, linewidth=1.6, label="by confidence")
    if len(x):
        axes.plot(
            [0, x[-1]], [y[-1], y[-1]], color=GREY, linestyle=(0, (1, 1.5)), linewidth=1.2, label="in random order"
        )
    if here and here["coverage"] is not None and here["selective_risk"] is not None:
        _recommended(axes, here["coverage"], here["selective_risk"])
    axes.set(xlabel="share that the cheap model keeps", ylabel="error among the kept")
    if len(x):
        settled = y[x >= 0.1 * x[-1]]
        top = 1.25 * max(float(settled.max(initial=0)), float(y[-1]), 0.004)
        axes.set(xlim=(0, min(1.0, 1.02 * x[-1])), ylim=(0, min(1.0, top)))
    _percent_axis(axes.xaxis)
    _percent_axis(axes.yaxis)


def _signals(axes: Axes, signals: list[Mapping[str, Any]]) -> None:
    """Each signal's AURC minus the chosen one's, part by part: what both have in common is not in the bars."""
    known = [s for s in signals if s["difference"] is not None]
    axes.axvline(0, color=GREY, linewidth=0.9, linestyle=(0, (1, 1.5)))
    for place, signal in enumerate(reversed(known)):
        chosen = signal["chosen"]
        axes.errorbar(
            [signal["difference"]],
            [place],
            xerr=None if chosen else [signal["difference_se"] or 0],
            fmt="D" if chosen else "o",
            color=VERMILION if chosen else BLUE,
            markersize=6 if chosen else 4.5,
            elinewidth=1.1,
            capsize=2.5,
        )
    axes.set_yticks(
        range(len(known)),
        [
            formatting.plain(s["signal"], 24).replace("_", " ") + (" (chosen)" if s["chosen"] else "")
            for s in reversed(known)
        ],
    )
    axes.set_ylim(-0.6, len(known) - 0.4)
    axes.set_xlabel("AURC minus the chosen one’s (± 1 s.e.)")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
