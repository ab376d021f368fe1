"""ReportTrust: can the confidence be believed? Reliability, ranking, and what the choice of the threshold flatters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from cascade_threshold.calibrator import Calibrator
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.breakdown.confidence_counts import density, histogram
from pipeline.decide.held_out import LEVEL
from pipeline.decide.scores.reliability import COLUMNS
from pipeline.deliver.report import sweep as report_sweep
from pipeline.deliver.report.records import Calibration

BIN = COLUMNS[COLUMNS.index("lower_edge") :]
"""Columns of a bin or step."""
COMPARED = (
    ("system_accuracy", "share"),
    ("escalation_rate", "share"),
    ("selective_risk", "share"),
    ("usd_per_1000", "usd"),
)
ACCURACY_OF = {"selective_risk": "accepted_accuracy"}
MOST_POINTS = 200


def trust(
    found: Calibration,
    reliability: pd.DataFrame,
    sweep: pd.DataFrame,
    rows: CodedRows,
    split: str,
    threshold: float | None,
    shown: Mapping[str, Any] | None,
    optimism: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Section 3 of the page."""
    return {
        "signal": found.signal.model_dump(),
        "signals": [row.model_dump() for row in found.signal_table],
        "calibrator": found.calibrator,
        "selection": list(found.selection),
        "metrics": found.metrics.model_dump(),
        "cross_fitted": found.cross_fitted,
        "clipped": found.clipped,
        "reliability": _reliability(reliability, split, rows, found.calibrator),
        "histogram": asdict(histogram(rows, split, threshold)),
        "risk": _risk(sweep, split, threshold),
        "optimism": None if split != "test" else _optimism(sweep, threshold, shown, optimism or {}),
    }


def _reliability(
    table: pd.DataFrame, split: str, rows: CodedRows, calibrator: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Bins, CORP curve and density before and after calibration; `after` None where nothing was calibrated."""
    if split not in set(table["split"]):
        return None
    out: dict[str, Any] = {"split": split}
    for stage in ("before", "after"):
        if stage == "after" and calibrator["kind"] == "none":
            out[stage] = None
            continue
        part = table[(table["split"] == split) & (table["stage"] == stage)]
        entry: dict[str, Any] = {}
        for kind in ("bin", "corp"):
            lines = part[part["kind"] == kind].sort_values("mean_confidence", kind="stable")
            picks = report_sweep.thin(len(lines), set(), MOST_POINTS)
            entry[kind] = [
                {c: _plain(row[c]) for c in BIN} for row in lines.iloc[picks].to_dict("records") if row["n"] > 0
            ]
        counted = density(rows, split, Calibrator.from_numbers(calibrator) if stage == "after" else None)
        entry |= {"n": counted.n, "density": counted.counts}
        out[stage] = entry if entry["bin"] or entry["corp"] else None
    return out if out["before"] or out["after"] else None


def _plain(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None


def _risk(sweep: pd.DataFrame, split: str, threshold: float | None) -> dict[str, Any] | None:
    """Error among the kept against the share kept, by descending threshold."""
    part = sweep[(sweep["split"] == split) & sweep["selective_risk"].notna()].sort_values("coverage", kind="stable")
    part = part.drop_duplicates("coverage")
    if part.empty:
        return None
    part = part.iloc[report_sweep.thin(len(part), set(), MOST_POINTS)]
    columns = {
        c: [_plain(v) for v in part[c]]
        for c in ("threshold", "coverage", "selective_risk", "selective_risk_lower", "selective_risk_upper")
    }
    here = (
        sweep[(sweep["split"] == split) & (sweep["threshold"] == threshold)]
        if threshold is not None
        else sweep.iloc[:0]
    )
    return {
        "split": split,
        "columns": columns,
        "recommended": None if here.empty else {c: _plain(here.iloc[0][c]) for c in ("coverage", "selective_risk")},
    }


def _optimism(
    sweep: pd.DataFrame, threshold: float | None, shown: Mapping[str, Any] | None, gaps: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The recommended threshold on the rows that chose it and on the rows that did not."""
    if threshold is None:
        return None
    out: dict[str, Any] = {"rows": []}
    for name, unit in COMPARED:
        entry: dict[str, Any] = {"name": name, "unit": unit}
        for split in ("certify", "test"):
            here = sweep[(sweep["split"] == split) & (sweep["threshold"] == threshold)]
            value: dict[Any, Any] = {} if here.empty else here.iloc[0].to_dict()
            entry[split] = {
                "value": _number(value, name),
                "lower": _number(value, f"{name}_lower"),
                "upper": _number(value, f"{name}_upper"),
                "level": LEVEL,
                "n": int(value["n"]) if "n" in value else None,
                "split": split,
            }
            if shown is not None and shown["split"] == split and shown["recommended"] is not None:
                entry[split] |= report_sweep.at_row(shown, shown["recommended"], name)
        gap = _gap(gaps, name)
        if None not in (entry["certify"]["value"], entry["test"]["value"], gap):  # one side alone is no comparison
            out["rows"].append(entry | {"difference": gap})
    return out if out["rows"] else None


def _gap(gaps: Mapping[str, Any], name: str) -> float | None:
    """Test rows minus certify rows, from the recommendation; it has the accuracy of kept answers in place of their error."""
    found: float | None = gaps[ACCURACY_OF.get(name, name)]["gap"] if ACCURACY_OF.get(name, name) in gaps else None
    if found is None:
        return None
    return found if name in ACCURACY_OF else -found


def _number(row: Mapping[Any, Any], name: str) -> float | None:
    return _plain(row[name]) if name in row and row[name] is not None else None
