"""WireForm: the three fields in which servers of one wire format differ, and how an error reveals which.

logprobs     {"logprobs": k}, or {"logprobs": true, "top_logprobs": k}
length       max_tokens, or max_completion_tokens
constraint   a regex, or a JSON schema
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

from cascade_threshold.constraint import FORMS, JSON_SCHEMA, REGEX, response_format
from pipeline.collect.request import Request
from pipeline.config.params import LENGTHS

INTEGER, BOOLEAN, NONE = "integer", "boolean", "none"
MAX_TOKENS, MAX_COMPLETION_TOKENS = LENGTHS
REFUSED = (400, 422, 500)
"""Statuses that a request in a form unknown to the server gets: llama-cpp-python answers 500."""


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def encoded(body: Mapping[str, Any]) -> bytes:
    """The bytes of a request's body, as the SDK writes them. Raises ValueError or TypeError for what cannot be written."""
    return _JSON.encode(body).encode()


@dataclass(frozen=True, slots=True)
class WireForm:
    """The form in which a model is asked. As text, "integer", "boolean+max_completion_tokens+regex" and the like."""

    logprobs: str = INTEGER
    length: str = MAX_TOKENS
    constraint: str = REGEX

    @classmethod
    @lru_cache(maxsize=64)
    def parse(cls, text: str | None, *, first: str = INTEGER) -> Self:
        """The form that a text names; what it leaves open is as a model is asked that was never asked before."""
        said = set((text or "").split("+"))
        return cls(
            next((form for form in (INTEGER, BOOLEAN) if form in said), first),
            MAX_COMPLETION_TOKENS if MAX_COMPLETION_TOKENS in said else MAX_TOKENS,
            next((form for form in FORMS if form in said), REGEX),
        )

    def named(self, request: Request) -> str:
        """The form as text, as far as a request shows it."""
        parts = [self.logprobs if request.top_logprobs is not None else NONE]
        if MAX_TOKENS in request.params and self.length != MAX_TOKENS:
            parts.append(self.length)
        if request.answers:
            parts.append(self.constraint)
        return "+".join(parts)

    def __str__(self) -> str:
        return "+".join([self.logprobs, self.length, self.constraint])

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body of a request.

        Where logprobs are wanted and alternatives are not, one is asked for: some services take 0, in either form, for no
        logprobs at all.
        """
        body = {"model": request.model, "messages": [dict(m) for m in request.messages], **self.params(request.params)}
        if request.answers:
            body["response_format"] = response_format(request.answers, self.constraint)
        if request.top_logprobs is None:
            return body
        alternatives = max(1, request.top_logprobs)
        if self.logprobs == BOOLEAN:
            return body | {"logprobs": True, "top_logprobs": alternatives}
        return body | {"logprobs": alternatives}

    def params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Sampling parameters under the names that the model knows."""
        if self.length == MAX_TOKENS or MAX_TOKENS not in params:
            return dict(params)
        kept = {name: value for name, value in params.items() if name not in (MAX_TOKENS, MAX_COMPLETION_TOKENS)}
        # the larger of the two is what a reply was bounded by
        most = max(int(params[name]) for name in (MAX_TOKENS, MAX_COMPLETION_TOKENS) if params.get(name) is not None)
        return kept | {MAX_COMPLETION_TOKENS: most}

    def change(self, status: int, error: bytes, request: Request | None = None) -> dict[str, str]:
        """What an error says must be said differently, as fields of this class; empty when it speaks of something else.

        `request`: what was asked; None where only the error is at hand, as with a batch's result line.
        """
        text = error.lower()
        if status not in REFUSED:
            return {}
        bounded = request is None or MAX_TOKENS in request.params
        if bounded and self.length == MAX_TOKENS and b"max_completion_tokens" in text:
            return {"length": MAX_COMPLETION_TOKENS}
        probed = request is None or request.top_logprobs is not None
        if probed and self.logprobs == INTEGER and wants_boolean(status, error):
            return {"logprobs": BOOLEAN}
        constrained = request is None or bool(request.answers)
        if constrained and self.constraint == REGEX and (b"response_format" in text or b"regex" in text):
            return {"constraint": JSON_SCHEMA}
        return {}


def wants_boolean(status: int, body: bytes) -> bool:
    """Whether an error says that logprobs must be a boolean (400 of newer models, 500 of llama-cpp-python's server)."""
    text = body.lower()
    return status in REFUSED and (
        (b"bool" in text and (b"logprobs" in text or b"valid boolean" in text)) or b"top_logprobs" in text
    )


def adapt(forms: dict[str, str], model: str, changed: Mapping[str, str], *, first: str = INTEGER) -> None:
    """Remember for a model what it wants said differently, beside what is known of it already."""
    forms[model] = str(replace(WireForm.parse(forms.get(model), first=first), **changed))
