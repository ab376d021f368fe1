"""DecisionLog: where decisions are written. A failing log never costs an answer that was paid for."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

WARN = "warn"
RAISE = "raise"


class DecisionLogWarning(UserWarning):
    """Decisions could not be logged; the answers were still returned."""


class DecisionLog:
    """Appends lines to a file, or hands them to a function. Safe to share between threads.

    `errors`: "warn" warns of the first line that could not be written and counts all; "raise" raises, after the answer was
    paid for. A file that does not end with a line break (a crash, a full disk) gets one first, so the next line stays whole.
    """

    def __init__(self, target: str | Path | Callable[[str], object] | None, errors: str = WARN) -> None:
        if errors not in (WARN, RAISE):
            raise ValueError(f"log_errors is {WARN!r} or {RAISE!r}, got {errors!r}")
        self._write = target if callable(target) or target is None else appender(Path(target))
        self._where = "the log function" if callable(target) else str(target)
        self._errors = errors
        self._lock = threading.Lock()
        self.failures = 0
        """Lines that could not be written."""

    def __bool__(self) -> bool:
        return self._write is not None

    def write(self, line: str) -> None:
        """Write one line, its line break included."""
        if self._write is None:
            return
        try:
            self._write(line)
        except Exception as error:
            with self._lock:
                self.failures += 1
                first = self.failures == 1
            if self._errors == RAISE:
                raise
            if first:
                _warn(
                    f"{self._where}: decisions cannot be written ({type(error).__name__}: {error}); answers are still returned, "
                    "and lost lines are counted in log_failures"
                )


def _warn(text: str) -> None:
    try:
        warnings.warn(text, DecisionLogWarning, stacklevel=5)
    except DecisionLogWarning:  # if warnings are errors, the answer must still be returned
        return


def appender(path: Path) -> Callable[[str], object]:
    """A function that appends a line to a file, reopened each time, so that log rotation needs no signal."""
    lock = threading.Lock()

    def append(line: str) -> None:
        data = line.encode("utf-8", "backslashreplace")
        with lock, path.open("ab+", buffering=0) as handle:
            size = handle.seek(0, os.SEEK_END) if handle.seekable() else 0
            if size:
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    data = b"\n" + data
            while data:  # a raw file may accept only part of the line
                data = data[handle.write(data) or 0 :]

    return append
