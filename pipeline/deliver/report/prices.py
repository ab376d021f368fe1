"""ReportPrices: how the cost of every threshold is made up of prices that a person can look up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.deliver.report.rows import ReportRows

Floats = npt.NDArray[np.float64]


def prices(
    of: Mapping[str, Any],
    rows: ReportRows,
    replies: Path | None,
    models: Mapping[str, Any],
    prevalence: Mapping[str, float] | None = None,
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

    weights = rows.weights(of["split"], prevalence)
    share = np.concatenate([[0.0], np.cumsum(weights[order])])[cut] / weights.sum()

    def per_request(role: str, amounts: Floats) -> Floats:
        """Mean amount per request at each threshold, over the rows where it is known, as the sweep's dollars are."""
        known = ~np.isnan(amounts)
        if role == "cheap":
            return np.asarray(asked * np.average(amounts[known], weights=weights[known]))
        parts = (np.where(known, weights * amounts, 0.0), np.where(known, weights, 0.0))
        sums, counts = (np.concatenate([[0.0], np.cumsum(v[order])])[cut] for v in parts)
        return np.asarray(np.where(share > 0, share * sums / np.where(counts > 0, counts, np.nan), 0.0))

    tokens = _tokens(replies, rows, inside)
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


def _tokens(path: Path | None, rows: ReportRows, inside: npt.NDArray[np.bool_]) -> dict[str, tuple[Floats, ...]]:
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
