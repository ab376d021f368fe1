"""Params: the sampling parameters that a config may send with each request."""

from __future__ import annotations

import math
from typing import Any

OURS = frozenset({"model", "messages", "logprobs", "top_logprobs", "stream", "n", "echo"})
"""Set by the pipeline itself."""
LENGTHS = ("max_tokens", "max_completion_tokens")
"""Parameters that bound a reply; where both stand, the larger counts."""
NUMBERS = ("temperature", "top_p", "min_p", "top_k", "presence_penalty", "frequency_penalty", "repetition_penalty")
"""Parameters that every server reads as a number."""


def require_params(params: dict[str, Any]) -> None:
    """Raise ValueError for parameters that are not the config's to set, that no request can carry, or that are of the wrong kind."""
    ours = OURS & set(params)
    if ours:
        raise ValueError(f"{', '.join(sorted(ours))} is set by the pipeline itself; remove it from params")
    for name, value in params.items():
        _require_json(name, value)
    for name in NUMBERS:
        value = params.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{name} is {value!r}, which is not a number")
    for name in LENGTHS:
        most = params.get(name)
        if most is not None and (type(most) is not int or not 1 <= most < 10**9):
            raise ValueError(
                f"{name} is {most!r}: it limits the tokens of a reply and must be a whole number of at least 1 and below 1,000,000,000"
            )


def _require_json(name: str, value: Any) -> None:
    """JSON has no dates, no NaN, no infinities, and no keys but text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{name} has the key {key!r}, which is not text; put it in quotes")
            _require_json(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _require_json(name, inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, which is not a number that can be sent")
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise ValueError(
            f"{name} is {str(value)!r} ({type(value).__name__}), which JSON cannot hold; put text in quotes"
        )
