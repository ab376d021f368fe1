"""ReportProvenance: where the figures come from: models, prices, command, digests, and what the replies took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.task import Model, TaskConfig

RECORDED = ("command", "provider", "base_url", "started", "finished", "digests", "versions", "stages", "look", "git")
SUMMED = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "usd", "attempts")
COUNTED = ("example_id", "role", "state", *SUMMED)
"""Columns of replies.parquet that the page needs."""


def models(record: Mapping[str, Any], policy: Mapping[str, Any] | None, config: TaskConfig) -> dict[str, Any]:
    """Both models: the name that answered, what it stands in for, and its price with date and source."""
    out = {}
    for role in ("cheap", "strong"):
        recorded = dict((record.get("models") or {}).get(role) or {})
        of_policy = dict((policy or {}).get(role) or {})
        wanted = getattr(config, role)
        human = bool(recorded.get("human") or getattr(wanted, "human", False))
        price = recorded.get("price") or recorded.get("usd_per_million_tokens")
        if price is None and isinstance(wanted, Model):
            price = wanted.prices["usd_per_million_tokens"]
        seen = recorded.get("response_models_seen") or of_policy.get("response_models_seen")
        out[role] = {
            "name": recorded.get("name") or of_policy.get("model") or getattr(wanted, "model", None),
            "human": human,
            "stands_in_for": recorded.get("stands_in_for") or of_policy.get("stands_in_for"),
            "price": price,
            "usd_per_request": recorded.get("usd_per_request") or getattr(wanted, "usd_per_request", None),
            "response_models_seen": list(seen or []),
        }
    return out


def provenance(record: Mapping[str, Any], config: TaskConfig, replies: pa.Table | None) -> dict[str, Any]:
    """Section 7 of the page."""
    spending = {role: of for role, of in (record.get("spending") or {}).items() if isinstance(of, Mapping)}
    return {
        **{key: record.get(key) for key in RECORDED},
        "config": record.get("config") or config.public(),
        "replies": None if replies is None else _replies(replies, spending),
        "maybe_paid": sum(of.get("maybe_paid") or 0 for of in spending.values()) if spending else None,
        "asked_now": sum(of.get("sent") or 0 for of in spending.values()) if spending else None,
        "from_store": sum(of.get("from_store") or 0 for of in spending.values()) if spending else None,
    }


def _replies(replies: pa.Table, spending: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Replies, tokens, dollars and attempts of each role, with how many are unknown. Rows may share a request."""
    have = set(replies.column_names)
    out: dict[str, Any] = {}
    for role in ("cheap", "strong"):
        part = replies.filter(pc.equal(replies["role"], role))
        if not part.num_rows:
            continue
        told = spending.get(role) or {}
        entry: dict[str, Any] = {"rows": part.num_rows}
        entry["requests"] = told["sent"] + told["from_store"] if {"sent", "from_store"} <= set(told) else None
        entry["failed"] = pc.sum(pc.equal(part["state"], "failed")).as_py() or 0 if "state" in have else None
        for name in SUMMED:
            entry[name] = pc.sum(part[name]).as_py() if name in have else None
        entry["usd_unknown"] = part["usd"].null_count if "usd" in have else part.num_rows
        out[role] = entry
    return out
