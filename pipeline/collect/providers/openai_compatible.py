"""OpenAI-compatible: any server of the wire format: OpenAI, Azure's v1 address, vLLM, llama.cpp, Ollama, a LiteLLM proxy ..."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.collect.providers import address, together
from pipeline.collect.providers.chat_api import ChatApi
from pipeline.collect.providers.service import Service
from pipeline.collect.providers.wire_form import BOOLEAN
from pipeline.config.providers import PROVIDERS
from pipeline.config.task import Model, TaskConfig

PROVIDER = "openai-compatible"


def service(config: TaskConfig, role: str, settings: Model, provider: str = PROVIDER) -> Service:
    """Who answers a role. `provider`: another name in PROVIDERS that is asked in the same form.

    Raises ConfigError without a bound on replies, UsageError for an address that is none.
    """
    return together.service(config, role, settings, provider)


def connect(found: Service, *, concurrency: int, allow_insecure: bool, forms: Mapping[str, str]) -> ChatApi:
    """The server at the role's address, asked in the form of OpenAI's API first.

    Raises UsageError when the key is missing, or would travel unencrypted.
    """
    place: address.Place = found.source
    own = PROVIDERS[found.provider].address or ""
    key = address.key_for(place, own, role=found.role, allow_insecure=allow_insecure)
    url = place.url or own
    client = together.sdk_client(key, address.without_v1(url), concurrency)
    return ChatApi(
        client,
        direct=True,
        service=found.name,
        chat_url=address.chat_url(url),
        forms=forms,
        first=BOOLEAN,
        keyless=key is None,
        origin=place.origin,
    )
