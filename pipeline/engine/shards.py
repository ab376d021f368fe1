"""Shards: parts of a run's rows with their raw replies, read by a function that needs nothing but their addresses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import pyarrow as pa

from cascade_threshold.answers import AnswerSet
from cascade_threshold.pricing import Price
from cascade_threshold.signals import Measurement, measure, token_rows
from pipeline.engine import kept_manifest, raw_reply
from pipeline.engine.manifest import Manifest
from pipeline.engine.prediction import prediction, with_strong
from pipeline.engine.raw_reply import RawReply
from pipeline.engine.reply_stats import Facts
from pipeline.errors import DataError
from pipeline.run import address, schemas
from pipeline.run.directory import GRADED, REPLIES, TOKENS

SHARD = 10_000
"""Rows of a shard. Part of the plan: it decides where row groups begin, and nothing else."""
READ_AHEAD = 256
ROW = ("example_id", "group", "segment", "label", "options", "strong_wanted")
RESULTS = {REPLIES: schemas.REPLIES, TOKENS: schemas.TOKENS, GRADED: schemas.GRADED}


@dataclass(frozen=True)
class Asked:
    """What a role's replies are read with."""

    provider: str
    model: str
    """The name that the role's model answers under."""
    price: Price
    batch: bool
    alternatives: int
    """How many alternatives per token were asked for."""


@dataclass(frozen=True)
class Shard:
    """A part of a run: where it lies, where its results go, and how it is read. Plain values: no config, client or key."""

    source: str
    """Address of a Parquet file of `schemas.SHARD`."""
    out: str
    """Where results go: this address, with the artefact's name appended."""
    place: int
    """Which part of the run's rows it belongs to: a part whose strong answers are bought bit by bit has several shards."""
    kind: str
    answers: tuple[str, ...] | None
    """The closed set, of kind judge the answer that means yes first; None where it depends on the row."""
    roles: dict[str, Asked]
    human_usd: float | None
    """Price of a person's answer, where people are the strong side."""

    @property
    def answer_set(self) -> AnswerSet | None:
        """How answers are read; None where that depends on the row."""
        if self.answers is None:
            return None
        judge = self.kind == "judge"
        return AnswerSet.judge(self.answers, self.answers[0]) if judge else AnswerSet.classify(self.answers)

    def result(self, artefact: str) -> str:
        """Address of this shard's part of an artefact."""
        return f"{self.out}-{artefact}"


def read(shard: Shard) -> Manifest:
    """Parse each kept reply once; write the shard's parts of replies.parquet, tokens.parquet and graded.parquet.

    Replies come role by role, the cheap one's first; graded rows in the order of the shard's rows, null in the columns of a
    role that the shard lacks. Facts of the manifest are the report's counts. What an earlier process read of the very same
    shard, before it was killed, is taken as it is.
    """
    asked, names = kept_manifest.question(shard), tuple(RESULTS)
    if (known := kept_manifest.kept(shard, asked, names)) is not None:
        return known
    found = _read(shard)
    kept_manifest.keep(shard, asked, found, names)
    return found


def _read(shard: Shard) -> Manifest:
    facts = Facts()
    with address.parquet(shard.source) as source, ExitStack() as stack:
        replies, tokens, graded = (
            stack.enter_context(schemas.table_writer(stack.enter_context(address.written(shard.result(name))), schema))
            for name, schema in RESULTS.items()
        )
        blank = dict.fromkeys(schemas.GRADED.names)
        rows = {row["example_id"]: blank | row for row in source.read(columns=ROW).to_pylist()}
        for role in shard.roles:
            for example_id, request_id, raw, m in _measured(shard, source, role, facts):
                usd = _usd(shard, role, m)
                replies.add([_reply_row(shard, role, example_id, request_id, raw, m, usd)])
                tokens.add([(request_id, example_id, role, *token) for token in token_rows(m)])
                rows[example_id] = _graded(shard, rows[example_id], role, raw, m, usd)
                facts.count(role, m, form=raw.form, wanted=shard.roles[role].alternatives)
        if shard.human_usd is not None:
            for example_id, row in rows.items():
                if row["strong_wanted"]:
                    rows[example_id] = with_strong(row, row["label"], "ok", shard.human_usd)
        facts.grade(rows.values())
        graded.add(map(itemgetter(*schemas.GRADED.names), rows.values()))
    paths = [shard.result(name) for name in RESULTS]
    return Manifest({path: address.digest(path) for path in paths}, len(rows), facts.packed())


def results(parts: Iterable[Shard], done: Iterable[Manifest], artefact: str) -> Iterator[str]:
    """Addresses of the shards' parts of an artefact, in order. Raises DataError for a file that is not what was written."""
    for part, manifest in zip(parts, done, strict=True):
        path = part.result(artefact)
        if address.digest(path) != manifest.sha256[path]:
            raise DataError(
                f"{path}: changed while {artefact} was put together; run the stage again, nothing is paid twice"
            )
        yield path


def _measured(shard: Shard, source: Any, role: str, facts: Facts) -> Iterator[tuple[str, str, RawReply, Measurement]]:
    """Example id and request id of every row that gets an answer of the role, its kept reply if there is one, and what
    that says."""
    answers = shard.answer_set
    columns = ["example_id", "options", f"{role}_request_id", *(f"{role}_{name}" for name in RawReply._fields)]
    for batch in source.iter_batches(READ_AHEAD, columns=columns):
        for example_id, options, request_id, *values in zip(*_values(batch, columns), strict=True):
            if request_id is None:
                continue
            raw, body, why = raw_reply.read(RawReply(*values))
            mine = AnswerSet.choose(json.loads(options)) if answers is None else answers
            if why:
                facts.missing[role][why] += 1
            yield example_id, request_id, raw, measure(body, mine, role=role)


def _values(batch: pa.RecordBatch, columns: Iterable[str]) -> list[list[Any]]:
    return [batch[name].to_pylist() for name in columns]


def _graded(
    shard: Shard, row: Mapping[str, Any], role: str, raw: RawReply, m: Measurement, usd: float | None
) -> dict[str, Any]:
    if role == "strong":
        return with_strong(row, m.answer, m.status, usd, m.reply.cached_tokens, raw.seconds, m.label_probabilities)
    found = prediction(row, m, usd, raw.seconds)
    return found if shard.kind != "classify" else found | {"label_probabilities": None}  # nothing is ranked


def _reply_row(
    shard: Shard, role: str, example_id: str, request_id: str, raw: RawReply, m: Measurement, usd: float | None
) -> tuple[Any, ...]:
    """A row of replies.parquet, in its order."""
    read, asked = m.reply, shard.roles[role]
    return (
        request_id, example_id, role, asked.provider, asked.model, read.model, raw.state or "failed",
        raw.http_status, read.finish_reason, read.shape, read.text, read.input_tokens, read.output_tokens, read.reasoning_tokens, read.cached_tokens,
        usd, raw.seconds, raw.attempts, raw.received_at,
    )  # fmt: skip


def _usd(shard: Shard, role: str, m: Measurement) -> float | None:
    """Dollars of one reply at the config's prices; None when the reply does not say how many tokens it took."""
    asked = shard.roles[role]
    return asked.price.usd(m.reply.usage, batch=asked.batch)
