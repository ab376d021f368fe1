"""PriceParts: how the cost of every threshold is made up of prices that a person can look up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.vocabulary import ROLES
from pipeline.decide.arrays import Flags, Floats
from pipeline.decide.breakdown.coded_rows import CodedRows

AMOUNTS = ("input_tokens", "output_tokens", "cached_tokens")


@dataclass(frozen=True)
class PricePart:
    """A price that a person can look up, and how much of what it pays for each threshold takes."""

    role: str
    what: str
    unit: str
    price: float
    quantity: list[float]
    """Per 1,000 requests, one number for each threshold."""


def price_parts(
    rows: CodedRows,
    split: str,
    thresholds: Sequence[float | None],
    replies: pa.Table | None,
    prices: Mapping[str, Mapping[str, Any] | None],
    prevalence: Mapping[str, float] | None = None,
) -> list[PricePart] | None:
    """How the cost of each threshold is made up, so that the page can price it anew: cost = sum of price x quantity.

    Where tokens and prices explain the recorded dollars, parts are dollars per million input and output tokens; otherwise
    dollars per 1,000 calls of the model. None when dollars are unknown.

    thresholds  None escalates everything, and the cheap model is not asked
    replies     the columns of replies.parquet that count tokens; None of a table of predictions
    prices      each role's dollars per million tokens, as a config holds them
    """
    inside = rows.of(split)
    cheap, strong = (_among(rows.numbers[name], inside) for name in ("cheap_usd", "strong_usd"))
    if not np.isfinite(cheap).any() or not np.isfinite(strong).any():
        return None
    per_request = _per_request(rows, split, thresholds, prevalence)
    tokens = _tokens(replies, rows, inside)
    found: list[PricePart] = []
    for role, usd in (("cheap", cheap), ("strong", strong)):
        parts = _parts(prices[role], tokens.get(role), usd)
        if parts is not None:
            for what, dollars, amount in parts:
                quantity = (per_request(role, amount) / 1000).tolist()
                found.append(PricePart(role, f"{what} tokens", "USD per million tokens", dollars, quantity))
            continue
        mean = float(f"{1000 * np.nanmean(usd):.6g}")  # a price that fits into a field
        if mean <= 0:
            return None
        calls = (1000 * per_request(role, usd) / mean).tolist()
        found.append(PricePart(role, "1,000 calls", "USD per 1,000 calls", mean, calls))
    return None if any(not np.isfinite(part.quantity).all() for part in found) else found


def _per_request(
    rows: CodedRows, split: str, thresholds: Sequence[float | None], prevalence: Mapping[str, float] | None
) -> Callable[[str, Floats], Floats]:
    """What turns amounts of a role's calls, one a row, into means per request, one a threshold.

    Over the rows where an amount is known, as the sweep's dollars are.
    """
    inside, weights = rows.of(split), rows.weights(split, prevalence)
    stands_for, surest_last = (_among(x, inside) for x in (rows.stands_for, rows.numbers["confidence"]))
    if (null := np.isnan(surest_last)).any():
        surest_last = np.where(null, -np.inf, surest_last)
    order = np.argsort(surest_last, kind="stable")
    levels = np.array([np.inf if t is None else t for t in thresholds])
    cut = np.searchsorted(surest_last, levels, side="left", sorter=order)
    asked = np.array([0.0 if t is None else 1.0 for t in thresholds])

    def below(values: Floats) -> Floats:
        sums = values[order]
        np.cumsum(sums, out=sums)
        return np.asarray(np.where(cut > 0, sums[cut - 1], 0.0))

    share = below(weights) / weights.sum()

    def per_request(role: str, amounts: Floats) -> Floats:
        known = ~np.isnan(amounts)
        if role == "cheap":
            return np.asarray(asked * np.average(amounts[known], weights=weights[known]))
        each = weights * stands_for if rows.sampled else weights
        sums, counts = below(np.where(known, each * amounts, 0.0)), below(np.where(known, each, 0.0))
        return np.asarray(np.where(share > 0, share * sums / np.where(counts > 0, counts, np.nan), 0.0))

    return per_request


def _among(values: Floats, inside: Flags) -> Floats:
    """The values of some rows; without a copy where these are all."""
    return values if inside.all() else values[inside]


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


def _tokens(replies: pa.Table | None, rows: CodedRows, inside: Flags) -> dict[str, tuple[Floats, ...]]:
    """Input, output and cached tokens of each role for the rows of a split, NaN where unknown."""
    if replies is None or rows.example_ids is None:
        return {}
    have = set(replies.column_names)
    if not {"example_id", "role", *AMOUNTS[:2]} <= have:
        return {}
    ids = rows.example_ids.filter(pa.array(inside))
    out: dict[str, tuple[Floats, ...]] = {}
    for role in ROLES:
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
