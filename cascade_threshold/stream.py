"""Stream: the chunks of a streamed chat completion, put together into the completion that `Policy.decide` reads.

    completion = collect(client.chat.completions.create(..., stream=True))

A stream that breaks off has no finish_reason; what is left of it is no reply and escalates. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

_TEXTS = ("content", "reasoning", "reasoning_content", "thinking", "refusal")
"""Fields of a delta that are joined."""
BROKEN = {"error": {"message": "the stream broke off before its finish_reason", "code": "stream_broken"}}


def collect(chunks: Iterable[Any]) -> dict[str, Any]:
    """One completion from its chunks: mappings, the SDK's objects, or lines of the event stream ("data: ..."); also its whole text.

    Of several choices it is the one of index 0. An error in any chunk, also beside choices, makes it an error body.
    """
    whole = _Whole()
    if isinstance(chunks, bytes):
        chunks = chunks.decode("utf-8", "replace")
    for chunk in chunks.split("\n") if isinstance(chunks, str) else chunks:
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
        self._calls: dict[Any, dict[str, str]] = {}
        self._tokens: list[Any] = []
        self._legacy: dict[str, list[Any]] = {}
        self._finish: str | None = None
        self._message: Mapping[str, Any] | None = None

    def add(self, chunk: Any) -> None:
        part = _mapping(chunk)
        if part is None:
            return
        if part.get("error"):  # also beside choices: what came before it is no answer
            self._top["error"] = part["error"]
        self._top.update({k: part[k] for k in ("id", "created", "model", "usage") if part.get(k) is not None})
        choices = part.get("choices")
        for choice in choices if isinstance(choices, list | tuple) else ():
            if isinstance(choice, Mapping) and (choice.get("index") or 0) == 0:
                self._choice(choice)
                break

    def _choice(self, choice: Mapping[str, Any]) -> None:
        if choice.get("error"):
            self._top["error"] = choice["error"]
        delta = choice.get("delta") or {}
        if not delta and isinstance(choice.get("message"), Mapping):
            self._message = choice["message"]  # the whole of it, as some services send at the end
        for name in _TEXTS:
            for text in _texts(delta.get(name)):
                self._text.setdefault(name, []).append(text)
        self._add_calls(delta)
        if isinstance(choice.get("text"), str) and not self._text.get("content") and not delta:
            self._text.setdefault("text", []).append(choice["text"])
        self._finish = choice.get("finish_reason") or self._finish
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, list):
            logprobs = {"content": logprobs}
        if not isinstance(logprobs, Mapping):
            return
        if isinstance(logprobs.get("content"), list):
            self._tokens += logprobs["content"]
        for name in ("tokens", "token_logprobs", "top_logprobs"):
            if isinstance(logprobs.get(name), list):
                self._legacy.setdefault(name, []).extend(logprobs[name])

    def _add_calls(self, delta: Mapping[str, Any]) -> None:
        """Calls of tools arrive in pieces, told apart by their index; the older single call has none."""
        calls = delta.get("tool_calls")
        pieces = [(call.get("index", 0), call.get("function")) for call in calls or () if isinstance(call, Mapping)]
        for index, function in [*pieces, ("function_call", delta.get("function_call"))]:
            if isinstance(function, Mapping):
                call = self._calls.setdefault(index, {"name": "", "arguments": ""})
                for name in call:
                    call[name] += function[name] if isinstance(function.get(name), str) else ""

    def _whole_message(self) -> dict[str, Any]:
        return {name: value for name, value in (self._message or {}).items() if value}

    def body(self) -> dict[str, Any]:
        if "error" in self._top:
            return {"error": self._top["error"]}
        if self._finish is None:
            return dict(BROKEN)
        message: dict[str, Any] = {name: "".join(parts) for name, parts in self._text.items() if name != "text"}
        if "text" in self._text and "content" not in message:
            message["content"] = "".join(self._text["text"])
        if self._calls:
            message["tool_calls"] = [{"type": "function", "function": call} for call in self._calls.values()]
        logprobs = {"content": self._tokens} if self._tokens else dict(self._legacy) or None
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": None, **message, **self._whole_message()},
            "logprobs": logprobs,
            "finish_reason": self._finish,
        }
        return {**self._top, "object": "chat.completion", "choices": [choice]}


def _texts(value: Any) -> list[str]:
    """The pieces of text in a delta's field: a text, or a list of parts of which those of type text answer."""
    if isinstance(value, str):
        return [value]
    parts = value if isinstance(value, list) else ()
    found = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") == "text"]
    return [text for text in found if isinstance(text, str)]


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
