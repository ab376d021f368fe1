"""Bounded: the body of a reply, decompressed, and no more of it than a reply can be."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

MOST_BYTES = 16_000_000
"""Of one reply after decompression; a label with its logprobs takes a few thousand."""
_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class TooLargeError(Exception):
    """The body goes on beyond MOST_BYTES."""


async def read(parts: AsyncIterator[bytes], encoding: str, most: int = MOST_BYTES) -> bytes:
    """The whole body, from what arrives of it, in memory never more than `most` bytes and what arrived last.

    Raises TooLargeError, and zlib.error for a body that is not in the encoding that it names.
    """
    window = _WINDOW.get(encoding.strip().lower())
    unpacker = None if window is None else zlib.decompressobj(window)
    out = bytearray()
    first = True
    async for part in parts:
        if unpacker is None:
            out += part
        else:
            if first and window == 15 and part[:1] and (part[0] & 0x0F) != 8:  # deflate without its header
                unpacker = zlib.decompressobj(-15)
            out += unpacker.decompress(part, most + 1 - len(out))
        first = False
        if len(out) > most:
            raise TooLargeError
    return bytes(out)
