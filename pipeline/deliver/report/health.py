"""ReportHealth: what came in, what was left out and why, and what to watch in production."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from pipeline.deliver.report.rows import ReportRows, rate

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
WATCHED = 1000
MOST_LABELS = 100
FOUND = (
    "duplicates",
    "duplicate_texts",
    "duplicate_texts_normalised",
    "conflicting_labels",
    "leaked_between_splits",
    "blank_texts",
    "long_texts",
)
"""Counts of the dataset check that the page names one by one."""


def health(
    record: Mapping[str, Any],
    rows: ReportRows | None,
    split: str,
    threshold: float | None,
    previous: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Section 5 of the page."""
    counts, measured = dict(record.get("counts") or {}), dict(record.get("measured") or {})
    excluded = {reason: n for reason, n in (counts.get("excluded") or {}).items() if n}
    total, used = counts.get("rows"), counts.get("used")
    if (
        total is None and rows is not None and record.get("provider") == "given"
    ):  # a table is used as it came, or refused
        total = used = len(rows)
    out: dict[str, Any] = {
        "rows": total,
        "used": used if used is not None else None if rows is None else len(rows),
        "excluded": excluded,
        "left_out": sum(excluded.values()),
        "adds_up": None if total is None or used is None else total == used + sum(excluded.values()),
        "splits": counts.get("splits") or {},
        "statuses": measured.get("statuses") or counts.get("statuses") or {},
        "found": {name: counts[name] for name in FOUND if counts.get(name) is not None},
        "groups": counts.get("groups"),
        "grouped_by": counts.get("grouped_by"),
        "exact_zeros": None
        if measured.get("exact_zeros") is None or not used
        else rate(measured["exact_zeros"], used, "all"),
        "long_answers": measured.get("long_answers"),
        "readings": {role: dict(found) for role, found in (measured.get("readings") or {}).items() if found},
        "confidence": None,
        "labels": None,
        "previous_confidence": None,
    }
    if rows is None:
        return out
    out["splits"] = out["splits"] or _counted(rows, "split")
    out["statuses"] = out["statuses"] or {
        role: _counted(rows, f"{role}_status") for role in ("cheap", "strong") if rows.texts[f"{role}_status"].values
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
        "exactly_one": rate(float((known == 1.0).sum()), float(len(known)), "all"),
        "quantiles": _quantiles(known),
    }
    mix = _counted(rows, "label")
    before = (previous or {}).get("health") or {}
    old_mix = {entry["label"]: entry for entry in before.get("labels") or []}
    old_total = sum(entry["n"] for entry in old_mix.values())
    n = sum(mix.values())
    names = sorted(set(mix) | set(old_mix), key=lambda label: (-mix.get(label, 0), label))[:MOST_LABELS] if mix else []
    out["labels"] = [
        {
            "label": label,
            "n": mix.get(label, 0),
            "share": mix.get(label, 0) / n,
            "previous_share": old_mix[label]["n"] / old_total if label in old_mix and old_total else None,
        }
        for label in names
    ] or None
    out["previous_confidence"] = before.get("confidence")
    return out


def _quantiles(known: np.ndarray[Any, np.dtype[np.float64]]) -> list[dict[str, float]]:
    if not len(known):
        return []
    return [{"q": q, "value": float(v)} for q, v in zip(QUANTILES, np.quantile(known, QUANTILES), strict=True)]


def _counted(rows: ReportRows, column: str) -> dict[str, int]:
    coded = rows.texts[column]
    sizes = np.bincount(coded.codes[coded.codes >= 0], minlength=len(coded.values))
    return {value: int(size) for value, size in zip(coded.values, sizes, strict=True) if size}


def watch(monitor: Mapping[str, Any]) -> dict[str, Any]:
    """What production should see in its next 1,000 requests if nothing changed: 99 % beta-binomial bounds."""
    n = monitor.get("n_certify")
    k = monitor.get("n_escalated")
    out: dict[str, Any] = {
        "of": WATCHED,
        "certainty": 0.99,
        "escalated": None,
        "out_of_set_rate": monitor.get("out_of_set_rate"),
        "no_logprobs_rate": monitor.get("no_logprobs_rate"),
        "accepted_error_bound": monitor.get("accepted_error_bound"),
    }
    if n and k is not None and 0 <= k <= n:
        out["escalated"] = _band(float(k), float(n))
    for name in ("out_of_set", "no_logprobs"):
        share = monitor.get(f"{name}_rate")
        out[name] = _band(share * n, float(n)) if n and share is not None else None
    return out


def _band(k: float, n: float) -> dict[str, Any]:
    law = stats.betabinom(WATCHED, k + 0.5, n - k + 0.5)
    return {"value": k / n, "lower": int(law.ppf(0.005)), "upper": int(law.ppf(0.995)), "n": int(n)}
