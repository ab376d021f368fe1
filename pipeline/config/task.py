"""TaskConfig: everything a task's YAML file may say, checked before anything is read, sent or paid."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    PrivateAttr,
    StrictInt,
    StrictStr,
    Tag,
    field_validator,
    model_validator,
)

from cascade_threshold.answers import AnswerSet
from cascade_threshold.pricing import Price, price_of
from pipeline.config import providers, target_rules
from pipeline.config.judge import Judge
from pipeline.config.limits import MOST_REQUESTS
from pipeline.config.names import CalibrationName, KindName, SignalName, SplitName
from pipeline.config.params import require_params
from pipeline.config.part import Dollars, Part, Share
from pipeline.config.price import HourPrice, TokenPrice
from pipeline.config.prompt import Prompt
from pipeline.config.split import FITTED_SIGNALS, Split, layout, strong_splits
from pipeline.config.strong_answers import Human, StrongAnswers, StrongTable, strong_side
from pipeline.config.target import Target
from pipeline.config.vocabulary import SPLITS
from pipeline.errors import ConfigError
from pipeline.redact import bare_address

ADDRESSES = frozenset({"path", "replies", "weights", "base_url"})
"""Keys of a config's parts that may hold an address."""


class Dataset(Part):
    """Where the rows are and which column means what."""

    path: StrictStr
    """.jsonl, .csv or .parquet; relative to the config, absolute, or an fsspec address."""
    id: StrictStr | None = None
    """Column with a unique id; without it the id is a digest of the content."""
    label: StrictStr | None = None
    """Column with the right answer; without it only the target agree_with_strong is possible."""
    options: StrictStr | None = None
    """Kind choose: column with the row's options."""
    group: StrictStr | None = None
    """Rows of one group stay in one split, and the promise is about groups."""
    segment: StrictStr | None = None
    """Column by which results are reported separately."""
    split: Split | None = None
    """Which rows fit, certify and test; left out: see TaskConfig.split."""
    prevalence: dict[StrictStr, Share] | None = None
    """Production's label mix where the labeled set is enriched; re-weights estimates, never the promise."""

    @field_validator("prevalence")
    @classmethod
    def _mix(cls, mix: dict[str, float] | None) -> dict[str, float] | None:
        if mix is not None and abs(sum(mix.values()) - 1) > 1e-6:
            raise ValueError(f"shares must sum to 1, got {sum(mix.values()):g}")
        return mix


class Model(Part):
    """The cheap model, and what is sent with each request."""

    model: StrictStr = Field(min_length=1)
    """Its name, as the service spells it; a dated one does not move."""
    provider: StrictStr | None = None
    """Who answers this role; left out: the task's provider."""
    base_url: StrictStr | None = None
    """Address of the service; left out: the provider's."""
    api_key_env: StrictStr | None = None
    """Name of the environment variable that holds the key for that address; a loopback address needs none."""
    constrain: Literal["answers"] | None = None
    """Whether the server is told to allow only the row's answers; production then sends the same."""
    usd_per_million_tokens: TokenPrice | None = None
    """One of the three prices must stand; those that stand add up."""
    usd_per_request: Dollars | None = None
    """Instead of a price of tokens, or beside it."""
    usd_per_hour: HourPrice | None = None
    """Dedicated hardware."""
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=20)] = 5
    """Alternatives wanted per token (cheap role); 0 asks for the logprob of the token alone, and one comes with it."""
    params: dict[StrictStr, Any] = Field(default_factory=dict)
    """Sampling parameters, sent as they are; max_tokens is required where a request costs money."""
    replies: StrictStr | None = None
    """Recorded provider: file of replies."""
    weights: StrictStr | None = None
    """Embedded provider: file of the demonstration model that stands in for `model`."""

    @field_validator("provider")
    @classmethod
    def _provider(cls, name: str | None) -> str | None:
        return None if name is None else providers.known(name)

    @model_validator(mode="after")
    def _address(self) -> Self:
        # checked here and not as a field, whose value the message would show
        parts = urlsplit(self.base_url or "https://left.out")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("base_url is not an http(s) address: write it as https://host[:port][/path]")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "base_url holds a user name, a query or a fragment: leave them out, and name the variable of the key under api_key_env"
            )
        if self.api_key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", self.api_key_env):
            raise ValueError(
                "api_key_env is the name of an environment variable such as OPENAI_API_KEY, never the key itself"
            )
        if self.constrain and "response_format" in self.params:
            raise ValueError("constrain sets response_format; remove it from params")
        return self

    @field_validator("params")
    @classmethod
    def _params(cls, params: dict[str, Any]) -> dict[str, Any]:
        require_params(params)
        return params

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.usd_per_million_tokens is None and self.usd_per_request is None and self.usd_per_hour is None:
            raise ValueError(
                "no price: write usd_per_million_tokens {input, output, as_of, source}, usd_per_request or usd_per_hour; "
                "a model that costs nothing has usd_per_request: 0"
            )
        return self

    @property
    def prices(self) -> dict[str, Any]:
        """The prices as plain JSON values, as `price_of` reads them; those that do not stand are None."""
        names = ("usd_per_million_tokens", "usd_per_request", "usd_per_hour")
        held = {name: getattr(self, name) for name in names}
        return {
            n: v.model_dump(mode="json", exclude_none=True) if isinstance(v, BaseModel) else v for n, v in held.items()
        }

    @property
    def price(self) -> Price:
        """What a reply costs."""
        found = price_of(self.prices)
        assert found is not None
        return found


