"""Prompt: the chat messages that every row is put into, as templates with the names of columns in braces.

{text}         the row's text in that column; any name may stand in braces, with spaces and hyphens too
{text:json}    the same as a JSON string, in quotes and escaped, for messages that are JSON
{{ and }}      a literal brace
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictStr, field_validator, model_validator

AS_JSON = ":json"
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

Piece = tuple[str, str | None, bool]
"""Literal text, the column after it (None: none), and whether that column is written as a JSON string."""


@lru_cache(maxsize=256)
def pieces(template: str) -> tuple[Piece, ...]:
    """A template in its parts. Raises ValueError for a brace without its partner and for a placeholder without a name."""
    found: list[Piece] = []
    literal, end = "", 0
    for match in _PIECE.finditer(template):
        literal += template[end : match.start()]
        end = match.end()
        text, name = match.group(), match.group(1)
        if name is None and len(text) == 1:
            raise ValueError(
                f"single {text!r} in {_around(template, match.start())!r}; write a literal brace twice: {{{{ or }}}}"
            )
        if name is None:
            literal += text[0]
            continue
        column = name.removesuffix(AS_JSON)
        if not column.strip() or "\n" in column:
            raise ValueError(
                f"placeholder {text!r} must be a column name; double the braces of literal text: {{{{ and }}}}"
            )
        found.append((literal, column, column != name))
        literal = ""
    return (*found, (literal + template[end:], None, False))


def _around(template: str, place: int) -> str:
    return template[max(0, place - 15) : place + 15]


def fill(template: str, columns: Mapping[str, str]) -> str:
    """The template with a row's texts. Braces in those mean nothing."""
    out = []
    for literal, name, as_json in pieces(template):
        out.append(literal)
        if name is not None:
            # A lone surrogate cannot be sent as UTF-8; NUL is refused by some servers.
            text = columns[name].replace("\x00", "\ufffd")
            text = text if text.isascii() else text.encode("utf-8", "replace").decode()
            out.append(json.dumps(text, ensure_ascii=False) if as_json else text)
    return "".join(out)


def _checked(text: str) -> str:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds half a character (a lone surrogate), which cannot be sent; write the character itself")
    pieces(text)
    return text


class Turn(BaseModel):
    """One message of the chat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    """Who speaks."""
    content: StrictStr
    """Template of what is said."""

    _template = field_validator("content")(_checked)


class Prompt(BaseModel):
    """Either `user` with an optional `system`, or `messages`: turns of which the last is the user's (few-shot examples).

    Templates: {column} is replaced by the row's text, {column:json} by the text as a JSON string, literal braces are doubled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: StrictStr = ""
    """Template of the system message."""
    user: StrictStr | None = None
    """Template of the user's message."""
    messages: tuple[Turn, ...] | None = Field(default=None, min_length=1)
    """All messages, in place of `system` and `user`."""

    _templates = field_validator("system", "user")(lambda text: text if text is None else _checked(text))

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.user is None) == (self.messages is None):
            raise ValueError("write either `user` (with `system` if wanted) or `messages`")
        if self.messages is not None:
            if self.system:
                raise ValueError("`system` does not go with `messages`; make it the first message, with role system")
            if self.messages[-1].role != "user":
                raise ValueError(f"the last message must be the user's, but its role is {self.messages[-1].role}")
        return self

    @property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """Role and template of every message, an empty system message left out."""
        if self.messages is not None:
            return tuple((turn.role, turn.content) for turn in self.messages)
        return tuple(
            (role, text)
            for role, text in (("system", self.system), ("user", self.user or ""))
            if text or role == "user"
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the dataset columns that the templates use, in order of appearance."""
        return tuple(dict.fromkeys(name for _, text in self.turns for _, name, _ in pieces(text) if name is not None))

    def filled(self, columns: Mapping[str, str]) -> tuple[dict[str, str], ...]:
        """The chat messages of one row; a system message that turns out empty is left out."""
        made = [{"role": role, "content": fill(text, columns)} for role, text in self.turns]
        return tuple(m for m in made if m["content"] or m["role"] != "system")

    @property
    def digest(self) -> str:
        """sha256 of all templates: production compares it before it trusts a confidence.

        A system and a user message give the same digest whichever way they are written.
        """
        turns = [(role, unicodedata.normalize("NFC", text)) for role, text in self.turns]
        roles = [role for role, _ in turns]
        value: Any = [{"role": role, "content": text} for role, text in turns]
        if roles in (["user"], ["system", "user"]):
            value = {"system": "", **dict(turns)}
        encoded = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(encoded.encode("utf-8", "surrogatepass")).hexdigest()
