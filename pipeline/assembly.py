"""Assembly: replies become rows of tables, tables become arrays. The glue between the rooms, without decisions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import tables
from pipeline.collect.dataset import Example
from pipeline.collect.prompts import letters
from pipeline.collect.store import ResponseStore, StoredReply, chunks
from pipeline.config import SPLITS
from pipeline.decide import calibration
from pipeline.decide.calibrator import Calibrator
from pipeline.decide.expectation import mix_weights
from pipeline.decide.levels import accepted
from pipeline.decide.ranking import options, passages, share_relevant
from pipeline.decide.rows import Rows
from pipeline.job import Job
from pipeline.measure.confidence import Measurement, measure, token_rows
from pipeline.measure.prediction import prediction, with_strong
from pipeline.run import PREDICTIONS, REPLIES, TOKENS

READ_AHEAD = 256


def measured(
    job: Job, store: ResponseStore, role: str, only: str | None = None
) -> Iterator[tuple[Example, str, StoredReply | None, Measurement]]:
    """Every wanted row of a role with its request id, its kept reply if there is one, and what that reply says."""
    for chunk in chunks(job.wanted(role), READ_AHEAD):
        ids = [job.request(role, example).request_id for example in chunk]
        kept = {reply.request_id: reply for reply in store.replies(ids)}
        for example, request_id in zip(chunk, ids, strict=True):
            reply = kept.get(request_id)
            yield (
                example,
                request_id,
                reply,
                measure(b"" if reply is None else reply.body, job.answers_of(example), role=role, only=only),
            )


def write_replies(job: Job, store: ResponseStore) -> None:
    """replies.parquet and tokens.parquet from the store, a row group at a time."""
    metadata = {"schema": "cascade-tables/1", "task": job.config.task, "run_id": job.run_id}
    with (
        tables.table_writer(job.run.path(REPLIES), tables.REPLIES, metadata) as replies,
        tables.table_writer(job.run.path(TOKENS), tables.TOKENS, metadata) as tokens,
    ):
        for role in job.roles:
            for example, request_id, reply, m in measured(job, store, role, only="first_token"):
                replies.add([_reply_row(job, role, example, request_id, reply, m)])
                tokens.add([(request_id, example.id, role, *row) for row in token_rows(m)])


def _reply_row(
    job: Job, role: str, example: Example, request_id: str, reply: StoredReply | None, m: Measurement
) -> tuple[Any, ...]:
    """A row of replies.parquet, in its order."""
    read = m.reply
    here = (None,) * 4 if reply is None else (
        reply.http_status, reply.seconds, reply.attempts, reply.received_at.isoformat(timespec="milliseconds")
    )  # fmt: skip
    status, seconds, attempts, received_at = here
    return (
        request_id, example.id, role, job.provider, job.services[role].model, read.model, "failed" if reply is None else reply.state,
        status, read.finish_reason, read.shape, read.text, read.input_tokens, read.output_tokens, read.reasoning_tokens,
        usd(job, role, m), seconds, attempts, received_at,
    )  # fmt: skip


def usd(job: Job, role: str, m: Measurement) -> float | None:
    """Dollars of one reply at the config's prices; None when the reply does not say how many tokens it took."""
    price = job.settings(role).usd_per_million_tokens
    return price.usd(m.reply.input_tokens, m.reply.output_tokens, batch=job.provider == "together-batch")


