"""BoundedTransport: what another transport of httpx fetches, each body within the limit of a reply."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import httpx

from pipeline.collect.providers import bounded


class BoundedTransport(httpx.AsyncBaseTransport):
    """What another transport fetches, each body within the limit: of MOST_BYTES, or as `at_most` says."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The inner transport's response, whose body is decompressed here: httpx itself would unpack a bomb."""
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        headers = [(k, v) for k, v in response.headers.raw if k.lower() != b"content-encoding"]
        encoding = response.headers.get("content-encoding", "")
        stream = _Body(response.stream, encoding, bounded.most_now.get())
        return httpx.Response(response.status_code, headers=headers, stream=stream, extensions=response.extensions)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, encoding: str, most: int) -> None:
        self._inner, self._encoding, self._most = inner, encoding, most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in bounded.unpacked(self._inner, self._encoding, self._most):
                yield piece
        except zlib.error as error:
            raise httpx.DecodingError(f"the body is not {self._encoding} ({error})") from None

    async def aclose(self) -> None:
        await self._inner.aclose()
