"""Stream: the chunks of a streamed chat completion, put together into the completion that `Policy.decide` reads.

    completion = collect(client.chat.completions.create(..., stream=True))

A stream that breaks off has no finish_reason; what is left of it is no reply and escalates. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

BROKEN = {"error": {"message": "the stream broke off before its finish_reason", "code": "stream_broken"}}


def collect(chunks: Iterable[Any]) -> dict[str, Any]:
    """One completion from its chunks: mappings, the SDK's objects, or lines of the event stream ("data: ...")."""
    whole = _Whole()
    for chunk in chunks:
        whole.add(chunk)
    return whole.body()


async def collect_async(chunks: AsyncIterable[Any]) -> dict[str, Any]:
    """`collect`, for an async stream."""
    whole = _Whole()
    async for chunk in chunks:
        whole.add(chunk)
    return whole.body()


class _Whole:
    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._text: dict[str, list[str]] = {}
        self._tokens: list[Any] = []
        self._legacy: dict[str, list[Any]] = {}
        self._finish: str | None = None

    def add(self, chunk: Any) -> None:
        part = _mapping(chunk)
        if part is None:
            return
        if "error" in part and not part.get("choices"):
            self._top["error"] = part["error"]
        self._top.update({k: part[k] for k in ("id", "created", "model", "usage") if part.get(k) is not None})
        choices = part.get("choices")
        choice = choices[0] if isinstance(choices, list | tuple) and choices else None
        if isinstance(choice, Mapping) and choice.get("index", 0) == 0:
            self._choice(choice)

    def _choice(self, choice: Mapping[str, Any]) -> None:
        delta = choice.get("delta") or choice.get("message") or {}
        for name in ("content", "reasoning", "reasoning_content", "refusal"):
            if isinstance(delta.get(name), str):
                self._text.setdefault(name, []).append(delta[name])
        if isinstance(choice.get("text"), str) and not self._text.get("content") and not delta:
            self._text.setdefault("text", []).append(choice["text"])
        self._finish = choice.get("finish_reason") or self._finish
        logprobs = choice.get("logprobs")
        if not isinstance(logprobs, Mapping):
            return
        if isinstance(logprobs.get("content"), list):
            self._tokens += logprobs["content"]
        for name in ("tokens", "token_logprobs", "top_logprobs"):
            if isinstance(logprobs.get(name), list):
                self._legacy.setdefault(name, []).extend(logprobs[name])

    def body(self) -> dict[str, Any]:
        if "error" in self._top:
            return {"error": self._top["error"]}
        if self._finish is None:
            return dict(BROKEN)
        message = {name: "".join(parts) for name, parts in self._text.items() if name != "text"}
        if "text" in self._text and "content" not in message:
            message["content"] = "".join(self._text["text"])
        logprobs = {"content": self._tokens} if self._tokens else dict(self._legacy) or None
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": None, **message},
            "logprobs": logprobs,
            "finish_reason": self._finish,
        }
        return {**self._top, "object": "chat.completion", "choices": [choice]}


def _mapping(chunk: Any) -> Mapping[str, Any] | None:
    if isinstance(chunk, bytes):
        chunk = chunk.decode("utf-8", "replace")
    if isinstance(chunk, str):
        text = chunk.strip().removeprefix("data:").strip()
        try:
            chunk = json.loads(text)
        except (ValueError, RecursionError):
            return None  # [DONE], comments, blank lines
    dump = getattr(chunk, "model_dump", None)
    found = dump() if callable(dump) else chunk
    return found if isinstance(found, Mapping) else None
