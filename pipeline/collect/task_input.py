"""TaskInput: the inputs of a task: its config, its rows, its models and the requests to them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from cascade_threshold.answers import AnswerSet
from cascade_threshold.signals import SIGNALS
from pipeline import terminal
from pipeline.collect.data import dataset as datasets
from pipeline.collect.data.dataset import Dataset
from pipeline.collect.data.examples import Example, TextsById
from pipeline.collect.data.text_column import PIECE
from pipeline.collect.providers import services
from pipeline.collect.providers.service import Service
from pipeline.collect.request import Request, letters, prompt_digest, request_for
from pipeline.collect.request_keys import RequestKeys
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.config.providers import PROVIDERS
from pipeline.config.split import POOLED, Split
from pipeline.config.strong_answers import Human
from pipeline.config.task import Model, TaskConfig
from pipeline.config.vocabulary import ROLES
from pipeline.errors import ConfigError, DataError, UsageError
from pipeline.run.decision import Decision, decision_id
from pipeline.run.digests import digest, file_digest
from pipeline.run.directory import GRADED, STORE, Run
from pipeline.run.record import Digests, Side


@dataclass(frozen=True)
class TaskInput:
    """The inputs of a task. Immutable; rows are read and requests rendered on first use."""

    config: TaskConfig
    options: Options

    @property
    def default_provider(self) -> str:
        """Who answers a role that names no provider: what the command line says, or the config."""
        return self.options.provider or self.config.provider

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

    @property
    def table(self) -> Path | None:
        """The table of predictions that stands in for rows and replies."""
        named = self.config.predictions
        if (
            self.options.predictions is None
            and named is not None
            and named.path is not None
            and self.config.dataset is None
        ):
            return Path(self.config.resolve(named.path))
        return self.options.predictions

    @cached_property
    def answers(self) -> AnswerSet | None:
        """The closed set of answers; None for kind choose, whose set depends on the row."""
        return self.config.answer_set

    @cached_property
    def dataset(self) -> Dataset:
        """The checked rows. Raises DataError before anything is sent."""
        rows = datasets.read(self.config, self.config.answer_set.label_of if self.config.answer_set else lambda _: None)
        return rows.limited(self.options.limit) if self.options.limit is not None else rows

    @property
    def split(self) -> Split:
        """Shares of the three uses of rows. A table names its confidence, so nothing is left to fit."""
        stated = self.config.dataset is not None and self.config.dataset.split is not None
        return POOLED if self.table is not None and not stated else self.config.split

    @property
    def prevalence(self) -> dict[str, float] | None:
        """Production's label mix, where the labeled set is enriched."""
        return None if self.config.dataset is None else self.config.dataset.prevalence

    @property
    def labeled(self) -> bool:
        """Whether right answers are known; otherwise only the agreement of the two models can be measured."""
        return self.config.dataset is None or self.config.dataset.label is not None

    @property
    def human(self) -> Human | None:
        """People as the strong side, if so configured."""
        return self.config.strong if isinstance(self.config.strong, Human) else None

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that a model answers."""
        return ("cheap",) if self.human else ROLES

    def settings(self, role: str) -> Model:
        """The config of one role's model. Raises ConfigError when it is missing."""
        model = getattr(self.config, role)
        if not isinstance(model, Model):
            raise ConfigError(
                f"{self.config.source}: `{role}` is missing, so no model can be asked; for a table of predictions use --predictions FILE, "
                "or predictions: {path: ...} in the config"
            )
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

    def is_read_from_file(self, role: str) -> bool:
        """Whether a role's replies are read from a file as they are needed: the store keeps what would have to be paid again."""
        return self.services[role].provider == "recorded" and not self.costs_money

    def wants(self, role: str, split: str) -> bool:
        """Whether an answer of this role is wanted for the rows of a split, of a model or of people."""
        return role == "cheap" or split in self._strong_splits

    @cached_property
    def _strong_splits(self) -> tuple[str, ...]:
        return self.config.strong_splits

    def requests(self, role: str) -> Sequence[Request]:
        """The requests of a role, in the order of the rows: each is rendered once, and its key computed once."""
        return self._requests[role]

    @cached_property
    def _requests(self) -> dict[str, list[Request]]:
        return {
            role: [self._request(role, e) for e in self.dataset.examples if self.wants(role, e.split)]
            for role in self.roles
        }

    def request_ids(self, roles: Iterable[str], examples: Sequence[Example]) -> dict[str, dict[str, str]]:
        """By role and row id, the keys of the requests of some rows, without those that want none."""
        found: dict[str, dict[str, str]] = {role: {} for role in roles}
        rendered = {role: self._keys[role] for role in found if self.is_read_from_file(role)}
        for role in found.keys() - rendered.keys():
            known = self._ids[role]
            found[role] = {e.id: known[e.id] for e in examples if e.id in known}
        for e in examples if rendered else ():
            options = None if e.options is None else len(e.options)
            messages = next(iter(rendered.values())).messages(self.dataset.fields(e))
            for role, keys in rendered.items():
                if self.wants(role, e.split):
                    found[role][e.id] = keys.key(e.id, messages, options)
        return found

    @cached_property
    def _keys(self) -> dict[str, RequestKeys]:
        asked = ((role, self.services[role]) for role in self.roles)
        return {role: RequestKeys(self.config, role, service=s.name, model=s.model) for role, s in asked}

    @cached_property
    def _ids(self) -> dict[str, dict[str, str]]:
        return {role: {r.example_id: r.request_id for r in requests} for role, requests in self._requests.items()}

    def _request(self, role: str, example: Example) -> Request:
        service = self.services[role]
        return request_for(
            self.config,
            role,
            example.id,
            self.dataset.fields(example),
            service=service.name,
            model=service.model,
            options=None if example.options is None else len(example.options),
        )

    @property
    def texts(self) -> TextsById | None:
        """The text of each row by its id; None for a table of predictions, which has none."""
        return None if self.table is not None else TextsById(self.dataset.examples)

    @property
    def option_letters(self) -> dict[str, tuple[str, ...]] | None:
        """Kind choose: the letters that name each row's options, by its id."""
        if self.config.kind != "choose":
            return None
        return {e.id: letters(len(e.options or ())) for e in self.dataset.examples}

    @property
    def data_name(self) -> str:
        """Name of the data in the promise."""
        return self.table.name if self.table is not None else f"the rows of {self.config.task}"

    def contents(self, ids: Iterable[str]) -> list[str]:
        """What tells these rows from others, whatever they are called and however they are written: their normalised texts."""
        texts = {e.id: datasets.normalised(e.texts) for e in self.dataset.examples}
        return [texts[example_id] for example_id in ids]

    def content_digests(self, ids: Iterable[str]) -> Iterator[str]:
        """sha256 of each of these rows' `contents`, in hex."""
        examples, rest = self.dataset.examples, iter(ids)
        while piece := list(islice(rest, PIECE)):
            for content in examples.contents_at(examples.places.find(piece)).tolist():
                yield content.hex()

    @property
    def asked(self) -> list[Any]:
        """Prompt and models, as far as they make a question another one; nothing with a table of predictions."""
        if self.table is not None or self.config.prompt is None:
            return []
        names = {role: self.settings(role).model for role in self.roles}
        return [prompt_digest(self.config.prompt), names, bool(self.human)]

    @cached_property
    def run(self) -> Run:
        """The directory of what depends on the replies: same rows, prompt, models and provider, same run."""
        return Run(self.options.runs_dir, self.config.task, self.run_id)

    @cached_property
    def run_id(self) -> str:
        """12 hex digits of the digest of what the replies depend on."""
        if self.table is not None:
            identity: dict[str, Any] = {"task": self.config.task, "predictions": self._table_digest}
            if (said := self.config.predictions) is not None:
                identity |= {"confidence": said.confidence, "columns": said.columns}
            return digest(identity)[:12]
        if self.config.prompt is None or self.config.dataset is None:
            raise ConfigError(
                f"{self.config.source}: has no {'dataset' if self.config.dataset is None else 'prompt'}: this command needs --predictions FILE, "
                "a table of predictions, or predictions: {path: ...} in the config"
            )
        identity = {
            "task": self.config.task,
            "kind": self.config.kind,
            "labels": self.config.labels,
            "dataset": self.dataset.digest,
            "prompt": prompt_digest(self.config.prompt),
            "provider": self.provider,
            "human": bool(self.human),
            "limit": self.options.limit,
        }
        for role in self.roles:
            settings, service = self.settings(role), self.services[role]
            identity[role] = [
                service.name,
                service.model,
                settings.params,
                settings.top_logprobs if role == "cheap" else None,
                service.provider,
                settings.constrain,
            ]
        return digest(identity)[:12]

    @property
    def decision(self) -> Decision:
        """The directory of what is decided from the graded rows as they lie there now, under this config.

        Raises UsageError where there are none yet.
        """
        path = self.run.directory / GRADED
        if not path.is_file():
            raise UsageError(
                f"{self.run.directory}: this decision was never computed: there are no graded rows; run the stage `measure` first, or all of them: {self.remedy}"
            )
        versions = {name: signal.version for name, signal in SIGNALS.items()}
        found = decision_id(self.config, self.run_id, file_digest(path), versions, self.split.model_dump(mode="json"))
        return Decision(self.run, found, remedy=self.remedy)

    @property
    def remedy(self) -> str:
        """The command that computes this decision."""
        given = [("--set", item) for item in self.options.set]
        given += [("--limit", str(self.options.limit))] if self.options.limit is not None else []
        given += [("--provider", self.options.provider)] if self.options.provider is not None else []
        given += [("--predictions", str(self.options.predictions))] if self.options.predictions is not None else []
        folders = {"--runs-dir": self.options.runs_dir, "--reports-dir": self.options.reports_dir}
        usual = {"--runs-dir": Options.runs_dir, "--reports-dir": Options.reports_dir}
        given += [(name, str(folder)) for name, folder in folders.items() if folder != usual[name]]
        return shlex.join(
            ["python", "-m", "pipeline", "evaluate", self._named, *(word for pair in given for word in pair)]
        )

    @property
    def _named(self) -> str:
        """The task as a command finds its config from here: by its name, else by its path."""
        usual = yaml_file.CONFIGS / f"{self.config.task}.yaml"
        source = self.config.source
        if source == usual.resolve():
            return self.config.task
        here = Path.cwd()
        return str(source.relative_to(here)) if source.is_relative_to(here) else str(source)

    @property
    def plain(self) -> bool:
        """Whether the config speaks for itself, so that what comes of it is the task's latest decision."""
        return not self.options.set and self.options.limit is None and self.options.provider is None

    @cached_property
    def _table_digest(self) -> str:
        assert self.table is not None
        try:
            return file_digest(self.table)
        except OSError as error:
            raise DataError(
                f"{self.table}: cannot be read: {error.strerror}; --predictions takes a .parquet, .csv or .jsonl table"
            ) from None

    @property
    def store_path(self) -> Path:
        """The response store of all tasks."""
        return self.options.runs_dir / STORE

    @cached_property
    def digests(self) -> Digests:
        """Digests of what the task is made of, as run.json and the policy name them."""
        asks = self.table is None and self.config.prompt is not None
        return Digests(
            config=digest(self.config.public()),
            dataset=self.dataset.digest if asks else None,
            prompt=prompt_digest(self.config.prompt) if asks and self.config.prompt is not None else None,
        )

    @property
    def models(self) -> dict[str, Side]:
        """Both sides as run.json and the policy name them; none of a table of predictions."""
        models: dict[str, Side] = {}
        for role in self.roles if self.table is None else ():
            settings, service = self.settings(role), self.services[role]
            models[role] = Side(
                name=service.model,
                stands_in_for=service.stands_in_for,
                params=settings.params,
                **settings.prices,
                service=service.name,
                provider=service.provider,
                base_url=service.address,
                constrain=settings.constrain,
            )
        if self.human:
            models["strong"] = Side(name="people", human=True, usd_per_request=self.human.usd_per_request)
        return models

    def say(self, text: str) -> None:
        """A line about progress, on stderr."""
        if not self.options.quiet:
            terminal.say(f"{self.config.task}: {text}", error=True)
