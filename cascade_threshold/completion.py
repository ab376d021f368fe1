"""Raw completion bodies to token rows: the only module that knows the shapes on the wire.

Two shapes exist and are told apart per reply, never per model: ``content``, a list of entries
``{token, bytes, logprob, top_logprobs}``, and ``legacy``, parallel lists ``tokens``, ``token_logprobs``,
``top_logprobs``. Values are kept as they came: anything that is not a number (null, NaN, text) becomes None, never 0,
while -inf, sentinels such as -9999 and impossible positives stay visible and are judged where they are used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from cascade_threshold.pricing import Usage
from cascade_threshold.usage import usage_in

Shape = Literal["content", "legacy", "none"]

# Values of `Reply.problem`. The first group leaves nothing to read, so the request counts as failed.
NOT_JSON = "not JSON"
NOT_AN_OBJECT = "not a JSON object"
NOT_A_COMPLETION = "not a completion body"
STREAMING = "streaming body"
RESPONSES_API = "responses-api body"
ERROR_BODY = "error body"
UNREADABLE = frozenset({NOT_JSON, NOT_AN_OBJECT, NOT_A_COMPLETION, STREAMING, RESPONSES_API, ERROR_BODY})
AT_LIMIT = frozenset({
    "length", "max_tokens", "max_length", "model_length", "MAX_TOKENS", "max_output_tokens", "max_completion_tokens", "token_limit",
    "model_context_window_exceeded",
})  # fmt: skip
"""Values of finish_reason that mean the length limit was reached."""
INTERRUPTED = frozenset({
    "error", "abort", "aborted", "cancel", "cancelled", "canceled", "timeout", "network_error", "engine_error",
    "insufficient_system_resource",
})  # fmt: skip
"""Values of finish_reason that mean the service aborted: not a reply, whatever text came with it."""
WITHHELD = frozenset({
    "content_filter", "content_filtered", "sensitive", "safety", "SAFETY", "guardrail_intervened", "prohibited_content", "PROHIBITED_CONTENT",
    "blocklist", "BLOCKLIST", "recitation", "RECITATION", "SPII",
})  # fmt: skip
TOOL_CALLED = frozenset({"tool_calls", "function_call", "tool_use"})
NO_CHOICES = "no choices"
NO_MESSAGE = "no message"
FILTERED = "filtered"
REFUSAL = "refusal"
LENGTHS_DIFFER = "tokens and token_logprobs differ in length"


class Alternative(NamedTuple):
    """One of the likeliest tokens at a position."""

    token: str
    """Text as the API gave it; may be empty, hold U+FFFD, or carry a marker of the vocabulary."""
    bytes: bytes | None
    """UTF-8 of the token, possibly part of a character; None when the API gave none."""
    logprob: float | None
    """Natural logarithm of the probability (nat), as given; None when it was not a number."""


_new = tuple.__new__  # what the constructor of a NamedTuple calls, at half the cost


class Token(NamedTuple):
    """One generated token. Fields as in `Alternative`."""

    token: str
    bytes: bytes | None
    logprob: float | None
    alternatives: tuple[Alternative, ...]


class Reply(NamedTuple):
    """One reply, read but not yet judged."""

    text: str | None
    """The answer's text; None when the body has none."""
    tokens: tuple[Token, ...] | None
    """Generated tokens in order; None when the reply carries no logprobs."""
    shape: Shape
    finish_reason: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    problem: str | None
    """What is odd about the body; one of this module's constants, or None."""
    has_reasoning: bool = False
    """The body reports reasoning apart from the answer, so its tokens may precede the answer's."""
    cached_tokens: int | None = None
    """Tokens of the prompt that the service had cached; None when it does not say."""

    @property
    def usage(self) -> Usage:
        """What the reply is billed for."""
        return _new(Usage, (self.input_tokens, self.output_tokens, self.cached_tokens, self.reasoning_tokens))


def _unreadable(problem: str) -> Reply:
    return Reply(None, None, "none", None, None, None, None, None, problem)


def parse(body: Mapping[str, Any] | str | bytes) -> Reply:
    """Read a completion body: a mapping, or JSON text.

    Knows chat and legacy completions, a bare choice object, a body wrapped in ``{"result": ...}``, and Ollama's own
    body. Streams, Responses-API bodies and error bodies are refused by name in `Reply.problem`. Never raises on any
    JSON value, nor on text that is not JSON.
    """
    found: Any = body
    if isinstance(body, (str, bytes)):
        text = (body if isinstance(body, str) else body.decode("utf-8", "replace")).removeprefix("\ufeff")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return _unreadable(STREAMING if text.lstrip().startswith(("data:", "event:", ":")) else NOT_JSON)
    if not isinstance(found, dict):
        if not isinstance(found, Mapping):
            return _unreadable(NOT_AN_OBJECT)
        found = dict(found)
    found = unwrapped(found)
    choice = choice_of(found)
    return _unreadable(choice) if isinstance(choice, str) else _read(found, choice)


