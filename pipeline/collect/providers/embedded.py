"""Embedded: the demonstration models of this repository, which answer on this machine and cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.collect.providers.provider import Attempt
from pipeline.collect.providers.service import Service
from pipeline.collect.providers.wire_form import WireForm, encoded
from pipeline.collect.request import Request
from pipeline.config.task import Model, TaskConfig
from pipeline.demo import weights
from pipeline.demo.processes import Processes
from pipeline.demo.replies import HOST
from pipeline.errors import ConfigError
from pipeline.redact import redact_bytes
from pipeline.run.processors import processors


class Embedded:
    """Asks a model on this machine with the bytes that the SDK's client would send it; neither the SDK nor an HTTP client is loaded."""

    paid = False
    address = HOST

    def __init__(self, service: str, answers: Processes) -> None:
        self.service, self._answers = service, answers

    async def complete(self, request: Request) -> Attempt:
        """Ask once."""
        asked = WireForm()
        form = asked.named(request)
        try:
            raw = encoded(asked.body(request))
        except (ValueError, TypeError) as error:
            detail = f"{type(error).__name__}: {error}"[:300]
            return Attempt("not_sent", wire_form=form, host=HOST, problem="malformed", detail=detail)
        status, content = await self._answers.answer(raw)
        content = redact_bytes(content, None, patterns=status != 200)
        return Attempt("reply", status, content, wire_form=form, host=HOST)

    async def aclose(self) -> None:
        """End the processes that answer."""
        await self._answers.aclose()


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


def connect(found: Service, *, concurrency: int, allow_insecure: bool, forms: Mapping[str, str]) -> Embedded:
    """The model, in as many processes as the machine has processors."""
    path, model = found.source
    return Embedded(found.name, Processes(path, model, count=min(concurrency, processors())))
