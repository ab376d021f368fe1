"""Shards: parts of a run's rows with their raw replies, read by a function that needs nothing but their addresses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cascade_threshold.answers import AnswerSet
from cascade_threshold.pricing import Price
from cascade_threshold.signals import Measurement, measure, token_rows
from pipeline.engine import kept_manifest, raw_reply
from pipeline.engine.manifest import Manifest
from pipeline.engine.prediction import CHEAP, STRONG, cheap_half, strong_half
from pipeline.engine.raw_reply import RawReply
from pipeline.engine.reply_stats import Facts
from pipeline.errors import DataError
from pipeline.run import address, schemas
from pipeline.run.directory import GRADED, REPLIES, TOKENS

SHARD = 10_000
"""Rows of a shard. Part of the plan: it decides where row groups begin, and nothing else."""
READ_AHEAD = 256
ROW = ("example_id", "group", "segment", "label")
"""Columns of a shard that are those of its graded rows."""
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
            stack.enter_context(
                schemas.table_writer(stack.enter_context(address.written(shard.result(name))), schema, level=1)
            )
            for name, schema in RESULTS.items()
        )
        rows = source.read(columns=[*ROW, "strong_wanted"])
        labels = rows["label"].to_pylist()
        halves = {"cheap": [_NO_CHEAP] * len(labels), "strong": [_NO_STRONG] * len(labels)}
        for role, asked in shard.roles.items():
            half = halves[role]
            for place, example_id, request_id, raw, m in _measured(shard, source, role, facts):
                usd = _usd(asked, m)
                replies.add([_reply_row(asked, role, example_id, request_id, raw, m, usd)])
                tokens.add([(request_id, example_id, role, *token) for token in token_rows(m)])
                half[place] = _half(shard, role, labels[place], raw, m, usd)
                facts.count(role, m, form=raw.form, wanted=asked.alternatives)
        if shard.human_usd is not None:
            for place, wanted in enumerate(rows["strong_wanted"].to_pylist()):
                if wanted:
                    halves["strong"][place] = strong_half(labels[place], labels[place], "ok", shard.human_usd)
        table = _graded(rows, halves)
        facts.grade(table)
        graded.writer.write_table(table)
    paths = [shard.result(name) for name in RESULTS]
    return Manifest({path: address.digest(path) for path in paths}, len(labels), facts.packed())


def results(parts: Iterable[Shard], done: Iterable[Manifest], artefact: str) -> Iterator[str]:
    """Addresses of the shards' parts of an artefact, in order. Raises DataError for a file that is not what was written."""
    for part, manifest in zip(parts, done, strict=True):
        path = part.result(artefact)
        if address.digest(path) != manifest.sha256[path]:
            raise DataError(
                f"{path}: changed while {artefact} was put together; run the stage again, nothing is paid twice"
            )
        yield path


def _measured(
    shard: Shard, source: Any, role: str, facts: Facts
) -> Iterator[tuple[int, str, str, RawReply, Measurement]]:
    """Place, example id and request id of every row that gets an answer of the role, its kept reply if there is one, and
    what that says."""
    answers = shard.answer_set
    columns = ["example_id", "options", f"{role}_request_id", *(f"{role}_{name}" for name in RawReply._fields)]
    place = -1
    for batch in source.iter_batches(READ_AHEAD, columns=columns):
        for example_id, options, request_id, *values in zip(*_values(batch, columns), strict=True):
            place += 1
            if request_id is None:
                continue
            raw, body, why = raw_reply.read(RawReply(*values))
            mine = AnswerSet.choose(json.loads(options)) if answers is None else answers
            if why:
                facts.missing[role][why] += 1
            yield place, example_id, request_id, raw, measure(body, mine, role=role)


def _values(batch: pa.RecordBatch, columns: Iterable[str]) -> list[list[Any]]:
    return [batch[name].to_pylist() for name in columns]


_NO_CHEAP, _NO_STRONG = (None,) * len(CHEAP), (None,) * len(STRONG)


def _half(
    shard: Shard, role: str, label: str | None, raw: RawReply, m: Measurement, usd: float | None
) -> tuple[Any, ...]:
    if role == "strong":
        return strong_half(label, m.answer, m.status, usd, m.reply.cached_tokens, raw.seconds, m.label_probabilities)
    return cheap_half(label, m, usd, raw.seconds, ranked=shard.kind != "classify")


def _graded(rows: pa.Table, halves: Mapping[str, Sequence[tuple[Any, ...]]]) -> pa.Table:
    """Graded rows: those of the shard with both halves."""
    columns: dict[str, Any] = {name: rows[name] for name in ROW}
    for names, half in ((CHEAP, halves["cheap"]), (STRONG, halves["strong"])):
        values = zip(*half, strict=True) if half else ([] for _ in names)
        columns |= {
            name: schemas.column(schemas.GRADED.field(name).type, v) for name, v in zip(names, values, strict=True)
        }
    return pa.table([columns[name] for name in schemas.GRADED.names], schema=schemas.GRADED)


def _reply_row(
    asked: Asked, role: str, example_id: str, request_id: str, raw: RawReply, m: Measurement, usd: float | None
) -> tuple[Any, ...]:
    """A row of replies.parquet, in its order."""
    read = m.reply
    return (
        request_id,
        example_id,
        role,
        asked.provider,
        asked.model,
        read.model,
        raw.state or "failed",
        raw.http_status,
        read.finish_reason,
        read.shape,
        read.text,
        read.input_tokens,
        read.output_tokens,
        read.reasoning_tokens,
        read.cached_tokens,
        usd,
        raw.seconds,
        raw.attempts,
        raw.received_at,
    )


def _usd(asked: Asked, m: Measurement) -> float | None:
    """Dollars of one reply at the config's prices; None when the reply does not say how many tokens it took."""
    return asked.price.usd(m.reply.usage, batch=asked.batch)
