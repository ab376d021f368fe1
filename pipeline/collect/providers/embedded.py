"""Embedded: the demonstration models of this repository, which answer on this machine and cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.collect.providers.chat_api import ChatApi
from pipeline.collect.providers.service import Service
from pipeline.config.task import Model, TaskConfig
from pipeline.demo import weights
from pipeline.demo.processes import Processes
from pipeline.demo.transport import client
from pipeline.errors import ConfigError
from pipeline.run.processors import processors


def service(config: TaskConfig, role: str, settings: Model) -> Service:
    """The demonstration model that stands in for a role's model. Raises ConfigError when there is none."""
    where = config.source
    if settings.weights is None:
        raise ConfigError(
            f"{where}: {role}.weights is missing: provider embedded needs a demonstration model; or choose --provider together"
        )
    if settings.constrain is not None:
        raise ConfigError(
            f"{where}: {role}.constrain: demonstration models take no constraint; remove it, or choose another provider"
        )
    path = Path(config.resolve(settings.weights))
    try:
        model = weights.load(path)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"{where}: {role}.weights: {error}; `make train` creates the bundled ones") from None
    return Service("embedded", model.name, settings.model, (path, model), "embedded", role=role)


def connect(found: Service, *, concurrency: int, allow_insecure: bool, forms: Mapping[str, str]) -> ChatApi:
    """The model, asked with the bytes that the SDK's client would send it."""
    path, model = found.source
    answers = Processes(path, model, count=min(concurrency, processors()))
    return ChatApi(client([model]), answers=answers, service=found.name, paid=False, timed=False)
