"""Groups: results by label and by segment, with intervals, and the floors that they were to keep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.decide.arrays import Flags, Floats, Ints
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.curves.at_threshold import Estimate
from pipeline.decide.held_out import level_of
from pipeline.decide.testing.intervals import clopper_pearson
from pipeline.decide.testing.paired_interval import paired_difference
from pipeline.decide.testing.share_interval import share_interval

FEW_ROWS = 30
MOST_GROUPS = 80


def rate(hits: float, n: float, split: str) -> Estimate:
    """A counted share with its exact (Clopper-Pearson) interval; unknown when nothing was counted."""
    level = level_of(split)
    if n <= 0:
        return Estimate(None, None, None, level, 0, split)
    lower, upper = (float(end) for end in clopper_pearson(hits, n, level))
    return Estimate(hits / n, lower, upper, level, int(n), split)


def share(x: Floats, group: Ints | None, split: str) -> Estimate:
    """The share of `x` (n,), 1, 0 or NaN (unknown), over the known rows; its interval is over groups where there are any."""
    known = ~np.isnan(x)
    counted = rate(float(x[known].sum()), float(known.sum()), split)
    if group is None or counted.value is None:
        return counted
    lower, upper = share_interval(np.nan_to_num(x), known, group=group, level=counted.level)
    return replace(counted, lower=lower, upper=upper)


def groups(
    rows: CodedRows,
    by: str,
    split: str,
    threshold: float | None,
    floors: Mapping[str, float] | None = None,
    margin: float | None = None,
) -> dict[str, Any]:
    """Results by label or by segment on one split, with intervals (`share`): worst against the strong model first.

    `margin`: how much worse than the strong model the whole may be; a group beyond it is flagged.
    """
    column, inside = rows.texts[by], rows.of(split) & (rows.texts[by].codes >= 0)
    codes, size = column.codes[inside], len(column.values)
    kept = rows.kept(threshold)[inside]
    cheap, strong = rows.numbers["cheap_correct"][inside], rows.numbers["strong_correct"][inside]
    cascade = np.where(kept, cheap, strong)
    if rows.sampled:  # a group of which some answers were not bought tells nothing that needs them
        strong, cascade = (
            np.where(np.bincount(codes, np.isnan(x), size)[codes] > 0, np.nan, x) for x in (strong, cascade)
        )

    kept_wrong = np.where(kept, 1 - cheap, np.nan)
    cluster = None if rows.group is None else rows.group[inside]
    n = np.bincount(codes, minlength=size)
    order = sorted(np.flatnonzero(n), key=lambda g: (-n[g], column.values[g]))
    out = []
    for g in order[:MOST_GROUPS]:
        name, floor, here = column.values[g], (floors or {}).get(column.values[g]), codes == g
        mine = None if cluster is None else cluster[here]
        figures = {
            "cheap_accuracy": cheap,
            "strong_accuracy": strong,
            "cascade_accuracy": cascade,
            "escalation_rate": (~kept).astype(float),
            "accepted_error": kept_wrong,
        }
        entry: dict[str, Any] = {"name": name, "n": int(n[g]), "floor": floor, "accepted": int(kept[here].sum())}
        entry |= {key: share(x[here], mine, split).to_json() for key, x in figures.items()}
        entry["accepted_wrong"] = int(np.nansum(kept_wrong[here]))
        entry["difference"] = paired_difference(
            cascade[here], strong[here], level=level_of(split), split=split, group=mine
        ).to_json()
        value, behind = entry["cascade_accuracy"]["value"], entry["difference"]["value"]
        entry["flags"] = (["few"] if n[g] < FEW_ROWS else []) + (
            ["floor"] if floor is not None and value is not None and value < floor else []
        )
        if margin is not None and threshold is not None and behind is not None and behind < -margin:
            entry["flags"].append("margin")
        out.append(entry)
    if threshold is not None:
        out.sort(key=lambda e: math.inf if e["difference"]["value"] is None else e["difference"]["value"])
    return {"by": by, "split": split, "rows": out, "left_out": max(0, len(order) - MOST_GROUPS)}


def recall_floors(
    rows: CodedRows,
    split: str,
    threshold: float | None,
    floors: Mapping[str, float],
    members: Mapping[str, Sequence[str]],
    segments: Mapping[str, tuple[str, str | None, float]],
) -> list[dict[str, Any]]:
    """How often rows of a label, or of one of several, get an answer among them, beside the least that was asked for.

    `segments`: by name, floors of a segment's rows (with a label, of its rows of that label): how often these are right.
    """
    inside, kept = rows.of(split), rows.kept(threshold)
    out = []
    for name, floor in floors.items():
        labels = tuple(members.get(name, (name,)))

        def among(column: str, labels: Sequence[str] = labels) -> Flags:
            coded = rows.texts[column]
            return np.isin(coded.codes, [i for i, v in enumerate(coded.values) if v in labels])

        told = np.where(kept, among("cheap_answer"), among("strong_answer"))
        mine = inside & among("label")
        recall = share(told[mine].astype(float), None if rows.group is None else rows.group[mine], split)
        out.append(_floor(name, labels, floor, recall))
    right = np.where(kept, rows.numbers["cheap_correct"], rows.numbers["strong_correct"])
    for name, (segment, label, floor) in segments.items():
        mine = inside & rows.texts["segment"].is_(segment)
        if label is not None:
            mine &= rows.texts["label"].is_(label)
        held = share(right[mine], None if rows.group is None else rows.group[mine], split)
        out.append(_floor(name, () if label is None else (label,), floor, held))
    return out


def _floor(name: str, labels: Sequence[str], floor: float, found: Estimate) -> dict[str, Any]:
    broken = found.value is not None and found.value < floor
    return {"name": name, "labels": list(labels), "floor": floor, "recall": found.to_json(), "broken": broken}


def agreement_of_cheap(rows: CodedRows, split: str) -> Estimate:
    """How often the cheap model alone answers as the strong one does, of the rows of a split with a strong answer.

    A cheap reply without an answer is not the strong model's. Unknown where strong answers were sampled.
    """
    same = np.where(rows.texts["cheap_answer"].codes < 0, 0.0, rows.agree)
    known = (rows.texts["strong_answer"].codes >= 0) & rows.of(split) & (not rows.sampled)
    return share(np.where(known, same, np.nan), rows.group, split)
