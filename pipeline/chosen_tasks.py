"""ChosenTasks: which configs a command is about, the money they may cost together, and one that fails without the others.

NAME or path    that config
(nothing)       those of configs/ whose every model is embedded: nothing that could cost money
all             every config of configs/; what each may cost is said, and agreed to, before any of it is spent
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from pipeline import terminal
from pipeline.collect import collection
from pipeline.collect.preflight import estimate as estimates
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.store.response_store import ResponseStore
from pipeline.collect.task_input import TaskInput
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.errors import CascadeError, UsageError
from pipeline.run.atomic import is_stdout

ALL = "all"
RESUMABLE = (3, 130, 143)
Args = argparse.Namespace


def of_each(*, spends: bool = False) -> Callable[[Callable[[TaskInput, Allowance], Any]], Callable[[Args], Any]]:
    """Makes an action on a task the command that runs it for each task chosen; see `each`."""

    def command(action: Callable[[TaskInput, Allowance], Any]) -> Callable[[Args], Any]:
        return wraps(action)(lambda args: each(args, action, spends=spends))

    return command


def each(args: Args, action: Callable[[TaskInput, Allowance], Any], *, spends: bool = False) -> Any:
    """Run an action for a task, or for several; then one that fails does not keep the others from running.

    What may be spent, and the question before that, are about the whole command.
    """
    allowance = Allowance(getattr(args, "max_usd", None))
    if args.task not in (None, ALL):
        return action(task_input(args, args.task), allowance)
    for option in ("predictions", "output"):
        given = getattr(args, option, None)
        if given is not None:
            raise UsageError(f"--{option} {given} applies to one task only; name that task")
    names = yaml_file.known_tasks()
    if not names:
        raise UsageError(f"no tasks: configs/ holds no .yaml; {yaml_file.WHENCE}")
    results: list[Any] = []
    failures: list[CascadeError] = []

    def tried(name: str, act: Callable[..., Any], *given: Any) -> Any:
        try:
            return act(*given)
        except CascadeError as error:
            if error.exit_code in RESUMABLE:
                raise
            terminal.say(f"error: {name}: {error}", error=True)
            failures.append(error)
            return None

    loaded = {name: tried(name, task_input, args, name) for name in names}
    tasks = {name: task for name, task in loaded.items() if task is not None}
    if args.task is None:
        tasks = _embedded(tasks, failures)
    elif spends:
        expected = {name: tried(name, _estimate, task) for name, task in tasks.items()}
        tasks = {name: task for name, task in tasks.items() if expected[name] is not None}
        _confirm({name: found for name, found in expected.items() if found}, args)
        allowance.confirmed = True
    for name, task in tasks.items():
        result = tried(name, action, task, allowance)
        if result is not None:
            results.append(result)
    if failures:
        raise failures[0]
    return results


def stdout_taken(args: Args) -> bool:
    """Whether standard output carries a document, so that what a person reads goes to standard error."""
    return args.json or any(is_stdout(getattr(args, option, None)) for option in ("output", "markdown", "html"))


def task_input(args: Args, name: str) -> TaskInput:
    """The task of that name or path, under what the command line says."""
    known = {
        k: v
        for k, v in vars(args).items()
        if k in Options.__dataclass_fields__ and v is not None and k not in ("command", "set")
    }
    known["json"] = stdout_taken(args)
    options = Options(**known, set=tuple(getattr(args, "set", ())), command=args.line)
    return TaskInput(yaml_file.load(yaml_file.find(name), getattr(args, "set", [])), options)


def _embedded(tasks: Mapping[str, TaskInput], failures: list[CascadeError]) -> dict[str, TaskInput]:
    """Those that only embedded models answer; the others are named."""
    kept = {
        name: task
        for name, task in tasks.items()
        if task.table is None and task.config.cheap is not None and set(task.provider_names.values()) == {"embedded"}
    }
    others = [f"{name} ({task.provider})" for name, task in tasks.items() if name not in kept]
    if not kept and not failures:
        raise UsageError(
            f"without TASK only configs whose models are all embedded are taken, and there is none among {', '.join(others)}; "
            "name one, or `all`"
        )
    if others and any(not task.options.quiet for task in tasks.values()):
        terminal.say(
            f"skipped, since their models are not embedded: {', '.join(others)}; name one, or `all`", error=True
        )
    return kept


def _estimate(task: TaskInput) -> dict[str, Any]:
    """What the task would send and cost; empty where nothing is paid for."""
    if not task.costs_money or task.table is not None:
        return {}
    with ResponseStore(task.store_path) as store:
        found = collection.estimate(task, store)
    return found if found["to_send"] else {}


def _confirm(expected: Mapping[str, Mapping[str, Any]], args: Args) -> None:
    """Say what each config may cost; then one question about the sum, however small: nobody has looked at each."""
    if not expected:
        return
    if not args.quiet or (not args.yes and args.max_usd is None):
        for name, found in expected.items():
            terminal.say(
                f"{name}: about ${found['usd']:.4f}, at most ${found['usd_at_most']:.4f} ({found['to_send']:,} requests)",
                error=True,
            )
    total = {"paid": True, **{key: sum(found[key] for found in expected.values()) for key in ("usd", "usd_at_most")}}
    estimates.confirm(total, max_usd=args.max_usd, yes=args.yes, ask_above=-1.0)
