"""Job: one task being worked on: its config, rows, requests, replies and run directory."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cascade_threshold
from cascade_threshold.answers import AnswerSet
from pipeline.collect.data import dataset as datasets
from pipeline.collect.data.dataset import Dataset, Example
from pipeline.collect.providers import services
from pipeline.collect.providers.service import Service
from pipeline.collect.request import Request, digest, prompt_digest, request_for
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.config.providers import PROVIDERS
from pipeline.config.task import Human, Model, Split, TaskConfig
from pipeline.errors import ConfigError
from pipeline.run.diff import Changes, since_last_run
from pipeline.run.directory import STORE, Run

PACKAGES = ("together", "numpy", "scipy", "pandas", "scikit-learn", "pyarrow", "matplotlib")


@dataclass(frozen=True)
class Options:
    """What the command line may say about a job beside the config."""

    provider: str | None = None
    max_usd: float | None = None
    yes: bool = False
    limit: int | None = None
    concurrency: int | None = None
    predictions: Path | None = None
    runs_dir: Path = Path("runs")
    reports_dir: Path = Path("reports")
    quiet: bool = False
    allow_insecure: bool = False
    json: bool = False
    command: str = ""


class Job:
    """Everything the stages share. Reading it spends nothing."""

    def __init__(self, config: TaskConfig, options: Options, allowance: Allowance | None = None) -> None:
        """`allowance`: what the command may still spend, when other tasks share it."""
        self.config, self.options = config, options
        self.allowance = allowance or Allowance(options.max_usd)
        self.default_provider = options.provider or config.provider
        """Of a role that names none."""

    @cached_property
    def provider_names(self) -> dict[str, str]:
        """The provider of each role that a model answers; without models, that of the task."""
        models = {role: getattr(self.config, role) for role in self.roles}
        named = {
            role: services.provider_of(model, self.default_provider)
            for role, model in models.items()
            if isinstance(model, Model)
        }
        return named or {"cheap": self.default_provider}

    @property
    def provider(self) -> str:
        """One name for all roles' providers."""
        return services.together_named(self.provider_names)

    @cached_property
    def answers(self) -> AnswerSet | None:
        """The closed set of answers; None for kind choose, whose set depends on the row."""
        return self.config.answer_set

    @cached_property
    def dataset(self) -> Dataset:
        """The checked rows. Raises DataError before anything is sent."""
        canonical: Mapping[str, str] = {}
        fold = str.strip
        if self.answers is not None:
            fold = self.answers.fold  # type: ignore[assignment]
            canonical = {fold(label): label for label in self.answers.labels}
        rows = datasets.read(self.config, lambda text: canonical.get(fold(text)))
        return rows.limited(self.options.limit) if self.options.limit is not None else rows

    @property
    def split(self) -> Split:
        """Shares of the three uses of rows."""
        return Split() if self.config.dataset is None else self.config.dataset.split

    @property
    def prevalence(self) -> dict[str, float] | None:
        """Production's label mix, where the labeled set is enriched."""
        return None if self.config.dataset is None else self.config.dataset.prevalence

    @property
    def labeled(self) -> bool:
        """Whether right answers are known; otherwise only agreement of the two models can be judged."""
        return self.config.dataset is None or self.config.dataset.label is not None

    @property
    def human(self) -> Human | None:
        """People as the strong side, if so configured."""
        return self.config.strong if isinstance(self.config.strong, Human) else None

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that a model answers."""
        return ("cheap",) if self.human else ("cheap", "strong")

    def settings(self, role: str) -> Model:
        """The config of one role's model. Raises ConfigError when it is missing."""
        model = getattr(self.config, role)
        if not isinstance(model, Model):
            raise ConfigError(f"{self.config.source}: `{role}` is missing; only --predictions does without models")
        return model

    @cached_property
    def services(self) -> dict[str, Service]:
        """Who answers for each role under the chosen provider."""
        return {
            role: services.service(self.config, role, self.settings(role), self.default_provider) for role in self.roles
        }

    @property
    def costs_money(self) -> bool:
        """Whether sending a request of some role is paid for."""
        return any(PROVIDERS[name].costs_money for name in self.provider_names.values())

    def wanted(self, role: str) -> Iterator[Example]:
        """The rows that get an answer of this role, in the dataset's order."""
        return (e for e in self.dataset.examples if self.wants(role, e))

    def wants(self, role: str, example: Example) -> bool:
        """Whether a model of this role is asked about a row."""
        splits = getattr(getattr(self.config, role), "splits", None)
        return role in self.roles and (splits is None or example.split in splits)

    def request(self, role: str, example: Example) -> Request:
        """What is asked for one row."""
        service = self.services[role]
        return request_for(
            self.config, role, example.id, self.dataset.fields(example), service=service.name, model=service.model,
            options=None if example.options is None else len(example.options),
        )  # fmt: skip

    def requests(self, role: str) -> Iterator[Request]:
        """The requests of a role, one at a time."""
        return (self.request(role, e) for e in self.wanted(role))

    @cached_property
    def run(self) -> Run:
        """The directory of this question: same rows, prompt, models, splits and provider, same run."""
        return Run(self.options.runs_dir, self.config.task, self.run_id)

    @cached_property
    def run_id(self) -> str:
        """12 hex digits of the digest of what the replies depend on."""
        if self.options.predictions is not None:
            from pipeline.collect.data.predictions_file import file_digest

            return digest({"task": self.config.task, "predictions": file_digest(self.options.predictions)})[:12]
        assert self.config.prompt is not None and self.config.dataset is not None
        identity: dict[str, Any] = {
            "task": self.config.task, "kind": self.config.kind, "labels": self.config.labels, "dataset": self.dataset.digest,
            "prompt": prompt_digest(self.config.prompt), "split": self.config.dataset.split.model_dump(), "provider": self.provider,
            "human": bool(self.human), "limit": self.options.limit,
        }  # fmt: skip
        for role in self.roles:
            settings, service = self.settings(role), self.services[role]
            identity[role] = [service.name, service.model, settings.params, settings.top_logprobs if role == "cheap" else None,
                              list(getattr(settings, "splits", ())), service.provider, settings.constrain]  # fmt: skip
        return digest(identity)[:12]

    @property
    def store_path(self) -> Path:
        """The response store of all tasks."""
        return self.options.runs_dir / STORE

    def say(self, text: str) -> None:
        """A line about progress, on stderr."""
        if not self.options.quiet:
            print(f"{self.config.task}: {text}", file=sys.stderr, flush=True)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What run.json says of how this run came about, secrets never among it."""
        config = self.config
        models: dict[str, Any] = {}
        for role in self.roles if self.options.predictions is None else ():
            settings, service = self.settings(role), self.services[role]
            models[role] = {"name": service.model, "stands_in_for": service.stands_in_for, "params": settings.params,
                            **settings.prices, "service": service.name, "provider": service.provider,
                            "base_url": service.address, "constrain": settings.constrain}  # fmt: skip
        if self.human:
            models["strong"] = {"name": "people", "human": True, "usd_per_request": self.human.usd_per_request}
        digests: dict[str, Any] = {"config": digest(config.public())}
        if self.options.predictions is None and config.prompt is not None:
            digests |= {"dataset": self.dataset.digest, "prompt": prompt_digest(config.prompt)}
        places = {model["base_url"]: None for model in models.values() if model.get("base_url")}
        return {
            **({"base_url": ", ".join(places)} if places else {}),
            "command": self.options.command, "provider": self.provider if self.options.predictions is None else "given",
            "config": config.public(), "config_file": config.source.name, "digests": digests, "models": models,
            "versions": {"cascade-threshold": cascade_threshold.__version__, "python": ".".join(map(str, sys.version_info[:3])),
                         **{name: version(name) for name in PACKAGES}},
            "git": _git(),
        }  # fmt: skip

    def changes(self) -> Changes | None:
        """What differs from the task's last run; None for a first run, and for a table of predictions."""
        if self.options.predictions is not None:
            return None
        record = {**self.provenance, "counts": self.dataset.health}
        return since_last_run(self.options.runs_dir, self.config.task, self.run_id, record)


def now() -> str:
    """UTC time, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _git() -> dict[str, Any] | None:
    """Commit of the code and whether it was changed; None outside a checkout."""
    here = Path(__file__).resolve().parent.parent

    def ask(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603, S607
        return done.stdout.strip()

    try:
        if not Path(ask("rev-parse", "--show-toplevel")).joinpath("pipeline").samefile(here):
            return None
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None
