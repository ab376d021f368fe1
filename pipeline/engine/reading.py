"""Reading: a run's kept replies become its tables, shard by shard, each reply parsed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cascade_threshold.answers import AnswerSet
from cascade_threshold.signals import measure
from pipeline.collect.request import Request
from pipeline.collect.sending.role import SendReport
from pipeline.collect.store.response_store import ResponseStore
from pipeline.collect.task_input import TaskInput
from pipeline.config.vocabulary import ROLES
from pipeline.engine import engines, reply_stats, shards
from pipeline.engine.manifest import Manifest
from pipeline.engine.prediction import correctness
from pipeline.engine.shard_plan import planned
from pipeline.errors import CascadeError
from pipeline.run import schemas
from pipeline.run.directory import GRADED, REPLIES, Run
from pipeline.run.record import Measured

COUNTED = (
    "example_id", "role", "state", "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "usd", "attempts", "received_at",
)  # fmt: skip
"""Columns of replies.parquet that the report sums up."""


@dataclass(frozen=True)
class Graded:
    """Rows with both answers graded and every signal, and what the replies took."""

    frame: pd.DataFrame
    """The columns of graded.parquet, and `split`."""
    facts: Measured | None = None
    """What was counted over the replies; None of a table of predictions."""
    replies: pa.Table | None = None
    """The columns COUNTED of replies.parquet; None of a table of predictions."""
    stopped: CascadeError | None = None
    """Why some wanted answers were not asked for; None: all were."""


def read(task: TaskInput, run: Run, *, strong: Collection[str] | None = None) -> Graded:
    """Parse every kept reply of the task once; write replies.parquet, tokens.parquet and graded.parquet.

    `strong`: ids of the rows that the strong model was asked about; None: all that get an answer of it.
    """
    metadata = {"schema": "cascade-tables/1", "task": task.config.task, "run_id": run.run_id}
    options = task.options
    with planned(task, run, strong) as plan:
        done = list(engines.run(options.engine, shards.read, plan, workers=options.workers))
        found = {name: list(shards.results(plan.made, done, name)) for name in shards.RESULTS}
        needed = {REPLIES: COUNTED, GRADED: schemas.GRADED.names}
        held = {
            name: schemas.merge(found[name], run.path(name), schema, metadata, keep=needed.get(name, ()))
            for name, schema in shards.RESULTS.items()
        }
    replies, frame = held[REPLIES], held[GRADED].to_pandas()
    frame["split"] = [e.split for e in task.dataset.examples]
    newest = pc.max(replies["received_at"]).as_py()
    facts = reply_stats.total((manifest.facts for manifest in done), newest)
    if task.config.report.examples == "none":
        facts = facts.model_copy(update={"unreadable_texts": dict.fromkeys(ROLES, ())})
    from_files = {role: _told(role, replies, done) for role in task.roles if task.is_read_from_file(role)}
    if from_files:
        run.update(spending=from_files)
    return Graded(frame, facts, replies)


def _told(role: str, replies: pa.Table, done: Iterable[Manifest]) -> dict[str, Any]:
    """What run.json says of replies that came from a file, as if they had been asked for."""
    mine = replies.filter(pc.equal(replies["role"], role))
    missing: Counter[str] = Counter()
    for manifest in done:
        missing.update(manifest.facts["missing"][role])
    report = SendReport(
        sent=mine.num_rows,
        kept=mine.num_rows - missing.total(),
        failed_by_reason=missing,
        attempts=mine.num_rows,
        troubles=missing,
    )
    report.usd = pc.sum(mine["usd"]).as_py() or 0.0
    return report.record()


def strong_answers(
    task: TaskInput, store: ResponseStore, requests: Iterable[Request]
) -> dict[str, tuple[str | None, str, bool | None]]:
    """Answer, status and correctness of the kept strong replies to some requests, by example id."""
    named: dict[str, list[str]] = {}
    for request in requests:  # copies share one
        named.setdefault(request.request_id, []).append(request.example_id)
    examples = {e.id: e for e in task.dataset.examples} if named else {}
    out = {}
    for reply in store.replies(list(named)):
        for example in (examples[name] for name in named[reply.request_id]):
            answers = task.answers or AnswerSet.choose(example.options or ())
            m = measure(reply.body, answers, role="strong")
            out[example.id] = (m.answer, m.status, correctness(m.answer, m.status, example.label))
    return out
