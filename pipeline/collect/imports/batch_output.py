"""Batch output: lines of {"custom_id", "response": {"status_code", "body": chat completion}}, as OpenAI's and Together's batch APIs write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.collect.imports.answer import Answer, from_completions, json_lines
from pipeline.errors import DataError


def read(path: Path, labels: Sequence[str] | None) -> list[Answer]:
    """The answers of a batch output file. A line with an error is a row without an answer."""
    bodies = []
    for number, line in json_lines(path):
        name = line.get("custom_id")
        name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not isinstance(name, str) or not name:
            raise DataError(f'{path}:{number}: no text under "custom_id"; this is not a batch output file')
        response = line.get("response")
        if isinstance(response, dict) and "body" not in response and "choices" in response:
            response = {"body": response}
        body = response.get("body") if isinstance(response, dict) else None
        status = response.get("status_code", 200) if isinstance(response, dict) else None
        bodies.append((name, body if isinstance(body, dict) and status == 200 else {}))
    found = from_completions(bodies, labels)
    return [Answer(name, model, answer, confidence) for name, (answer, confidence, model) in found.items()]
