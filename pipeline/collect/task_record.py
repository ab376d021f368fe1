"""TaskRecord: how a run came about, as run.json holds it, without secrets; and what changed since the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.collect.task_input import TaskInput
from pipeline.run import provenance
from pipeline.run.diff import Changes, since_last_run
from pipeline.run.directory import finite
from pipeline.run.record import GIVEN, RunRecord


def described(task: TaskInput) -> dict[str, Any]:
    """How a run of the task comes about, as fields of run.json."""
    places = dict.fromkeys(side.base_url for side in task.models.values() if side.base_url)
    return {
        "command": task.options.command,
        "provider": GIVEN if task.table is not None else task.provider,
        "base_url": ", ".join(places) or None,
        "config": task.config.public(),
        "config_file": task.config.source.name,
        "digests": task.digests.model_dump(),
        "models": {role: side.model_dump() for role, side in task.models.items()},
        "versions": provenance.versions(),
        "git": provenance.commit(),
    }


def decided_from(task: TaskInput, strong_sampling: Mapping[str, Any] | None) -> RunRecord:
    """How the run comes about with the task's config, whichever config the stages before were given."""
    now = {**described(task), "strong_sampling": strong_sampling}
    if task.table is None:
        now["counts"] = task.dataset.health
    return RunRecord.model_validate({**task.run.record.model_dump(), **finite(now)})


def changes(task: TaskInput) -> Changes | None:
    """What differs from the task's last run; None for a first run, and for a table of predictions."""
    if task.table is not None:
        return None
    now = {"task": task.config.task, "run_id": task.run_id, **described(task), "counts": task.dataset.health}
    return since_last_run(task.options.runs_dir, RunRecord.model_validate(now))
