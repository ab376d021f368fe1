"""Services: who answers each role of a task, and connections to them. The providers' own files do the rest."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.collect.providers.provider import Provider
from pipeline.collect.providers.service import Service
from pipeline.config.providers import PROVIDERS
from pipeline.config.task import Model, TaskConfig

if TYPE_CHECKING:
    from pipeline.collect.providers.together_batch import TogetherBatch

MIXED = "mixed"


def provider_of(settings: Model, default: str) -> str:
    """The provider of one role: its own, or what `--provider` or the task says."""
    return settings.provider or default


def together_named(names: Mapping[str, str] | Mapping[str, Service]) -> str:
    """One name for a task's providers: that of all roles; "embedded" where one of them is, since no such answer is for production."""
    used = {name.provider if isinstance(name, Service) else name for name in names.values()}
    return next(iter(used)) if len(used) == 1 else "embedded" if "embedded" in used else MIXED


def service(config: TaskConfig, role: str, settings: Model, default: str) -> Service:
    """Who answers a role, where `default` is the provider of a role that names none. Sends nothing.

    Raises ConfigError or UsageError where the provider lacks something in the config or the environment.
    """
    name = provider_of(settings, default)
    made: Service = _file(name).service(config, role, settings)
    return made


def connect(
    found: Service, *, concurrency: int, allow_insecure: bool = False, forms: Mapping[str, str] | None = None
) -> Provider:
    """A connection, made anew for each use, since whoever uses it closes it. `forms`: how models there are known to be asked.

    Raises UsageError when a key is missing or would travel unencrypted.
    """
    made: Provider = _file(found.provider).connect(
        found, concurrency=concurrency, allow_insecure=allow_insecure, forms=forms or {}
    )
    return made


def connect_batch(
    found: Service, *, allow_insecure: bool = False, forms: Mapping[str, str] | None = None
) -> TogetherBatch:
    """A connection to a batch API. Raises as `connect`."""
    made: TogetherBatch = _file(found.provider).connect_batch(found, allow_insecure=allow_insecure, forms=forms or {})
    return made


def _file(name: str) -> Any:
    # loaded when it is asked for: the SDK takes a second, which commands that send nothing need not spend
    return import_module(f"pipeline.collect.providers.{PROVIDERS[name].module}")
