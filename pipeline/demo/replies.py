"""Replies: what the embedded models say to the requests of a chat API.

A reply is a chat completion in the OpenAI shape (`choices[0].logprobs.content[]`), like those of newer Together models. It is a
function of the request alone: no clock, no randomness, no memory of earlier requests, so asking again gives the same bytes.

What is decided here where servers differ: the end token is neither listed nor counted in `usage`; without `logprobs` the
field is null; logprobs are taken over the whole vocabulary; a parameter that would change the answer and is not supported
(temperature above 0, n above 1, stop, stream, tools, response_format, logit_bias) is a 400, never ignored.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.demo.linear_lm import PromptNotUnderstoodError
from pipeline.demo.tiny_lm import Generated, PromptTooLongError
from pipeline.demo.weights import Model

HOST = "embedded.invalid"
"""The host that these models stand behind: a name that no network resolves."""
DEFAULT_MAX_TOKENS = 16
MOST_ALTERNATIVES = 20
# Value that means "not asked for"; anything else would change the answer, and these models cannot do it.
UNSUPPORTED: Mapping[str, Any] = {
    "temperature": 0,
    "n": 1,
    "stop": None,
    "stream": False,
    "tools": None,
    "response_format": None,
    "logit_bias": None,
}


class _RefusedError(Exception):
    """A request that gets an error body: status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Replies:
    """Replies to POST /chat/completions and GET /models for the given models, keyed by the name that requests use."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models = {model.name: model for model in models}

    def to_chat(self, raw: bytes) -> tuple[int, bytes]:
        """Status and body of the reply to the body of a chat completion."""
        return self.answer("POST", "/v1/chat/completions", raw)

    def answer(self, method: str, path: str, raw: bytes) -> tuple[int, bytes]:
        """Status and body of the reply to a request."""
        try:
            status, body = 200, self._answer(method, path, raw)
        except _RefusedError as refusal:
            error = {"message": refusal.message, "type": "invalid_request_error", "param": None, "code": refusal.code}
            status, body = refusal.status, {"error": error}
        return status, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    def _answer(self, method: str, path: str, raw: bytes) -> Any:
        if method == "POST" and path.endswith("/chat/completions"):
            return self._complete(raw)
        if method == "GET" and path.endswith("/models"):
            return [{"id": name, "object": "model", "created": 0, "type": "chat"} for name in self._models]
        raise _RefusedError(404, "not_found", f"no route {method} {path}")

    def _complete(self, raw: bytes) -> dict[str, Any]:
        asked = _json_object(raw)
        model = self._models.get(str(asked.get("model")))
        if model is None:
            known = ", ".join(self._models) or "none"
            raise _RefusedError(
                404, "model_not_available", f"unable to access model {asked.get('model')}; embedded here: {known}"
            )
        for name, neutral in UNSUPPORTED.items():
            if asked.get(name) not in (None, neutral):
                raise _RefusedError(
                    400, "unsupported", f"{name}: embedded models support {neutral!r} only, not {asked[name]!r}"
                )
        wanted = _alternatives(asked)
        try:
            generated = model.generate(_messages(asked), _max_tokens(asked), wanted or 0)
        except PromptTooLongError as error:
            raise _RefusedError(400, "context_length_exceeded", str(error)) from error
        except PromptNotUnderstoodError as error:
            raise _RefusedError(400, "invalid_messages", str(error)) from error
        return _completion(model.name, generated, wanted is not None, hashlib.sha256(raw).hexdigest()[:24])


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(raw)
    except ValueError as error:
        raise _RefusedError(400, "invalid_json", f"the body is not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise _RefusedError(400, "invalid_json", "the body is not a JSON object")
    return asked


def _messages(asked: Mapping[str, Any]) -> list[dict[str, str]]:
    """Messages as role and text; a list of text parts is joined."""
    given = asked.get("messages")
    if not isinstance(given, list) or not given:
        raise _RefusedError(400, "invalid_messages", "messages must be a list with at least one message")
    out = []
    for message in given:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str) or not isinstance(message.get("role"), str):
            raise _RefusedError(400, "invalid_messages", "each message needs a role and a text")
        out.append({"role": message["role"], "content": content})
    return out


def _max_tokens(asked: Mapping[str, Any]) -> int:
    given = asked.get("max_tokens")
    if given is None:
        return DEFAULT_MAX_TOKENS
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise _RefusedError(
            400, "invalid_max_tokens", f"max_tokens must be a whole number of at least 1, not {given!r}"
        )
    return given


def _alternatives(asked: Mapping[str, Any]) -> int | None:
    """How many alternatives are wanted, None without logprobs: `logprobs: k`, or `logprobs: true, top_logprobs: k`."""
    logprobs, top_logprobs = asked.get("logprobs"), asked.get("top_logprobs")
    if logprobs is True:
        wanted = 0 if top_logprobs is None else top_logprobs
    elif top_logprobs is not None:
        raise _RefusedError(400, "invalid_logprobs", "top_logprobs requires logprobs to be true")
    elif logprobs is None or logprobs is False or logprobs == 0:
        return None
    else:
        wanted = logprobs
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 0 <= wanted <= MOST_ALTERNATIVES:
        raise _RefusedError(
            400, "invalid_logprobs", f"0 to {MOST_ALTERNATIVES} alternatives can be had, not {wanted!r}"
        )
    return wanted


def _completion(name: str, generated: Generated, with_logprobs: bool, digest: str) -> dict[str, Any]:
    """The chat completion for an answer. Text is decoded as a whole: a character may be spread over tokens."""
    tokens = generated.tokens
    content = [
        {**_entry(t.bytes, t.logprob), "top_logprobs": [_entry(a.bytes, a.logprob) for a in t.alternatives]}
        for t in tokens
    ]
    return {
        "id": f"embedded-{digest}",
        "object": "chat.completion",
        "created": 0,
        "model": name,
        "prompt": [],
        "choices": [
            {
                "index": 0,
                "finish_reason": generated.finish_reason,
                "message": {"role": "assistant", "content": _text(b"".join(t.bytes for t in tokens))},
                "logprobs": {"content": content} if with_logprobs else None,
            }
        ],
        "usage": {
            "prompt_tokens": generated.prompt_tokens,
            "completion_tokens": len(tokens),
            "total_tokens": generated.prompt_tokens + len(tokens),
        },
    }


def _entry(raw: bytes, logprob: float) -> dict[str, Any]:
    """Float32 arithmetic holds about seven digits; what is beyond them differs between machines and is not sent."""
    return {"token": _text(raw), "bytes": list(raw), "logprob": min(0.0, round(logprob, 7))}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
