"""Completion bodies in the shapes that servers send, built from a list of (piece, logprob, alternatives)."""

from __future__ import annotations

import math
from typing import Any


def entry(piece: str | bytes, logprob: Any = -0.1, alternatives: Any = (), **changes: Any) -> dict[str, Any]:
    """One entry of logprobs.content; a piece of bytes may be a part of a character."""
    data = piece if isinstance(piece, bytes) else piece.encode()
    made = {"token": data.decode("utf-8", "replace"), "bytes": list(data), "logprob": logprob}
    if alternatives is not None:
        made["top_logprobs"] = [entry(text, value, None) for text, value in alternatives]
    return made | changes


def chat(content: Any, entries: Any, *, finish: Any = "stop", message: Any = None, **changes: Any) -> dict[str, Any]:
    """A chat completion in the content shape."""
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": content} | (message or {}),
                "logprobs": None if entries is None else {"content": entries},
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
    } | changes


def spelled(*pieces: str | bytes, finish: Any = "stop", logprob: float = -0.1) -> dict[str, Any]:
    """A chat completion whose content is the join of its pieces."""
    data = b"".join(piece if isinstance(piece, bytes) else piece.encode() for piece in pieces)
    return chat(data.decode(), [entry(piece, logprob) for piece in pieces], finish=finish)


def legacy(text: str, tokens: Any, values: Any, top: Any = None, *, finish: Any = "stop") -> dict[str, Any]:
    """A completion in the legacy shape."""
    logprobs = {"tokens": tokens, "token_logprobs": values, "top_logprobs": top}
    choice = {"index": 0, "finish_reason": finish, "text": text, "logprobs": logprobs}
    return {"object": "text_completion", "model": "m", "choices": [choice]}


def ln(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]
