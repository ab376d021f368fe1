"""ReportSweep: the sweep as the page shows it: one split, at most 300 thresholds, and the wrong answers that each keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.breakdown.wrong_kept import wrong_kept
from pipeline.deliver.report.records import Expected

MOST_THRESHOLDS = 300
ESTIMATES = (
    "escalation_rate",
    "coverage",
    "system_accuracy",
    "accepted_accuracy",
    "selective_risk",
    "usd_per_1000",
    "wrong_per_1000",
)
ENDS = ("", "_lower", "_upper")
PLAIN = ("latency_p50_s", "latency_p95_s")
WHOLE_CURVE = ("system_accuracy_sim_lower", "system_accuracy_sim_upper")
"""Band that holds for all thresholds together, for whoever picks one from the drawing."""


def priced(sweep: Mapping[str, Any]) -> bool:
    """Whether the curve can be drawn against dollars: more than one of its thresholds has a cost."""
    columns = sweep["columns"]
    return (
        sum(t is not None and v is not None for t, v in zip(columns["threshold"], columns["usd_per_1000"], strict=True))
        > 1
    )


def thin(size: int, keep: set[int], at_most: int = MOST_THRESHOLDS) -> Ints:
    """At most so many indices below `size`, evenly spread, with all of `keep`, the first and the last among them."""
    if size <= at_most:
        return np.arange(size)
    kept = {0, size - 1} | keep
    spread = np.linspace(0, size - 1, at_most - len(kept)).round().astype(int)
    return np.array(sorted(kept | set(spread.tolist())))


def table(
    sweep: pd.DataFrame,
    rows: CodedRows,
    split: str,
    threshold: float | None,
    metadata: Mapping[str, str],
    *,
    alone: Mapping[str, Any],
    prevalence: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The sweep of one split as columns, ascending in threshold; the last row escalates everything (threshold null).

    `alone` is the strong model by itself {accuracy, usd_per_1000}, the figures of that last row. `recommended` is the index of the recommended row. Where no label is known, quality is the agreement with the strong
    model, and "wrong" are kept answers that differ from its answer.
    """
    part = sweep[sweep["split"] == split].sort_values("threshold", kind="stable").reset_index(drop=True)
    thresholds = part["threshold"].to_numpy(dtype=float)
    at = np.flatnonzero(thresholds == threshold) if threshold is not None else np.zeros(0, dtype=int)
    if threshold is not None and not len(at) and len(thresholds):
        at = np.array([int(np.argmin(np.abs(thresholds - threshold)))])
    picks = thin(len(part), {int(i) for i in at}, MOST_THRESHOLDS - 1)
    part = part.iloc[picks].reset_index(drop=True)
    columns: dict[str, list[Any]] = {"threshold": [float(t) for t in part["threshold"]]}
    gold = rows.gold
    for name in [*(f"{name}{end}" for name in ESTIMATES for end in ENDS), *PLAIN, *WHOLE_CURVE]:
        counted_here = name.startswith("wrong_per_1000")
        columns[name] = [None] * len(part) if counted_here else _plain(part[name].to_numpy(dtype=float))
    wrong = wrong_kept(rows, split, np.array(columns["threshold"], dtype=float), prevalence)
    if wrong is not None:
        counted = {"wrong_per_1000": wrong.per_1000}
        if not gold and all(v is None for v in columns["system_accuracy"]):
            counted["system_accuracy"] = wrong.agreement
        columns |= {
            name + suffix: _plain(amounts)
            for name, of in counted.items()
            for suffix, amounts in zip(ENDS, of, strict=True)
        }
    _escalate_everything(columns, alone, gold)
    n = int(rows.of(split).sum())
    recommended = (
        int(np.flatnonzero(picks == at[0])[0])
        if len(at)
        else (len(columns["threshold"]) - 1 if columns["threshold"] and columns["threshold"][-1] is None else None)
    )
    return {
        "split": split,
        "n": n,
        "quality": "accuracy" if gold else "agreement",
        "band": metadata["band"],
        "level": float(metadata["band_level"]),
        "levels_in_sweep": len(sweep[sweep["split"] == split]),
        "recommended": recommended,
        "columns": columns,
    }


def _plain(amounts: Floats) -> list[float | None]:
    """Numbers for JSON, None where unknown."""
    return [float(amount) if np.isfinite(amount) else None for amount in amounts]


def _escalate_everything(columns: dict[str, list[Any]], alone: Mapping[str, Any], gold: bool) -> None:
    """Append the row without a threshold: every request goes straight to the strong model, the cheap one is not asked."""
    ends = {
        "escalation_rate": {"value": 1.0},  # these three are so by construction, without an interval
        "coverage": {"value": 0.0},
        "system_accuracy": alone["accuracy"] if gold else {"value": 1.0},
        "usd_per_1000": alone["usd_per_1000"],
        "wrong_per_1000": {"value": 0.0},
    }
    for name, values in columns.items():
        base, _, suffix = name.rpartition("_") if name.endswith(("_lower", "_upper")) else (name, "", "value")
        values.append(ends.get(base, {}).get(suffix))


def adopt(of: dict[str, Any], expected: Expected) -> None:
    """Give the recommended row the recommendation's own intervals, so that one number has one interval on the page."""
    index, columns = of["recommended"], of["columns"]
    if index is None or columns["threshold"][index] is None:
        return
    agreement = of["quality"] == "agreement"
    told = {
        "escalation_rate": expected.escalation_rate,
        "coverage": expected.coverage,
        "system_accuracy": expected.agreement_with_strong if agreement else expected.system_accuracy,
        "accepted_accuracy": expected.accepted_accuracy,
        "usd_per_1000": expected.usd_per_1000,
        "wrong_per_1000": expected.wrong_accepted_per_1000,
    }
    for name, figure in told.items():
        mine = columns[name][index]
        if figure.split != of["split"] or figure.value is None or mine is None:
            continue
        if abs(figure.value - mine) < 1e-9 * max(1, abs(mine)):
            columns[f"{name}_lower"][index], columns[f"{name}_upper"][index] = figure.lower, figure.upper


def at_row(of: Mapping[str, Any], index: int | None, name: str) -> dict[str, Any]:
    """One estimate of the sweep as value, bounds, level, n and split."""
    columns = of["columns"]
    if index is None:
        return {"value": None, "lower": None, "upper": None, "level": of["level"], "n": of["n"], "split": of["split"]}
    bounds = {end: columns[f"{name}_{end}"][index] if name in ESTIMATES else None for end in ("lower", "upper")}
    return {"value": columns[name][index], **bounds, "level": of["level"], "n": of["n"], "split": of["split"]}
