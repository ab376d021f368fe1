"""Reading: a run's kept replies become its tables, shard by shard, each reply parsed once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.collect.store.response_store import chunks
from pipeline.collect.task_input import TaskInput
from pipeline.engine import local, reply_stats, shards
from pipeline.run import schemas
from pipeline.run.atomic import scratch
from pipeline.run.directory import GRADED, REPLIES, TOKENS, Run

COUNTED = (
    "example_id", "role", "state", "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "usd", "attempts", "received_at",
)  # fmt: skip
"""Columns of replies.parquet that the report sums up."""


@dataclass(frozen=True)
class Graded:
    """Rows with both answers graded and every signal; what was counted on the way; and what the replies took."""

    frame: pd.DataFrame
    """The columns of graded.parquet, and `split`."""
    facts: dict[str, Any] = field(default_factory=dict)
    replies: pa.Table | None = None
    """The columns COUNTED of replies.parquet; None of a table of predictions."""


def read(task: TaskInput, run: Run) -> Graded:
    """Parse every kept reply of the task once; write replies.parquet, tokens.parquet and graded.parquet."""
    metadata = {"schema": "cascade-tables/1", "task": task.config.task, "run_id": run.run_id}
    with planned(task, run) as parts:
        done = list(local.run(shards.read, parts))
        found = {name: list(shards.results(parts, done, name)) for name in (REPLIES, TOKENS, GRADED)}
        schemas.merge(found[REPLIES], run.path(REPLIES), schemas.REPLIES, metadata)
        schemas.merge(found[TOKENS], run.path(TOKENS), schemas.TOKENS, metadata)
        schemas.merge(found[GRADED], run.path(GRADED), schemas.GRADED, metadata)
        replies = pa.concat_tables(pq.read_table(path, columns=list(COUNTED)) for path in found[REPLIES])
        graded = pa.concat_tables(pq.read_table(path) for path in found[GRADED])
    frame: pd.DataFrame = graded.to_pandas()
    frame["split"] = [e.split for e in task.dataset.examples]
    facts = reply_stats.total(manifest.facts for manifest in done)
    return Graded(frame, facts | {"newest_reply": pc.max(replies["received_at"]).as_py()}, replies)


@contextmanager
def planned(task: TaskInput, run: Run) -> Iterator[list[shards.Shard]]:
    """The task's rows in shards, written to a folder that is gone afterwards."""
    keys = {role: {r.example_id: r.request_id for r in task.requests(role)} for role in task.roles}
    cheap, strong = keys["cheap"], keys.get("strong", {})
    models = {role: service.model for role, service in task.services.items()}
    with scratch(run.path("shards")) as folder:
        plan = []
        for number, examples in enumerate(chunks(task.dataset.examples, shards.SHARD)):
            rows, out = folder / f"rows-{number:05d}.parquet", folder / f"{number:05d}"
            with schemas.table_writer(rows, schemas.SHARD_ROWS) as table:
                table.add(
                    (
                        e.id, e.group, e.segment, e.label, None if e.options is None else json.dumps(e.options),
                        task.wants("strong", e), cheap.get(e.id), strong.get(e.id),
                    )
                    for e in examples
                )  # fmt: skip
            plan.append(shards.Shard(rows, out, task.store_path, task.config, task.provider_names, models))
        yield plan
