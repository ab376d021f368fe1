"""RunRecord: what run.json holds. A key that is missing, misspelled or of another version is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import DataError

SCHEMA = "cascade-run/1"
GIVEN = "given"
"""Stands for the provider where the run began with a table of predictions."""


class Record(BaseModel):
    """Base of what is read from a JSON artefact: every field must be there (null is a value), others are left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Written(Record):
    """Base of what run.json holds: a name that is not a field is refused, when it is written and when it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Counts(Written):
    """Rows of the dataset, and what was noticed in them."""

    rows: int
    """Rows of the file, all of which are used or excluded."""
    used: int
    excluded: dict[str, int]
    """By reason."""
    splits: dict[str, int]
    duplicate_texts: int
    duplicate_texts_normalised: int
    conflicting_labels: int
    leaked_between_splits: int
    blank_texts: int
    long_texts: int
    repeated_options: int
    groups: int
    grouped_by: str
    labels: dict[str, int]


class Spending(Written):
    """What was sent for one role; see `SendReport`, which counts it."""

    sent: int
    kept: int
    failed_by_reason: dict[str, int]
    from_store: int
    identical: int
    maybe_paid: int
    usd: float
    unknown_usd: float
    damaged: int
    attempts: int
    troubles: dict[str, int]

    @property
    def requests(self) -> int:
        """Requests whose reply was sent for or found in the store."""
        return self.sent + self.from_store


class Measured(Written):
    """What was counted over the replies; see `Facts`. Mappings have the roles as keys."""

    exact_zeros: int
    long_answers: int
    few_alternatives: int
    fewest_alternatives: int | None
    whole_output: bool
    """Whether no usable cheap reply holds tokens beside the answer's."""
    reasons: dict[str, int]
    cached_share: dict[str, float | None]
    captured_mass: float | None
    response_models: dict[str, tuple[str, ...]]
    """The models that replies name."""
    forms: dict[str, str | None]
    """The commonest form of a request."""
    unreadable_texts: dict[str, tuple[tuple[str, int], ...]]
    readings: dict[str, dict[str, int]]
    statuses: dict[str, dict[str, int]]
    newest_reply: str | None


class Side(Written):
    """The model of one role, or people: parameters, prices, who answers."""

    name: str
    human: bool = False
    stands_in_for: str | None = None
    params: dict[str, Any] = {}
    usd_per_million_tokens: dict[str, Any] | None = None
    usd_per_request: float | None = None
    usd_per_hour: dict[str, Any] | None = None
    service: str | None = None
    provider: str | None = None
    base_url: str | None = None
    constrain: str | None = None


class Digests(Written):
    """sha256 of what a task is made of; None where a table of predictions has none."""

    config: str
    dataset: str | None
    prompt: str | None


class RunRecord(Written):
    """run.json: how a run came about, what was counted, what was sent. None: that stage did not run."""

    task: str
    run_id: str
    command: str | None = None
    provider: str | None = None
    base_url: str | None = None
    config: dict[str, Any] | None = None
    config_file: str | None = None
    digests: Digests | None = None
    models: dict[str, Side] = {}
    """By role; empty of a table of predictions."""
    versions: dict[str, str] | None = None
    git: dict[str, Any] | None = None
    started: str | None = None
    finished: str | None = None
    counts: Counts | None = None
    probes: dict[str, dict[str, Any]] | None = None
    """The one real request that was tried first, by role; see `probe`."""
    spending: dict[str, Spending] | None = None
    measured: Measured | None = None
    strong_sampling: dict[str, Any] | None = None
    stages: dict[str, dict[str, float]] | None = None

    @classmethod
    def of_json(cls, value: Mapping[str, Any], name: str) -> RunRecord:
        """The content of run.json. Raises DataError that names the artefact and the first field at fault."""
        fields = {key: part for key, part in value.items() if key not in ("schema", "digest")}
        return checked(cls, fields, name, remedy="run `evaluate` again, nothing is paid twice")

    def spent(self, count: Literal["sent", "from_store", "maybe_paid"]) -> int | None:
        """A count of `Spending` over all roles; None where nothing was collected."""
        return None if self.spending is None else sum(getattr(role, count) for role in self.spending.values())

    def to_json(self) -> dict[str, Any]:
        """The content of run.json, without its digest."""
        return {"schema": SCHEMA, **self.model_dump(mode="json")}


R = TypeVar("R", bound=Record)


def checked(model: type[R], value: Any, name: str, *, remedy: str) -> R:
    """The content of an artefact as a record. Raises DataError that names the artefact, the first field at fault and the remedy."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise DataError(
            f"{name}: {place}: {fault['msg'].lower()}; it was written by another version: {remedy}"
        ) from None
