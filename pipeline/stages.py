"""The main path, on one page: one short function per stage, in the order in which `evaluate` runs them.

    rows -> requests -> raw replies -> token rows -> confidence -> calibration -> sweep -> certified threshold -> report

Only `collect` spends money. Every other stage is a pure function of what the last one returned, and writes what it found.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import threadpoolctl  # type: ignore[import-untyped]

from cascade_threshold.calibrator import Calibrator
from cascade_threshold.signals import LONG_ANSWER_TOKENS
from pipeline.collect import collection
from pipeline.collect.providers.wire_form import WireForm
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.store.response_store import ResponseStore
from pipeline.collect.task_input import TaskInput
from pipeline.collect.task_record import changes, decided_from, described
from pipeline.config.strong_answers import StrongAnswers
from pipeline.config.vocabulary import SPLITS
from pipeline.decide import calibration
from pipeline.decide.advice.recommendation_record import Advice, Spending, advise
from pipeline.decide.advice.reply_warnings import ReplyCounts
from pipeline.decide.advice.unreadable import Unreadable
from pipeline.decide.breakdown.coded_rows import COLUMNS
from pipeline.decide.certify import certify
from pipeline.decide.curves.at_threshold import mix_by_split
from pipeline.decide.curves.ranking import RankingScale
from pipeline.decide.held_out import interval_level
from pipeline.decide.predictions import Rows
from pipeline.decide.scores.calibration_record import Calibrated, calibration_record
from pipeline.decide.scores.reliability import reliability
from pipeline.decide.sweep import sweep as curves
from pipeline.decide.target import Goal
from pipeline.decide.testing import parts
from pipeline.decide.testing.certificate import Certificate
from pipeline.decide.thresholds import accepted, sweep_levels
from pipeline.deliver.formats.policy_facts import policy
from pipeline.deliver.report import page
from pipeline.deliver.report.artefacts import Artefacts
from pipeline.deliver.report.templating import compile_templates
from pipeline.engine import confidence, reading, table_rows
from pipeline.engine import sampled_collection as lazy_collection
from pipeline.engine.reading import Graded
from pipeline.engine.sampled_answers import SampledAnswers, sampling_of
from pipeline.errors import DataError, TooManyFailures, UsageError
from pipeline.run import predictions, provenance, schemas
from pipeline.run.atomic import require_writable
from pipeline.run.digests import digest
from pipeline.run.directory import (
    CALIBRATION,
    GRADED,
    POLICY,
    PREDICTIONS,
    RECOMMENDATION,
    RELIABILITY,
    REPLIES,
    RUN,
    SWEEP,
    TOKENS,
    sealed,
)
from pipeline.run.garbage import trim
from pipeline.run.libraries import LATER, loading
from pipeline.run.lock import locked
from pipeline.run.looks import Look, look, sketch, sketch_of
from pipeline.run.predictions import Predictions
from pipeline.run.record import Measured

Found = TypeVar("Found")


@contextmanager
def begun(task: TaskInput) -> Iterator[None]:
    """Keep other processes off the task; say what changed since its last run; write down in run.json what is about to be run.

    Raises UsageError, before anything is sent, when results could not be written, RunLocked when another run goes on.
    """
    require_parts(task)
    require_writable(task.options.runs_dir, task.options.reports_dir)
    with locked(task.options.runs_dir, task.config.task):
        found = changes(task)
        if found is not None and found.what:
            task.say(found.line)
        fresh = not task.run.path(RUN).exists()
        task.run.update(**described(task), started=provenance.now(), finished=None)
        try:
            yield
        except UsageError:
            if fresh and not task.run.has(REPLIES):  # refused before anything came of it: no run to go on with
                shutil.rmtree(task.run.path(RUN).parent, ignore_errors=True)
            raise


def require_parts(task: TaskInput) -> None:
    """Raise DataError where no promise can come of the rows, whatever the models answer. A trial with --limit asks for none."""
    if task.table is not None or task.options.limit is not None:
        return
    examples, goal = task.dataset.examples, Goal.of(task.config.tested_target)
    split, segment = examples.splits, examples.segments
    found = parts.fault(
        split,
        examples.group_codes,
        task.split.model_dump(),
        goal,
        human=task.human is not None,
        paid=task.costs_money,
        rate=_bought(task, split.count("certify")),
        named=task.config.dataset is not None and task.config.dataset.group is not None,
    ) or parts.absent_segment(segment, split, goal)
    if found is None and task.costs_money:
        found = parts.rare_floor(examples.labels, segment, split, goal)
    if found is not None:
        raise DataError(f"{task.config.source}: {found}; nothing was spent")


def _bought(task: TaskInput, rows: int) -> float:
    """Share of the certify rows whose strong answers `strong.sample` draws."""
    said = task.config.strong
    return (said.rate(rows, task.config.requests_per_year) or 1.0) if isinstance(said, StrongAnswers) else 1.0


def collect(task: TaskInput, allowance: Allowance) -> Graded:
    """Send what the store does not hold yet; write replies.parquet, tokens.parquet and graded.parquet.

    Strong answers that are sampled are bought block by block, as far as the certificate and its figures need them.
    """
    task.run.update(counts=task.dataset.health)
    if lazy_collection.sampled(task):
        return lazy_collection.collect(task, allowance)
    if not all(map(task.is_read_from_file, task.roles)):
        with ResponseStore(task.store_path) as store:
            collection.collect(task, store, allowance, task.run.update)
    return reading.read(task, task.run)


def graded(task: TaskInput) -> Graded:
    """Read the replies that are kept, or the table of predictions; write graded.parquet."""
    if task.table is None:
        if not task.run.has(REPLIES) and all(map(task.is_read_from_file, task.roles)):
            raise UsageError(f"{task.config.task}: no reply of the cheap model was read; run the stage `collect` first")
        return lazy_collection.read(task) if lazy_collection.sampled(task) else reading.read(task, task.run)
    frame = table_rows.read(task)
    trim()
    predictions.write(frame, task.run, GRADED, schemas.GRADED)
    return Graded(frame)


def measure(task: TaskInput, rows: Graded) -> Predictions:
    """Place rows in splits and choose the signal on the fit split; write predictions.parquet.

    Where strong answers are sampled, those that the coin and the walk do not want are left out.
    """
    found = confidence.with_signal(task, rows)
    if (sampled := SampledAnswers.of(task, found)) is not None:
        found = sampled.applied(found)
        task.run.update(strong_sampling=found.strong_sampling)
    found.write(task.decision)
    task.run.update(measured=None if rows.facts is None else rows.facts.model_dump())
    refuse_failures(task, found)
    return found.decided


def refuse_failures(task: TaskInput, found: Predictions) -> None:
    """Raise TooManyFailures when more rows have no reply than the config allows: nothing is recommended from the rest."""
    allowed, n = task.config.max_failure_rate, len(found.frame)
    if found.failed > allowed * n:
        raise TooManyFailures(
            f"{found.failed} of {n} rows have no reply, more than max_failure_rate {allowed:g} allows; predictions are in "
            f"{task.decision.path(PREDICTIONS)}, nothing is recommended. `status` says why they failed; collecting again "
            "retries those that failed in transit, and those that the service refused only once `purge` has removed the refusal"
        )


def measured_facts(task: TaskInput) -> Measured | None:
    """What `measure` wrote down of the replies; None of a table. Raises DataError where run.json does not hold it."""
    if task.table is not None:
        return None
    if (found := task.run.record.measured) is None:
        raise DataError(
            f"{task.run.path(RUN)}: lacks what was measured (damaged, or `measure` did not run); run `evaluate` again, "
            "nothing is paid twice"
        )
    return found


def calibrate(task: TaskInput, found: Predictions) -> Calibrated:
    """Fit the calibrator on the fit split, on all rows where there is none; write calibration.json and reliability.parquet."""
    rows, seed = judged(task, found), task.config.seed
    fit = rows.of("fit") if (rows.split == "fit").any() else rows
    calibrator = calibration.fit(fit.confidence, fit.cheap_correct, kind=task.config.calibration, seed=seed)
    reading, level = calibration.readings(calibrator, rows, seed=seed), interval_level(rows.split)
    record = calibration_record(rows, calibrator, reading, found.signal, found.signal_table, seed=seed)
    diagrams = [
        reliability(values[part], rows.cheap_correct[part], stage=stage, seed=seed, split=split, level=level)
        for split in SPLITS
        if (part := rows.split == split).any()
        for stage, values in (("before", rows.confidence), ("after", reading))
    ]
    made = Calibrated(task.decision.named(record), pd.concat(diagrams, ignore_index=True))
    task.decision.write_json(CALIBRATION, sealed(made.record))
    task.decision.write_frame(RELIABILITY, made.reliability)
    return made


def sweep(task: TaskInput, found: Predictions, certificate: Certificate | None = None) -> pd.DataFrame:
    """Cost and accuracy at up to 1,000 levels, what is certified among them; write sweep.parquet."""
    rows, also = judged(task, found), None if certificate is None else certificate.threshold
    levels = sweep_levels(rows.confidence, None if also is None else np.array([also]))
    weights, level = mix_by_split(rows, task.prevalence), interval_level(rows.split)
    rows = rows.calibrated(accepted(rows.confidence, also), weights) if certificate and task.labeled else rows
    made = curves(rows, levels, level=level, seed=task.config.seed, weights=weights)
    task.decision.write_frame(SWEEP, made)
    return made


def certified(task: TaskInput, found: Predictions, rows_as_given: pd.DataFrame | None = None) -> Certificate:
    """The lowest threshold that passes an exact test on the certify split, or none; the look at these rows is counted.

    rows_as_given  the rows before `strong.sample` left answers out; None: those of graded.parquet, where they are needed
    """
    refuse_failures(task, found)
    config, rows = task.config, Rows.from_frame(found.frame)
    held, replies = rows.of("certify"), reply_counts(task)
    certificate = certify(
        held,
        config.tested_target,
        human=task.human is not None,
        fit=rows.of("fit"),
        seed=config.seed,
        max_unreadable=config.max_unreadable,
        unread=Unreadable.of(rows, () if replies is None else replies.strong_unreadable),
        sampling=sampling_of(found),
        prevalence=task.prevalence,
    )
    if Goal.of(config.tested_target).promises and len(held):  # a question that was refused has told nothing
        asked = looked(task, held, found, rows_as_given)
        planned = None if config.looks is None else config.looks.planned
        certificate = replace(certificate, look=asked.number, looks_delta=asked.delta, looks_planned=planned)
    return certificate


def reply_counts(task: TaskInput) -> ReplyCounts | None:
    """What was counted over the replies; None of a table of predictions."""
    if (found := measured_facts(task)) is None:
        return None
    models = task.models
    asked = {role: side.name for role, side in models.items() if not side.human}
    return ReplyCounts(
        found.statuses["cheap"],
        found.long_answers,
        LONG_ANSWER_TOKENS,
        found.exact_zeros,
        found.few_alternatives,
        task.settings("cheap").top_logprobs,
        asked,
        {role: found.response_models[role] for role in asked},
        found.unreadable_texts["strong"],
        models["cheap"].constrain is not None,
    )


def recommend(
    task: TaskInput, found: Predictions, fitted: Mapping[str, Any], swept: pd.DataFrame, certificate: Certificate
) -> Advice:
    """What the certificate means, with its figures; write recommendation.json, and sweep.parquet with the same intervals."""
    config, measured, replies = task.config, measured_facts(task), reply_counts(task)
    scale, spending = None, None
    if config.kind != "classify" and task.table is None and task.labeled and found.strong_sampling is None:
        yes = task.answers.labels[0] if task.answers is not None else "yes"
        scale = RankingScale(yes, task.option_letters, None if config.judge is None else config.judge.grades)
    if measured is not None:
        spending = Spending(collection.prices(task), task.provider == "together-batch", measured.cached_share)
    advice = advise(
        found.frame,
        config.tested_target,
        certificate,
        swept,
        Calibrator.from_numbers(fitted["calibrator"]),
        human=task.human is not None,
        labeled=task.labeled,
        prevalence=task.prevalence,
        max_unreadable=config.max_unreadable,
        data=task.data_name,
        replies=replies,
        texts=task.texts,
        scale=scale,
        spending=spending,
        seed=config.seed,
    )
    advice = replace(advice, record=task.decision.named(advice.record))
    task.decision.write_frame(SWEEP, advice.sweep)
    task.decision.write_json(RECOMMENDATION, sealed(advice.record))
    return advice


def conclude(task: TaskInput, found: Predictions, fitted: Mapping[str, Any], advice: Advice) -> dict[str, Any]:
    """What production needs to do as recommended; write policy.json, and decision.json over all that was decided."""
    decision, measured, today = task.decision, measured_facts(task), provenance.now()[:10]
    document = policy(
        task.config,
        provider=None if task.table is not None else task.provider,
        models=task.models,
        digests=task.digests,
        measured=measured,
        fitted=fitted,
        advice=advice.record,
        versions=provenance.versions(),
        monitor=advice.monitor,
        decision_id=decision.decision_id,
        decided_on=decision.first_decided or today,
        forms={} if measured is None else {role: WireForm.parse(measured.forms[role]) for role in task.roles},
    )
    decision.write_json(POLICY, document)
    decision.close(task.config, today, decided_from(task, found.strong_sampling))
    return document


def report(task: TaskInput, found: Artefacts | None = None) -> Path:
    """Write the page, its figures and the index; return the page's path. Without `found` the run's artefacts are read."""
    folder = task.options.reports_dir
    return page.write(task.decision, task.config, folder, found=found, texts=task.texts, latest=task.plain)


def evaluate(task: TaskInput, allowance: Allowance) -> tuple[Path, dict[str, Any]]:
    """All stages in order: the main job. With a table of predictions nothing is collected. The page's path, and the recommendation.

    Raises CapReached after the page is written where --max-usd ended a sampled purchase on its way.
    """
    with begun(task):
        with loading(*LATER, then=compile_templates) if task.provider == "embedded" else nullcontext():
            rows = timed(task, collect, task, allowance) if task.table is None else graded(task)
        found = timed(task, measure, task, rows)
        given, replies, stopped = rows.frame if found.strong_sampling else None, rows.replies, rows.stopped
        del rows  # with the columns that chose the confidence
        fitted = timed(task, calibrate, task, found)
        certificate = certified(task, found, given)
        swept = timed(task, sweep, task, found, certificate)
        advice = timed(task, recommend, task, found, fitted.record, swept, certificate)
        document = conclude(task, found, fitted.record, advice)
        record = task.run.update(finished=provenance.now())
        tokens = task.run.path(TOKENS) if task.run.has(TOKENS) else None
        made = (advice.record, fitted.record, document, advice.sweep, fitted.reliability)
        at_hand = Artefacts.of_values(record, *made, found.table(COLUMNS), replies, tokens)
        page = report(task, at_hand)
        if stopped is not None:
            raise type(stopped)(
                f"{stopped}; the answers that were bought until then are evaluated in {page}: what was not bought counts against the promise"
            )
        return page, advice.record


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra stays on one thread: vectors this short cost several times the CPU on two, and sums do not depend on the machine."""
    limits: AbstractContextManager[object] = threadpoolctl.threadpool_limits(limits=1, user_api="blas")
    return limits


