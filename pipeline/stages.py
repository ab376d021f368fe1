"""The main path, on one page: one short function per stage, in the order in which `evaluate` runs them.

    rows -> requests -> raw replies -> token rows -> confidence -> calibration -> sweep -> certified threshold -> report

Only `collect` spends money. Every other stage is a pure function of what lies in the response store and in the run's
directory, recomputed whenever asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.collect.data import predictions_file
from pipeline.collect.store.response_store import ResponseStore
from pipeline.decide import calibration
from pipeline.decide.advice.unreadable import Unreadable
from pipeline.decide.certify import certify
from pipeline.decide.recommend import recommend as recommendation
from pipeline.decide.scores.reliability import reliability
from pipeline.decide.sweep import sweep as curves
from pipeline.decide.target import Goal
from pipeline.decide.testing import parts
from pipeline.decide.thresholds import candidate_levels, sweep_levels
from pipeline.deliver.report import page as reporting
from pipeline.engine import unreadable
from pipeline.errors import DataError, TooManyFailures, UsageError
from pipeline.job import collection, records, tables_of_replies
from pipeline.job.job import Job, now
from pipeline.run.directory import (
    CALIBRATION,
    POLICY,
    PREDICTIONS,
    RECOMMENDATION,
    RELIABILITY,
    SWEEP,
    require_writable,
)
from pipeline.run.looks import look, sketch


@contextmanager
def begun(job: Job) -> Iterator[None]:
    """Keep other processes off the task; say what changed since its last run; write down in run.json what is about to be run.

    Raises UsageError, before anything is sent, when results could not be written, RunLocked when another run goes on.
    """
    require_parts(job)
    require_writable(job.options.runs_dir, job.options.reports_dir)
    with collection.locked(job):
        found = job.changes()
        if found is not None and found.what:
            job.say(found.line)
        job.run.update(**job.provenance, started=now(), finished=None)
        yield


def require_parts(job: Job) -> None:
    """Raise DataError where no promise can come of the rows, whatever the models answer. A trial with --limit asks for none."""
    if job.options.predictions is not None or job.options.limit is not None:
        return
    examples, goal = job.dataset.examples, Goal.of(job.config.target)
    found = parts.fault(
        [e.split for e in examples],
        [e.group for e in examples],
        job.split.model_dump(),
        goal,
        human=job.human is not None,
    )
    if found is not None:
        raise DataError(f"{job.config.source}: {found}; nothing was spent")


def collect(job: Job) -> None:
    """Send what the store does not hold yet; write replies.parquet and tokens.parquet."""
    with ResponseStore(job.store_path) as store:
        job.run.update(counts=job.dataset.health)
        collection.collect(job, store)
    tables_of_replies.write_replies(job)


def measure(job: Job) -> None:
    """Grade answers, compute every signal, choose one on the fit split; write predictions.parquet."""
    if job.options.predictions is not None:
        frame, facts = predictions_file.read(job.options.predictions, job.split), predictions_file.FACTS
        signal, table = predictions_file.SIGNAL, predictions_file.NO_TABLE
    else:
        frame, facts = tables_of_replies.graded(job)
        if set(facts["statuses"]["cheap"]) == {"failed"}:
            raise UsageError(f"{job.config.task}: no reply of the cheap model is kept; run the stage `collect` first")
        if job.config.report.examples == "none":
            facts["unreadable_texts"] = {role: [] for role in facts["unreadable_texts"]}
        unreadable.require_readable(job.config.task, facts)
        fit = frame[frame["split"] == "fit"]
        signal, table = records.chosen_signal(job, fit, tables_of_replies.outcome(job, fit), facts["reasons"])
        frame["confidence"] = records.confidence_of(frame, signal)
    tables_of_replies.write_predictions(job, frame, signal, table)
    job.run.update(measured=facts)
    refuse_failures(job)


def refuse_failures(job: Job) -> None:
    """Raise TooManyFailures when more rows have no reply than the config allows: nothing is recommended from the rest."""
    frame = job.run.read_table(PREDICTIONS)
    failed = tables_of_replies.failed_rows(frame)
    if failed > job.config.max_failure_rate * len(frame):
        raise TooManyFailures(
            f"{failed} of {len(frame)} rows have no reply, more than max_failure_rate {job.config.max_failure_rate:g} allows; "
            f"predictions are in {job.run.path(PREDICTIONS)}, nothing is recommended. `status` says why they failed; collecting again "
            "asks for those that broke on the way, and for those that the service refused only once `purge` has removed the refusal"
        )


def calibrate(job: Job) -> None:
    """Fit the calibrator on the fit split; write calibration.json and reliability.parquet."""
    if job.options.predictions is not None and not job.run.has(PREDICTIONS):
        measure(job)
    rows = tables_of_replies.rows(job)
    fit = rows.of("fit")
    calibrator = calibration.fit(fit.confidence, fit.cheap_correct, kind=job.config.calibration, seed=job.config.seed)
    signal, table = tables_of_replies.read_signal(job)
    job.run.write_json(CALIBRATION, records.calibration_record(job, rows, calibrator, signal, table))
    curves_ = [
        reliability(part.confidence, part.cheap_correct, calibrator=by, seed=job.config.seed, split=split)
        for split in ("fit", "certify", "test") if len(part := rows.of(split))
        for by in (None, calibrator)
    ]  # fmt: skip
    job.run.write_frame(RELIABILITY, pd.concat(curves_, ignore_index=True))


def sweep(job: Job, also: float | None = None) -> None:
    """Cost and accuracy at up to 1,000 levels, the candidates of the certificate among them; write sweep.parquet."""
    rows = tables_of_replies.rows(job)
    candidates = candidate_levels(rows.of("fit").confidence)
    wanted = candidates if also is None else np.append(candidates, also)
    weights = tables_of_replies.mix(rows, job.prevalence)
    job.run.write_frame(
        SWEEP, curves(rows, sweep_levels(rows.confidence, wanted), seed=job.config.seed, weights=weights)
    )


def recommend(job: Job) -> None:
    """The lowest threshold that passes an exact test on the certify split; write recommendation.json and policy.json."""
    refuse_failures(job)
    rows, target, seed = tables_of_replies.rows(job, stand_in=False), job.config.target, job.config.seed
    fit, held, human = rows.of("fit"), rows.of("certify"), job.human is not None
    levels = candidate_levels(fit.confidence)
    asked = (
        look(job.options.runs_dir, sketch(records.contents(job, held)), records.question(job))
        if Goal.of(target).promises
        else 1
    )
    replies = records.reply_counts(job)
    certificate = certify(
        held, target, levels=levels, look=asked, human=human, fit=fit, seed=seed, max_unreadable=job.config.max_unreadable,
        prevalence=job.prevalence, unread=Unreadable.of(rows, () if replies is None else replies.strong_unreadable),
    )  # fmt: skip
    if certificate.threshold is not None and certificate.threshold not in set(job.run.read_table(SWEEP)["threshold"]):
        sweep(job, also=certificate.threshold)  # targets that choose freely, not among the candidates
    found = recommendation(
        rows, target, certificate=certificate, sweep=job.run.read_table(SWEEP), human=human, levels=levels, seed=seed,
        prevalence=job.prevalence, max_unreadable=job.config.max_unreadable, data=records.data_name(job), replies=replies,
    )  # fmt: skip
    advice = records.recommendation_record(job, rows, found)
    job.run.write_json(RECOMMENDATION, advice)
    job.run.write_json(POLICY, records.policy(job, rows, advice))


def report(job: Job) -> Path:
    """Write the page, its figures and the index; return the page's path."""
    return reporting.write(job.run, job.config, job.options.reports_dir, texts=tables_of_replies.texts(job))


STAGES: tuple[Callable[[Job], object], ...] = (collect, measure, calibrate, sweep, recommend)


def evaluate(job: Job) -> Path:
    """All stages in order: the main job. With a table of predictions nothing is collected."""
    with begun(job):
        for stage in STAGES if job.options.predictions is None else STAGES[1:]:
            since = time.monotonic()
            job.say(f"{stage.__name__} ...")
            stage(job)
            job.run.update(stages={stage.__name__: {"seconds": round(time.monotonic() - since, 3)}})
        job.run.update(finished=now())
        return report(job)
