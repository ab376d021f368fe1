"""ReportSweep: the sweep as the page shows it: one split, at most 512 thresholds, and what each would cost at other prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.decide.intervals import clopper_pearson
from pipeline.deliver.report_rows import LEVEL, ReportRows, mean_rate

Floats = npt.NDArray[np.float64]

MOST_THRESHOLDS = 512
ESTIMATES = (
    "escalation_rate",
    "coverage",
    "system_accuracy",
    "accepted_accuracy",
    "selective_risk",
    "usd_per_1000",
    "wrong_per_1000",
)
PLAIN = ("latency_p50_s", "latency_p95_s")
WHOLE_CURVE = ("system_accuracy_sim_lower", "system_accuracy_sim_upper")
"""Band that holds for all thresholds together, for whoever picks one from the drawing."""


def shown_split(sweep: pd.DataFrame | None, expected: Mapping[str, Any]) -> str:
    """The split whose figures the page shows: that of the recommendation, else test, else certify, else all."""
    have = set() if sweep is None else set(sweep["split"])
    named = [str(e.get("split")) for e in expected.values() if isinstance(e, Mapping)]
    return next((s for s in (*named, "test", "certify", "all") if s in have), "test")


def thin(size: int, keep: set[int], at_most: int = MOST_THRESHOLDS) -> npt.NDArray[np.int64]:
    """At most so many indices below `size`, evenly spread, with all of `keep`, the first and the last among them."""
    if size <= at_most:
        return np.arange(size)
    kept = {0, size - 1} | keep
    spread = np.linspace(0, size - 1, at_most - len(kept)).round().astype(int)
    return np.array(sorted(kept | set(spread.tolist())))


def table(
    sweep: pd.DataFrame, rows: ReportRows | None, split: str, threshold: float | None, metadata: Mapping[str, str]
) -> dict[str, Any]:
    """The sweep of one split as columns, ascending in threshold; the last row escalates everything (threshold null).

    `recommended` is the index of the recommended row. Where no label is known, quality is the agreement with the strong
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
    known = "system_accuracy" in part and bool(part["system_accuracy"].notna().any())
    gold = known if rows is None else rows.gold
    for name in ESTIMATES:
        for suffix in ("", "_lower", "_upper"):
            columns[name + suffix] = _column(part, name + suffix)
    for name in (*PLAIN, *WHOLE_CURVE):
        columns[name] = _column(part, name)
    if rows is not None:
        _count_wrong(columns, rows, split, gold)
        _escalate_everything(columns, rows, split, gold)
    n = int(rows.of(split).sum()) if rows is not None else int(part["n"].iloc[0]) if "n" in part and len(part) else None
    recommended = (
        int(np.flatnonzero(picks == at[0])[0])
        if len(at)
        else (len(columns["threshold"]) - 1 if columns["threshold"] and columns["threshold"][-1] is None else None)
    )
    return {
        "split": split,
        "n": n,
        "quality": "accuracy" if gold else "agreement",
        "band": metadata.get("band", "pointwise"),
        "level": _level(metadata),
        "levels_in_sweep": len(sweep[sweep["split"] == split]),
        "recommended": recommended,
        "columns": columns,
    }


def _level(metadata: Mapping[str, str]) -> float:
    try:
        return float(metadata.get("band_level") or metadata.get("level") or LEVEL)
    except ValueError:
        return LEVEL


def _column(part: pd.DataFrame, name: str) -> list[float | None]:
    if name not in part:
        return [None] * len(part)
    return [float(v) if np.isfinite(v) else None for v in part[name].to_numpy(dtype=float)]


