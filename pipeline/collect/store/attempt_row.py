"""AttemptRow: an attempt as rows of the store: the note that it leaves, the note of how it ended, and whether its body is sound."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
import zlib
from collections.abc import Sequence
from typing import Any

from pipeline.collect.providers.provider import KEPT_HEADERS, Attempt
from pipeline.collect.request import Request
from pipeline.collect.sending.response_class import Outcome

Row = tuple[Any, ...]
"""Values of a table row, in the order of its columns."""

ERROR_BODY_LIMIT = 64_000


COLUMNS = (
    "request_id, task, example_id, role, service, model, host, wire_form, state, http_status, seconds, headers, received_at, "
    "input_tokens, output_tokens, reasoning_tokens, body, checksum, id"
)
"""What is read of a kept reply: see `sound`."""


MOST_BODY = 64_000_000
"""Bytes of a body in the store; what is kept of a reply has a fourth of it at most."""


def unpacked(packed: bytes | None) -> bytes | None:
    """A body as it is stored, decompressed; None where it is gone, damaged, or larger than any that was written."""
    try:
        unpacker = zlib.decompressobj()
        body = b"" if packed is None else unpacker.decompress(packed, MOST_BODY)
    except (zlib.error, TypeError):
        return None
    return body if unpacker.eof else None


def sound(packed: bytes | None, checksum: bytes) -> bytes | None:
    """The raw body; None where it is gone or is not what was written."""
    body = unpacked(packed)
    return body if body is not None and checksum_of(body) == checksum else None


def whole(row: Sequence[Any]) -> tuple[bytes, dict[str, str], dt.datetime] | None:
    """Body, headers and arrival of a kept reply (see COLUMNS); None where any of its cells is not what a writer of ours leaves."""
    (*texts, host, form, state, status, seconds, headers, received, given, made, thought, packed, checksum, _) = row
    counts = (given, made, thought)
    if not (
        all(type(text) is str for text in (*texts, state))
        and all(text is None or type(text) is str for text in (host, form, headers))
        and (status is None or (type(status) is int and 100 <= status <= 999))
        and (seconds is None or (type(seconds) in (int, float) and 0 <= seconds < 1e9))
        and all(n is None or (type(n) is int and n >= 0) for n in counts)
        and (body := sound(packed, checksum)) is not None
    ):
        return None
    try:
        told = json.loads(headers) if headers else {}
        at = dt.datetime.fromtimestamp(received or 0, dt.UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return (body, told, at) if isinstance(told, dict) else None


def opening(number: int, task: str, request_id: str, request: Request) -> Row:
    """The note that an attempt is about to leave."""
    return (number, request_id, task, request.example_id, request.role, request.service, request.model, time.time())


def ending(opened: Row, attempt: Attempt, outcome: Outcome) -> Row:
    """The note of how an attempt ended, with its raw body, compressed."""
    body = attempt.body if outcome.state == "ok" else attempt.body[:ERROR_BODY_LIMIT]
    headers = {k: v for k, v in attempt.headers.items() if k in KEPT_HEADERS}
    usage = outcome.usage
    return (
        *opened,
        outcome.state,
        outcome.reason or None,
        attempt.http_status,
        time.time(),
        attempt.seconds,
        json.dumps(headers) if headers else None,
        attempt.host,
        attempt.wire_form,
        usage.input_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        zlib.compress(body, 1),
        checksum_of(body),
        usage.cached_tokens,
    )


def checksum_of(body: bytes) -> bytes:
    """Sixteen bytes that tell a damaged reply."""
    return hashlib.sha256(body).digest()[:16]
