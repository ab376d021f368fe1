"""Atomic: the one way in which files are written: whole or not at all, readable by their owner alone."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import DiskFull, UsageError


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A folder beside `path` for this process alone; gone afterwards."""
    with _beside(path) as temporary:
        temporary.mkdir()
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; on success it is synced and renamed over it, on failure nothing changes."""
    with _beside(path) as temporary:
        try:
            yield temporary
            temporary.chmod(0o600)
            with open(temporary, "rb+") as handle:
                os.fchmod(handle.fileno(), 0o600)
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name of this process's own beside `path`; what killed processes left under theirs is swept up."""
    with disk_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep_up(path)
        yield own_name(path)


def own_name(path: Path) -> Path:
    """A temporary name beside `path` that is this process's own."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sweep_up(path: Path) -> None:
    """Remove what killed processes left of earlier attempts at this file or folder."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        owner = left.name.split(".")[-2]
        if owner.isdecimal() and not _alive(int(owner)):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    if os.name != "posix":  # elsewhere, asking may end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return True


CANNOT = (
    errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG,
)  # fmt: skip
"""Errors that another place to write to would mend."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say what a full or read-only disk means, with the path: the one that the error names, unless that is a temporary of ours."""
    try:
        yield
    except OSError as error:
        named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
        path = path if any(part.endswith(".tmp") for part in named.parts) else named
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(
                f"{path}: no space left to write; free some and run the same command again, nothing is lost"
            ) from error
        if error.errno in CANNOT:
            raise UsageError(
                f"{path}: cannot be written ({error.strerror}); choose another place, for runs and reports with --runs-dir and --reports-dir"
            ) from error
        raise


def require_writable(*folders: Path) -> None:
    """Try to write into each folder, so that nobody pays for what cannot be kept. Raises UsageError or DiskFull."""
    for folder in folders:
        probe = own_name(folder / "probe")
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x")
            probe.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)
