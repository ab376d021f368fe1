"""Diff: what differs from the task's last run, so that nobody pays for an unintended change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.run.directory import RUN, Run
from pipeline.run.record import GIVEN, RunRecord

MOST_TEXT = 60
"""Characters shown of a value, around the first one that differs."""


@dataclass(frozen=True)
class Changes:
    """What differs from a task's last run; `what` is empty when nothing does."""

    since: str
    """The last run's id."""
    started: str | None
    what: tuple[str, ...]
    same_run: bool
    """Whether both ask the same: then no request has another key, whatever else has changed."""

    @property
    def line(self) -> str:
        """One line for people."""
        run = "this run" if self.same_run else f"run {self.since}"
        when = f" ({self.started})" if self.started else ""
        return (
            f"changed since {run}{when}: {'; '.join(self.what)}" if self.what else f"nothing changed since {run}{when}"
        )


@dataclass(frozen=True)
class Asked:
    """What a decision is about; None where it is not known."""

    dataset: str | None
    """Digest of the rows."""
    rows: int | None
    provider: str | None
    models: Mapping[str, str | None]
    """Names by role."""
    config: Mapping[str, Any]

    @classmethod
    def of(cls, record: RunRecord) -> Asked:
        """What run.json says of it."""
        return cls(
            None if record.digests is None else record.digests.dataset,
            None if record.counts is None else record.counts.used,
            record.provider,
            {role: side.name for role, side in record.models.items()},
            {} if record.config is None else record.config,
        )


def since_last_run(runs_dir: Path, now: RunRecord) -> Changes | None:
    """What differs between `now`, the record of a run that is about to be, and the task's newest run that asked models.

    None when there is none. Runs of another version of this program are passed over.
    """
    for run in Run.all(runs_dir, now.task):
        with suppress(DataError):
            before = RunRecord.of_json(run.read_json(RUN), RUN)
            if before.config is not None and before.provider != GIVEN:
                what = tuple(differences(Asked.of(before), Asked.of(now)))
                return Changes(run.run_id, before.started, what, run.run_id == now.run_id)
    return None


def differences(before: Asked, now: Asked) -> Iterator[str]:
    """What differs between two decisions: rows, provider, models, then the config key by key."""
    if before.dataset != now.dataset:
        known = None not in (before.rows, now.rows) and before.rows != now.rows
        told = f"{before.rows:,} before, {now.rows:,} now" if known else "other contents"
        yield f"the rows of the dataset ({told})"
    if before.provider != now.provider:
        yield _change("provider", before.provider, now.provider)
    for role, name in now.models.items():
        if (old_name := before.models.get(role)) != name:
            yield _change(f"{role} model", old_name, name)
    old, new = dict(_flat(before.config)), dict(_flat(now.config))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and key not in ("provider", "cheap.model", "strong.model"):
            yield _change(key, old.get(key), new.get(key))


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _change(name: str, old: Any, new: Any) -> str:
    a, b = _text(old), _text(new)
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"{name}: {_around(a, same)} → {_around(b, same)}"


def _text(value: Any) -> str:
    return "(none)" if value is None else str(value)


def _around(text: str, place: int) -> str:
    """The text on one line, cut to the surroundings of a position."""
    start = max(0, min(place - MOST_TEXT // 3, len(text) - MOST_TEXT))
    cut = " ".join(text[start : start + MOST_TEXT].split())
    return ("…" if start else "") + cut + ("…" if start + MOST_TEXT < len(text) else "")
