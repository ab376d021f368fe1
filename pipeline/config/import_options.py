"""ImportOptions: what the command line says of another tool's file."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(sub: argparse.ArgumentParser) -> None:
    """Add the options to the command."""
    kinds = "batch (Batch API output), lm-eval (samples file), inspect (log), promptfoo (JSON output), decisions (a log of this package)"
    sub.add_argument(
        "kind", metavar="KIND", choices=("batch", "lm-eval", "inspect", "promptfoo", "decisions"), help=kinds
    )
    sub.add_argument("file", metavar="FILE", type=Path, help="the file with the cheap model's answers")
    sub.add_argument(
        "--strong",
        type=Path,
        metavar="FILE",
        help="a second such file with the strong model's answers to the same rows",
    )
    sub.add_argument("--models", metavar="CHEAP,STRONG", help="which models, where one file holds several")
    sub.add_argument(
        "--answers", metavar="A,B,C", help="the closed set of answers (default: the texts that the replies hold)"
    )
    sub.add_argument("--labels-from", type=Path, metavar="FILE", help="a table with the right answers")
    sub.add_argument(
        "--id", default="example_id", metavar="COLUMN", help="its column with the id (default: example_id)"
    )
    sub.add_argument(
        "--label", default="label", metavar="COLUMN", help="its column with the right answer (default: label)"
    )
    sub.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write: .parquet, .csv or .jsonl (default: FILE.predictions.parquet)",
    )
