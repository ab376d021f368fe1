"""ReportProvenance: where the figures come from: models, prices, command, digests, and what the replies took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipeline.config.strong_answers import Human
from pipeline.config.task import Model, TaskConfig
from pipeline.config.vocabulary import ROLES
from pipeline.decide.breakdown.reply_totals import reply_totals
from pipeline.run.record import RunRecord, Side, Spending


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
        "replies": None if replies is None else _replies(replies, record.spending or {}),
        "maybe_paid": record.spent("maybe_paid"),
        "asked_now": record.spent("sent"),
        "from_store": record.spent("from_store"),
    }


def _replies(replies: pa.Table, spending: Mapping[str, Spending]) -> dict[str, Any]:
    """What each role's replies took, and how many requests they came from."""
    out: dict[str, Any] = {}
    for role in ROLES:
        totals = reply_totals(replies, role)
        if totals is None:
            continue
        told = spending.get(role)  # none where nothing was collected since the replies were kept
        out[role] = {**vars(totals), "requests": None if told is None else told.requests}
    return out
