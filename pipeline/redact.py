"""Redaction: no key and no credential of an address leaves this process in a text that is kept, shown or logged."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote, urlsplit

MASK = "[key removed]"
SHORTEST = 12
"""A shorter key is no secret but a placeholder for a local server ("token", "ok"), and its letters are in every reply."""
_KNOWN: set[str] = set()
"""Every key that this process has read, whichever service it is for."""
_PATTERN = re.compile(r"(?i:bearer\s+)[\w.~+/=-]{8,}|\b(?:sk-|tgp_)[\w-]{8,}")
_USER_INFO = re.compile(r"(?<=\w:/)(/|(?=[^/\s@:'\"]+:))[^/\s@'\"]+@")
"""User and password of an address; also of one whose two slashes were made one, as pathlib does."""
_CREDENTIAL = r"[\w.-]*(?:sig|signature|credential|token|secret|password|passwd|pwd|auth|apikey|api_key|accesskeyid|access_key|key|code)"
_SIGNED = re.compile(rf"(?i)(?<=[?&;])({_CREDENTIAL}=)[^&;#\s'\"]+")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/[^\s'\"]+")


def keep_secret(key: str) -> None:
    """Have a key removed from every text from now on."""
    if len(key) >= SHORTEST:
        _KNOWN.update({key, json.dumps(key)[1:-1]})


def keep_address_secret(text: str) -> None:
    """Have the credentials of every address in a text (user, password, signature, token) removed from every text from now on."""
    for address in _ADDRESS.findall(text):
        try:
            parts = urlsplit(address)
        except ValueError:
            continue
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        items = (item.partition("=") for item in re.split("[&;]", parts.query))
        values = [value for name, _, value in items if re.fullmatch(_CREDENTIAL, unquote(name), re.IGNORECASE)]
        for secret in (password or user, *values):
            keep_secret(secret)
            keep_secret(unquote(secret))


def bare_address(address: str) -> str:
    """An address without user, password, query and fragment, as it may be shown and kept; a path as it is."""
    if "://" not in address:
        return _USER_INFO.sub(r"\1", address)
    return _USER_INFO.sub(r"\1", address).partition("?")[0].partition("#")[0]


def without_keys(text: str, *more: str | None) -> str:
    """The text without any key that is known to this process, and without those given, if long enough to be one."""
    for key in sorted({*_KNOWN, *(key for key in more if key and len(key) >= SHORTEST)}, key=len, reverse=True):
        text = text.replace(key, MASK)
    return text


def redact(text: str, secret: str | None = None) -> str:
    """The text without any known key, the given one among them, without anything that looks like a key, and with addresses
    that hold neither user, password nor signature."""
    text = _PATTERN.sub(MASK, without_keys(text, secret))
    if ":/" in text:
        text = _SIGNED.sub(rf"\1{MASK}", _USER_INFO.sub(r"\1", text))
    return text


def redact_bytes(body: bytes, secret: str | None, *, patterns: bool) -> bytes:
    """A body without any known key. Look-alikes go too when `patterns`: in error bodies, not in what a model wrote."""
    for key in {*_KNOWN, *([secret] if secret and len(secret) >= SHORTEST else [])}:
        body = body.replace(key.encode(), MASK.encode())
    if patterns and any(mark in body for mark in (b"earer", b"EARER", b"sk-", b"tgp_", b"://")):
        body = redact(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    return body