def _count_wrong(columns: dict[str, list[Any]], rows: ReportRows, split: str, gold: bool) -> None:
    """Fill wrong answers kept per 1,000 requests with exact bounds; without labels also agreement in accuracy's place."""
    inside = rows.of(split)
    confidence = rows.numbers["confidence"][inside]
    wrong = rows.numbers["cheap_correct"][inside] == 0 if gold else rows.agree[inside] == 0
    known = bool(np.isfinite(rows.numbers["cheap_correct"][inside] if gold else rows.agree[inside]).any())
    if not known or not len(confidence):
        return
    values = np.sort(confidence[wrong & ~np.isnan(confidence)])
    n = len(confidence)
    hits = len(values) - np.searchsorted(values, np.array(columns["threshold"], dtype=float), side="left")
    lower, upper = clopper_pearson(hits, n, LEVEL)
    for suffix, amounts in (("", hits / n), ("_lower", lower), ("_upper", upper)):
        columns["wrong_per_1000" + suffix] = [float(1000 * a) for a in amounts]
    if not gold and all(v is None for v in columns["system_accuracy"]):
        columns["system_accuracy"] = [float(1 - h / n) for h in hits]
        columns["system_accuracy_lower"] = [float(1 - u) for u in upper]
        columns["system_accuracy_upper"] = [float(1 - low) for low in lower]


def _escalate_everything(columns: dict[str, list[Any]], rows: ReportRows, split: str, gold: bool) -> None:
    """Append the row without a threshold: every request goes straight to the strong model, the cheap one is not asked."""
    inside = rows.of(split)
    quality = mean_rate(rows.numbers["strong_correct"][inside], split) if gold else {"value": 1.0}
    cost = mean_usd(rows.numbers["strong_usd"][inside], split)
    ends = {
        "escalation_rate": {"value": 1.0},  # these three are so by construction, without an interval
        "coverage": {"value": 0.0},
        "system_accuracy": quality,
        "usd_per_1000": cost,
        "wrong_per_1000": {"value": 0.0},
    }
    for name, values in columns.items():
        base, _, suffix = name.rpartition("_") if name.endswith(("_lower", "_upper")) else (name, "", "value")
        values.append(ends.get(base, {}).get(suffix))


def mean_usd(usd: Floats, split: str) -> dict[str, Any]:
    """Mean dollars per 1,000 requests with a normal interval; unknown unless every row's is known."""
    n = len(usd)
    if not n or np.isnan(usd).any():
        return {"value": None, "lower": None, "upper": None, "level": LEVEL, "n": n, "split": split}
    mean, half = (
        1000 * float(usd.mean()),
        1000 * 1.6448536269514722 * float(usd.std(ddof=1 if n > 1 else 0)) / float(np.sqrt(n)),
    )
    return {"value": mean, "lower": max(0.0, mean - half), "upper": mean + half, "level": LEVEL, "n": n, "split": split}


def adopt(of: dict[str, Any], expected: Mapping[str, Any]) -> None:
    """Give the recommended row the recommendation's own intervals, so that one number has one interval on the page."""
    index, columns = of["recommended"], of["columns"]
    if index is None or columns["threshold"][index] is None:
        return
    for name in ESTIMATES:
        told = expected.get("wrong_accepted_per_1000" if name == "wrong_per_1000" else name) or {}
        value, mine = told.get("value"), columns[name][index]
        if (
            told.get("split") == of["split"]
            and value is not None
            and mine is not None
            and abs(value - mine) < 1e-9 * max(1, abs(mine))
        ):
            columns[f"{name}_lower"][index], columns[f"{name}_upper"][index] = told.get("lower"), told.get("upper")


def at_row(of: Mapping[str, Any], index: int | None, name: str) -> dict[str, Any]:
    """One estimate of the sweep as value, bounds, level, n and split."""
    columns = of["columns"]
    if index is None:
        return {"value": None, "lower": None, "upper": None, "level": of["level"], "n": of["n"], "split": of["split"]}
    bounds = {end: columns.get(f"{name}_{end}", [None] * (index + 1))[index] for end in ("lower", "upper")}
    return {"value": columns[name][index], **bounds, "level": of["level"], "n": of["n"], "split": of["split"]}


