"""The command line: arguments in, one call of a stage, a result on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import keyword
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cascade_threshold
from pipeline import terminal
from pipeline.config.arguments import GROUPS, TITLES
from pipeline.config.providers import PROVIDERS
from pipeline.errors import CascadeError, Interrupted, NothingTested, PromiseBroken, Stopped, UsageError
from pipeline.redact import keep_address_secret, redact, without_keys
from pipeline.run import cache_folder, garbage

OLDEST = (3, 11)
INSTALL = "pip install 'cascade-threshold[pipeline]'"
RUNTIME_ONLY = "the runtime, `import cascade_threshold`, needs Python 3.10 or later and nothing else"

# command -> (help, groups of options)
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "evaluate": (
        "the main command: run all stages, from rows to report and policy",
        ("tasks", "config", "data", "spend", "engine", "markdown"),
    ),
    "doctor": ("check config, dataset, key and prices; one paid call per model", ("tasks", "config", "spend")),
    "estimate": ("count requests, tokens and dollars; send nothing", ("tasks", "config", "limit")),
    "collect": ("send what is missing to both models", ("tasks", "config", "spend", "engine")),
    "measure": ("grade answers, compute the signals, choose one on fit rows", ("tasks", "config", "data", "engine")),
    "calibrate": ("fit the calibrator on the fit split", ("tasks", "config", "data")),
    "sweep": ("compute cost and accuracy at up to 1,000 thresholds", ("tasks", "config", "data")),
    "recommend": ("find the certified threshold, or say why there is none", ("tasks", "config", "data")),
    "report": ("write the HTML page and figures, refresh the index", ("tasks", "config", "data")),
    "export": ("print or write the policy in another format", ("tasks", "config", "data", "export", "gate")),
    "monitor": ("check production replies against a policy", ("policy", "monitor")),
    "route": (
        "read one completion on stdin (alone, or in {completion, options, text, segment}), print the decision",
        ("policy",),
    ),
    "status": (
        "show requests sent, kept, failed and possibly paid twice, dollars, and a task's runs",
        ("task?", "config", "status"),
    ),
    "compare": (
        "compare two decisions on the same rows: differences with intervals",
        ("compare", "markdown", "comparison", "config", "data"),
    ),
    "new": ("propose a config for your own data", ("new",)),
    "import": ("turn another tool's file into a table of predictions", ("import",)),
    "purge": ("remove kept replies by task, example id or age", ("task?", "purge")),
    "demo": ("write the bundled tasks, their configs and datasets, into a folder", ("demo",)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see pipeline.errors)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    terminal.prepare()
    mask = os.umask(0o077)  # prompts, replies and prices are nobody else's business
    try:
        with garbage.searched_rarely():
            return _run(arguments)
    finally:
        os.umask(mask)


def _run(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    for argument in arguments:
        keep_address_secret(argument)
    args.line = redact(f"{_python()} -m pipeline {shlex.join(arguments)}")
    if sys.version_info < OLDEST:
        _say(f"error: the evaluation needs Python 3.11 or later, and this is {sys.version.split()[0]}; {RUNTIME_ONLY}")
        return UsageError.exit_code
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, _terminated)
    cache_folder.prepare(getattr(args, "runs_dir", None))
    garbage.give_back()
    try:
        from pipeline import commands, stages  # the libraries behind the stages load only when a command runs

        run: Callable[[argparse.Namespace], Any] = getattr(
            commands, f"{args.command}_" if keyword.iskeyword(args.command) else args.command
        )
        with warnings.catch_warnings(), stages.one_thread():
            warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
            result = run(args)
        if args.json:
            terminal.say_json(result)
        terminal.flush()
        return 0
    except CascadeError as error:
        _tell(error, args)
        return error.exit_code
    except KeyboardInterrupt as error:
        _say(f"stopped: interrupted, nothing is lost; resume with: {args.line}")
        return 128 + (error.signum if isinstance(error, Terminated) else signal.SIGINT)
    except BrokenPipeError:
        terminal.discard()
        return 0
    except Exception as error:
        return _unforeseen(error)


def _tell(error: CascadeError, args: argparse.Namespace) -> None:
    """Say why a command ended, and how to resume it where it can be."""
    again = f"; resume with: {args.line}" if isinstance(error, Interrupted) and args.line not in str(error) else ""
    _say(f"{'stopped' if error.exit_code in (3, 130, 143) else 'error'}: {error}{again}")
    if args.json and not isinstance(error, PromiseBroken | NothingTested):  # the monitor has printed its whole report
        message = terminal.shown(redacted(str(error)))
        terminal.say_json({"error": type(error).__name__, "message": message, "exit_code": error.exit_code})


def _unforeseen(error: Exception) -> int:
    """The exit code of what no command raises by itself: the machine's doing, or a bug."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
        terminal.discard()
        _say("stopped: no space left where standard output goes; nothing else is lost")
        return Stopped.exit_code
    if isinstance(error, OSError) and error.errno in NO_PATH and error.filename is not None:
        _say(f"error: {os.fsdecode(error.filename)[:200]}: {error.strerror}; check the path")
        return UsageError.exit_code
    if (missing := _missing_library(error)) is not None:
        _say(f"error: the evaluation needs {missing}, which is not installed: {INSTALL}; {RUNTIME_ONLY}")
        return UsageError.exit_code
    _say(
        "".join(traceback.format_exception(error)) + "\nThis is a bug in cascade-threshold; what was collected is kept."
    )
    return 1


NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM)
"""Of a path that was given: nothing of ours can be there."""


def _missing_library(error: Exception) -> str | None:
    """The library whose absence is the error; None when it is anything else, a module of ours among them."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return None if name is None or name.split(".")[0] in ("pipeline", "cascade_threshold") else name


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which ask for the same as Ctrl-C does."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


def _terminated(signum: int, _: object) -> None:
    raise Terminated(signum)


def _python() -> str:
    """How the user can call this very Python: by its path when it is the project's own, else by name."""
    here, own = Path.cwd(), Path(sys.executable)
    return str(own.relative_to(here)) if own.is_relative_to(here) else "python"


def redacted(text: str) -> str:
    """The text without any API key, wherever it came from."""
    variables = {facts.key_variable for facts in PROVIDERS.values()}
    return redact(without_keys(text, *(os.environ.get(name or "", "").strip() for name in variables)))


def _say(text: str) -> None:
    terminal.say(redacted(text), error=True)


class _Parser(argparse.ArgumentParser):
    """What it prints may repeat an argument, and leaves as any other message."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message and file is not None:
            with contextlib.suppress(OSError):  # as argparse does: help that nobody can read is no error
                file.write(terminal.shown(redacted(message)))


@functools.cache
def parser() -> argparse.ArgumentParser:
    """The whole command line; commands that are not there yet are not in it."""
    top = _Parser(
        prog="cascade-threshold",
        description="Below which confidence should a cheap model's answer be handed to the strong model?",
        epilog="Exit codes: 0 done, 2 usage, config or data, 3 stopped and resumable, 4 too many failed rows, 5 export refused, "
        "6 the promise no longer holds, 7 monitor --require-labels had no label to test, 130/143 interrupted and resumable (129: its terminal was closed), 1 a bug.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {cascade_threshold.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, groups) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        taken: set[tuple[str, ...]] = set()
        for group in groups:
            to = sub.add_argument_group(TITLES[group]) if group in TITLES else sub
            for names, options in GROUPS[group]:
                if names not in taken:
                    to.add_argument(*names, **options)
            taken |= {names for names, _ in GROUPS[group]}
        sub.add_argument("--json", action="store_true", help="machine-readable result on stdout")
        sub.add_argument("--quiet", action="store_true", help="print no progress and no summary")
    return top


if __name__ == "__main__":
    sys.exit(main())