def unwrapped(body: dict[str, Any]) -> dict[str, Any]:
    """The completion in ``{"result": ...}``, or the body itself; of an error beside a result it is the error that counts."""
    inner = body.get("result")
    return inner if isinstance(inner, dict) and "choices" not in body and not body.get("error") else body


def is_empty(choice: Mapping[str, Any]) -> bool:
    """No choice or no text, where asking again may help: a length limit, a filter or a refusal would strike again."""
    finish = choice.get("finish_reason")
    if isinstance(finish, str) and (finish in AT_LIMIT or finish in WITHHELD or finish in TOOL_CALLED):
        return False
    message = choice.get("message")
    if not isinstance(message, dict):
        return not choice.get("text")
    return not (message.get("content") or message.get("tool_calls") or message.get("refusal"))


def choice_of(body: dict[str, Any]) -> dict[str, Any] | str:
    """The choice to read ({} when the body is a completion without one), or why the body is refused."""
    kind = body.get("object")
    if isinstance(kind, str) and kind.endswith(".chunk"):
        return STREAMING
    choices = body.get("choices")
    if not choices and body.get("error"):
        return {"finish_reason": "content_filter"} if _is_filter(body["error"]) else ERROR_BODY
    if choices is None and ("choices" not in body or kind == "response"):
        if "output" in body and (kind == "response" or isinstance(body["output"], list)):
            return RESPONSES_API
        if "done" in body:
            if body["done"] is False:
                return STREAMING
            return {**body, "text": body.get("response"), "finish_reason": body.get("done_reason")}
        if "delta" in body:
            return STREAMING
        known = ("message" in body or "text" in body) and ("finish_reason" in body or "logprobs" in body)
        return body if known else {} if kind in ("chat.completion", "text_completion") else NOT_A_COMPLETION
    first = _first_choice(choices)
    return STREAMING if "delta" in first and "message" not in first else first


def _is_filter(error: Any) -> bool:
    return isinstance(error, dict) and error.get("code") == "content_filter"


def _first_choice(choices: Any) -> dict[str, Any]:
    """The choice of index 0, wherever it stands; {} where there is none."""
    if not isinstance(choices, (list, tuple)) or not choices or not isinstance(choices[0], dict):
        return {}
    found: dict[str, Any] = choices[0]
    if found.get("index") and len(choices) > 1:
        found = next((c for c in choices if isinstance(c, dict) and c.get("index") == 0), found)
    return found


def _read(body: dict[str, Any], choice: dict[str, Any]) -> Reply:
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {}
    text = _text(message.get("content"))
    if text is None:
        text = _text(choice.get("text"))
    finish = _text(choice.get("finish_reason"))
    if not text or text.isspace() or finish in TOOL_CALLED:
        text = _tool_answer(message) or text
    problem: str | None = None
    if (finish in INTERRUPTED or not _plain(body, choice)) and interruption(body):
        problem = ERROR_BODY
    elif finish in WITHHELD or (not text and _was_filtered(choice.get("content_filter_results"))):
        problem = FILTERED
    elif not choice:
        problem = NO_CHOICES
    elif not text and message.get("refusal"):
        problem = REFUSAL
    elif text is None:
        problem = NO_MESSAGE
    logprobs = choice.get("logprobs")
    tokens: tuple[Token, ...] | None = None
    shape: Shape = "none"
    if isinstance(logprobs, list):
        logprobs = {"content": logprobs}
    if isinstance(logprobs, dict):
        content = logprobs.get("content")
        if isinstance(content, list) and (content or not logprobs.get("tokens")):
            tokens, shape = tuple([_entry(entry) for entry in content]), "content"
        elif isinstance(logprobs.get("tokens"), list):
            tokens, shape = _legacy(logprobs), "legacy"
            if not _lengths_agree(logprobs):
                problem = problem or LENGTHS_DIFFER
    model = body.get("model")
    has_reasoning = bool(message.get("reasoning") or message.get("reasoning_content") or message.get("thinking"))
    usage = usage_in(body, text)
    return _new(
        Reply,
        (
            text,
            tokens,
            shape,
            finish,
            model if isinstance(model, str) else None,
            usage.input_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
            problem,
            has_reasoning or bool(usage.reasoning_tokens),
            usage.cached_tokens,
        ),
    )


def _plain(body: dict[str, Any], choice: dict[str, Any]) -> bool:
    """Whether nothing but its finish_reason can tell that a body was broken off: the usual case, at a tenth of the cost."""
    return "choices" in body and "error" not in choice and "error" not in body


