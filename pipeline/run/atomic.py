"""Atomic: the only way files are written: whole or not at all, readable by their owner only.

a new file                     0600, in folders of 0700
a file that is there           replaced as a whole; it keeps its mode and, where that is allowed, its owner
a symbolic link                stays one; what it points to is written
a device, a pipe, a hard link  is written to, once the content is whole; nothing stands in its place afterwards
/dev/stdout, /dev/fd/3         the descriptor that this process was given
"""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import DiskFull, UsageError


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A folder beside `path` for this process alone; gone afterwards.

    A process that is killed or interrupted leaves it, and the next one takes it over with what is in it.
    """
    with disk_errors(path):
        make_folder(path.parent)
        own = own_name(path)
        if not own.is_dir():
            for left in _left(path):
                with suppress(OSError):  # another process was quicker
                    left.rename(own)
                    break
        sweep_up(path)
        own.mkdir(exist_ok=True)
        try:
            yield own
        except Exception:
            shutil.rmtree(own)
            raise
        shutil.rmtree(own)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; on success it is synced and renamed over it, on failure nothing changes.

    Where nothing can be renamed over `path` (see above), the whole content is written to it on success.
    """
    with disk_errors(path):
        target = _behind_links(path)
        old = None if isinstance(target, int) else _stat(target)
        if old is not None and stat.S_ISDIR(old.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not isinstance(target, int) and _replaceable(old):
        with _beside(target) as temporary:
            try:
                yield temporary
                temporary.chmod(0o600)
                with open(temporary, "rb+") as handle:
                    _keep_mode(handle.fileno(), old)
                    os.fsync(handle.fileno())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
    else:
        with disk_errors(path), tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / "content"
            yield temporary
            _pour(temporary, target)


_DESCRIPTOR = re.compile(r"/dev/(stdin|stdout|stderr)|/(?:dev|proc/self|proc/thread-self)/fd/([0-9]+)")
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}
MOST_LINKS = 40


def _behind_links(path: Path) -> Path | int:
    """What a path stands for, the descriptor itself where it names one of this process's. Raises OSError on a circle of links."""
    for _ in range(MOST_LINKS):
        if found := _DESCRIPTOR.fullmatch(os.path.normpath(path.absolute())):
            return _STANDARD[found[1]] if found[1] else int(found[2])
        if not path.is_symlink():
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _replaceable(old: os.stat_result | None) -> bool:
    """Whether another file may take the name: of a file that has no other name."""
    return old is None or (stat.S_ISREG(old.st_mode) and old.st_nlink == 1)


def _keep_mode(descriptor: int, old: os.stat_result | None) -> None:
    if old is None:
        os.fchmod(descriptor, 0o600)
        return
    with suppress(OSError):  # another owner's file can be replaced by one of ours where its folder allows it
        if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _pour(content: Path, target: Path | int) -> None:
    """Write a file's content to a device, a pipe, a descriptor or a file of several names."""
    if target == 1 and sys.stdout is not None:
        sys.stdout.flush()
    with content.open("rb") as source, open(os.dup(target) if isinstance(target, int) else target, "wb") as out:
        shutil.copyfileobj(source, out)


def is_stdout(path: Path | None) -> bool:
    """Whether a path names standard output."""
    if path is None:
        return False
    with suppress(OSError):
        return _behind_links(path) == 1
    return False


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each for its owner alone. Raises OSError."""
    if not folder.is_dir():
        if folder.parent != folder:
            make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def require_output(path: Path) -> None:
    """See that a file can be written before anything is done for it. Raises UsageError or DiskFull."""
    with disk_errors(path):
        target = _behind_links(path)
        if isinstance(target, int):
            return
        old = _stat(target)
        if old is not None and not stat.S_ISREG(old.st_mode):
            if stat.S_ISDIR(old.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return
    require_writable(target.parent)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name of this process's own beside `path`; what killed processes left under theirs is swept up."""
    with disk_errors(path):
        make_folder(path.parent)
        sweep_up(path)
        yield own_name(path)


def own_name(path: Path) -> Path:
    """A temporary name beside `path` that is this process's own."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sweep_up(path: Path) -> None:
    """Remove what killed processes left of earlier attempts at this file or folder."""
    for left in _left(path):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def _left(path: Path) -> list[Path]:
    """What processes that are no longer there left beside `path`."""
    found = sorted(path.parent.glob(f".{glob.escape(path.name)}.*.tmp"))
    owners = [(left, left.name.split(".")[-2]) for left in found]
    return [left for left, owner in owners if owner.isdecimal() and not _alive(int(owner))]


def _alive(pid: int) -> bool:
    if os.name != "posix":  # on other systems, probing could end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another process's
        pass
    return True


CANNOT = (
    errno.EACCES,
    errno.EROFS,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENXIO,
    errno.EBADF,
)
"""Errors fixed by another output path."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an error with the path: the one in the OSError, unless that is our temporary file."""
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
    """Try to write into each folder, so that nothing is paid for that cannot be kept. Raises UsageError or DiskFull."""
    for folder in folders:
        probe = own_name(folder / "probe")
        with disk_errors(folder):
            make_folder(folder)
            probe.write_bytes(b"x")
            probe.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)
