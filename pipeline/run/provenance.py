"""Provenance: the versions and the commit that figures were computed with, and the time."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cascade_threshold

PACKAGES = ("together", "numpy", "scipy", "pandas", "scikit-learn", "pyarrow", "matplotlib")


def now() -> str:
    """UTC time, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of this package, of Python, and of what computes figures."""
    python = ".".join(map(str, sys.version_info[:3]))
    return {"cascade-threshold": cascade_threshold.__version__, "python": python} | _installed()


@cache
def _installed() -> dict[str, str]:
    """Read once: the files that tell them are long."""
    return {name: version(name) for name in PACKAGES}


@cache
def commit() -> dict[str, Any] | None:
    """Commit of the code and whether it was changed; None outside a checkout."""
    here = Path(__file__).resolve().parent.parent

    def ask(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603, S607
        return done.stdout.strip()

    try:
        if not Path(ask("rev-parse", "--show-toplevel")).joinpath("pipeline").samefile(here):
            return None
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None
