"""Request: what is asked of a model for one row, in canonical form; its digest is the key that is never paid twice."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.config.prompt import Prompt
from pipeline.config.task import Model, TaskConfig
from pipeline.run.digests import digest

KEY_VERSION = 1
CONSTRAINT_BYTES = 200
"""Of a constraint around the answers themselves; more than the JSON schema takes."""
PROBE_REPEAT = 1_000_000
"""Repeat index of a request that is answered already and asked all the same, to see whether the model answers."""


@dataclass(frozen=True)
class Request:
    """One question to one model.

    `service` names who answers: "together" for its own hosts, another server's address, "embedded", "recorded/<digest>".
    `top_logprobs` is None where no logprobs are wanted (the strong role).
    """

    example_id: str
    role: str
    service: str
    model: str
    messages: tuple[Mapping[str, str], ...]
    params: Mapping[str, Any]
    top_logprobs: int | None
    repeat: int = 0
    answers: tuple[str, ...] = ()
    """The only answers that the server may write; empty: no constraint. In which form that is said is no part of the key."""

    @property
    def canonical(self) -> dict[str, Any]:
        """Everything that makes this request this request; not the row it serves, nor how it is put on the wire."""
        found = {
            "version": KEY_VERSION,
            "service": self.service,
            "model": self.model,
            "messages": [dict(m) for m in self.messages],
            "params": numbers(self.params),
            "top_logprobs": self.top_logprobs,
            "repeat": self.repeat,
        }
        if self.answers:
            found["answers"] = list(self.answers)
        # Recorded replies belong to rows: two rows with the same text may have been answered differently.
        if self.service.startswith("recorded/"):
            found["example_id"] = self.example_id
        return found

    @cached_property
    def request_id(self) -> str:
        """sha256 of the canonical request, 64 hex digits."""
        return digest(self.canonical)

    @property
    def prompt_bytes(self) -> int:
        """UTF-8 bytes of all messages, and of a constraint, which some servers write into the prompt: never fewer than their tokens."""
        asked = sum(len(m["content"].encode()) + len(m["role"]) for m in self.messages)
        return asked + (CONSTRAINT_BYTES + sum(len(a.encode()) + 4 for a in self.answers) if self.answers else 0)


def numbers(value: Any) -> Any:
    """A JSON value with its numbers in canonical form: 0.0 and -0.0 are 0, 1.0 is 1."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {name: numbers(part) for name, part in value.items()}
    return [numbers(part) for part in value] if isinstance(value, list | tuple) else value


def letters(count: int) -> tuple[str, ...]:
    """The letters that name a row's options: A, B, C ... (1 to 26)."""
    return tuple(string.ascii_uppercase[:count])


def lettered(options: Sequence[str]) -> str:
    """Options as the lines that a prompt shows: "A. first" and so on."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(letters(len(options)), options, strict=True))


def messages(prompt: Prompt, columns: Mapping[str, str]) -> tuple[dict[str, str], ...]:
    """The chat messages for one row. Row texts enter the templates as plain text: braces in them mean nothing."""
    return prompt.filled(columns)


def prompt_digest(prompt: Prompt) -> str:
    """sha256 of all templates: production compares it before it trusts a confidence."""
    return prompt.digest


def request_for(
    config: TaskConfig,
    role: str,
    example_id: str,
    columns: Mapping[str, str],
    *,
    service: str,
    model: str,
    options: int | None = None,
) -> Request:
    """The canonical request of one row to the model of one role. `options`: how many the row has (kind choose)."""
    settings = getattr(config, role)
    assert config.prompt is not None and isinstance(settings, Model)
    return Request(
        example_id=example_id,
        role=role,
        service=service,
        model=model,
        messages=messages(config.prompt, columns),
        params=settings.params,
        top_logprobs=settings.top_logprobs if role == "cheap" else None,
        answers=(config.answers or letters(options or 0)) if settings.constrain is not None else (),
    )
