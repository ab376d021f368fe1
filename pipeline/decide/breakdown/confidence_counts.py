"""ConfidenceCounts: how a run's confidences are distributed: histogram, density and summary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cascade_threshold.calibrator import Calibrator
from pipeline.decide.arrays import Floats
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.breakdown.groups import rate
from pipeline.decide.calibration import apply
from pipeline.decide.curves.at_threshold import Estimate

BINS = 20
CROWDED = 0.95
"""Median confidence above which the axis counts nines (0.9, 0.99, 0.999): on a plain one all bars would stand at its end."""
MOST_NINES = 6.0
DENSITY_BINS = 40
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Histogram:
    """Cheap answers of one split by confidence, in bins of equal width of which one begins at the threshold.

    Bin i holds confidences from edges[i] up to, not including, edges[i + 1]; the last one its upper edge too. `places` are the
    edges on the axis that is drawn: the confidence itself (`scale` linear) or its number of nines, -log10(1 - confidence).
    `right`, `wrong` and `unknown` (not graded) count the answers in each bin, `*_n` those in all bins; `null` counts the rows
    without a confidence and `n` all rows.
    """

    split: str
    scale: str
    edges: list[float]
    places: list[float]
    right: list[int]
    wrong: list[int]
    unknown: list[int]
    right_n: int
    wrong_n: int
    unknown_n: int
    null: int
    n: int


@dataclass(frozen=True)
class Density:
    """Graded rows of one split by confidence: `counts` in bins of equal width on [0, 1], `n` in all of them."""

    n: int
    counts: list[int]


@dataclass(frozen=True)
class ConfidenceSummary:
    """The confidences of all rows: how many are null, tied or exactly 1, and their quantiles."""

    n: int
    null: int
    distinct: int
    largest_tie: int
    largest_tie_at: float | None
    exactly_one: Estimate
    quantiles: list[dict[str, float]]


def histogram(rows: CodedRows, split: str, threshold: float | None) -> Histogram:
    """Right, wrong and ungraded cheap answers of a split by confidence."""
    inside = rows.of(split)
    confidence, correct = rows.numbers["confidence"][inside], rows.right[inside]
    known = ~np.isnan(confidence)
    values = confidence[known]
    nines = bool(len(values)) and float(np.median(values)) > CROWDED
    edges, places = _edges(values, threshold, nines=nines)
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    right, wrong, unknown = (
        np.bincount(at[which[known]], minlength=len(edges) - 1).tolist()
        for which in (correct == 1, correct == 0, np.isnan(correct))
    )
    return Histogram(
        split=split,
        scale="nines" if nines else "linear",
        edges=edges.tolist(),
        places=places.tolist(),
        right=right,
        wrong=wrong,
        unknown=unknown,
        right_n=sum(right),
        wrong_n=sum(wrong),
        unknown_n=sum(unknown),
        null=int((~known).sum()),
        n=int(inside.sum()),
    )


def density(rows: CodedRows, split: str, calibrator: Calibrator | None = None) -> Density:
    """Graded rows of a split by confidence, or by its calibrated reading where there is a calibrator."""
    values = rows.numbers["confidence"][rows.of(split) & ~np.isnan(rows.numbers["confidence"]) & ~np.isnan(rows.right)]
    if calibrator is not None and len(values):  # monotone, so a fine grid of its values is enough to count by
        grid = np.unique(np.quantile(values, np.linspace(0, 1, 1001)))
        values = np.interp(values, grid, apply(calibrator, grid))
    return Density(len(values), np.histogram(values, bins=DENSITY_BINS, range=(0, 1))[0].tolist())


def confidence_summary(rows: CodedRows) -> ConfidenceSummary:
    """The confidences of all rows, whatever their split."""
    confidence = rows.numbers["confidence"]
    known = confidence[~np.isnan(confidence)]
    values, sizes = np.unique(known, return_counts=True)
    return ConfidenceSummary(
        n=len(confidence),
        null=len(confidence) - len(known),
        distinct=len(values),
        largest_tie=int(sizes.max(initial=0)),
        largest_tie_at=float(values[int(sizes.argmax())]) if len(sizes) else None,
        exactly_one=rate(float((known == 1.0).sum()), float(len(known)), "all"),
        quantiles=[{"q": q, "value": float(v)} for q, v in zip(QUANTILES, np.quantile(known, QUANTILES), strict=True)]
        if len(known)
        else [],
    )


def _edges(values: Floats, threshold: float | None, *, nines: bool) -> tuple[Floats, Floats]:
    """Edges as confidences and as places on the axis: a grid through the threshold, cut off at the ends of the data."""
    if not len(values):
        return np.array([0.0, 1.0]), np.array([0.0, 1.0])
    below = values[values < 1]
    low = _place(float(values.min()), nines)
    high = 1.0
    if nines:
        high = min(MOST_NINES, math.ceil(2 * _place(float(below.max(initial=0.9)), nines)) / 2)
        low = min(low, high - 0.5)
    width = (high - low) / BINS if nines else 1 / BINS
    through = threshold is not None and 0 < threshold < 1 and low <= _place(threshold, nines) <= high
    anchor = _place(float(threshold or 0.0), nines) if through else math.floor(low / width) * width
    steps = np.arange(math.floor((low - anchor) / width + 1e-9), math.ceil((high - anchor) / width - 1e-9) + 1)
    places = np.unique(np.clip(anchor + steps * width, 0.0, high))
    narrow = (
        np.diff(places) < width / 3
    )  # slivers that the ends leave go to their neighbour, but not the threshold's edge
    drop = {i for i in np.flatnonzero(narrow).tolist() for i in ((i + 1,) if i == 0 else (i,))}
    places = np.array([p for i, p in enumerate(places) if i not in drop or abs(p - anchor) < 1e-12])
    edges = 1 - 10**-places if nines else places.copy()
    if through:
        edges[int(np.argmin(np.abs(places - anchor)))] = threshold
    edges[0], edges[-1] = min(edges[0], float(values.min())), 1.0
    return edges, places


def _place(value: float, nines: bool) -> float:
    return min(MOST_NINES, -math.log10(max(1 - value, 10**-MOST_NINES))) if nines else value
