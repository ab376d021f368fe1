"""ReportHealth: what came in, what was left out and why, and what to watch in production."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipeline.config.vocabulary import ROLES
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.breakdown.confidence_counts import confidence_summary
from pipeline.decide.breakdown.groups import rate
from pipeline.decide.breakdown.label_mix import label_mix
from pipeline.deliver.report.records import Report
from pipeline.run.record import RunRecord

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
        "splits": rows.counts("split") if counts is None else counts.splits,
        "statuses": _statuses(rows) if measured is None else measured.statuses,
        "found": {} if counts is None else {name: getattr(counts, name) for name in FOUND},
        "groups": None if counts is None else counts.groups,
        "grouped_by": None if counts is None else counts.grouped_by,
        "exact_zeros": None if measured is None or not used else rate(measured.exact_zeros, used, "all").to_json(),
        "long_answers": None if measured is None else measured.long_answers,
        "readings": {} if measured is None else {role: found for role, found in measured.readings.items() if found},
    }
    before = None if previous is None else previous.health
    out["confidence"] = asdict(confidence_summary(rows))
    out["previous_confidence"] = None if before is None else before.confidence
    counted = {} if before is None or before.labels is None else {entry.label: entry.n for entry in before.labels}
    out["labels"] = [asdict(share) for share in label_mix(rows, counted)] or None
    return out


def _statuses(rows: CodedRows) -> dict[str, dict[str, int]]:
    """Rows by status of each role that has any."""
    columns = {role: f"{role}_status" for role in ROLES}
    return {role: rows.counts(column) for role, column in columns.items() if rows.texts[column].values}
