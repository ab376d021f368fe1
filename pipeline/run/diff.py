"""Changes: what differs from the task's last run, so that nobody pays for a change that they did not mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.run.directory import RUN, Run

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


def since_last_run(runs_dir: Path, task: str, run_id: str, now: Mapping[str, Any]) -> Changes | None:
    """What differs between `now`, the record of a run that is about to be, and the task's newest run that asked models.

    None when there is none.
    """
    for run in Run.all(runs_dir, task):
        before = run.read_json(RUN)
        if isinstance(before.get("config"), dict) and before.get("provider") != "given":
            return Changes(run.run_id, before.get("started"), tuple(differences(before, now)), run.run_id == run_id)
    return None


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What two records of runs (run.json) say differently: rows, provider, models, then the config key by key."""
    if (before.get("digests") or {}).get("dataset") != now["digests"].get("dataset"):
        rows = [(record.get("counts") or {}).get("used") for record in (before, now)]
        told = f"{rows[0]:,} before, {rows[1]:,} now" if None not in rows and rows[0] != rows[1] else "other contents"
        yield f"the rows of the dataset ({told})"
    if before.get("provider") != now["provider"]:
        yield _change("provider", before.get("provider"), now["provider"])
    for role, model in now["models"].items():
        name = ((before.get("models") or {}).get(role) or {}).get("name")
        if name != model["name"]:
            yield _change(f"{role} model", name, model["name"])
    old, new = dict(_flat(before["config"])), dict(_flat(now["config"]))
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
    """The text on one line, cut to what stands around a place."""
    start = max(0, min(place - MOST_TEXT // 3, len(text) - MOST_TEXT))
    cut = " ".join(text[start : start + MOST_TEXT].split())
    return ("…" if start else "") + cut + ("…" if start + MOST_TEXT < len(text) else "")
