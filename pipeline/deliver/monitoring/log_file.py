"""LogFile: opens production logs as they are: files, patterns, standard input; plain, gzip, bzip2 or xz; UTF-8 or UTF-16.

What cannot be opened is an error before anything is judged. A compressed file that ends too early gives what it holds.
"""

from __future__ import annotations

import bz2
import codecs
import glob
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline.deliver.monitoring.log_table import PARQUET, parquet_rows
from pipeline.errors import UsageError
from pipeline.terminal import standard_input

STDIN = "-"
MOST_LINE = 16_000_000
"""Characters read of one line; what a longer one holds beyond is left out, so that it counts as unreadable."""
_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_OTHERS = {b"\x28\xb5\x2f\xfd": "zstd -dc", b"PK\x03\x04": "unzip -p"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class LogFile(NamedTuple):
    """One log, by its name; STDIN is standard input."""

    name: str

    def lines(self) -> Iterator[str | dict[str, Any]]:
        """Its lines as text; bytes that are no text of its encoding become U+FFFD. Raises UsageError when it cannot be opened."""
        with ExitStack() as stack:
            if self.name == STDIN:
                raw: IO[bytes] = standard_input()
            else:
                try:
                    raw = stack.enter_context(open(self.name, "rb"))
                except OSError as error:
                    raise UsageError(f"{self.name}: cannot be opened ({error.strerror})") from None
            opened = _decompressed(_buffered(raw), self.name)
            if opened.peek(4)[:4] == PARQUET:
                yield from parquet_rows(io.BytesIO(opened.read()), self.name)
            else:
                yield from _text_lines(opened)


def expand(names: Sequence[str | Path]) -> list[LogFile]:
    """The logs that names and patterns stand for, each once, in the order given (patterns: by name).

    Raises UsageError for a name or a pattern that matches no file.
    """
    found: dict[str, None] = {}
    for name in map(str, names):
        matches = [name] if name == STDIN or Path(name).is_file() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        files = [m for m in matches if m == STDIN or not Path(m).is_dir()]
        if not files:
            raise UsageError(
                f"{name}: there is no such log; give files of JSON lines (decisions or completions), patterns, or - for standard input"
            )
        found |= dict.fromkeys(files)
    return [LogFile(name) for name in found]


def _buffered(raw: IO[bytes]) -> io.BufferedReader:
    return raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)  # type: ignore[arg-type]


def _decompressed(raw: io.BufferedReader, name: str) -> io.BufferedReader:
    start = raw.peek(8)[:8]
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            return io.BufferedReader(_UntilItEnds(opener(raw)))
    for magic, command in _OTHERS.items():
        if start.startswith(magic):
            shown = "FILE" if name == STDIN else name
            raise UsageError(f"{name}: is compressed in an unsupported way; use: {command} {shown} | ... --log -")
    return raw


class _UntilItEnds(io.RawIOBase):
    """A decompressor whose file may end too early or be damaged: what came before counts."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._inner.read1(len(buffer))  # type: ignore[attr-defined]
        except (EOFError, OSError, zlib.error, lzma.LZMAError):
            return 0
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _text_lines(raw: io.BufferedReader) -> Iterator[str]:
    start = raw.peek(64)[:64]
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), None) or _unmarked(start)
    text = io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline=None)
    try:
        while line := text.readline(MOST_LINE):
            yield line
            while len(line) == MOST_LINE and line[-1] != "\n":  # the rest of it is not a line of its own
                line = text.readline(MOST_LINE)
    finally:
        text.detach()  # closed by the code that opened it


def _unmarked(start: bytes) -> str:
    """UTF-16 without its mark shows as a zero beside every ASCII character."""
    even, odd, half = start[::2].count(0), start[1::2].count(0), len(start) // 2
    if half >= 4 and odd > 0.8 * half and even < 0.2 * half:
        return "utf-16-le"
    if half >= 4 and even > 0.8 * half and odd < 0.2 * half:
        return "utf-16-be"
    return "utf-8"
