"""Arguments: what a command line may say, as groups of arguments that several commands share.

Read before it is known whether the evaluation's libraries are installed, so it needs none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config.providers import PROVIDERS
from pipeline.config.vocabulary import FORMATS

Argument = tuple[tuple[str, ...], dict[str, Any]]
ENGINES = "local, dask and dask=ADDRESS, such as dask=tcp://10.0.0.5:8786"
MONITOR_FORMATS = ("text", "json", "prometheus", "markdown")


def _argument(*names: str, **options: Any) -> Argument:
    return names, options


def _number(kind: Callable[[str], Any], fits: Callable[[Any], bool], rule: str) -> Callable[[str], Any]:
    """Reads a number. Raises ArgumentTypeError that says what it must be."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not fits(value):
            raise argparse.ArgumentTypeError(f"must be {rule}, got {text}")
        return value

    return read


def _engine(text: str) -> str:
    """An engine's name as it is given. Raises ArgumentTypeError that lists those there are."""
    name, given, address = text.partition("=")
    if text not in ("local", "dask") and not (name == "dask" and given and address):
        raise argparse.ArgumentTypeError(f"{text!r}: there are {ENGINES}")
    return text


def _up_to_4096(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= 4096:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 4096, got {text!r}")
    return int(text)


_count = _number(int, lambda value: value > 0, "above 0")
_amount = _number(float, lambda value: value > 0, "above 0")
_share = _number(float, lambda value: 0 <= value <= 1, "a share between 0 and 1")
_TASK = "a name in configs/, a path to a config, or 'all'"
_RUNS = {"type": Path, "default": Path("runs")}
_LIMIT = _argument("--limit", type=_count, metavar="N", help="use only the N rows with the smallest hashes")

TITLES = {"gate": "release gate (exit 5 with the figure and the limit)"}
"""Groups that stand under a heading of their own."""
GROUPS: dict[str, tuple[Argument, ...]] = {
    "tasks": (
        _argument(
            "task",
            metavar="TASK",
            nargs="?",
            help=f"{_TASK}; default: the tasks whose models are all embedded, which cost nothing",
        ),
    ),
    "task?": (_argument("task", metavar="TASK", nargs="?", help=f"{_TASK} (default)"),),
    "config": (
        _argument(
            "--provider",
            choices=tuple(PROVIDERS),
            help="provider of both roles, unless the config names one for a role (default: the config's)",
        ),
        _argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="override a key of the config"),
        _argument("--runs-dir", **_RUNS, help="where replies and runs are kept (default: runs)"),
        _argument(
            "--reports-dir", type=Path, default=Path("reports"), help="where pages are written (default: reports)"
        ),
    ),
    "limit": (_LIMIT,),
    "data": (
        _LIMIT,
        _argument(
            "--predictions",
            type=Path,
            metavar="FILE",
            help="start from a table you already have (example_id, confidence, cheap_correct, ...)",
        ),
    ),
    "spend": (
        _LIMIT,
        _argument(
            "--max-usd",
            type=_amount,
            metavar="X",
            help="stop before more than X dollars are spent; the run can be resumed",
        ),
        _argument("--yes", action="store_true", help="spend without asking"),
        _argument("--concurrency", type=_up_to_4096, metavar="N", help="most requests in flight at once"),
        _argument("--allow-insecure", action="store_true", help="send a real key over plain http"),
        _argument(
            "--resend-lost",
            action="store_true",
            help="resend the requests of batches whose results the service has lost (may be paid for twice)",
        ),
    ),
    "engine": (
        _argument(
            "--engine",
            type=_engine,
            metavar="ENGINE",
            help="where replies are read: local (processes on this machine, the default), dask, or dask=ADDRESS (an existing cluster)",
        ),
        _argument(
            "--workers",
            type=_up_to_4096,
            metavar="N",
            help="number of processes that read replies (default: one per processor)",
        ),
        _argument(
            "--shards-dir",
            metavar="ADDRESS",
            help="where rows and replies are put for the workers: a path or s3://bucket/folder (default: the run's folder)",
        ),
    ),
    "export": (
        _argument("--format", choices=FORMATS, default="json", help="default: json"),
        _argument("--output", type=Path, metavar="FILE", help="write here instead of stdout"),
        _argument("--allow-uncertified", action="store_true", help="export a policy without a promise"),
        _argument("--allow-demo", action="store_true", help="export a policy of demonstration models"),
    ),
    "gate": (
        _argument(
            "--require",
            choices=("certified",),
            help="accept only a verdict backed by a passed test: certified or cheap_only",
        ),
        _argument("--max-escalation", type=_share, metavar="X", help="largest share of escalated requests, 0 to 1"),
        _argument("--max-usd-per-1000", type=_amount, metavar="X", help="largest cost of 1,000 requests in dollars"),
        _argument(
            "--against",
            type=Path,
            metavar="POLICY",
            help="the policy in production: refuse a weaker promise, or a figure worse than its interval",
        ),
    ),
    "policy": (_argument("--policy", type=Path, required=True, metavar="FILE", help="a policy.json"),),
    "monitor": (
        _argument(
            "--log",
            nargs="+",
            required=True,
            metavar="FILE",
            help="decisions or raw completions as JSON lines, CSV or Parquet: files, patterns, or - for standard input; plain, gzip, bzip2 or xz",
        ),
        _argument(
            "--format",
            choices=MONITOR_FORMATS,
            default="text",
            help="default: text; prometheus for a textfile collector",
        ),
        _argument(
            "--require-labels",
            action="store_true",
            help="exit 7 if no label could be tested, or some could not be read",
        ),
        _argument(
            "--days", type=_amount, metavar="N", help="judge drift on the newest N days (default: 2,000 newest lines)"
        ),
    ),
    "status": (
        _argument(
            "--export-replies",
            type=Path,
            metavar="DIR",
            help="write kept replies in the form that the recorded provider reads",
        ),
    ),
    "compare": (
        _argument("first", metavar="A", help="a task, a run's or decision's folder, or a policy.json"),
        _argument("second", metavar="B", help="another one; differences are B minus A"),
    ),
    "markdown": (
        _argument("--markdown", type=Path, metavar="FILE", help="write a summary for a pull-request comment"),
    ),
    "comparison": (
        _argument("--html", type=Path, metavar="FILE", help="write the comparison as a page in the report's style"),
        _argument(
            "--draws",
            type=_count,
            metavar="N",
            help="interval of the thresholds' difference: redraw the certify rows N times and repeat the test (200: about 20 s for 3,000 rows)",
        ),
    ),
    "new": (
        _argument("--label", metavar="COLUMN", help="the column with the right answer (default: guessed)"),
        _argument("--text", metavar="COLUMN", action="append", help="a column of the prompt; may be repeated"),
        _argument("name", metavar="NAME", help="the new task's name: a-z, 0-9, _"),
        _argument(
            "--from", dest="source", required=True, metavar="FILE", help="a .csv, .jsonl or .parquet with labeled rows"
        ),
    ),
    "import": (
        _argument(
            "kind",
            metavar="KIND",
            choices=("batch", "lm-eval", "inspect", "promptfoo", "decisions"),
            help="batch (Batch API output), lm-eval (samples file), inspect (log), promptfoo (JSON output), decisions (a log of this package)",
        ),
        _argument("file", metavar="FILE", type=Path, help="the file with the cheap model's answers"),
        _argument(
            "--strong",
            type=Path,
            metavar="FILE",
            help="a file of the same kind with the strong model's answers to the same rows",
        ),
        _argument("--models", metavar="CHEAP,STRONG", help="which two models to take if the file holds several"),
        _argument(
            "--answers", metavar="A,B,C", help="the closed set of answers (default: the texts that the replies hold)"
        ),
        _argument("--labels-from", type=Path, metavar="FILE", help="a table with the right answers"),
        _argument("--id", default="example_id", metavar="COLUMN", help="its column with the id (default: example_id)"),
        _argument(
            "--label", default="label", metavar="COLUMN", help="its column with the right answer (default: label)"
        ),
        _argument(
            "--output",
            type=Path,
            metavar="FILE",
            help="where to write: .parquet, .csv or .jsonl (default: FILE.predictions.parquet)",
        ),
    ),
    "purge": (
        _argument("--example-id", metavar="ID", help="only this row's replies"),
        _argument("--older-than", type=_amount, metavar="DAYS", help="only replies older than this"),
        _argument("--yes", action="store_true", help="remove without asking"),
        _argument("--runs-dir", **_RUNS, help="where replies are kept (default: runs)"),
    ),
    "demo": (
        _argument(
            "folder",
            metavar="DIR",
            type=Path,
            help="folder that receives configs/ and datasets/; no file is overwritten",
        ),
    ),
}
"""By the group's name; an argument that two groups of a command have is that of the first."""
