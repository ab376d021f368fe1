"""Service: what answers one role's requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.config.providers import PROVIDERS


@dataclass(frozen=True)
class Service:
    """Who answers for one role: the name in request keys, and the model's name there."""

    name: str
    """"together" for its own hosts, another server's address without credentials, "embedded", "recorded/<digest>"."""
    model: str
    stands_in_for: str | None = None
    source: Any = field(default=None, repr=False, compare=False)
    """The weight file and its model (embedded), the file (recorded), the place (an API)."""
    provider: str = "together"
    address: str | None = None
    """Where requests go, for people; None where nothing is sent."""
    role: str = "cheap"

    @property
    def costs_money(self) -> bool:
        """Whether sending a request is paid for."""
        return PROVIDERS[self.provider].costs_money

    @property
    def batch(self) -> bool:
        """Whether requests are handed over as files."""
        return PROVIDERS[self.provider].batch
