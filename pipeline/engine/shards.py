"""Shards: a run's kept replies, read a part at a time by functions that need nothing but what they are told."""

from __future__ import annotations

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
from pipeline.config.vocabulary import ROLES
from pipeline.engine.local import Manifest
from pipeline.engine.prediction import prediction, with_strong
from pipeline.engine.reply_stats import Facts
from pipeline.errors import DataError
from pipeline.run import schemas
from pipeline.run.digests import file_digest
from pipeline.run.directory import GRADED, REPLIES, TOKENS

SHARD = 10_000
"""Rows of a shard. Part of the plan: it decides where row groups begin, and nothing else."""
READ_AHEAD = 256


@dataclass(frozen=True)
class Shard:
    """A part of a run's rows, and what reading their replies takes: plain values, so that any process can do it."""

    rows: Path
    """Parquet file of `schemas.SHARD_ROWS`."""
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

    def alternatives_wanted(self, role: str) -> int:
        """How many alternatives per token were asked of a role's model."""
        return self.model(role).top_logprobs if role == "cheap" else 0

    def result(self, artefact: str) -> Path:
        """The file of this shard that becomes part of an artefact."""
        return self.out.with_name(f"{self.out.name}-{artefact}")


def read(shard: Shard) -> Manifest:
    """Parse each kept reply once; write the shard's parts of replies.parquet, tokens.parquet and graded.parquet.

    Replies come role by role, the cheap one's first; graded rows in the order of the shard's rows. Facts of the manifest
    are the report's counts.
    """
    paths = {name: shard.result(name) for name in (REPLIES, TOKENS, GRADED)}
    rows: dict[str, dict[str, Any]] = {row["example_id"]: row for row in pq.read_table(shard.rows).to_pylist()}
    facts, human = Facts(), shard.config.strong
    with (
        ResponseStore(shard.store) as store,
        schemas.table_writer(paths[REPLIES], schemas.REPLIES) as replies,
        schemas.table_writer(paths[TOKENS], schemas.TOKENS) as tokens,
        schemas.table_writer(paths[GRADED], schemas.GRADED) as graded,
    ):
        for role in ROLES:
            for example_id, request_id, reply, m in _measured(shard, store, role):
                usd = _usd(shard, role, m)
                replies.add([_reply_row(shard, role, example_id, request_id, reply, m, usd)])
                tokens.add([(request_id, example_id, role, *token) for token in token_rows(m)])
                rows[example_id] = _graded(shard, rows[example_id], role, reply, m, usd)
                facts.count(
                    role, m, form=None if reply is None else reply.wire_form, wanted=shard.alternatives_wanted(role)
                )
        if isinstance(human, Human):
            for example_id, row in rows.items():
                if row["strong_wanted"]:
                    rows[example_id] = with_strong(row, row["label"], "ok", float(human.usd_per_request))
        facts.grade(rows.values())
        graded.add(map(itemgetter(*schemas.GRADED.names), rows.values()))
    return Manifest({str(path): file_digest(path) for path in paths.values()}, len(rows), facts.packed())


def results(parts: Iterable[Shard], done: Iterable[Manifest], artefact: str) -> Iterator[Path]:
    """The shards' files of an artefact, in order. Raises DataError for a file that is not what was written."""
    for part, manifest in zip(parts, done, strict=True):
        path = part.result(artefact)
        if file_digest(path) != manifest.sha256[str(path)]:
            raise DataError(
                f"{path}: changed while {artefact} was put together; run the stage again, nothing is paid twice"
            )
        yield path


def _measured(
    shard: Shard, store: ResponseStore, role: str
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
            yield example_id, request_id, reply, measure(b"" if reply is None else reply.body, mine, role=role)


def _graded(
    shard: Shard, row: dict[str, Any], role: str, reply: StoredReply | None, m: Measurement, usd: float | None
) -> dict[str, Any]:
    seconds = None if reply is None else reply.seconds
    if role == "strong":
        return with_strong(row, m.answer, m.status, usd, m.reply.cached_tokens, seconds)
    found = prediction(row, m, usd, seconds)
    return found if shard.config.kind != "classify" else found | {"label_probabilities": None}  # nothing is ranked


def _reply_row(
    shard: Shard,
    role: str,
    example_id: str,
    request_id: str,
    reply: StoredReply | None,
    m: Measurement,
    usd: float | None,
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
        usd, seconds, attempts, received_at,
    )  # fmt: skip


def _usd(shard: Shard, role: str, m: Measurement) -> float | None:
    """Dollars of one reply at the config's prices; None when the reply does not say how many tokens it took."""
    batch = PROVIDERS[shard.providers[role]].batch
    return shard.model(role).price.usd(m.reply.usage, batch=batch)
