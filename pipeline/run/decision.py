"""Decision: what was decided from a run's graded rows, in a folder of its own, so that no other question overwrites it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.task import TaskConfig
from pipeline.config.vocabulary import ROLES
from pipeline.errors import DataError, UsageError
from pipeline.run.atomic import write_bytes
from pipeline.run.digests import digest, file_digest
from pipeline.run.directory import (
    CALIBRATION,
    DECISION,
    GRADED,
    POLICY,
    PREDICTIONS,
    RECOMMENDATION,
    RELIABILITY,
    REPLIES,
    RUN,
    SWEEP,
    TOKENS,
    Folder,
    Run,
    dump_json,
    read_json,
    sealed,
)
from pipeline.run.record import RunRecord

OF_THE_RUN = (RUN, REPLIES, TOKENS, GRADED)
"""Artefacts that depend on the replies alone; they lie beside the decisions."""
TABLES = (GRADED, REPLIES, TOKENS)
"""Of these, what a page shows beside a decision; a table of predictions has graded rows alone."""
MADE = (PREDICTIONS, CALIBRATION, RELIABILITY, SWEEP, RECOMMENDATION, POLICY)
"""Artefacts of a decision."""
TESTS_VERSION = 1
"""Raised when a test, or how candidates are made, changes what the same rows are promised."""


def decision_id(
    config: TaskConfig, run_id: str, graded: str, signals: Mapping[str, int], layout: Mapping[str, float]
) -> str:
    """8 hex digits over all that a decision depends on: `graded` is the digest of graded.parquet, `signals` their versions,
    `layout` the share of each split.

    Not over report, volume, review_after_days and folders, which change no figure.
    """
    said = config.model_dump(mode="json")
    data = said["dataset"] or {}
    sides = {role: said[role] or {} for role in ROLES}
    prices = ("usd_per_million_tokens", "usd_per_request", "usd_per_hour")
    return digest(
        {
            "run_id": run_id,
            "graded": graded,
            **{
                k: said[k]
                for k in ("target", "signal", "calibration", "seed", "looks", "max_unreadable", "max_failure_rate")
            },
            "layout": dict(layout),
            "prevalence": data.get("prevalence"),
            "prices": {role: [side.get(name) for name in prices] for role, side in sides.items()},
            "sampling": [
                sides["strong"].get("sample"),
                config.strong_splits,
                config.requests_per_year if sides["strong"].get("sample") == "auto" else None,
            ],
            "positive": None if said["judge"] is None else said["judge"]["positive"],
            "signals": dict(signals),
            "tests": TESTS_VERSION,
        }
    )[:8]


class Decision(Folder):
    """The directory runs/<task>/<run_id>/<decision_id>/ and the artefacts in it and beside it."""

    def __init__(self, run: Run, decision_id: str, *, remedy: str) -> None:
        """`remedy`: the command that computes this decision, for messages."""
        super().__init__(run.directory / decision_id)
        self.run, self.task, self.run_id, self.decision_id, self.remedy = run, run.task, run.run_id, decision_id, remedy

    def path(self, name: str) -> Path:
        """Where an artefact lies; its folder exists afterwards."""
        return self.run.path(name) if name in OF_THE_RUN else super().path(name)

    def has(self, name: str) -> bool:
        """Whether the artefact was written."""
        return self.run.has(name) if name in OF_THE_RUN else super().has(name)

    def existing(self, name: str) -> Path:
        """Path of an artefact that must be there. Raises UsageError with the stage that writes it."""
        try:
            return self.run.existing(name) if name in OF_THE_RUN else super().existing(name)
        except UsageError as error:
            raise UsageError(f"{error}; to run all stages: {self.remedy}") from None

    def named(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The content of an artefact with the names of task, run and decision after its schema."""
        names = {"task": self.task, "run_id": self.run_id, "decision_id": self.decision_id}
        return {"schema": content["schema"], **names, **content}

    @classmethod
    def all(cls, run: Run) -> list[Decision]:
        """Every decision of a run, the newest first."""
        found = sorted(run.directory.glob(f"*/{RECOMMENDATION}"), key=lambda p: p.stat().st_mtime, reverse=True)
        return [cls(run, path.parent.name, remedy="python -m pipeline evaluate " + run.task) for path in found]

    @property
    def first_decided(self) -> str | None:
        """The day on which this decision was first made; None where it was not, or its record is damaged."""
        try:
            return str(self.record()["first_decided"])
        except (UsageError, KeyError):
            return None

    def close(self, config: TaskConfig, today: str, run: RunRecord) -> None:
        """Write decision.json: the digests of all artefacts and of what they were made from, and its own.

        run  how the run came about with this config; run.json is written again by the run's next decision
        """
        content = self.named(
            {
                "schema": "cascade-decision/1",
                "config": config.public(),
                "run": {name: value for name, value in run.to_json().items() if name not in ("schema", "config")},
                "first_decided": self.first_decided or today,
                "strong_sampling": run.strong_sampling,
                "made_from": {name: file_digest(self.run.existing(name)) for name in TABLES if self.run.has(name)},
                "digests": {name: file_digest(self.existing(name)) for name in MADE},
            }
        )
        write_bytes(self.path(DECISION), dump_json(sealed(content)))

    def record(self) -> dict[str, Any]:
        """decision.json. Raises UsageError where the decision was never computed, DataError where its record is damaged."""
        path = self.directory / DECISION
        if not path.is_file():
            raise UsageError(
                f"{self.directory}: this decision was never computed, or what it is made from has changed since; "
                f"to compute it: {self.remedy}"
            )
        found = read_json(path)
        if "digest" not in found:
            raise DataError(f"{path}: damaged (its own digest is missing); to write it again: {self.remedy}")
        named = {"task": self.task, "run_id": self.run_id, "decision_id": self.decision_id}
        if (other := {key: found.get(key) for key in named}) != named:
            raise DataError(
                f"{path}: is that of another decision ({'/'.join(map(str, other.values()))}); to write it again: {self.remedy}"
            )
        if "run" not in found:
            raise DataError(f"{path}: was written by another version; to write it again: {self.remedy}")
        return found

    def told_of_run(self) -> RunRecord:
        """How the run came about when this decision was made: its command, config, models, prices and counts.

        What run.json alone can know, when the run ended, is taken from there where no other evaluation has begun since.
        """
        path, found = self.directory / DECISION, self.record()
        record = RunRecord.of_json({**found["run"], "config": found["config"]}, str(path))
        latest = RunRecord.of_json(self.read_json(RUN), str(self.path(RUN)))
        if latest.started == record.started:
            return record.model_copy(update={name: getattr(latest, name) for name in ("finished", "stages")})
        return record.model_copy(update={"finished": None})

    def require_whole(self, *, alone: bool = False) -> None:
        """Check every artefact against its digest. Raises UsageError or DataError that names the file and the command.

        alone  only what lies in the decision's own folder: another decision of the run may have bought more answers since
        """
        record = self.record()
        for name, written in (*({} if alone else record["made_from"]).items(), *record["digests"].items()):
            path = self.existing(name)
            if file_digest(path) != written:
                raise DataError(
                    f"{path}: is not what the decision was made of (damaged, or written by another stage since); "
                    f"to write it again: {self.remedy}"
                )
