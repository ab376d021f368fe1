"""Align generated tokens with an answer's text, byte by byte.

The tokens' bytes are joined and the answer is located in them. Servers differ: tokens come without bytes, with the
marker characters of their vocabulary, with an end token, thoughts or special tokens listed; the text comes stripped, cut
at a stop word, or with characters that were lost. A position is returned only when it is certain; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from cascade_threshold import decorations
from cascade_threshold.completion import Alternative, Reply, Token

Spelling = Callable[[Token | Alternative], bytes]
"""Returns the bytes that a token stands for."""


class Span(NamedTuple):
    """The tokens that carry an answer."""

    first: int
    last: int
    """Inclusive."""
    lead: int
    """Bytes of the first token that stand before the answer (a space, a quote)."""
    spelling: Spelling


_new = tuple.__new__  # what the constructor of a NamedTuple calls, at half the cost
LOST = "\ufffd".encode()
SPECIAL = re.compile(decorations.SPECIAL.encode())
_OPENING = re.compile(rb"(?:\s|" + SPECIAL.pattern + rb")*")
_SPACE = b" \t\r\n\f\v"
_THOUGHT_END = re.compile(rb"(?:" + decorations.THOUGHT_END.encode() + rb")\s*\Z", re.IGNORECASE)
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def by_bytes(token: Token | Alternative) -> bytes:
    """The bytes that the API gave, else the token's text."""
    data = token.bytes
    return data if data is not None else token.token.encode("utf-8", "surrogatepass")


def by_text(token: Token | Alternative) -> bytes:
    """The token's text, for servers whose bytes are wrong."""
    return token.token.encode("utf-8", "surrogatepass")


def _byte_characters() -> dict[str, int]:
    """Character to byte of byte-level BPE vocabularies (Radford et al. 2019): printable bytes stand for themselves, the
    others are shifted above U+0100 in order, so that a space is U+0120."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    return table | {chr(0x100 + shift): byte for shift, byte in enumerate(others)}


_BYTE_OF = _byte_characters()


def by_bpe_marker(token: Token | Alternative) -> bytes:
    """Vocabulary entries of byte-level BPE, where U+0120 is a space."""
    text = token.token
    try:
        return bytes([_BYTE_OF[character] for character in text])
    except KeyError:
        return text.encode("utf-8", "surrogatepass")


def by_sentencepiece_marker(token: Token | Alternative) -> bytes:
    """Vocabulary entries of SentencePiece, where U+2581 is a space and <0xE2> a byte."""
    if byte := _BYTE_TOKEN.fullmatch(token.token):
        return bytes([int(byte[1], 16)])
    return token.token.replace("\u2581", " ").encode("utf-8", "surrogatepass")


_SPELLINGS: tuple[Spelling, ...] = (by_bytes, by_text, by_bpe_marker, by_sentencepiece_marker)


def locate(reply: Reply, text: str, start: int, end: int) -> Span | None:
    """Tokens that carry ``text[start:end]``, or None when that is not certain. Time is linear in the reply."""
    tokens = reply.tokens or ()
    content = text.encode("utf-8", "surrogatepass")
    if not text.isascii():
        end = len(text[:end].encode("utf-8", "surrogatepass"))
        start = len(text[:start].encode("utf-8", "surrogatepass"))
    if len(tokens) == 1 and tokens[0].bytes == content:
        return _new(Span, (0, 0, start, by_bytes))
    for spelling in _SPELLINGS:
        pieces = [spelling(token) for token in tokens]
        stream = b"".join(pieces)
        offset = start if stream == content else _offset(stream, pieces, content, start, end, reply.has_reasoning)
        if offset is not None:
            return Span(*_span(pieces, offset, offset + end - start), spelling)
    return None


def _span(pieces: list[bytes], start: int, end: int) -> tuple[int, int, int]:
    first = last = lead = position = 0
    for index, piece in enumerate(pieces):
        after = position + len(piece)
        if position <= start < after:
            first, lead = index, start - position
        if position < end <= after:
            last = index
            break
        position = after
    # Some servers hold back the bytes of an unfinished character: its first tokens come empty, before the whole.
    if lead == 0 and pieces[first][0] >= 0x80:
        while first > 0 and not pieces[first - 1]:
            first -= 1
    return first, last, lead


def _offset(
    stream: bytes, pieces: list[bytes], content: bytes, start: int, end: int, has_reasoning: bool
) -> int | None:
    """Where the answer ``content[start:end]`` begins in the stream, which differs from the content."""
    answer = content[start:end]
    from_end = from_start = None
    tail, body = content[start:].rstrip(), _without_ending(stream)
    if body.endswith(tail):
        from_end = len(body) - len(tail)
    head, skipped = content[:end].lstrip(), _beginning(stream)
    if stream.startswith(head, skipped):
        offset = skipped + len(head) - len(answer)
        if _ends_cleanly(pieces, stream, content, offset + len(answer), end):
            from_start = offset
    if from_end is not None and from_start not in (None, from_end):
        # the text occurs at the start and again at the end: only reasoning explains that
        return from_end if has_reasoning or _THOUGHT_END.search(stream[:from_end]) else None
    if from_start is not None:
        return from_start
    if from_end is not None and (has_reasoning or _explains(stream[:from_end], content[:start])):
        return from_end
    if (
        LOST in stream or LOST in content
    ):  # characters were lost on both sides of the answer; its delimiters still locate it
        pinned = content[max(0, start - 1) : end + 1]
        if len(pinned) == len(answer) + 2 and stream.count(pinned) == 1 == content.count(pinned):
            return stream.index(pinned) + 1
    return None


def _explains(before: bytes, said: bytes) -> bool:
    """Whether everything in the stream before the answer is accounted for: the text before it, space, a special token, the
    end of thoughts, or the same with characters lost."""
    left = before.strip()
    if left == said.strip() or not left or _THOUGHT_END.search(before):
        return True
    specials = list(SPECIAL.finditer(before))
    if specials and before[specials[-1].end() :].strip() == said.strip():
        return True
    return LOST in before or LOST in said


def _without_ending(stream: bytes) -> bytes:
    """The stream without trailing white space and end tokens."""
    end = len(stream)
    while True:
        while end and stream[end - 1] in _SPACE:
            end -= 1
        ending = stream[max(0, end - 64) : end]
        specials = list(SPECIAL.finditer(ending)) if ending.endswith((b">", b"]", b"\xb7")) else []
        if not specials or specials[-1].end() != len(ending):
            return stream[:end]
        end -= len(ending) - specials[-1].start()


def _beginning(stream: bytes) -> int:
    """Bytes of leading white space and special tokens."""
    found = _OPENING.match(stream)
    return found.end() if found else 0


def _ends_cleanly(pieces: list[bytes], stream: bytes, content: bytes, offset: int, end: int) -> bool:
    """Whether the stream goes on as the text does, or the text was cut (at a stop word) where a token ends."""
    rest = content[end:]
    if rest and stream.startswith(rest, offset):
        offset += len(rest)
        rest = b""
    if rest:
        return LOST in rest or LOST in stream[offset:]
    position = 0
    for piece in pieces:
        position += len(piece)
        if position >= offset:
            return position == offset or not _without_ending(stream[offset:])
    return False