def interruption(body: Mapping[str, Any]) -> str:
    """Why the body of a completion is not a reply, although it may contain part of one; empty when it is one.

    Causes: an error beside the choices or within one, or a finish_reason that means the service aborted. An answer that was
    withheld is none: it would be withheld again.
    """
    choice = _first_choice(body.get("choices")) or body
    finish = choice.get("finish_reason")
    if (isinstance(finish, str) and finish in WITHHELD) or (not body.get("choices") and _is_filter(body.get("error"))):
        return ""
    for found in (choice.get("error"), body.get("error")):
        if found:
            message = found.get("message") or found.get("code") if isinstance(found, dict) else found
            return str(message or "error")[:300]
    return f"finish_reason: {finish}" if isinstance(finish, str) and finish in INTERRUPTED else ""


def _tool_answer(message: Mapping[str, Any]) -> str | None:
    """The arguments of the message's only tool call, as JSON text."""
    calls = message.get("tool_calls")
    call = calls[0] if isinstance(calls, list) and len(calls) == 1 and isinstance(calls[0], dict) else message
    function = call.get("function") if call is not message else message.get("function_call") if not calls else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if isinstance(arguments, dict):
        return json.dumps(arguments, ensure_ascii=False)
    return arguments if isinstance(arguments, str) and arguments.strip() else None


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if isinstance(content, list):  # a list of parts; parts that are not text (reasoning, images) do not answer
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(part for part in parts if isinstance(part, str)) if parts else None
    return None


def _was_filtered(results: Any) -> bool:
    return isinstance(results, dict) and any(
        isinstance(r, dict) and r.get("filtered") is True for r in results.values()
    )


def usage_of(body: Mapping[str, Any]) -> Usage:
    """The usage that a completion body reports."""
    found = unwrapped(dict(body))
    return usage_beside(found, choice_of(found))


def usage_beside(body: Mapping[str, Any], choice: Mapping[str, Any] | str) -> Usage:
    """`usage_of` where the body is unwrapped already, and `choice` is what `choice_of` finds in it."""
    if isinstance(choice, str):
        return usage_in(body, None)
    message = choice.get("message")
    text = _text(message.get("content")) if isinstance(message, dict) else None
    return usage_in(body, _text(choice.get("text")) if text is None else text)


def _number(value: Any) -> float | None:
    if type(value) is float:
        return value if value == value else None
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return None
    return None


_BYTES_AS_TEXT = re.compile(r"bytes:((?:\\x[0-9a-fA-F]{2})+)")


def _written_bytes(token: str) -> bytes | None:
    r"""OpenAI's legacy shape writes part of a character as the text ``bytes:\xe2\x80``."""
    if token.startswith("bytes:\\x") and (match := _BYTES_AS_TEXT.fullmatch(token)):
        return bytes.fromhex(match[1].replace("\\x", ""))
    return None


def _bytes(value: Any) -> bytes | None:
    if type(value) is list:
        try:
            return bytes(value)
        except (TypeError, ValueError):
            return None
    return None


def _entry(entry: Any) -> Token:
    if not isinstance(entry, dict):
        return Token("", None, None, ())
    token = entry.get("token")
    top = entry.get("top_logprobs")
    return _new(
        Token,
        (
            token if type(token) is str else "",
            _bytes(entry.get("bytes")),
            _number(entry.get("logprob")),
            _alternatives(top) if top else (),
        ),
    )


def _alternatives(top: Any) -> tuple[Alternative, ...]:
    """A list of entries, or a mapping from token to logprob."""
    if isinstance(top, list):
        return tuple(
            [
                _new(Alternative, (token, _bytes(entry.get("bytes")), _number(entry.get("logprob"))))
                for entry in top
                if isinstance(entry, dict) and type(token := entry.get("token")) is str
            ]
        )
    if isinstance(top, dict):
        return tuple([Alternative(token, _written_bytes(token), _number(value)) for token, value in top.items()])
    return ()


def _lengths_agree(logprobs: dict[str, Any]) -> bool:
    values = logprobs.get("token_logprobs")
    return values is None or (isinstance(values, list) and len(values) == len(logprobs["tokens"]))


def _legacy(logprobs: dict[str, Any]) -> tuple[Token, ...]:
    names: list[Any] = logprobs["tokens"]
    values = logprobs.get("token_logprobs")
    if not isinstance(values, list) or not _lengths_agree(logprobs):
        values = [None] * len(names)  # which value belongs to which token is unknown
    top = logprobs.get("top_logprobs")
    if isinstance(top, dict) and len(names) == 1:
        top = [top]
    if not isinstance(top, list) or len(top) != len(names):
        top = [None] * len(names)
    rows = []
    for name, value, others in zip(names, values, top, strict=True):
        token = name if type(name) is str else ""
        rows.append(Token(token, _written_bytes(token), _number(value), _alternatives(others)))
    return tuple(rows)
