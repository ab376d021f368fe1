"""StoredReply and Failure: what the store says of a request."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class StoredReply(NamedTuple):
    """A kept reply. `body` is what came over the wire, decompressed; `attempts` counts every try for this request."""

    request_id: str
    task: str
    example_id: str
    role: str
    service: str
    model: str
    host: str | None
    wire_form: str | None
    state: str
    http_status: int | None
    body: bytes
    seconds: float | None
    headers: Mapping[str, str]
    received_at: dt.datetime
    attempts: int
    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no reply: the last attempt's reason (too_long, filtered, http_503, timeout ...)."""

    reason: str
    http_status: int | None
    attempts: int
    rejected: bool
    """The service refused this very row, so it is not asked again."""
