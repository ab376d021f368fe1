"""Together: its chat API, asked as its SDK asks."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from together import AsyncTogether, DefaultAioHttpClient

from pipeline.collect.providers import address
from pipeline.collect.providers.chat_api import CONNECT_TIMEOUT_S, DEFAULT_CHAT_URL, READ_TIMEOUT_S, ChatApi, tls
from pipeline.collect.providers.service import Service
from pipeline.config.params import LENGTHS
from pipeline.config.providers import PROVIDERS
from pipeline.config.task import Model, TaskConfig
from pipeline.errors import ConfigError

DEFAULT = PROVIDERS["together"].address or ""


def service(config: TaskConfig, role: str, settings: Model, provider: str = "together") -> Service:
    """Who answers a role. Raises ConfigError without a bound on replies, UsageError for an address that is none."""
    if all(settings.params.get(name) is None for name in LENGTHS):
        raise ConfigError(
            f"{config.source}: {role}.params.max_tokens is required where requests cost money; a label needs few, for example 8"
        )
    found = address.place(role, provider, settings.base_url, settings.api_key_env)
    own = PROVIDERS[provider].address or ""
    name = address.service_name(address.chat_url(found.url or own))
    return Service(name, settings.model, source=found, provider=provider, address=found.url or own, role=role)


def connect(found: Service, *, concurrency: int, allow_insecure: bool, forms: Mapping[str, str]) -> ChatApi:
    """The API at the role's address. Raises UsageError when the key is missing, or would travel unencrypted."""
    place: address.Place = found.source
    key = address.key_for(place, DEFAULT, role=found.role, allow_insecure=allow_insecure)
    base = None if place.url is None else address.without_v1(place.url)
    chat_url = DEFAULT_CHAT_URL if base is None else "/v1/chat/completions"
    client = sdk_client(key, base, concurrency)
    return ChatApi(
        client,
        direct=True,
        service=found.name,
        chat_url=chat_url,
        forms=forms,
        keyless=key is None,
        origin=place.origin,
    )


def from_environment(
    *, concurrency: int, allow_insecure: bool = False, forms: Mapping[str, str] | None = None
) -> ChatApi:
    """Together for the key and the address in the environment, without a config. Raises as `connect`."""
    place = address.place("cheap", "together")
    found = Service(address.TOGETHER, "", source=place)
    return connect(found, concurrency=concurrency, allow_insecure=allow_insecure, forms=forms or {})


def sdk_client(key: str | None, base: str | None, concurrency: int) -> AsyncTogether:
    """The SDK's client over a transport with room for so many requests; no redirect is followed, no try repeated."""
    limits = httpx.Limits(max_connections=concurrency + 8, max_keepalive_connections=concurrency + 8)
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    http = DefaultAioHttpClient(verify=tls(), limits=limits, timeout=timeout, follow_redirects=False)
    # without an address the SDK reads its variable by itself
    return AsyncTogether(
        api_key=key or address.KEYLESS, base_url=base or address.without_v1(DEFAULT), max_retries=0, http_client=http
    )
