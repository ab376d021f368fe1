"""EngineOptions: what the command line says of who reads replies, and where."""

from __future__ import annotations

import argparse

ENGINES = "local, dask and dask=ADDRESS, such as dask=tcp://10.0.0.5:8786"


def add(sub: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    sub.add_argument(
        "--engine",
        type=engine,
        metavar="ENGINE",
        help="who reads the replies: local (default: the processes of this machine), dask, or dask=ADDRESS, an existing cluster",
    )
    sub.add_argument(
        "--workers", type=_count, metavar="N", help="processes that read replies (default: one for each processor)"
    )
    sub.add_argument(
        "--shards-dir",
        metavar="ADDRESS",
        help="where rows and replies are placed for the workers: a path or s3://bucket/folder (default: the run's folder)",
    )


def engine(text: str) -> str:
    """An engine's name as it is given. Raises ArgumentTypeError that lists those there are."""
    name, given, address = text.partition("=")
    if text not in ("local", "dask") and not (name == "dask" and given and address):
        raise argparse.ArgumentTypeError(f"{text!r}: there are {ENGINES}")
    return text


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= 4096:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 4096, got {text!r}")
    return int(text)