class Strong(Model, StrongAnswers):
    """The strong model, the reference."""

    splits: tuple[SplitName, ...] | None = None
    """Splits whose rows get a strong answer; left out: those of which one is read."""
    human: Literal[False] = False
    """True: people are the strong side, see Human."""


class PredictionsTable(Part):
    """A table of predictions that somebody already has, in place of dataset, prompt and models."""

    path: StrictStr | None = None
    """.parquet, .csv or .jsonl, relative to the config; --predictions FILE goes before it."""
    confidence: Literal["probability", "percent", "logprob"] = "probability"
    """How the column confidence is written."""
    columns: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    """The table's own name of a column, by the name used here: {confidence: score, cheap_correct: ok}."""


class Report(Part):
    """What the page may contain."""

    examples: Literal["full", "none"] = "full"
    """none: the page shows no row's text."""


class Looks(Part):
    """How often growing rows will be asked for a certificate: certainty is shared over so many looks."""

    planned: Annotated[StrictInt, Field(ge=1, le=10_000)]
    """Each look is tested at its share of the error probability."""


class Volume(Part):
    """What production sends, so that the page can speak of dollars a month."""

    requests_per_month: Annotated[StrictInt, Field(gt=0, le=MOST_REQUESTS)]
    """Requests in a month of production."""


