"""ReportHealth: what came in, what was left out and why, and what to watch in production."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.config.vocabulary import ROLES
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.breakdown.groups import rate
from pipeline.deliver.report.records import Report
from pipeline.run.record import RunRecord

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
WATCHED = 1000
MOST_LABELS = 100
FOUND = (
    "duplicate_texts",
    "duplicate_texts_normalised",
    "conflicting_labels",
    "leaked_between_splits",
    "blank_texts",
    "long_texts",
)
"""Counts of the dataset check that the page names one by one."""


def health(record: RunRecord, rows: CodedRows, previous: Report | None) -> dict[str, Any]:
    """Section 5 of the page."""
    counts, measured = record.counts, record.measured
    excluded = {} if counts is None else {reason: n for reason, n in counts.excluded.items() if n}
    total, used = (len(rows), len(rows)) if counts is None else (counts.rows, counts.used)  # a table is used as it came
    out: dict[str, Any] = {
        "rows": total,
        "used": used,
        "excluded": excluded,
        "left_out": sum(excluded.values()),
        "adds_up": total == used + sum(excluded.values()),
        "splits": _counted(rows, "split") if counts is None else counts.splits,
        "statuses": _statuses(rows) if measured is None else measured.statuses,
        "found": {} if counts is None else {name: getattr(counts, name) for name in FOUND},
        "groups": None if counts is None else counts.groups,
        "grouped_by": None if counts is None else counts.grouped_by,
        "exact_zeros": None if measured is None or not used else rate(measured.exact_zeros, used, "all").to_json(),
        "long_answers": None if measured is None else measured.long_answers,
        "readings": {} if measured is None else {role: found for role, found in measured.readings.items() if found},
    }
    confidence = rows.numbers["confidence"]
    known = confidence[~np.isnan(confidence)]
    values, sizes = np.unique(known, return_counts=True)
    out["confidence"] = {
        "n": len(confidence),
        "null": int(np.isnan(confidence).sum()),
        "distinct": len(values),
        "largest_tie": int(sizes.max()) if len(sizes) else 0,
        "largest_tie_at": float(values[int(sizes.argmax())]) if len(sizes) else None,
        "exactly_one": rate(float((known == 1.0).sum()), float(len(known)), "all").to_json(),
        "quantiles": _quantiles(known),
    }
    mix = _counted(rows, "label")
    before = None if previous is None else previous.health
    old_mix = {} if before is None or before.labels is None else {entry.label: entry.n for entry in before.labels}
    old_total = sum(old_mix.values())
    n = sum(mix.values())
    names = sorted(set(mix) | set(old_mix), key=lambda label: (-mix.get(label, 0), label))[:MOST_LABELS] if mix else []
    out["labels"] = [
        {
            "label": label,
            "n": mix.get(label, 0),
            "share": mix.get(label, 0) / n,
            "previous_share": old_mix[label] / old_total if label in old_mix and old_total else None,
        }
        for label in names
    ] or None
    out["previous_confidence"] = None if before is None else before.confidence
    return out


def _statuses(rows: CodedRows) -> dict[str, dict[str, int]]:
    """Rows by status of each role that has any."""
    columns = {role: f"{role}_status" for role in ROLES}
    return {role: _counted(rows, column) for role, column in columns.items() if rows.texts[column].values}


def _quantiles(known: np.ndarray[Any, np.dtype[np.float64]]) -> list[dict[str, float]]:
    if not len(known):
        return []
    return [{"q": q, "value": float(v)} for q, v in zip(QUANTILES, np.quantile(known, QUANTILES), strict=True)]


def _counted(rows: CodedRows, column: str) -> dict[str, int]:
    coded = rows.texts[column]
    sizes = np.bincount(coded.codes[coded.codes >= 0], minlength=len(coded.values))
    return {value: int(size) for value, size in zip(coded.values, sizes, strict=True) if size}


def watch(monitor: Mapping[str, Any]) -> dict[str, Any]:
    """What production should see in its next 1,000 requests if nothing changed: 99 % beta-binomial bounds."""
    n, k = monitor["n_certify"], monitor["n_escalated"]
    known = bool(n) and k is not None and 0 <= k <= n
    out: dict[str, Any] = {
        "of": WATCHED,
        "certainty": 0.99,
        "escalated": _band(float(k), float(n)) if known else None,
        "accepted_error_bound": monitor["accepted_error_bound"],
    }
    for name in ("out_of_set", "no_logprobs"):
        share = out[f"{name}_rate"] = monitor[f"{name}_rate"]
        out[name] = _band(share * n, float(n)) if n and share is not None else None
    return out


def _band(k: float, n: float) -> dict[str, Any]:
    from scipy import stats

    law = stats.betabinom(WATCHED, k + 0.5, n - k + 0.5)
    return {"value": k / n, "lower": int(law.ppf(0.005)), "upper": int(law.ppf(0.995)), "n": int(n)}
