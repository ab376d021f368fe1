"""ReportPrices: how the cost of every threshold is made up of prices that a person can look up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.deliver.report.rows import ReportRows

AMOUNTS = ("input_tokens", "output_tokens", "cached_tokens")
Floats = npt.NDArray[np.float64]


def prices(
    of: Mapping[str, Any],
    rows: ReportRows,
    replies: pa.Table | None,
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
    stands_for = rows.stands_for[inside]
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
        each = weights * stands_for
        parts = (np.where(known, each * amounts, 0.0), np.where(known, each, 0.0))
        sums, counts = (np.concatenate([[0.0], np.cumsum(v[order])])[cut] for v in parts)
        return np.asarray(np.where(share > 0, share * sums / np.where(counts > 0, counts, np.nan), 0.0))

    tokens = _tokens(replies, rows, inside)
    components: list[dict[str, Any]] = []
    for role, usd in (("cheap", cheap), ("strong", strong)):
        parts = _parts(models[role]["price"], tokens.get(role), usd)
        if parts is not None:
            components += [
                {
                    "role": role,
                    "what": f"{what} tokens",
                    "unit": "USD per million tokens",
                    "price": dollars,
                    "quantity": [float(q) for q in per_request(role, amount) / 1000],
                }
                for what, dollars, amount in parts
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


def _parts(
    price: Mapping[str, Any] | None, used: tuple[Floats, ...] | None, usd: Floats
) -> list[tuple[str, float, Floats]] | None:
    """What tokens cost: (name, dollars per million, tokens that are billed of each row). None where tokens at the list's
    prices, with or without the batch API's discount, do not explain the recorded dollars."""
    if used is None or price is None:
        return None
    inputs, outputs, cached = used
    dear = price.get("cached_input")
    hit = np.zeros_like(inputs) if dear is None else np.nan_to_num(cached)
    parts = [("input", float(price["input"]), inputs - hit), ("output", float(price["output"]), outputs)]
    parts += [] if not hit.any() else [("cached input", float(dear or 0.0), hit)]
    for rate in (1.0, 1 - float(price["batch_discount"])):
        again = rate * sum((dollars * amount for _, dollars, amount in parts), np.zeros_like(inputs)) / 1e6
        if np.allclose(again, usd, rtol=1e-6, atol=1e-12, equal_nan=True):
            return [(what, dollars, rate * amount) for what, dollars, amount in parts]
    return None


def _tokens(replies: pa.Table | None, rows: ReportRows, inside: npt.NDArray[np.bool_]) -> dict[str, tuple[Floats, ...]]:
    """Input, output and cached tokens of each role for the rows of a split, NaN where unknown."""
    if replies is None or rows.example_ids is None:
        return {}
    have = set(replies.column_names)
    if not {"example_id", "role", *AMOUNTS[:2]} <= have:
        return {}
    ids = rows.example_ids.filter(pa.array(inside))
    out: dict[str, tuple[Floats, ...]] = {}
    for role in ("cheap", "strong"):
        part = replies.filter(pc.equal(replies["role"], role))
        if not part.num_rows:
            continue
        # looked up by id: the table may hold a role's rows in any order, and not all of them
        at = pc.index_in(part["example_id"].cast(pa.string()), value_set=ids.combine_chunks())
        found = at.drop_null().to_numpy()
        out[role] = tuple(np.full(len(ids), np.nan) for _ in AMOUNTS)
        for amounts, name in zip(out[role], AMOUNTS, strict=True):
            if name not in have:
                continue
            amounts[found] = pc.cast(part[name].filter(at.is_valid()), pa.float64()).to_numpy()
    return out
