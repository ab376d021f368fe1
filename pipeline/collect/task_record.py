"""TaskRecord: what run.json says of how a run came about, secrets never among it, and what changed since the last one."""

from __future__ import annotations

from typing import Any

from pipeline.collect.task_input import TaskInput
from pipeline.run import provenance
from pipeline.run.diff import Changes, since_last_run


def described(task: TaskInput) -> dict[str, Any]:
    """How a run of the task comes about: command, provider, config, digests, models, versions, commit."""
    models = task.models
    places = dict.fromkeys(model["base_url"] for model in models.values() if model.get("base_url"))
    return {
        **({"base_url": ", ".join(places)} if places else {}),
        "command": task.options.command,
        "provider": "given" if task.table is not None else task.provider,
        "config": task.config.public(),
        "config_file": task.config.source.name,
        "digests": task.digests,
        "models": models,
        "versions": provenance.versions(),
        "git": provenance.commit(),
    }


def changes(task: TaskInput) -> Changes | None:
    """What differs from the task's last run; None for a first run, and for a table of predictions."""
    if task.table is not None:
        return None
    record = {**described(task), "counts": task.dataset.health}
    return since_last_run(task.options.runs_dir, task.config.task, task.run_id, record)
