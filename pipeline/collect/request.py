"""Request: what is asked of a model for one row, in canonical form; its digest is the key that is never paid twice."""

from __future__ import annotations

import hashlib
import json
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.config.task import Model, Prompt, TaskConfig

KEY_VERSION = 1

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one model.

    `service` names who answers ("together", "embedded", "recorded/<digest of the file>"), never a host name.
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

    @property
    def canonical(self) -> dict[str, Any]:
        """Everything that makes this request this request; not the row it serves, nor how it is put on the wire."""
        # Recorded replies belong to rows: two rows with the same text may have been answered differently.
        row = {"example_id": self.example_id} if self.service.startswith("recorded/") else {}
        return row | {
            "version": KEY_VERSION,
            "service": self.service,
            "model": self.model,
            "messages": [dict(m) for m in self.messages],
            "params": dict(self.params),
            "top_logprobs": self.top_logprobs,
            "repeat": self.repeat,
        }

    @property
    def request_id(self) -> str:
        """sha256 of the canonical request, 64 hex digits."""
        return digest(self.canonical)

    @property
    def prompt_bytes(self) -> int:
        """UTF-8 bytes of all messages: never fewer than their tokens."""
        return sum(len(m["content"].encode()) + len(m["role"]) for m in self.messages)


def digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form: sorted keys, no white space, UTF-8."""
    return hashlib.sha256(_CANONICAL.encode(value).encode("utf-8", "surrogatepass")).hexdigest()


def letters(count: int) -> tuple[str, ...]:
    """The letters that name a row's options: A, B, C ... (1 to 26)."""
    return tuple(string.ascii_uppercase[:count])


def lettered(options: Sequence[str]) -> str:
    """Options as the lines that a prompt shows: "A. first" and so on."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(letters(len(options)), options, strict=True))


def messages(prompt: Prompt, columns: Mapping[str, str]) -> tuple[dict[str, str], ...]:
    """The chat messages for one row. Row texts enter the templates as plain text: braces in them mean nothing."""
    filled = [
        {"role": role, "content": _fill(text, columns)}
        for role, text in (("system", prompt.system), ("user", prompt.user))
    ]
    return tuple(m for m in filled if m["content"] or m["role"] == "user")


def _fill(template: str, columns: Mapping[str, str]) -> str:
    parts = []
    for literal, name in _parts(template):
        parts.append(literal)
        if name is not None:
            # A lone surrogate cannot be sent as UTF-8; NUL is refused by some servers.
            parts.append(columns[name].replace("\x00", "�").encode("utf-8", "replace").decode())
    return "".join(parts)


@lru_cache(maxsize=64)
def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((literal, name) for literal, name, _, _ in string.Formatter().parse(template))


def prompt_digest(prompt: Prompt) -> str:
    """sha256 of both templates: production compares it before it trusts a confidence."""
    return digest(
        {"system": unicodedata.normalize("NFC", prompt.system), "user": unicodedata.normalize("NFC", prompt.user)}
    )


def request_for(
    config: TaskConfig, role: str, example_id: str, columns: Mapping[str, str], *, service: str, model: str
) -> Request:
    """The canonical request of one row to the model of one role."""
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
    )
