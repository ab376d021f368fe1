"""StoreCommands: what `status` and `purge` do with the kept replies; nothing is sent."""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
from contextlib import ExitStack, closing
from typing import Any

from pipeline import terminal
from pipeline.collect.providers.recorded import Recorded
from pipeline.collect.store import admin
from pipeline.collect.store.response_store import ResponseStore
from pipeline.collect.task_input import TaskInput
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.errors import UsageError
from pipeline.run.atomic import atomic
from pipeline.run.decision import Decision
from pipeline.run.directory import RECOMMENDATION, REPLIES, RUN, STORE, Run
from pipeline.run.lock import locked

Args = argparse.Namespace


def status(args: Args) -> dict[str, Any]:
    """The store and the runs, without sending anything."""
    task, found = _task_name(args), []
    runs_of_task = Run.all(args.runs_dir, task)
    if (args.runs_dir / STORE).is_file():
        with ResponseStore(args.runs_dir / STORE) as store:
            found = admin.summary(store, task)
            if task is not None and not found and not runs_of_task:
                raise _unknown(args, task, {g["task"] for g in admin.summary(store)})
            if args.export_replies is not None:
                for name, role in sorted({(g["task"], g["role"]) for g in found}):
                    path = args.export_replies / (f"{role}.jsonl" if task else f"{name}-{role}.jsonl")
                    _out(args, f"wrote {admin.export(store, name, role, path):,} replies to {path}")
    elif task is not None and not runs_of_task and Run.all(args.runs_dir):
        raise _unknown(args, task, set())
    elif not runs_of_task:
        _out(args, f"no runs yet in {args.runs_dir}")
    if args.export_replies is not None and task is not None and not found and runs_of_task:
        _export_from_files(args)
    runs = [_run_line(run) for run in runs_of_task]
    _out(
        args,
        *admin.lines(found),
        *(f"run {r['task']}/{r['run_id']} · {r['started']} · {r['verdict'] or 'not finished'}" for r in runs),
    )
    return {"store": found, "runs": runs}


def _unknown(args: Args, task: str, kept: set[str]) -> UsageError:
    known = sorted(kept | {run.task for run in Run.all(args.runs_dir)})
    return UsageError(
        f"{args.runs_dir / STORE}: nothing of a task {task!r}; it holds: {', '.join(known) or 'nothing yet'}"
    )


def _export_from_files(args: Args) -> None:
    """Write the wanted lines of a task whose replies are read from files and never were in the store."""
    task = TaskInput(yaml_file.load(yaml_file.find(args.task)), Options(runs_dir=args.runs_dir))
    for role in [role for role in task.roles if task.is_read_from_file(role)]:
        path, file, written = args.export_replies / f"{role}.jsonl", Recorded(task.services[role].source), 0
        with closing(file), atomic(path) as temporary, temporary.open("wb") as out:
            rows = task.dataset.examples
            for name, split in zip(rows.ids(), rows.splits, strict=True):
                if task.wants(role, split) and (line := file.line(name)) is not None:
                    out.write(line.rstrip(b"\r\n") + b"\n")
                    written += 1
        _out(args, f"wrote {written:,} replies to {path}")


def _run_line(run: Run) -> dict[str, Any]:
    record = run.read_json(RUN)
    decisions = [
        {"decision_id": d.decision_id, **{k: d.read_json(RECOMMENDATION)[k] for k in ("verdict", "threshold")}}
        for d in Decision.all(run)
    ]
    return {
        "task": run.task,
        "run_id": run.run_id,
        "started": record.get("started"),
        "finished": record.get("finished"),
        "verdict": decisions[0]["verdict"] if decisions else None,
        "decisions": decisions,
    }


def purge(args: Args) -> dict[str, Any]:
    """Remove kept replies, after asking."""
    task, age = _task_name(args), args.older_than
    conditions = (("task", task), ("row", args.example_id), ("older in days than", age))
    chosen = [f"{what} {value}" for what, value in conditions if value is not None]
    if not chosen:
        raise UsageError("purge: say what to remove: a task, --example-id ID or --older-than DAYS")
    if not (args.runs_dir / STORE).is_file():
        raise UsageError(
            f"{args.runs_dir / STORE}: there is no store, so nothing was removed; recorded replies lie in their own files"
        )
    if not args.yes:
        if not sys.stdin.isatty():
            raise UsageError(
                f"this would remove kept replies permanently ({', '.join(chosen)}); if they are needed again, they must be paid for again: confirm with --yes"
            )
        question = (
            f"Remove kept replies for good ({', '.join(chosen)})? Whatever needs them again is paid for again. [y/N] "
        )
        if input(terminal.shown(question)).strip().lower() not in ("y", "yes"):
            raise UsageError("not confirmed; nothing was removed")
    with ResponseStore(args.runs_dir / STORE) as store, ExitStack() as held:
        for name in _tasks_in(store, task):  # whoever works on one counts on the replies that are kept
            held.enter_context(locked(args.runs_dir, name))
        remained = store.fact(admin.BYTES_REMAIN) is not None
        removed = admin.purge(
            store, task=task, example_id=args.example_id, older_than=None if age is None else dt.timedelta(days=age)
        )
        if removed == 0 and not remained:
            raise UsageError(f"{args.runs_dir / STORE}: no kept reply of {', '.join(chosen)}; nothing was removed")
    left = [run.directory for run in Run.all(args.runs_dir, task) if run.has(REPLIES)]
    _out(args, f"removed {removed:,} replies from {args.runs_dir / STORE}")
    if left:
        shown = ", ".join(map(str, left[:5])) + (" ..." if len(left) > 5 else "")
        _out(
            args,
            f"not removed: answers and texts in {len(left):,} run folders ({shown}) and in the reports made of them; delete these yourself",
        )
    return {"removed": removed, "left_in": [str(path) for path in left]}


def _tasks_in(store: ResponseStore, task: str | None) -> list[str]:
    """The tasks whose replies may be removed, of those that the store holds."""
    names = [str(name) for (name,) in store.query("SELECT DISTINCT task FROM attempt ORDER BY task", [])]
    return [name for name in names if task in (None, name) and re.fullmatch("[a-z0-9_]+", name)]


def _task_name(args: Args) -> str | None:
    """The task's own name; None for all."""
    if args.task in (None, "all"):
        return None
    name: str = args.task
    return yaml_file.load(yaml_file.find(name)).task if "/" in name or name.endswith((".yaml", ".yml")) else name


def _out(args: Args, *lines: str) -> None:
    if not args.quiet:
        terminal.say(*lines, error=args.json)
