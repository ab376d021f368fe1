"""ReplyTotals: tokens, dollars and attempts that a role's replies took together."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class ReplyTotals:
    """Sums over one role's rows of replies.parquet; None where no row tells. Rows may share a request."""

    rows: int
    failed: int
    usd_unknown: int
    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None
    usd: float | None
    attempts: int | None


SUMMED = tuple(f.name for f in fields(ReplyTotals) if f.name not in ("rows", "failed", "usd_unknown"))
COLUMNS = ("example_id", "role", "state", *SUMMED)
"""Columns of replies.parquet that the page needs."""


def reply_totals(replies: pa.Table, role: str) -> ReplyTotals | None:
    """The sums of one role; None where it has no reply."""
    part = replies.filter(pc.equal(replies["role"], role))
    if not part.num_rows:
        return None
    return ReplyTotals(
        rows=part.num_rows,
        failed=pc.sum(pc.equal(part["state"], "failed")).as_py() or 0,
        usd_unknown=part["usd"].null_count,
        **{name: pc.sum(part[name]).as_py() for name in SUMMED},
    )
