"""Footer: the end of a Parquet file, which names its columns and where they lie; pages have checksums, the footer has none.

The product's files carry a digest of their footer in the bytes before it. Readers go by the places that the footer names and never
look there, so to every other program the file is an ordinary one.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

MARK = b"cascade-threshold footer sha256 "
_SEAL = len(MARK) + hashlib.sha256().digest_size
_END = 8
"""Bytes after the footer: its length, and the four letters that close a Parquet file."""
_TAIL = 1 << 16
"""Read at once; a longer footer takes a second read."""


def seal(path: Path) -> None:
    """Put the digest of its footer into a Parquet file that was just written."""
    with path.open("rb+") as file:
        _, footer = _ending(file)
        file.seek(-len(footer), os.SEEK_END)
        file.write(MARK + hashlib.sha256(footer).digest() + footer)


def check(file: BinaryIO) -> None:
    """Raise ArrowInvalid, as pyarrow does for a damaged file, when the footer is not what was written. A file without a digest passes: another program wrote it."""
    before, footer = _ending(file)
    seal = before[-_SEAL:]
    if seal.startswith(MARK) and seal[len(MARK) :] != hashlib.sha256(footer).digest():
        raise pa.ArrowInvalid("its footer is not what was written")


def _ending(file: BinaryIO) -> tuple[bytes, bytes]:
    """What stands before the footer (at least as much as a seal takes, where there is as much), and the footer to the file's end."""
    size = file.seek(0, os.SEEK_END)
    tail = _last(file, min(size, _TAIL))
    length = int.from_bytes(tail[-_END:-4], "little") + _END
    if length > size:
        raise pa.ArrowInvalid("its footer is longer than the file")
    if length + _SEAL > len(tail):
        tail = _last(file, min(size, length + _SEAL))
    file.seek(0)
    return tail[:-length], tail[-length:]


def _last(file: BinaryIO, count: int) -> bytes:
    file.seek(-count, os.SEEK_END)
    return file.read(count)
