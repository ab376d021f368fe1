"""Transport: answers the Together SDK's own calls in process, with small models kept in the repository.

`client([weights.load(path), ...])` is an AsyncTogether like any other; its requests end in `EmbeddedTransport` instead of a
socket.
"""

import asyncio
from collections.abc import Iterable

import httpx
from together import AsyncTogether

from pipeline.demo.replies import HOST, Replies
from pipeline.demo.weights import Model

BASE_URL = f"http://{HOST}"
PLACEHOLDER_KEY = "embedded"


class EmbeddedTransport(httpx.AsyncBaseTransport):
    """Serves POST /chat/completions and GET /models for the given models, keyed by the name that requests use."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._replies = Replies(models)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; the model computes for a millisecond or so, between two turns of the event loop."""
        await asyncio.sleep(0)
        status, content = self._replies.answer(request.method, request.url.path, await request.aread())
        return httpx.Response(status, headers={"content-type": "application/json"}, content=content, request=request)


def client(models: Iterable[Model]) -> AsyncTogether:
    """The SDK's client over the given models, each under its own name. No key, no address, no retry is involved."""
    transport = EmbeddedTransport(models)
    return AsyncTogether(
        api_key=PLACEHOLDER_KEY, base_url=BASE_URL, max_retries=0, http_client=httpx.AsyncClient(transport=transport)
    )
