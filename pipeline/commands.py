"""Commands: what each one does with the stages, what it prints for people, and what it returns for --json."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shlex
from collections.abc import Mapping
from itertools import chain
from pathlib import Path, PurePath
from typing import Any

from cascade_threshold import policy as policies
from pipeline import stages, terminal
from pipeline.chosen_tasks import each, of_each, stdout_taken
from pipeline.collect import collection
from pipeline.collect.data import dataset as datasets
from pipeline.collect.preflight import doctor as preflight
from pipeline.collect.preflight import estimate as estimates
from pipeline.collect.providers.bounded import MOST_BYTES
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.store.response_store import ResponseStore
from pipeline.collect.task_input import TaskInput
from pipeline.collect.task_record import changes, described
from pipeline.compare_command import compare
from pipeline.config import yaml_file
from pipeline.deliver import summary
from pipeline.demo import bundle
from pipeline.errors import CascadeError, DataError, NothingTested, PromiseBroken, UsageError
from pipeline.run.atomic import require_output, write_bytes
from pipeline.run.directory import CALIBRATION, GRADED, POLICY, RECOMMENDATION, SWEEP
from pipeline.run.predictions import Predictions
from pipeline.store_commands import purge, status

__all__ = ["compare", "purge", "status"]
Args = argparse.Namespace


def evaluate(args: Args) -> Any:
    """All stages of one task, of those with embedded models, or of all."""
    if args.markdown is not None:
        require_output(args.markdown)
    sections: list[list[str]] = []

    def one(task: TaskInput, allowance: Allowance) -> dict[str, Any]:
        try:
            page, advice = stages.evaluate(task, allowance)
        except CascadeError as error:
            sections.append(summary.failed(task.config.task, str(error)))
            raise
        sections.append(summary.section(advice, report=str(page), policy=str(page.with_name(POLICY))))
        return _outcome(task, page, advice)

    try:
        return each(args, one, spends=True)
    finally:
        if args.markdown is not None and sections:
            write_bytes(args.markdown, summary.document(sections).encode("utf-8", "replace"))


def _outcome(task: TaskInput, page: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    policy = page.with_name(POLICY)
    result = {
        "task": task.config.task,
        "run_id": task.run_id,
        "decision_id": found["decision_id"],
        "verdict": found["verdict"],
        "threshold": found["threshold"],
        "sentence": found["sentence"],
        "report": str(page),
        "policy": str(policy),
    }
    notes = [w["text"] for w in found["warnings"][:3]] + [note for note in [found["intervals"]["note"]] if note]
    _print(
        task,
        f"\n{found['verdict'].upper().replace('_', ' ')}: {found['sentence']}",
        *(f"  note: {n}" for n in notes),
        f"  report: {page}",
        f"  policy: {policy}",
    )
    return result


@of_each()
def doctor(task: TaskInput, allowance: Allowance) -> dict[str, Any]:
    """Checks that spend next to nothing, with what to do about each failure."""
    with ResponseStore(task.store_path) as store:
        found = collection.doctor(task, store, allowance)
    health = task.dataset.health
    _print(
        task,
        f"{task.config.task} ({task.provider}): {health['rows']:,} rows, {health['splits']['certify']:,} of them certify, "
        f"{health['duplicate_texts']:,} copies",
        *preflight.lines(found),
    )
    preflight.require(found)
    return {**found, "dataset": health}


@of_each()
def estimate(task: TaskInput, allowance: Allowance) -> dict[str, Any]:
    """What a run would send and cost."""
    stages.require_parts(task)
    with ResponseStore(task.store_path) as store:
        found = collection.estimate(task, store)
    past = changes(task)
    _print(
        task,
        f"{task.config.task} ({task.provider}): {len(task.dataset):,} rows",
        *([past.line] if past else []),
        *estimates.estimate_lines(found),
        *(f"warning: {noticed.line}" for noticed in collection.questions(task)),
    )
    told = None if past is None else {"since": past.since, "started": past.started, "what": list(past.what)}
    return {"task": task.config.task, **found, "changes": told}


@of_each(spends=True)
def collect(task: TaskInput, allowance: Allowance) -> dict[str, Any]:
    """Send what is missing."""
    with stages.begun(task):
        found = stages.collect(task, allowance)
    if found.stopped is not None:
        raise found.stopped
    return _done(task)


@of_each()
def measure(task: TaskInput, allowance: Allowance) -> dict[str, Any]:
    """Grade and compute signals."""
    stages.measure(task, stages.graded(task))
    return _done(task)


@of_each()
def calibrate(task: TaskInput, allowance: Allowance) -> dict[str, Any]:
    """Fit the calibrator."""
    given = task.table is not None and not task.run.has(GRADED)
    stages.calibrate(task, stages.measure(task, stages.graded(task)) if given else Predictions.read(task.decision))
    return _done(task)


@of_each()
def sweep(task: TaskInput, allowance: Allowance) -> dict[str, Any]:
    """Cost and accuracy at every level."""
    stages.sweep(task, Predictions.read(task.decision))
    return _done(task)


@of_each()
def recommend(task: TaskInput, allowance: Allowance) -> dict[str, Any]:
    """The threshold or why there is none."""
    rows, fitted, swept = (
        Predictions.read(task.decision),
        task.decision.read_json(CALIBRATION),
        task.decision.read_table(SWEEP),
    )
    certificate = stages.certified(task, rows)
    if rows.strong_sampling is not None or certificate.threshold not in {None, *swept["threshold"]}:
        swept = stages.sweep(task, rows, certificate)  # one of many candidates; by it sampled answers are weighed
    advice = stages.recommend(task, rows, fitted, swept, certificate)
    stages.conclude(task, rows, fitted, advice)
    found = advice.record
    task.run.update(**described(task))
    policy = task.decision.path(POLICY)
    _print(task, f"{found['verdict'].upper().replace('_', ' ')}: {found['sentence']}", f"  policy: {policy}")
    return {k: found[k] for k in ("task", "run_id", "decision_id", "verdict", "threshold", "sentence")}


@of_each()
def report(task: TaskInput, allowance: Allowance) -> dict[str, Any]:
    """The pages."""
    decision = task.decision
    decision.require_whole()
    return _outcome(task, stages.report(task), decision.read_json(RECOMMENDATION))


def export(args: Args) -> Any:
    """The policy in another format, on stdout or in a file."""
    from pipeline.deliver.formats import release_gate
    from pipeline.deliver.formats.export import export as exported

    before = None if args.against is None else policies.load(args.against)
    limits = release_gate.Limits(args.require, args.max_escalation, args.max_usd_per_1000, before)

    def one(task: TaskInput, allowance: Allowance) -> dict[str, Any]:
        decision = task.decision
        decision.require_whole()
        path = decision.existing(POLICY)
        release_gate.require(policies.load(path), limits)
        text = exported(path, args.format, allow_uncertified=args.allow_uncertified, allow_demo=args.allow_demo)
        if args.output is not None:
            write_bytes(args.output, text.encode())
            _print(task, f"wrote {args.output}")
        elif not args.json:
            terminal.write(text)
        return {
            "task": task.config.task,
            "format": args.format,
            "output": str(args.output) if args.output else None,
            "text": text,
        }

    return each(args, one)


def monitor(args: Args) -> dict[str, Any]:
    """Production replies against the policy; exit 6 when the promise no longer holds, 7 when labels were required and none was tested."""
    from pipeline.deliver.monitoring import log_file, monitor_formats
    from pipeline.deliver.monitoring import monitor as watching

    logs = log_file.expand(args.log)
    found: dict[str, Any] = watching.check(
        policies.load(args.policy),
        chain.from_iterable(log.lines() for log in logs),
        days=args.days,
        today=dt.datetime.now(dt.UTC).date(),
    )
    failed: CascadeError | None = None if found["holds"] else PromiseBroken(found["text"][0])
    if failed is None and args.require_labels and not found["tested"]:
        failed = NothingTested(found["text"][0] if found["verdict"] == "untested" else found["text"][-1])
    if args.json:
        _out(args, *found["text"])
        if failed is not None:
            terminal.say_json(found)
    elif args.quiet and args.format == "text":
        terminal.say(*([found["text"][0]] if found["tested"] else [found["text"][0], found["text"][-1]]))
    else:
        text = monitor_formats.rendered(found, args.format)
        terminal.write(text if args.format == "json" else terminal.shown(text))
    if failed is not None:
        raise failed
    return found


def route(args: Args) -> dict[str, Any]:
    """One production decision."""
    from pipeline.deliver.monitoring import log_reader

    policy = policies.load(args.policy)
    due = policy.document.get("review_by")
    if isinstance(due, str) and due < dt.datetime.now(dt.UTC).date().isoformat():
        terminal.say(f"warning: {args.policy}: was due for review by {due}; evaluate again on newer rows", error=True)
    completion, request = log_reader.piped(terminal.input_text(MOST_BYTES))
    decision: dict[str, Any] = policy.decide(completion, **request).to_dict()
    if not args.json:
        terminal.say_json(decision)
    return decision


def new(args: Args) -> dict[str, Any]:
    """A commented config for somebody's own table."""
    from pipeline.collect.data.config_scaffold import propose, rows_file
    from pipeline.decide.target import Goal
    from pipeline.decide.testing.sample_size import fewest_rows

    path = yaml_file.CONFIGS / f"{args.name}.yaml"
    if path.exists():
        raise UsageError(f"{path}: already exists; choose another name, or remove it first")
    proposal = propose(
        args.name,
        args.source,
        path.parent,
        fewest=lambda within: fewest_rows(Goal("match_strong", 0.1, within=within)) or 0,
        label=args.label,
        text=args.text or (),
    )
    draft, rows = path.with_name(f".{args.name}.draft.yaml"), rows_file(args.name, path.parent)
    if proposal.rows is not None and rows.exists():
        raise UsageError(f"{rows}: already exists; choose another name, or remove it first")
    write_bytes(draft, proposal.text.encode())
    if proposal.rows is not None:
        rows.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(rows, proposal.rows)
    try:  # what it proposes must load, and its rows must be readable
        loaded = yaml_file.load(draft)
        if loaded.dataset is not None:
            answers = loaded.answer_set
            datasets.read(loaded, answers.label_of if answers is not None else lambda _: None)
    except CascadeError as error:
        if proposal.rows is not None:
            rows.unlink(missing_ok=True)
        said = str(error).replace(str(draft), f"the proposed {path.name}")
        raise DataError(
            f"{said}; nothing was written. Name the columns with --label and --text, or fix the table"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    write_bytes(path, proposal.text.encode())
    if not args.quiet:
        checks = [f"  - {c}" for c in proposal.checks]
        then = f"then: python -m pipeline {'evaluate' if loaded.dataset is None else 'estimate'} {args.name}"
        terminal.say(f"wrote {path}. Look at:", *checks, then, error=args.json)
    return {"config": str(path), "checks": proposal.checks}


def demo(args: Args) -> dict[str, Any]:
    """The bundled tasks in a folder of the user's: configs/ and datasets/, byte for byte."""
    files = bundle.files()
    there = [name for name in files if os.path.lexists(args.folder / name)]
    if there:
        more = f" and {len(there) - 1} more" if there[1:] else ""
        raise UsageError(
            f"{args.folder / there[0]}{more}: already exists, and demo overwrites no file; name another folder"
        )
    for name, file in files.items():
        write_bytes(args.folder / name, file.read_bytes())
    size = sum(file.stat().st_size for file in files.values())
    tasks = sorted(PurePath(name).stem for name in files if PurePath(name).suffix == ".yaml")
    _out(
        args,
        f"wrote {len(files)} files ({size / 1e6:.1f} MB) into {args.folder}: the tasks {', '.join(tasks)}",
        "their models are demonstration models: no key, no cost, no product",
        f"next: cd {shlex.quote(str(args.folder))} && python -m pipeline evaluate email_triage",
    )
    return {"folder": str(args.folder), "tasks": tasks, "files": len(files), "bytes": size}


def import_(args: Args) -> dict[str, Any]:
    """Another tool's file as a table of predictions."""
    from pipeline.collect.data import table_answers
    from pipeline.collect.imports import kinds

    split = [part.strip() for part in (args.models or "").split(",") if part.strip()]
    if args.models and len(split) != 2:
        raise UsageError(f"--models {args.models}: name two models, CHEAP,STRONG")
    answers = None if args.answers is None else [part.strip() for part in args.answers.split(",") if part.strip()]
    if answers is not None and (len(answers) < 2 or table_answers.known_set(answers) is None):
        raise UsageError(f"--answers {args.answers}: name at least two answers that differ, A,B,C")
    labels = None if args.labels_from is None else kinds.labels_of(args.labels_from, args.id, args.label)
    found = kinds.read(args.kind, args.file, strong=args.strong, models=split, answers=answers, labels=labels)
    path = args.output or Path(f"{args.file.stem}.predictions.parquet")
    write_bytes(path, kinds.encoded(found.frame, path))
    _out(
        args,
        f"{'; '.join(found.notes)}",
        f"wrote {path} with the columns {', '.join(found.frame.columns)}",
        f"next: python -m pipeline evaluate TASK --predictions {path}",
    )
    return {
        "predictions": str(path),
        "rows": len(found.frame),
        "columns": list(found.frame.columns),
        "notes": list(found.notes),
    }


def _out(args: Args, *lines: str) -> None:
    if not args.quiet:
        terminal.say(*lines, error=stdout_taken(args))


def _done(task: TaskInput) -> dict[str, Any]:
    """Write down how the stage came about, and say where its results lie."""
    task.run.update(**described(task))
    _print(task, f"{task.config.task}: done; run {task.run.directory}")
    return {"task": task.config.task, "run_id": task.run_id, "run": str(task.run.directory)}


def _print(task: TaskInput, *lines: str) -> None:
    """What a person reads at the end; on stderr when stdout carries JSON."""
    if not task.options.quiet:
        terminal.say(*lines, error=task.options.json)
