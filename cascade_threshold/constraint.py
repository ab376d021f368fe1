"""Constraint: a request that allows the server to generate only one of the answers.

A server that obeys it renormalises over what is allowed, so confidences with and without it are not comparable: the
request of calibration and that of production carry the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

REGEX, JSON_SCHEMA = "regex", "json_schema"
FORMS = (REGEX, JSON_SCHEMA)
"""In the order they are tried."""
FIELD = "label"
"""Of the JSON object that holds the answer."""
_SPECIAL = frozenset("\\.^$*+?()[]{}|")


def response_format(answers: Sequence[str], form: str) -> dict[str, Any]:
    """The request's `response_format` for answers in a form.

    "regex": {"type": "regex", "pattern": "(A|B)"}, where the reply is the bare answer. "json_schema": an object with the
    answer under "label". Raises ValueError for another form or without answers.
    """
    if not answers:
        raise ValueError("a constraint needs at least one answer")
    if form == REGEX:
        return {"type": "regex", "pattern": f"({'|'.join(map(_literal, answers))})"}
    if form == JSON_SCHEMA:
        schema = {
            "type": "object",
            "properties": {FIELD: {"type": "string", "enum": list(answers)}},
            "required": [FIELD],
            "additionalProperties": False,
        }
        return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    raise ValueError(f"{form!r} is not a form of a constraint; choose from {', '.join(FORMS)}")


def _literal(text: str) -> str:
    """A text as a regular expression. Only special characters are escaped: engines differ on a backslash before any other character."""
    return "".join("\\" + c if c in _SPECIAL else c for c in text)
