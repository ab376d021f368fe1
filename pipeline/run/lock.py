"""Lock: allows one process at a time to work on a task."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import RunLocked
from pipeline.run.atomic import disk_errors, make_folder


@contextmanager
def locked(runs_dir: Path, task: str) -> Iterator[None]:
    """Keep other processes off a task. Raises RunLocked naming who holds it; a dead holder's lock is void."""
    path = runs_dir / f".{task}.lock"
    note = path.with_suffix(".holder")
    with disk_errors(path):
        make_folder(path.parent)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = note.read_text("utf-8").strip() if note.is_file() else "another process"
            raise RunLocked(f"task {task!r} is in use by {holder}; wait for it to end, or stop it") from None
    try:
        with disk_errors(note):
            note.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield  # an error about another file is not about the lock
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()
