"""Batch output: lines of {"custom_id", "response": {"status_code", "body": chat completion}}, as OpenAI's and Together's batch APIs write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.collect.imports.answer import Answer, from_completions, json_lines
from pipeline.errors import DataError


def read(path: Path, labels: Sequence[str] | None) -> list[Answer]:
    """The answers of a batch output file. A line with an error is a row without an answer; a success beats an error under one id.

    Raises DataError for an id with two different replies.
    """
    bodies: dict[str, dict[str, Any]] = {}
    for number, line in json_lines(path):
        name = line.get("custom_id")
        name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not isinstance(name, str) or not name:
            raise DataError(f'{path}:{number}: no text under "custom_id"; this is not a batch output file')
        body = _body(line.get("response"))
        if bodies.get(name) and body and body != bodies[name]:
            raise DataError(f"{path}:{number}: another reply has the id {name!r} already; keep one line of each")
        bodies[name] = body or bodies.get(name, {})
    found = from_completions(list(bodies.items()), labels)
    return [Answer(name, s.model, s.answer, s.confidence, unread=s.unread) for name, s in found.items()]


def _body(response: Any) -> dict[str, Any]:
    """The completion in a line's response; {} for an error."""
    if not isinstance(response, dict):
        return {}
    if "body" not in response and "choices" in response:
        return response
    body = response.get("body")
    return body if isinstance(body, dict) and response.get("status_code", 200) in (200, "200") else {}
