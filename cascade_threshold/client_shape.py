"""ClientShape: how to call a model through whatever client a service already has, recognised by its methods rather than by its name.

| shape | clients |
|---|---|
| `chat.completions.with_raw_response.create` | Together, OpenAI and their async forms: the raw text, so that a reply that is not JSON escalates |
| `chat.completions.create` | clients made after them |
| `completion`, `acompletion` | the module litellm, litellm.Router |
| a callable | a function that takes messages and the body's fields |

Standard library only.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from cascade_threshold.stream import collect, collect_async

LITELLM = "litellm"


class ClientShape:
    """One client, asked for one reply at a time. Raises TypeError for an object that has none of these shapes."""

    def __init__(self, client: Any) -> None:
        completions = getattr(getattr(client, "chat", None), "completions", None)
        self.dialect: str | None = None
        """Dialect of `Policy.request` that this client needs; None: the one that was calibrated."""
        self._async: Callable[..., Any] | None = None
        create = getattr(completions, "create", None)
        if callable(create):
            raw = getattr(getattr(completions, "with_raw_response", None), "create", None)
            self._typed: Callable[..., Any] = create
            self._create: Callable[..., Any] = raw or create
        elif callable(getattr(client, "completion", None)):
            self._typed = self._create = client.completion
            self._async, self.dialect = getattr(client, "acompletion", None), LITELLM
        elif callable(client):
            self._typed = self._create = client
        else:
            raise TypeError(
                f"{type(client).__name__} cannot be used as a client: it has neither chat.completions.create nor completion, "
                "and is not a function"
            )
        parameters = inspect.signature(self._typed).parameters
        self._known = (
            None if self.dialect or any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else parameters.keys()
        )

    def arguments(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of a request body as the client's arguments; those without a parameter of their own go through `extra_body`."""
        if self._known is None:
            return dict(body)
        extra = {name: value for name, value in body.items() if not self._takes(name, value)}
        plain = {name: value for name, value in body.items() if name not in extra}
        return {**plain, **({"extra_body": extra} if extra else {})}

    def _takes(self, name: str, value: Any) -> bool:
        assert self._known is not None
        # a client with a parameter top_logprobs types logprobs as a boolean, so an integer bypasses its types
        odd = name == "logprobs" and type(value) is int and "top_logprobs" in self._known
        return name in self._known and not (odd and "extra_body" in self._known)

    def ask(self, messages: list[Any], arguments: Mapping[str, Any]) -> Any:
        """The reply: JSON text, or a mapping. Streamed chunks are joined."""
        return _plain(self._create(messages=messages, **arguments))

    async def ask_async(self, messages: list[Any], arguments: Mapping[str, Any]) -> Any:
        """`ask`, for an async client."""
        found = (self._async or self._create)(messages=messages, **arguments)
        if inspect.isawaitable(found):
            found = await found
        if isinstance(found, AsyncIterator):
            return await collect_async(found)
        text = getattr(found, "text", None)
        text = text() if callable(text) else text
        if inspect.isawaitable(text):
            text = await text
        return text if isinstance(text, str | bytes) else _plain(found)


def _plain(found: Any) -> Any:
    if isinstance(found, str | bytes | Mapping):
        return found
    text = getattr(found, "text", None)
    text = text() if callable(text) else text
    if isinstance(text, str | bytes):
        return text
    dump = getattr(found, "model_dump", None)
    if callable(dump):
        return dump()
    return collect(found) if isinstance(found, Iterator) else found
