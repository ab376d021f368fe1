"""Redaction: no key leaves this process in a text that is kept, shown or logged."""

from __future__ import annotations

import re

MASK = "[key removed]"
SHORTEST = 12
"""A shorter key is no secret but a placeholder for a local server ("token", "ok"), and its letters are in every reply."""
_KNOWN: set[str] = set()
"""Every key that this process has read, whichever service it is for."""
_PATTERN = re.compile(r"(?i:bearer\s+)[\w.~+/=-]{8,}|\b(?:sk-|tgp_)[\w-]{8,}")


def keep_secret(key: str) -> None:
    """Have a key removed from every text from now on."""
    if len(key) >= SHORTEST:
        _KNOWN.add(key)


def without_keys(text: str, *more: str | None) -> str:
    """The text without any key that is known to this process, and without those given, if long enough to be one."""
    for key in {*_KNOWN, *(key for key in more if key and len(key) >= SHORTEST)}:
        text = text.replace(key, MASK)
    return text


def redact(text: str, secret: str | None = None) -> str:
    """The text without any known key, the given one among them, and without anything that looks like a key."""
    return _PATTERN.sub(MASK, without_keys(text, secret))


def redact_bytes(body: bytes, secret: str | None, *, patterns: bool) -> bytes:
    """A body without any known key. Look-alikes go too when `patterns`: in error bodies, not in what a model wrote."""
    for key in {*_KNOWN, *([secret] if secret and len(secret) >= SHORTEST else [])}:
        body = body.replace(key.encode(), MASK.encode())
    if patterns and (b"earer" in body or b"EARER" in body or b"sk-" in body or b"tgp_" in body):
        body = redact(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    return body
