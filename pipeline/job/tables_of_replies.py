"""Assembly: replies become rows of tables, tables become arrays. The glue between the rooms, without decisions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cascade_threshold.calibrator import Calibrator
from pipeline.collect.request import letters
from pipeline.collect.store.response_store import chunks
from pipeline.config.task import SPLITS
from pipeline.decide import calibration
from pipeline.decide.curves.at_threshold import mix_weights
from pipeline.decide.curves.ranking import options, passages, share_relevant
from pipeline.decide.predictions import Rows
from pipeline.decide.thresholds import accepted
from pipeline.engine import local, reply_stats, shards
from pipeline.job.job import Job
from pipeline.run import schemas
from pipeline.run.directory import PREDICTIONS, REPLIES, TOKENS, scratch


def write_replies(job: Job) -> None:
    """replies.parquet and tokens.parquet from the store."""
    metadata = {"schema": "cascade-tables/1", "task": job.config.task, "run_id": job.run_id}
    with planned(job) as parts:
        done = list(local.run(shards.tabulate, parts))
        for artefact, schema in ((REPLIES, schemas.REPLIES), (TOKENS, schemas.TOKENS)):
            schemas.merge(shards.results(parts, done, artefact), job.run.path(artefact), schema, metadata)


@contextmanager
def planned(job: Job) -> Iterator[list[shards.Shard]]:
    """The job's rows in shards, written to a folder that is gone afterwards."""
    with scratch(job.run.path("shards")) as folder:
        plan = []
        models = {role: service.model for role, service in job.services.items()}
        for number, examples in enumerate(chunks(job.dataset.examples, shards.SHARD)):
            rows, out = folder / f"rows-{number:05d}.parquet", folder / f"{number:05d}"
            with schemas.table_writer(rows, schemas.SHARD_ROWS) as table:
                table.add(
                    (
                        e.id, e.split, e.group, e.segment, e.label, None if e.options is None else json.dumps(e.options),
                        *(job.request(role, e).request_id if job.wants(role, e) else None for role in reply_stats.ROLES),
                    )
                    for e in examples
                )  # fmt: skip
            plan.append(shards.Shard(rows, out, job.store_path, job.config, job.provider_names, models))
        yield plan


def graded(job: Job) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A row per example with both answers graded and every signal, and the counts that the report shows."""
    with planned(job) as parts:
        done = list(local.run(shards.grade, parts))
        table = pa.concat_tables(pq.read_table(path) for path in shards.results(parts, done, PREDICTIONS))
    frame: pd.DataFrame = table.to_pandas()
    return frame, reply_stats.total(manifest.facts for manifest in done)


def failed_rows(frame: pd.DataFrame) -> int:
    """Rows of which at least one reply never came."""
    return int(((frame["cheap_status"] == "failed") | (frame["strong_status"] == "failed")).sum())


def write_predictions(
    job: Job, frame: pd.DataFrame, signal: Mapping[str, Any], signal_table: list[dict[str, Any]]
) -> None:
    """predictions.parquet, with the chosen signal in its metadata."""
    full = frame.reindex(columns=schemas.PREDICTIONS.names)
    columns = [_array(full[f.name], f.type) for f in schemas.PREDICTIONS]
    metadata = {
        "schema": "cascade-predictions/1",
        "signal": json.dumps(signal),
        "signal_table": json.dumps(signal_table),
    }
    job.run.write_table(PREDICTIONS, pa.Table.from_arrays(columns, schema=schemas.PREDICTIONS), metadata)


def _array(column: pd.Series, kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind):
        return pa.array([list(v) if isinstance(v, list | np.ndarray) else None for v in column], type=kind)
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
