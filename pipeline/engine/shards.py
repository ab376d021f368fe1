"""Shards: a run's kept replies, read a part at a time by functions that need nothing but what they are told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cascade_threshold.answers import AnswerSet
from cascade_threshold.signals import Measurement, measure, token_rows
from pipeline.collect.store.response_store import ResponseStore
from pipeline.collect.store.stored_reply import StoredReply
from pipeline.config.providers import PROVIDERS
from pipeline.config.task import Human, Model, TaskConfig
from pipeline.engine.local import Manifest
from pipeline.engine.prediction import prediction, with_strong
from pipeline.engine.reply_stats import ROLES, Facts
from pipeline.errors import DataError
from pipeline.run import schemas
from pipeline.run.directory import PREDICTIONS, REPLIES, TOKENS

SHARD = 10_000
"""Rows of a shard. Part of the plan: it decides where row groups begin, and nothing else."""
READ_AHEAD = 256


@dataclass(frozen=True)
class Shard:
    """A part of a run's rows, and what reading their replies takes: plain values, so that any process can do it."""

    rows: Path
    """Parquet file of `tables.SHARD_ROWS`."""
    out: Path
    """Where results go: this name, with the artefact's name appended."""
    store: Path
    config: TaskConfig
    providers: dict[str, str]
    """Who answers each role."""
    models: dict[str, str]
    """The name that each role's model answers under."""

    def model(self, role: str) -> Model:
        """The config of one role's model."""
        found = getattr(self.config, role)
        assert isinstance(found, Model)
        return found

    def result(self, artefact: str) -> Path:
        """The file of this shard that becomes part of an artefact."""
        return self.out.with_name(f"{self.out.name}-{artefact}")


def tabulate(shard: Shard) -> Manifest:
    """Write the shard's part of replies.parquet and tokens.parquet: cheap rows first, then strong ones."""
    paths = shard.result(REPLIES), shard.result(TOKENS)
    count = 0
    with (
        ResponseStore(shard.store) as store,
        schemas.table_writer(paths[0], schemas.REPLIES) as replies,
        schemas.table_writer(paths[1], schemas.TOKENS) as tokens,
    ):
        for role in ROLES:
            for example_id, request_id, reply, m in _measured(shard, store, role, only="first_token"):
                replies.add([_reply_row(shard, role, example_id, request_id, reply, m)])
                tokens.add([(request_id, example_id, role, *token) for token in token_rows(m)])
                count += 1
    return Manifest({str(path): digest_of(path) for path in paths}, count)


def grade(shard: Shard) -> Manifest:
    """Write the shard's part of the predictions: both answers graded and every signal. Its facts are the report's counts."""
    path, human, facts = shard.result(PREDICTIONS), shard.config.strong, Facts()
    rows: dict[str, dict[str, Any]] = {row["example_id"]: row for row in pq.read_table(shard.rows).to_pylist()}
    wanted = shard.model("cheap").top_logprobs
    with ResponseStore(shard.store) as store:
        for example_id, _, reply, m in _measured(shard, store, "cheap"):
            rows[example_id] = _graded(shard, rows[example_id], m)
            facts.count("cheap", m, form=None if reply is None else reply.wire_form, wanted=wanted)
        if isinstance(human, Human):
            for example_id, row in rows.items():
                if row["split"] in human.splits:
                    rows[example_id] = with_strong(row, row["label"], "ok", float(human.usd_per_request))
        else:
            for example_id, _, reply, m in _measured(shard, store, "strong"):
                rows[example_id] = with_strong(
                    rows[example_id], m.answer, m.status, _usd(shard, "strong", m), m.reply.cached_tokens
                )
                facts.count("strong", m, form=None if reply is None else reply.wire_form, wanted=0)
    facts.grade(rows.values())
    with schemas.table_writer(path, schemas.GRADED) as table:
        table.add(map(itemgetter(*schemas.GRADED.names), rows.values()))
    return Manifest({str(path): digest_of(path)}, len(rows), facts.packed())


def results(parts: Iterable[Shard], done: Iterable[Manifest], artefact: str) -> Iterator[Path]:
    """The shards' files of an artefact, in order. Raises DataError for a file that is not what was written."""
    for part, manifest in zip(parts, done, strict=True):
        path = part.result(artefact)
        if digest_of(path) != manifest.sha256[str(path)]:
            raise DataError(
                f"{path}: changed while {artefact} was put together; run the stage again, nothing is paid twice"
            )
        yield path


def digest_of(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _measured(
    shard: Shard, store: ResponseStore, role: str, *, only: str | None = None
) -> Iterator[tuple[str, str, StoredReply | None, Measurement]]:
    """Example id and request id of every row that gets an answer of the role, its kept reply if there is one, and what
    that says."""
    answers = shard.config.answer_set
    columns = ["example_id", f"{role}_request_id", "options"]
    for batch in pq.ParquetFile(shard.rows).iter_batches(READ_AHEAD, columns=columns):
        rows = [row for row in zip(*(batch[name].to_pylist() for name in columns), strict=True) if row[1] is not None]
        kept = {reply.request_id: reply for reply in store.replies([request_id for _, request_id, _ in rows])}
        for example_id, request_id, options in rows:
            reply = kept.get(request_id)
            mine = AnswerSet.choose(json.loads(options)) if answers is None else answers
            yield (
                example_id,
                request_id,
                reply,
                measure(b"" if reply is None else reply.body, mine, role=role, only=only),
            )


def _graded(shard: Shard, row: dict[str, Any], m: Measurement) -> dict[str, Any]:
    found = prediction(
        row["example_id"],
        row["split"],
        row["group"],
        row["segment"],
        row["label"],
        m,
        _usd(shard, "cheap", m),
    )
    return found if shard.config.kind != "classify" else found | {"label_probabilities": None}  # nothing is ranked


def _reply_row(
    shard: Shard, role: str, example_id: str, request_id: str, reply: StoredReply | None, m: Measurement
) -> tuple[Any, ...]:
    """A row of replies.parquet, in its order."""
    read = m.reply
    here = (None,) * 4 if reply is None else (
        reply.http_status, reply.seconds, reply.attempts, reply.received_at.isoformat(timespec="milliseconds")
    )  # fmt: skip
    status, seconds, attempts, received_at = here
    return (
        request_id, example_id, role, shard.providers[role], shard.models[role], read.model, "failed" if reply is None else reply.state,
        status, read.finish_reason, read.shape, read.text, read.input_tokens, read.output_tokens, read.reasoning_tokens, read.cached_tokens,
        _usd(shard, role, m), seconds, attempts, received_at,
    )  # fmt: skip


def _usd(shard: Shard, role: str, m: Measurement) -> float | None:
    """Dollars of one reply at the config's prices; None when the reply does not say how many tokens it took."""
    batch = PROVIDERS[shard.providers[role]].batch
    return shard.model(role).price.usd(m.reply.usage, batch=batch)