def timed(task: TaskInput, stage: Callable[..., Found], *given: Any) -> Found:
    """What a stage finds; run.json says how long it took."""
    since = time.monotonic()
    task.say(f"{stage.__name__} ...")
    found = stage(*given)
    trim()
    task.run.update(stages={stage.__name__: {"seconds": round(time.monotonic() - since, 3)}})
    return found


def judged(task: TaskInput, found: Predictions) -> Rows:
    """The rows as arrays; without labels, agreeing with the strong model stands in for being right."""
    rows = Rows.from_frame(found.frame)
    return rows if task.labeled else rows.graded_by_agreement()


def looked(task: TaskInput, held: Rows, found: Predictions, rows_as_given: pd.DataFrame | None) -> Look:
    """This look at the certify rows: another target, signal, prompt, model or rate of strong answers is another look."""
    target, signal, sampling = task.config.tested_target, found.signal, sampling_of(found)
    rates = [] if sampling is None else [{"strong.sample": [sampling.q, sampling.q_e]}]
    question = digest([target.model_dump(mode="json"), signal["name"], signal["version"], *task.asked, *rates])
    if task.table is not None and sampling is not None:  # a table's rows are the same, whichever answers the coin wants
        given = task.run.read_table(GRADED) if rows_as_given is None else rows_as_given
        whole = given.set_index("example_id").loc[list(held.example_id)].reset_index()
        held = replace(held, strong_correct=Rows.from_frame(whole).strong_correct)
    seen = sketch(held.contents()) if task.table is not None else sketch_of(task.content_digests(held.example_id))
    return look(task.options.runs_dir, seen, question, target.delta)
