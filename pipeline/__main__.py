"""The command line: arguments in, one call of a stage, a result on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import contextlib
import errno
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
from pipeline.config import engine_options, import_options
from pipeline.config.providers import PROVIDERS
from pipeline.config.vocabulary import FORMATS
from pipeline.errors import CascadeError, Interrupted, NothingTested, PromiseBroken, Stopped, UsageError
from pipeline.redact import keep_address_secret, redact, without_keys
from pipeline.run import cache_folder

MONITOR_FORMATS = ("text", "json", "prometheus", "markdown")

OLDEST = (3, 11)
INSTALL = "pip install 'cascade-threshold[pipeline]'"
RUNTIME_ONLY = "the runtime, `import cascade_threshold`, needs Python 3.10 or later and nothing else"

# command -> (help, groups of options)
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "evaluate": (
        "the main job: all stages from rows to report and policy",
        ("tasks", "config", "data", "spend", "engine", "markdown"),
    ),
    "doctor": ("check config, dataset, key and prices; one paid call per model", ("tasks", "config", "spend")),
    "estimate": ("count requests, tokens and dollars; send nothing", ("tasks", "config", "limit")),
    "collect": ("send what is missing to both models", ("tasks", "config", "spend", "engine")),
    "measure": ("grade answers, compute the signals, choose one on fit rows", ("tasks", "config", "data", "engine")),
    "calibrate": ("fit the calibrator on the fit split", ("tasks", "config", "data")),
    "sweep": ("cost and accuracy at up to 1,000 thresholds", ("tasks", "config", "data")),
    "recommend": ("the certified threshold, or why there is none", ("tasks", "config", "data")),
    "report": ("write the HTML page and figures, refresh the index", ("tasks", "config", "data")),
    "export": ("print or write the policy in another format", ("tasks", "config", "data", "export")),
    "monitor": ("check production replies against a policy", ("monitor",)),
    "route": (
        "read one completion (JSON, or in {completion, options, text, segment}) on stdin, print the decision",
        ("policy",),
    ),
    "status": (
        "requests sent, kept, failed, perhaps paid twice, dollars; runs of a task",
        ("task?", "config?", "status"),
    ),
    "compare": ("two decisions on the same rows: differences with intervals", ("compare", "config", "data")),
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
    cache_folder.prepare(getattr(args, "runs_dir", None))
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
        again = f"; resume with: {args.line}" if isinstance(error, Interrupted) and args.line not in str(error) else ""
        _say(f"{'stopped' if error.exit_code in (3, 130, 143) else 'error'}: {error}{again}")
        if args.json and not isinstance(
            error, PromiseBroken | NothingTested
        ):  # the monitor has printed its whole report
            message = terminal.shown(redacted(str(error)))
            terminal.say_json({"error": type(error).__name__, "message": message, "exit_code": error.exit_code})
        return error.exit_code
    except KeyboardInterrupt as error:
        _say(f"stopped: interrupted, nothing is lost; resume with: {args.line}")
        return 143 if isinstance(error, Terminated) else 130
    except BrokenPipeError:
        terminal.discard()
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            terminal.discard()
            _say("stopped: no space left where standard output goes; nothing else is lost")
            return Stopped.exit_code
        missing = _missing_library(error)
        if missing is not None:
            _say(f"error: the evaluation needs {missing}, and it is not installed: {INSTALL}; {RUNTIME_ONLY}")
            return UsageError.exit_code
        _say(traceback.format_exc() + "\nThis is a bug in cascade-threshold; what was collected is kept.")
        return 1


def _missing_library(error: Exception) -> str | None:
    """The library whose absence is the error; None when it is anything else, a module of ours among them."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return None if name is None or name.split(".")[0] in ("pipeline", "cascade_threshold") else name


class Terminated(KeyboardInterrupt):
    """SIGTERM, which asks for the same as Ctrl-C does."""


def _terminated(*_: object) -> None:
    raise Terminated


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


def parser() -> argparse.ArgumentParser:
    """The whole command line; commands that are not there yet are not in it."""
    top = _Parser(
        prog="cascade-threshold",
        description="Below which confidence should a cheap model's answer be handed to the strong model?",
        epilog="Exit codes: 0 done, 2 usage, config or data, 3 stopped and resumable, 4 too many failed rows, 5 not exportable, "
        "6 the promise no longer holds, 7 monitor tested no label though --require-labels, 130/143 interrupted and resumable, 1 a bug.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {cascade_threshold.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, groups) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        for group in groups:
            _GROUPS[group](sub)
        sub.add_argument("--json", action="store_true", help="machine-readable result on stdout")
        sub.add_argument("--quiet", action="store_true", help="no progress, no summary")
    return top


def _positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not value > 0:
            raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
        return value

    return read


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share between 0 and 1, got {text}")
    return value


def _tasks(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "task",
        metavar="TASK",
        nargs="?",
        help="a name in configs/, a path to a config, or 'all'; left out: those whose models are all embedded, which cost nothing",
    )


def _task_or_not(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "task", metavar="TASK", nargs="?", help="a name in configs/, a path to a config, or 'all' (default)"
    )


def _config(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--provider",
        choices=tuple(PROVIDERS),
        help="who answers both roles, unless the config names a role's own (default: the config's)",
    )
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="override a key of the config"
    )
    _dirs(sub)


