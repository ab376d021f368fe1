"""Provider: what answers requests. One method; money, retries and storage are the sender's business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.collect.request import Request

KEPT_HEADERS = frozenset(
    {
        "x-request-id",
        "cf-ray",
        "retry-after",
        "retry-after-ms",
        "location",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-tokenlimit-limit",
        "x-tokenlimit-remaining",
    }
)
"""Headers of a reply that matter; none of them can carry a key."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the address and key of a request were set, so that a message can say what to change."""

    address: str = "the address"
    """A variable, or a key of the config."""
    key: str = "the key"
    """The variable that holds the key."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one try brought, uninterpreted.

    `arrival` is "reply" (an HTTP response came, whatever it says), "unknown" (the request left and no whole response
    came back: perhaps paid) or "not_sent" (no connection, so certainly free).
    """

    arrival: str
    http_status: int | None = None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    """From sending to the last byte; None where latency is meaningless (embedded, recorded)."""
    wire_form: str = ""
    host: str = ""
    problem: str = ""
    """Short name of what went wrong on the way: timeout, cut, refused ..."""
    detail: str = ""
    again: bool = False
    """The provider has just switched to another request form: ask again at once, this try does not count."""
    origin: Origin = Origin()


class Provider(Protocol):
    """A source of replies. `complete` never raises for what a service or network does; it returns it."""

    @property
    def service(self) -> str:
        """Name that enters the key of a request: "together", "embedded/...", "recorded/<digest>"."""

    @property
    def address(self) -> str:
        """Where requests go, for people: an address without credentials, or a file's name."""

    @property
    def paid(self) -> bool:
        """Whether a request costs money, so that every try is noted before it leaves."""

    async def complete(self, request: Request) -> Attempt:
        """Ask once."""

    async def aclose(self) -> None:
        """Release connections."""
