"""Redaction: no key leaves this process in a text that is kept, shown or logged."""

from __future__ import annotations

import re

MASK = "[key removed]"
SHORTEST = 12
"""A shorter key is no secret but a placeholder for a local server ("token", "ok"), and its letters are in every reply."""
_PATTERN = re.compile(r"(?i:bearer\s+)[\w.~+/=-]{8,}|\b(?:sk-|tgp_)[\w-]{8,}")


def redact(text: str, secret: str | None = None) -> str:
    """The text without the given secret, if it is long enough to be one, and without anything that looks like a key."""
    if secret and len(secret) >= SHORTEST:
        text = text.replace(secret, MASK)
    return _PATTERN.sub(MASK, text)


def redact_bytes(body: bytes, secret: str | None, *, patterns: bool) -> bytes:
    """A body without the secret. Look-alikes go too when `patterns`: in error bodies, not in what a model wrote."""
    if secret and len(secret) >= SHORTEST and secret.encode() in body:
        body = body.replace(secret.encode(), MASK.encode())
    if patterns and (b"earer" in body or b"EARER" in body or b"sk-" in body or b"tgp_" in body):
        body = redact(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    return body