class TaskConfig(Part):
    """One task. `dataset`, `prompt` and the models may be missing only when a table of predictions is given."""

    task: StrictStr
    """Its name: a-z, 0-9 and _; it names folders."""
    kind: KindName
    """classify: one of `labels`; choose: one of the row's options; judge: yes or no."""
    description: StrictStr = ""
    """One sentence for the head of the page."""
    dataset: Dataset | None = None
    """The labeled rows."""
    labels: tuple[StrictStr, ...] | None = None
    """The closed set of answers, as the model is to spell them."""
    judge: Judge | None = None
    """Kind judge: which label means yes."""
    predictions: PredictionsTable | None = None
    """A table in place of rows, prompt and models."""
    prompt: Prompt | None = None
    """The messages that each row is put into."""
    provider: StrictStr = "embedded"
    """Who answers a role that names no provider of its own."""
    cheap: Model | None = None
    """The model that answers first."""
    strong: (
        Annotated[
            Annotated[Strong, Tag("<model>")]
            | Annotated[Human, Tag("<people>")]
            | Annotated[StrongTable, Tag("<table>")],
            Discriminator(strong_side),
        ]
        | None
    ) = None
    """The model, or the people, that unsure requests are handed to."""
    signal: SignalName | None = None
    """How a reply's confidence is read; left out: label_probability or label_sequence, by what the replies hold."""
    calibration: CalibrationName = "auto"
    """How confidence becomes a probability; it changes no decision."""
    target: Target
    """What the threshold must keep."""
    max_failure_rate: Share = 0.01
    """Share of rows that may fail before nothing is recommended (exit 4)."""
    max_unreadable: Share = 0.05
    """Share of strong replies that may be no answer of the set before nothing that compares with the strong model is promised."""
    looks: Looks | None = None
    """Plan of looks at growing rows."""
    review_after_days: Annotated[StrictInt, Field(gt=0, le=36_500)] = 90
    """After so many days the policy says that it is due for review."""
    volume: Volume | None = None
    """What production sends."""
    report: Report = Report()
    """What the page may contain."""
    seed: Annotated[StrictInt, Field(ge=0)] = 20
    """Seed of everything random."""

    _source: Path = PrivateAttr(default=Path("config.yaml"))

    @field_validator("provider")
    @classmethod
    def _provider(cls, name: str) -> str:
        return providers.known(name)

    @field_validator("task")
    @classmethod
    def _name(cls, task: str) -> str:
        if not re.fullmatch(r"[a-z0-9_]{1,64}", task):
            raise ValueError("a task's name is made of a-z, 0-9 and _ only, at most 64 of them (it names folders)")
        return task

    @field_validator("labels")
    @classmethod
    def _labels(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None:
            if len(labels) < 2:
                raise ValueError("at least two labels are needed")
            twice = [label for label in labels if sum(label.strip() == x.strip() for x in labels) > 1]
            if twice:
                raise ValueError(f"label {twice[0]!r} is listed twice")
            if any(not label.strip() for label in labels):
                raise ValueError("a label is blank")
        return labels

    @property
    def tested_target(self) -> Target:
        """The target as one look tests it: with planned looks, each may break its share of what all together may."""
        if self.looks is None:
            return self.target
        return self.target.model_copy(update={"certainty": 1 - self.target.delta / self.looks.planned})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.strong, StrongAnswers):
            self.strong.require(self.target.kind, self.target.usd_per_1000 is not None, self.requests_per_year)
        if self.kind == "classify" and self.labels is None and self.dataset is not None:
            raise ValueError(
                "kind classify needs `labels`, the closed set of answers; open-ended generation has no answer set, "
                "so its logprobs say nothing about being right, and no threshold can be certified"
            )
        if self.judge is not None and self.kind != "judge":
            raise ValueError(f"judge belongs to kind judge, not to {self.kind}")
        if self.kind == "choose" and self.dataset is not None and not self.dataset.options:
            raise ValueError("kind choose needs dataset.options, the column with the row's options")
        if self.dataset is not None and self.split.fit == 0 and self.signal in FITTED_SIGNALS:
            raise ValueError(
                f"signal {self.signal} is chosen on fit rows, and split.fit is 0: name a signal, leave it out (then the replies' "
                "shape decides), or give fit a share"
            )
        if self.dataset is not None and not self.dataset.label and self.target.kind != "agree_with_strong":
            raise ValueError(f"without dataset.label only target agree_with_strong is possible, not {self.target.kind}")
        if self.dataset is not None and not self.dataset.label and isinstance(self.strong, Strong | Human):
            if isinstance(self.strong, Human):
                raise ValueError("people's answers are the labels, so strong.human needs dataset.label, their column")
            if self.split.fit > 0 and "fit" not in self.strong_splits:
                raise ValueError(
                    "without labels the strong model's answers are the reference, so it must answer the fit rows too: "
                    "add fit to strong.splits"
                )
        known = set(self.answers or ())
        groups, floors = self.target.label_groups or {}, self.target.segment_floors or {}
        if floors and self.dataset is not None and not self.dataset.segment:
            raise ValueError("target.segment_floors needs dataset.segment, the column that names a row's segment")
        for where, names in (
            ("dataset.prevalence", self.dataset and self.dataset.prevalence),
            ("target.label_floors", set(self.target.label_floors or ()) - set(groups)),
            ("target.label_groups", {label for members in groups.values() for label in members}),
            ("target.usd_per_error", target_rules.named_labels(self.target.usd_per_error)),
            (
                "target.segment_floors",
                {label for floor in floors.values() if isinstance(floor, dict) for label in floor},
            ),
        ):
            extra = set(names or ()) - known
            if extra and known:
                raise ValueError(f"{where} names {sorted(extra)[0]!r}, which is not one of the labels {sorted(known)}")
        return self

    def require_costs(self, labels: Iterable[str | None]) -> None:
        """Raise ConfigError where an error of one of the rows' labels has no cost."""
        if self.target.usd_per_error is not None:
            try:
                target_rules.require_error_costs(self.target.usd_per_error, filter(None, labels))
            except ValueError as error:
                raise ConfigError(f"{self._source}: target: {error}") from None

    @property
    def split(self) -> Split:
        """Which rows fit, certify and test."""
        return layout(None if self.dataset is None else self.dataset.split, self.signal)

    @property
    def strong_splits(self) -> tuple[str, ...]:
        """Splits whose rows get a strong answer."""
        labeled = self.dataset is not None and self.dataset.label is not None
        said = getattr(self.strong, "splits", None)
        answers = self.strong.provider if isinstance(self.strong, Model) and self.strong.provider else self.provider
        if said is None and answers == "recorded":
            return SPLITS  # nothing is bought
        return strong_splits(said, labeled=labeled, target=self.target.kind)

    @property
    def requests_per_year(self) -> float | None:
        """What production sends in a year, as far as the config says."""
        said = self.strong.requests_per_year if isinstance(self.strong, StrongAnswers) else None
        if said is not None:
            return float(said)
        return None if self.volume is None else 12.0 * self.volume.requests_per_month

    @property
    def answers(self) -> tuple[str, ...] | None:
        """The closed set of answers, of kind judge the label that means yes first; None for kind choose, where it depends on
        the row. Raises ValueError when it is not known which of a judge's labels means yes."""
        return (self.judge or Judge()).answers(self.labels) if self.kind == "judge" else self.labels

    @property
    def answer_set(self) -> AnswerSet | None:
        """How answers are read; None for kind choose, whose set depends on the row, and for a table without `labels`."""
        answers = self.answers
        if self.kind == "choose" or answers is None:
            return None
        return AnswerSet.judge(answers, answers[0]) if self.kind == "judge" else AnswerSet.classify(answers)

    @property
    def source(self) -> Path:
        """The file that this config was read from."""
        return self._source

    def resolve(self, path: str) -> str:
        """A path of this config made absolute; fsspec addresses stay as they are. Raises ConfigError for what no path can hold."""
        if "\0" in path:
            raise ConfigError(f"{self._source}: {path!r} holds a NUL character, which no path can hold; remove it")
        return path if "://" in path else str((self._source.parent / path).resolve())

    def public(self) -> dict[str, Any]:
        """The config as plain JSON values, without what was left out and without the credentials of addresses."""
        said = self.model_dump(mode="json", exclude_none=True)
        for part in ("dataset", "predictions", "cheap", "strong"):
            for key in ADDRESSES & set(said.get(part) or ()):
                said[part][key] = bare_address(said[part][key])
        return said