def _dirs(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), help="where replies and runs are kept (default: runs)"
    )
    sub.add_argument(
        "--reports-dir", type=Path, default=Path("reports"), help="where pages are written (default: reports)"
    )


def _limit(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--limit", type=_positive(int), metavar="N", help="use only the N rows with the smallest hashes")


def _data(sub: argparse.ArgumentParser) -> None:
    if not any("--limit" in a.option_strings for a in sub._actions):
        _limit(sub)
    sub.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE",
        help="start from a table you already have (example_id, confidence, cheap_correct, ...)",
    )


def _spend(sub: argparse.ArgumentParser) -> None:
    if not any("--limit" in a.option_strings for a in sub._actions):
        _limit(sub)
    sub.add_argument(
        "--max-usd", type=_positive(float), metavar="X", help="stop, resumable, before more than X dollars are spent"
    )
    sub.add_argument("--yes", action="store_true", help="spend without asking")
    sub.add_argument("--concurrency", type=_positive(int), metavar="N", help="requests in flight")
    sub.add_argument("--allow-insecure", action="store_true", help="send a real key over plain http")
    sub.add_argument(
        "--resend-lost",
        action="store_true",
        help="send the requests of a batch again whose results the service has lost (perhaps paid twice)",
    )


def _export(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--format", choices=FORMATS, default="json", help="default: json")
    sub.add_argument("--output", type=Path, metavar="FILE", help="write here instead of stdout")
    sub.add_argument("--allow-uncertified", action="store_true", help="export a policy without a promise")
    sub.add_argument("--allow-demo", action="store_true", help="export a policy of demonstration models")
    gate = sub.add_argument_group("release gate (exit 5 with the figure and the limit)")
    gate.add_argument(
        "--require", choices=("certified",), help="only a verdict with a passed test: certified, or cheap_only"
    )
    gate.add_argument("--max-escalation", type=_share, metavar="X", help="largest share of escalated requests, 0 to 1")
    gate.add_argument(
        "--max-usd-per-1000", type=_positive(float), metavar="X", help="largest cost of 1,000 requests in dollars"
    )
    gate.add_argument(
        "--against",
        type=Path,
        metavar="POLICY",
        help="the policy in production: refuse a weaker promise, or a figure outside its interval on the worse side",
    )


def _policy(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--policy", type=Path, required=True, metavar="FILE", help="a policy.json")


def _monitor(sub: argparse.ArgumentParser) -> None:
    _policy(sub)
    sub.add_argument(
        "--log",
        nargs="+",
        required=True,
        metavar="FILE",
        help="JSON lines (decisions or raw completions): files, patterns, or - for standard input; plain, gzip, bzip2 or xz",
    )
    sub.add_argument(
        "--format", choices=MONITOR_FORMATS, default="text", help="default: text; prometheus for a textfile collector"
    )
    sub.add_argument(
        "--require-labels", action="store_true", help="exit 7 when no label was tested, or some could not be read"
    )
    sub.add_argument(
        "--days",
        type=_positive(float),
        metavar="N",
        help="judge drift on the newest N days (default: 2,000 newest lines)",
    )


def _status(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--export-replies",
        type=Path,
        metavar="DIR",
        help="write kept replies in the form that the recorded provider reads",
    )


def _compare(sub: argparse.ArgumentParser) -> None:
    text = "a task, a run's or decision's folder, or a policy.json"
    sub.add_argument("first", metavar="A", help=text)
    sub.add_argument("second", metavar="B", help="another one; differences are B minus A")
    _markdown(sub)
    sub.add_argument("--html", type=Path, metavar="FILE", help="write the comparison as a page in the report's style")
    again = "interval of the thresholds' difference: redraw the certify rows N times and repeat the test (200: about 20 s for 3,000 rows)"
    sub.add_argument("--draws", type=_positive(int), metavar="N", help=again)


def _markdown(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--markdown", type=Path, metavar="FILE", help="write a summary for a pull-request comment")


def _new(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--label", metavar="COLUMN", help="the column with the right answer (default: guessed)")
    sub.add_argument("--text", metavar="COLUMN", action="append", help="a column of the prompt; may be repeated")
    sub.add_argument("name", metavar="NAME", help="the new task's name: a-z, 0-9, _")
    sub.add_argument(
        "--from", dest="source", required=True, metavar="FILE", help="a .csv, .jsonl or .parquet with labeled rows"
    )


def _purge(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--example-id", metavar="ID", help="only this row's replies")
    sub.add_argument("--older-than", type=_positive(float), metavar="DAYS", help="only replies kept for longer")
    sub.add_argument("--yes", action="store_true", help="remove without asking")
    sub.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where replies are kept (default: runs)")


def _demo(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", metavar="DIR", type=Path, help="gets configs/ and datasets/; no file is overwritten")


_GROUPS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "tasks": _tasks, "task?": _task_or_not, "config": _config, "config?": _config, "limit": _limit, "data": _data, "spend": _spend, "engine": engine_options.add,
    "export": _export, "policy": _policy, "monitor": _monitor, "status": _status, "compare": _compare, "markdown": _markdown, "new": _new, "import": import_options.add, "purge": _purge, "demo": _demo,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