def graded(job: Job, store: ResponseStore) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A row per example with both answers graded and every signal, and the counts that the report shows."""
    rows: dict[str, dict[str, Any]] = {}
    facts: dict[str, Any] = {
        "exact_zeros": 0,
        "long_answers": 0,
        "whole_output": True,
        "reasons": Counter(),
        "captured_mass": None,
    }
    captured: list[float] = []
    form = None
    seen: dict[str, Counter[str]] = {role: Counter() for role in ("cheap", "strong")}
    for example, _, reply, m in measured(job, store, "cheap"):
        row = prediction(
            example.id, example.split, example.group, example.segment, example.label, m, usd(job, "cheap", m)
        )
        if job.config.kind == "classify":
            row["label_probabilities"] = None  # nothing is ranked
        rows[example.id] = row
        facts["exact_zeros"] += bool(m.exact_zero)
        facts["long_answers"] += m.long_answer
        facts["whole_output"] &= m.status != "ok" or all(m.in_answer)
        if m.captured_mass is not None:
            captured.append(m.captured_mass)
        form = reply.wire_form if reply is not None and reply.wire_form in ("integer", "boolean") else form
        facts["reasons"].update(
            f"{name}: {why}" for name, why in m.reasons.items() if m.status == "ok" and name != "learned"
        )
        seen["cheap"][m.reply.model or "(none)"] += m.status != "failed"
    if job.human:
        for example in job.dataset.examples:
            if example.split in job.human.splits:
                rows[example.id] = with_strong(rows[example.id], example.label, "ok", float(job.human.usd_per_request))
    else:
        for example, _, _, m in measured(job, store, "strong"):
            rows[example.id] = with_strong(rows[example.id], m.answer, m.status, usd(job, "strong", m))
            seen["strong"][m.reply.model or "(none)"] += m.status != "failed"
    frame = pd.DataFrame(list(rows.values()))
    facts["response_models"] = {role: sorted(name for name, n in c.items() if n) for role, c in seen.items()} | {
        "cheap_form": form
    }
    facts["captured_mass"] = float(np.mean(captured)) if captured else None
    facts["reasons"] = dict(facts["reasons"].most_common(20))
    facts["statuses"] = {role: _counts(frame[f"{role}_status"]) for role in ("cheap", "strong")}
    return frame, facts


def _counts(column: pd.Series) -> dict[str, int]:
    return {str(k): int(v) for k, v in column.dropna().value_counts().sort_index().items()}


def failed_rows(frame: pd.DataFrame) -> int:
    """Rows of which at least one reply never came."""
    return int(((frame["cheap_status"] == "failed") | (frame["strong_status"] == "failed")).sum())


def write_predictions(
    job: Job, frame: pd.DataFrame, signal: Mapping[str, Any], signal_table: list[dict[str, Any]]
) -> None:
    """predictions.parquet, with the chosen signal in its metadata."""
    full = frame.reindex(columns=tables.PREDICTIONS.names)
    columns = [_array(full[f.name], f.type) for f in tables.PREDICTIONS]
    metadata = {
        "schema": "cascade-predictions/1",
        "signal": json.dumps(signal),
        "signal_table": json.dumps(signal_table),
    }
    job.run.write_table(PREDICTIONS, pa.Table.from_arrays(columns, schema=tables.PREDICTIONS), metadata)


def _array(column: pd.Series, kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind):
        return pa.array([value if isinstance(value, list) else None for value in column], type=kind)
    return pa.array(column, type=kind, from_pandas=True)


def read_signal(job: Job) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The chosen signal {name, version, params} and the table it was chosen from."""
    metadata = pq.read_schema(job.run.existing(PREDICTIONS)).metadata
    return json.loads(metadata[b"signal"]), json.loads(metadata[b"signal_table"])


def rows(job: Job, *, stand_in: bool = True) -> Rows:
    """The run's predictions as arrays, with the seconds of each reply.

    Where there are no labels, being right is unknown. With `stand_in`, agreement with the strong model then takes its
    place, and the strong model is right by definition.
    """
    frame = job.run.read_table(PREDICTIONS)
    if job.run.has(REPLIES):
        replies = job.run.read_table(REPLIES)
        for role in ("cheap", "strong"):
            seconds = replies.loc[replies["role"] == role].set_index("example_id")["seconds"]
            frame[f"{role}_s"] = frame["example_id"].map(seconds)
    found = Rows.from_frame(frame)
    if job.labeled or not stand_in:
        return found
    return replace(found, cheap_correct=found.agree, strong_correct=np.where(np.isnan(found.agree), np.nan, 1.0))


def ranking(job: Job, threshold: float | None, calibrator: Calibrator) -> dict[str, Any] | None:
    """How well the test rows' passages or options are ranked, with and without escalation; None for other kinds."""
    if job.config.kind == "classify" or job.options.predictions is not None or not job.labeled:
        return None
    every = job.run.read_table(PREDICTIONS)
    frame = every[every["split"] == ("test" if (every["split"] == "test").any() else "certify")]
    part, held, seed = Rows.from_frame(frame), Rows.from_frame(every[every["split"] == "certify"]), job.config.seed
    kept = accepted(part.confidence, threshold)
    chances = [None if p is None else {e["label"]: e["probability"] for e in p} for p in frame["label_probabilities"]]
    if job.config.kind == "choose":
        names = {e.id: letters(len(e.options or ())) for e in job.dataset.examples}
        return options(part.label, [names[i] for i in part.example_id], chances, part.strong_answer, kept, seed=seed)
    yes = job.answers.labels[0] if job.answers is not None else "yes"

    def says(answers: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([np.nan if a is None else float(a == yes) for a in answers])

    score = np.array([np.nan if p is None else p[yes] for p in chances])
    sure = calibration.apply(calibrator, part.confidence)
    return passages(
        part.group, says(part.label), score, says(part.strong_answer), kept, seed=seed,
        relevance=np.where(part.cheap_answer == yes, sure, 1 - sure),
        strong_share=share_relevant(says(held.label), says(held.strong_answer)),
    )  # fmt: skip


def mix(rows: Rows, prevalence: Mapping[str, float] | None) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Weights, (n,), that give every split production's label mix; None where the set has it already."""
    if prevalence is None:
        return None
    weights = np.zeros(len(rows))
    for split in SPLITS:
        part = rows.split == split
        weights[part] = mix_weights(rows.label[part], prevalence)
    return weights


def outcome(job: Job, frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What confidence is held against, (n,): being right, or agreeing with the strong model where there are no labels."""
    found = Rows.from_frame(frame)
    return found.cheap_correct if job.labeled else found.agree


def texts(job: Job) -> dict[str, str] | None:
    """What the page may show of each row, by id; None when the config keeps texts out, or there are none."""
    if job.config.report.examples == "none" or job.options.predictions is not None:
        return None
    return {e.id: "\n".join(e.texts) for e in job.dataset.examples}
