"""RequestKeys: the keys of one role's requests to many rows, without a Request for each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

from pipeline.collect.request import letters, request_for
from pipeline.config.prompt import fill, pieces
from pipeline.config.task import TaskConfig
from pipeline.run.digests import canonical


class RequestKeys:
    """`Request.request_id` of the requests that `request_for` makes: what is the same for all rows is encoded once."""

    def __init__(self, config: TaskConfig, role: str, *, service: str, model: str) -> None:
        assert config.prompt is not None
        self._turns = [(role, text, len(pieces(text)) == 1) for role, text in config.prompt.turns]
        self._blank = dict.fromkeys(config.prompt.columns, "")

        @lru_cache(maxsize=len(letters(26)) + 1)
        def frame(options: int | None) -> tuple[str, str, bool]:
            """What stands before and after the id and the messages, and whether the id stands there."""
            request = request_for(config, role, "", self._blank, service=service, model=model, options=options)
            parts = request.canonical
            before = canonical({"answers": parts["answers"]})[:-1] + "," if "answers" in parts else "{"
            after = canonical({k: v for k, v in parts.items() if k > "messages"})[1:]
            return before, after, "example_id" in parts

        self._frame = frame
        self._plain = {text: self._message(role, text, {}) for role, text, plain in self._turns if plain}

    def messages(self, columns: Mapping[str, str]) -> str:
        """The messages to one row in canonical form, which are the same for both roles. `columns`: as of `request_for`."""
        told = [self._plain[text] if plain else self._message(role, text, columns) for role, text, plain in self._turns]
        return ",".join([one for one in told if one])

    def key(self, example_id: str, messages: str, options: int | None = None) -> str:
        """sha256 of one row's canonical request, 64 hex digits. `messages`: of `messages`; `options`: as of `request_for`."""
        before, after, named = self._frame(options)
        name = f'"example_id":{canonical(example_id)},' if named else ""
        text = f'{before}{name}"messages":[{messages}],{after}'
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def _message(self, role: str, template: str, columns: Mapping[str, str]) -> str:
        """A message in canonical form, empty where it is left out."""
        content = fill(template, columns)
        return f'{{"content":{canonical(content)},"role":"{role}"}}' if content or role != "system" else ""
