"""ReportHistogram: right and wrong answers by confidence, in bins of equal width of which one begins at the threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.decide.breakdown.coded_rows import CodedRows

Floats = npt.NDArray[np.float64]

BINS = 20
CROWDED = 0.95
"""Median confidence above which the axis counts nines (0.9, 0.99, 0.999): on a plain one all bars would stand at its end."""
MOST_NINES = 6.0


def histogram(rows: CodedRows, split: str, threshold: float | None) -> dict[str, Any]:
    """Counts of right, wrong and ungraded cheap answers by confidence, and how many rows have none.

    Bin i holds confidences from edges[i] up to, not including, edges[i + 1]; the last one its upper edge too. `places` are the
    edges on the axis that is drawn: the confidence itself (`scale` linear) or its number of nines, -log10(1 - confidence).
    """
    inside = rows.of(split)
    confidence, correct = rows.numbers["confidence"][inside], rows.right[inside]
    known = ~np.isnan(confidence)
    values = confidence[known]
    nines = bool(len(values)) and float(np.median(values)) > CROWDED
    edges, places = _edges(values, threshold, nines=nines)
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    named = {
        name: np.bincount(at[which[known]], minlength=len(edges) - 1).tolist()
        for name, which in (("right", correct == 1), ("wrong", correct == 0), ("unknown", np.isnan(correct)))
    }
    return {
        "split": split,
        "scale": "nines" if nines else "linear",
        "edges": edges.tolist(),
        "places": places.tolist(),
        **named,
        **{f"{name}_n": sum(counts) for name, counts in named.items()},
        "null": int((~known).sum()),
        "n": int(inside.sum()),
    }


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
