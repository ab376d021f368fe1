"""Reading: a run's kept replies become its tables, shard by shard, each reply parsed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.collect.sending.role import SendReport
from pipeline.collect.task_input import TaskInput
from pipeline.config.vocabulary import ROLES, SIGNALS, SPLITS
from pipeline.decide.breakdown import reply_totals
from pipeline.engine import engines, reply_stats, shards
from pipeline.engine.manifest import Manifest
from pipeline.engine.shard_plan import ShardPlan, planned
from pipeline.errors import CascadeError
from pipeline.run import schemas
from pipeline.run.directory import GRADED, REPLIES, Run
from pipeline.run.record import Measured

REPEATING = (
    "role",
    "state",
    "segment",
    "label",
    *(f"{role}_{what}" for role in ROLES for what in ("answer", "status")),
)
"""Columns of few distinct texts, which are held as codes."""
ALWAYS = (
    "example_id",
    "group",
    "label",
    *(f"{role}_{what}" for role in ROLES for what in ("answer", "status", "correct", "usd")),
    *(f"signal_{name}" for name in SIGNALS),
)
"""Columns of graded rows that a frame has even where no row has a value; a signal without one is told with its reason."""


@dataclass(frozen=True)
class Graded:
    """Rows with both answers graded and every signal, and what the replies took."""

    frame: pd.DataFrame
    """The columns of graded.parquet that hold a value, and `split`."""
    facts: Measured | None = None
    """What was counted over the replies; None of a table of predictions."""
    replies: pa.Table | None = None
    """The columns of `reply_totals` of replies.parquet; None of a table of predictions."""
    stopped: CascadeError | None = None
    """Why some wanted answers were not asked for; None: all were."""


def read(task: TaskInput, run: Run, *, strong: Collection[str] | None = None) -> Graded:
    """Parse every kept reply of the task once; write replies.parquet, tokens.parquet and graded.parquet.

    `strong`: ids of the rows that the strong model was asked about; None: all that get an answer of it.
    """
    with planned(task, run) as plan:
        reading = Reading(task, run, plan)
        reading.read(strong)
        return reading.written()


class Reading:
    """What was read of a run's kept replies so far. More strong replies can be read as they come; none is parsed again."""

    def __init__(self, task: TaskInput, run: Run, plan: ShardPlan) -> None:
        self._task, self._run, self._plan = task, run, plan
        self._done: list[Manifest] = []

    def read(self, strong: Collection[str] | None = None, *, alone: bool = False) -> None:
        """Parse the replies to the rows; the arguments are those of `ShardPlan.shards`."""
        options, wanted = self._task.options, self._plan.shards(strong, alone=alone)
        self._done += engines.run(options.engine, shards.read, wanted, workers=options.workers)

    def more_strong(self, rows: Collection[str]) -> pa.Table:
        """Parse the strong replies to these rows; their graded rows, with the columns of the strong side alone."""
        before = len(self._done)
        self.read(rows, alone=True)
        found = shards.results(self._plan.made[before:], self._done[before:], GRADED)
        return schemas.read_parts(found, schemas.GRADED)

    def graded(self) -> Graded:
        """The rows as far as they were read; nothing is written."""
        found = self._results(GRADED)
        rows = pa.concat_tables([schemas.GRADED.empty_table(), *self._groups(GRADED, found)])
        return self._graded(rows.to_pandas())

    def written(self) -> Graded:
        """The rows and what the replies took; replies.parquet, tokens.parquet and graded.parquet are written."""
        task, run = self._task, self._run
        metadata = {"schema": "cascade-tables/1", "task": task.config.task, "run_id": run.run_id}
        found = {name: self._results(name) for name in shards.RESULTS}
        needed = {REPLIES: (*reply_totals.COLUMNS, "received_at"), GRADED: schemas.GRADED.names}
        held = {
            name: schemas.merge(
                self._groups(name, found[name]), run.path(name), schema, metadata, needed.get(name, ()), coded=REPEATING
            )
            for name, schema in shards.RESULTS.items()
        }
        from_files = {
            role: _told(role, held[REPLIES], self._done) for role in task.roles if task.is_read_from_file(role)
        }
        if from_files:
            run.update(spending=from_files)
        return self._graded(_frame(held.pop(GRADED)), held[REPLIES])

    def _graded(self, frame: pd.DataFrame, replies: pa.Table | None = None) -> Graded:
        frame["split"] = pd.Categorical.from_codes(self._task.dataset.examples.split_codes, pd.Index(SPLITS))
        newest = None if replies is None else pc.max(replies["received_at"]).as_py()
        facts = reply_stats.total((manifest.facts for manifest in self._done), newest)
        if self._task.config.report.examples == "none":
            facts = facts.model_copy(update={"unreadable_texts": dict.fromkeys(ROLES, ())})
        return Graded(frame, facts, replies)

    def _results(self, artefact: str) -> list[list[str]]:
        """For each part of the run's rows, the addresses of what its shards gave of the artefact, in the order of reading."""
        found: dict[int, list[str]] = {}
        paths = shards.results(self._plan.made, self._done, artefact)
        for shard, path in zip(self._plan.made, paths, strict=True):
            found.setdefault(shard.place, []).append(path)
        return list(found.values())

    def _groups(self, artefact: str, parts: Iterable[list[str]]) -> Iterator[pa.Table]:
        """The artefact's row groups: the same, whether a part's replies were read at once or one after the other."""
        for place, paths in enumerate(parts):
            if len(paths) == 1:
                yield from schemas.row_groups(paths)
                continue
            tables = [schemas.read_parts([path], shards.RESULTS[artefact]) for path in paths]
            start = place * shards.SHARD
            ids = pa.array([e.id for e in self._task.dataset.examples[start : start + shards.SHARD]])
            whole = _with_strong(tables) if artefact == GRADED else _in_order(pa.concat_tables(tables), ids)
            for first in range(0, len(whole), schemas.ROW_GROUP):
                yield whole.slice(first, schemas.ROW_GROUP)


def _frame(rows: pa.Table) -> pd.DataFrame:
    """Graded rows as a frame, column by column, so that little is there twice; without columns that are null throughout, which
    every stage takes as unknown."""
    columns: dict[str, Any] = {}
    for name in rows.column_names:
        column, rows = rows[name], rows.drop_columns([name])
        if column.null_count < len(column) or name in ALWAYS:
            whole = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column
            columns[name] = whole.combine_chunks().to_pandas()
    return pd.DataFrame(columns, copy=False)


def _with_strong(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of the first table; the strong side of those that stand in a later one is what the later one says."""
    rows, later = tables[0], pa.concat_tables(tables[1:])
    found = pc.index_in(rows["example_id"], value_set=later["example_id"].combine_chunks()).to_numpy()
    place = np.where(np.isnan(found), np.arange(len(rows)), len(rows) + np.nan_to_num(found)).astype(np.int64)
    for number, name in enumerate(rows.schema.names):
        if name.startswith("strong_"):
            column = pa.chunked_array([*rows[name].chunks, *later[name].chunks]).take(pa.array(place))
            rows = rows.set_column(number, rows.schema.field(name), column)
    return rows


def _in_order(table: pa.Table, ids: pa.Array) -> pa.Table:
    """Replies, or their tokens, role by role in the order of the rows."""
    place = pc.index_in(table["example_id"], value_set=ids).to_numpy()
    return table.take(pa.array(np.lexsort((place, table["role"].to_numpy() != "cheap"))))


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
