"""RawReply: a kept reply as a shard holds it, before anything is read from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.collect.providers import recorded_line
from pipeline.collect.sending.response_class import NO_USAGE, judge, judge_body
from pipeline.collect.store.stored_reply import StoredReply

RECORDED = "recorded"
NOT_RECORDED = "not_recorded"


class RawReply(NamedTuple):
    """One reply of a role; every field is None where none is kept."""

    state: str | None = None
    http_status: int | None = None
    seconds: float | None = None
    attempts: int | None = None
    received_at: str | None = None
    form: str | None = None
    """Request form it was asked in; `recorded`: it comes from a file of recorded replies."""
    body: bytes | None = None
    """The reply's own body; of a recorded reply without a state, the line of the file that holds it."""


NONE = RawReply()


def stored(reply: StoredReply) -> RawReply:
    """A reply of the response store."""
    at = reply.received_at.isoformat(timespec="milliseconds")
    return RawReply(reply.state, reply.http_status, reply.seconds, reply.attempts, at, reply.wire_form, reply.body)


def recorded(line: bytes | None) -> RawReply:
    """A line of a file of recorded replies, as it stands; whoever computes the shard reads it."""
    return RawReply(None, None, None, 1, None, RECORDED, line)


def read(raw: RawReply) -> tuple[RawReply, Mapping[str, Any] | bytes, str]:
    """The reply, its body as `measure` takes it (empty where none is kept), and why none is kept.

    What a line of a file means is judged as what comes over the wire is.
    """
    if (
        raw.form != RECORDED or raw.state is not None
    ):  # beside a role that is paid for, the store keeps recorded replies too
        return raw, raw.body or b"", "" if raw.body is not None else "not_collected"
    if raw.body is None:
        return NONE, b"", NOT_RECORDED
    response = recorded_line.parsed(raw.body, known=True)[1]  # a row id was read from it before
    status, body = response["status_code"], response["body"]
    whole = isinstance(body, dict) and 200 <= status < 300
    found = None if whole else recorded_line.attempt(response, "")
    outcome = judge_body(body, "", NO_USAGE) if found is None else judge(found)
    if outcome.state != "ok":
        return NONE, b"", outcome.reason
    kept = RawReply("ok", status, raw.seconds, raw.attempts, raw.received_at, raw.form, raw.body)
    return kept, body if found is None else found.body, ""
