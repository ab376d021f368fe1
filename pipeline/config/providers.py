"""Providers: who can answer requests, each in one line. What a provider does is in its file under collect/providers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What is known of a provider without loading it."""

    module: str
    """Its file under pipeline/collect/providers, with `service` (who answers for a role) and `connect`."""
    costs_money: bool = False
    batch: bool = False
    """Whether requests are handed over as files and answered hours later."""
    address: str | None = None
    """Where it is unless said otherwise."""
    address_variable: str | None = None
    """Environment variable that may say otherwise."""
    key_variable: str | None = None
    """Environment variable with the key for that address; another address needs its own."""


PROVIDERS: dict[str, ProviderFacts] = {
    "embedded": ProviderFacts("embedded"),
    "together": ProviderFacts(
        "together", True, False, "https://api.together.ai/v1", "TOGETHER_BASE_URL", "TOGETHER_API_KEY"
    ),
    "together-batch": ProviderFacts(
        "together_batch", True, True, "https://api.together.ai/v1", "TOGETHER_BASE_URL", "TOGETHER_API_KEY"
    ),
    "openai-compatible": ProviderFacts(
        "openai_compatible", True, False, "https://api.openai.com/v1", "OPENAI_BASE_URL", "OPENAI_API_KEY"
    ),
    "recorded": ProviderFacts("recorded"),
}


def known(name: str) -> str:
    """The name of a provider. Raises ValueError that lists those there are."""
    if name not in PROVIDERS:
        raise ValueError(f"{name!r} is not a provider; choose from {', '.join(PROVIDERS)}")
    return name
