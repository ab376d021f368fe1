"""Bounded: the body of a reply, decompressed, and no more of it than a reply can be."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MOST_BYTES = 16_000_000
"""Of one reply after decompression; a label with its logprobs takes a few thousand."""
_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_GZIP = b"\x1f\x8b"
PIECE = 1 << 16


class TooLargeError(Exception):
    """The body goes on beyond the limit."""


async def read(parts: AsyncIterable[bytes], encoding: str, most: int = MOST_BYTES) -> bytes:
    """The whole body, from what arrives of it, in memory never more than `most` bytes and what arrived last.

    Raises TooLargeError, and zlib.error for a body that is not in the encoding that it names.
    """
    out = bytearray()
    async for piece in unpacked(parts, encoding, most):
        out += piece
    return bytes(out)


async def unpacked(parts: AsyncIterable[bytes], encoding: str, most: int) -> AsyncIterator[bytes]:
    """The pieces of a body, decompressed. Raises as `read` does, also where more than `most` bytes arrive that hold less."""
    window = _WINDOW.get(encoding.strip().lower())
    unpacker = None if window is None else zlib.decompressobj(window)
    arrived = given = 0
    async for part in parts:
        if unpacker is not None and not arrived and window == 15 and part and (part[0] & 0x0F) != 8:
            unpacker = zlib.decompressobj(-15)  # deflate without its header
        arrived += len(part)
        full = False
        while part or full:
            if unpacker is None:
                piece, part, full = part, b"", False
            elif not unpacker.eof:
                piece = unpacker.decompress(part, PIECE)
                part = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
                full = len(piece) == PIECE  # more may be to come of what was taken in
            elif window == _WINDOW["gzip"] and part.startswith(_GZIP):
                unpacker = zlib.decompressobj(window)  # a further member
                continue
            else:
                break  # what follows the end is padding
            given += len(piece)
            if given > most:
                raise TooLargeError
            yield piece
        if arrived > most:
            raise TooLargeError


most_now: ContextVar[int] = ContextVar("most", default=MOST_BYTES)
"""Bytes of the bodies that a `BoundedTransport` gives."""


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Within it, a `BoundedTransport` gives bodies of up to so many bytes."""
    token = most_now.set(size)
    try:
        yield
    finally:
        most_now.reset(token)
