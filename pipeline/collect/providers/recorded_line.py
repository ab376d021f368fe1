"""RecordedLine: one line of a file of recorded replies, in the shape of a batch output file."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, Field, StrictStr
from pydantic_core import from_json

from cascade_threshold import json_text
from pipeline.collect.providers.provider import Attempt


class _Named(BaseModel):
    custom_id: StrictStr = Field(min_length=1)


def loaded(line: bytes, *, known: bool = False) -> Any:
    """The line's JSON value, within the limits of foreign JSON. Raises ValueError.

    known  the line was found to be within the limits before
    """
    if known or _is_flat(line):
        with suppress(ValueError):  # lone surrogates, for one
            return from_json(line)  # twice as fast, the same values
    return json_text.parse(line)


def _is_flat(line: bytes) -> bool:
    """Whether the line has too few brackets to nest deeper than may be."""
    return line.count(b"[") + line.count(b"{") <= json_text.MOST_DEPTH


def row_id(line: bytes) -> tuple[str | None, str]:
    """The row id of a line, and why there is none: those that `parsed` tells, without making an object of the reply."""
    if _is_flat(line):
        with suppress(ValueError):  # another shape, for one
            return _Named.model_validate_json(line).custom_id, ""
    custom_id, _, why = parsed(line)
    return custom_id, why


def parsed(line: bytes, *, known: bool = False) -> tuple[str | None, dict[str, Any], str]:
    """Row id, {status_code, body}, and why there is no id. A line of another shape is a failed row. `known` as of `loaded`."""
    try:
        value = loaded(line, known=known)
    except ValueError as fault:
        return None, {}, f"no JSON ({fault})"
    custom_id = value.get("custom_id") if isinstance(value, dict) else None
    if isinstance(custom_id, int) and not isinstance(custom_id, bool):
        custom_id = str(custom_id)
    if not isinstance(custom_id, str) or not custom_id:
        return None, {}, 'no text under "custom_id"; it names the row\'s id'
    response, error = value.get("response"), value.get("error")
    if isinstance(response, dict) and "body" not in response and "choices" in response:
        response = {"body": response}  # the completion without its envelope
    if isinstance(response, dict) and response.get("body"):
        status = http_status(response.get("status_code", 200))
        return custom_id, {"status_code": 500 if status is None else status, "body": response["body"]}, ""
    said = error or response or "no response"
    return (
        custom_id,
        {"status_code": 500, "body": {"error": said if isinstance(said, dict) else {"message": str(said)}}},
        "",
    )


def http_status(value: Any) -> int | None:
    """A status of HTTP, given as a number or as its three digits; None for anything else."""
    if isinstance(value, str) and re.fullmatch("[1-5][0-9][0-9]", value):
        value = int(value)
    return value if type(value) is int and 100 <= value <= 599 else None


def attempt(response: dict[str, Any], host: str) -> Attempt:
    """The file's reply to a request, as if it had just been sent."""
    status, body = response["status_code"], response["body"]
    raw = (
        body.encode("utf-8", "surrogatepass")
        if isinstance(body, str)
        else json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
    # a file cannot be asked more slowly or with another key, so such an error is the row's
    of_row = status < 300 or status in (400, 413, 422) or status >= 500
    return Attempt(
        "reply",
        status if of_row else 422,
        raw,
        host=host,
        wire_form="recorded",
        problem="" if of_row else f"http_{status}",
    )


def missing(host: str) -> Attempt:
    """Result for a row that the file lacks: a reply that never came."""
    return Attempt(
        "reply",
        422,
        b'{"error": {"message": "not in the file of recorded replies"}}',
        host=host,
        problem="not_recorded",
    )