def prices(
    of: Mapping[str, Any], rows: ReportRows, replies_path: Any, models: Mapping[str, Any]
) -> dict[str, Any] | None:
    """How the cost of each threshold is made up, so that the page can price it anew: cost = sum of price x quantity.

    A component is a price that a person can look up. `quantity` is per 1,000 requests, one number for each row of the
    sweep. Where tokens and prices explain the recorded dollars, components are dollars per million input and output
    tokens; otherwise dollars per 1,000 calls of the model. None when dollars are unknown.
    """
    inside = rows.of(of["split"])
    cheap, strong = rows.numbers["cheap_usd"][inside], rows.numbers["strong_usd"][inside]
    thresholds = of["columns"]["threshold"]
    n = len(cheap)
    if not np.isfinite(cheap).any() or not np.isfinite(strong).any():
        return None
    confidence = rows.numbers["confidence"][inside]
    surest_last = np.where(np.isnan(confidence), -np.inf, confidence)
    order = np.argsort(surest_last, kind="stable")
    ranked = surest_last[order]
    cut = np.array([n if t is None else np.searchsorted(ranked, t, side="left") for t in thresholds])
    asked = np.array([0.0 if t is None else 1.0 for t in thresholds])

    def per_request(role: str, amounts: Floats) -> Floats:
        """Mean amount per request at each threshold, over the rows where it is known, as the sweep's dollars are."""
        if role == "cheap":
            return np.asarray(asked * np.nanmean(amounts))
        known = ~np.isnan(amounts[order])
        sums, counts = (
            np.concatenate([[0.0], np.cumsum(v)])[cut]
            for v in (np.where(known, amounts[order], 0.0), known.astype(float))
        )
        share = cut / n
        return np.asarray(np.where(share > 0, share * sums / np.where(counts > 0, counts, np.nan), 0.0))

    tokens = _tokens(replies_path, rows, inside)
    components: list[dict[str, Any]] = []
    for role, usd in (("cheap", cheap), ("strong", strong)):
        price = (models.get(role) or {}).get("price") or {}
        used = tokens.get(role)
        if used is not None and price.get("input") and price.get("output"):
            rate = 1 - float(price.get("batch_discount") or 0)
            again = rate * (used[0] * price["input"] + used[1] * price["output"]) / 1e6
            if np.allclose(again, usd, rtol=1e-6, atol=1e-12, equal_nan=True):
                components += [
                    {
                        "role": role,
                        "what": f"{what} tokens",
                        "unit": "USD per million tokens",
                        "price": float(price[what]),
                        "quantity": [float(q) for q in per_request(role, amount) * rate / 1000],
                    }
                    for what, amount in (("input", used[0]), ("output", used[1]))
                ]
                continue
        mean = float(f"{1000 * np.nanmean(usd):.6g}")  # a price that fits into a field
        if mean <= 0:
            return None
        quantity = [float(q) for q in 1000 * per_request(role, usd) / mean]
        components.append(
            {"role": role, "what": "1,000 calls", "unit": "USD per 1,000 calls", "price": mean, "quantity": quantity}
        )
    if any(not np.isfinite(c["quantity"]).all() for c in components):
        return None
    return {"split": of["split"], "components": components}


def _tokens(path: Any, rows: ReportRows, inside: npt.NDArray[np.bool_]) -> dict[str, tuple[Floats, ...]]:
    """Input and output tokens of each role for the rows of a split, NaN where unknown."""
    if path is None or "example_id" not in pq.read_schema(rows.path).names:
        return {}
    wanted = ["example_id", "role", "input_tokens", "output_tokens"]
    if not set(wanted) <= set(pq.read_schema(path).names):
        return {}
    ids = pq.read_table(rows.path, columns=["example_id"])["example_id"].filter(pa.array(inside)).cast(pa.string())
    out: dict[str, tuple[Floats, ...]] = {}
    for role in ("cheap", "strong"):
        part = pq.read_table(path, columns=wanted, filters=[("role", "=", role)])
        if not part.num_rows:
            continue
        # looked up by id: the table may hold a role's rows in any order, and not all of them
        at = pc.index_in(part["example_id"].cast(pa.string()), value_set=ids.combine_chunks())
        found = at.drop_null().to_numpy()
        out[role] = tuple(np.full(len(ids), np.nan) for _ in range(2))
        for amounts, name in zip(out[role], ("input_tokens", "output_tokens"), strict=True):
            amounts[found] = pc.cast(part[name].filter(at.is_valid()), pa.float64()).to_numpy()
    return out
