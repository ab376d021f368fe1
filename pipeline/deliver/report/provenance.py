"""ReportProvenance: where the figures come from: models, prices, command, digests, and what the replies took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.strong_answers import Human
from pipeline.config.task import Model, TaskConfig
from pipeline.config.vocabulary import ROLES
from pipeline.run.record import RunRecord, Side, Spending

SUMMED = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "usd", "attempts")
COUNTED = ("example_id", "role", "state", *SUMMED)
"""Columns of replies.parquet that the page needs."""


def models(record: RunRecord, config: TaskConfig) -> dict[str, Any]:
    """Both sides: the name that answered, what it stands in for, and its price with date and source.

    Of a table of predictions, as far as the config names them.
    """
    out = {}
    for role in ROLES:
        side, wanted, measured = record.models.get(role), getattr(config, role), record.measured
        if side is None and isinstance(wanted, Human):
            side = Side(name="people", human=True, usd_per_request=wanted.usd_per_request)
        elif side is None and isinstance(wanted, Model):
            side = Side(name=wanted.model, **wanted.prices)
        out[role] = {
            "name": None if side is None else side.name,
            "human": side is not None and side.human,
            "stands_in_for": None if side is None else side.stands_in_for,
            "price": None if side is None else side.usd_per_million_tokens,
            "usd_per_request": None if side is None else side.usd_per_request,
            "response_models_seen": [] if measured is None else list(measured.response_models[role]),
        }
    return out


def provenance(record: RunRecord, config: TaskConfig, replies: pa.Table | None) -> dict[str, Any]:
    """Section 7 of the page."""
    spending = record.spending
    return {
        "command": record.command,
        "provider": record.provider,
        "base_url": record.base_url,
        "started": record.started,
        "finished": record.finished,
        "digests": None if record.digests is None else record.digests.model_dump(),
        "versions": record.versions,
        "stages": record.stages,
        "git": record.git,
        "config": config.public() if record.config is None else record.config,
        "replies": None if replies is None else _replies(replies, spending or {}),
        "maybe_paid": None if spending is None else sum(of.maybe_paid for of in spending.values()),
        "asked_now": None if spending is None else sum(of.sent for of in spending.values()),
        "from_store": None if spending is None else sum(of.from_store for of in spending.values()),
    }


def _replies(replies: pa.Table, spending: Mapping[str, Spending]) -> dict[str, Any]:
    """Replies, tokens, dollars and attempts of each role, with how many are unknown. Rows may share a request."""
    out: dict[str, Any] = {}
    for role in ROLES:
        part = replies.filter(pc.equal(replies["role"], role))
        if not part.num_rows:
            continue
        told = spending.get(role)  # none where nothing was collected since the replies were kept
        out[role] = {
            "rows": part.num_rows,
            "requests": None if told is None else told.sent + told.from_store,
            "failed": pc.sum(pc.equal(part["state"], "failed")).as_py() or 0,
            **{name: pc.sum(part[name]).as_py() for name in SUMMED},
            "usd_unknown": part["usd"].null_count,
        }
    return out
