"""Address: a file of a shard, on this machine or wherever fsspec reaches (s3://bucket/key ...)."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError, UsageError
from pipeline.redact import bare_address, keep_address_secret, redact
from pipeline.run import footer
from pipeline.run.atomic import write_bytes

PIECE = 1 << 20
DIGITS = 16
"""Hex digits of a digest in a name."""


def is_remote(address: str) -> bool:
    """Whether the address is not a local path."""
    return "://" in address


def joined(folder: str, name: str) -> str:
    """The address of a name in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else str(Path(folder) / name)


@contextmanager
def written(address: str) -> Iterator[Path]:
    """A local path to write to; what lies there afterwards is then at the address, whole, or nothing is."""
    if not is_remote(address):
        yield Path(address)  # the writer renames
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part"
        yield path
        _put(path, address)


def stored(folder: str, stem: str, write: Callable[[Path], None]) -> str:
    """The address, in a folder, of what `write` puts into the path that it is given.

    The name ends in a digest of the content, so no other content is ever found at the address, whoever else writes to the folder.
    """
    remote = is_remote(folder)
    with tempfile.TemporaryDirectory(dir=None if remote else folder) as own:
        path = Path(own) / "part"
        write(path)
        where = joined(folder, f"{stem}-{digest(str(path))[:DIGITS]}.parquet")
        if remote:
            _put(path, where)
        else:
            path.replace(where)
    return where


@contextmanager
def parquet(address: str) -> Iterator[pq.ParquetFile]:
    """The Parquet file at the address, its footer and page checksums verified. Raises DataError where it cannot be read."""
    with _errors(address), _opened(address) as handle:
        footer.check(handle)
        with pq.ParquetFile(handle, page_checksum_verification=True) as file:
            yield file


def content(address: str) -> bytes:
    """The bytes at the address. Raises DataError where there are none."""
    with _errors(address):
        if not is_remote(address):
            return Path(address).read_bytes()
        fs, place = _located(address)
        return bytes(fs.cat_file(place))


def write(address: str, data: bytes) -> None:
    """Write bytes, whole or not at all."""
    if not is_remote(address):
        write_bytes(Path(address), data)
        return
    with _errors(address):
        fs, place = _located(address)
        fs.pipe_file(place, data)


def digest(address: str) -> str:
    """sha256 of the file at the address."""
    found = hashlib.sha256()
    with _errors(address), _opened(address) as handle:
        while piece := handle.read(PIECE):
            found.update(piece)
    return found.hexdigest()


def removed(folder: str) -> None:
    """Remove a remote folder with what is in it."""
    with _errors(folder):
        fs, place = _located(folder)
        if fs.exists(place):
            fs.rm(place, recursive=True)


def _put(path: Path, address: str) -> None:
    with _errors(address):
        fs, place = _located(address)
        fs.put_file(str(path), place)


def _opened(address: str) -> Any:
    if not is_remote(address):
        return open(address, "rb")
    fs, place = _located(address)
    return fs.open(place, "rb")


def _located(address: str) -> tuple[Any, str]:
    """The file system and the place in it. Raises UsageError for a protocol that fsspec does not know or has no library for."""
    import fsspec

    try:
        fs, place = fsspec.core.url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise UsageError(f"{bare_address(address)}: {redact(str(error))}") from None
    return fs, place


@contextmanager
def _errors(address: str) -> Iterator[None]:
    keep_address_secret(address)
    shown = bare_address(address)
    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{shown}: not found by the process that reads this part: where a cluster computes, --shards-dir must name "
            "a folder that every worker reaches, such as s3://bucket/folder"
        ) from None
    except (pa.ArrowException, OSError) as error:
        said = (redact(str(error)).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{shown}: cannot be read or written ({said})") from None
