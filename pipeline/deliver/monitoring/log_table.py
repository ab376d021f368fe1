"""LogTable: decision lines that were exported as a table, as rows of the same fields: a CSV within a log's lines, or a Parquet file."""

from __future__ import annotations

import csv
import datetime as dt
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from cascade_threshold import json_text
from pipeline.errors import UsageError
from pipeline.run import parquet_size

PARQUET = b"PAR1"
_DECISION = frozenset({"action", "confidence"})
_LINE = frozenset({"message", "@message", "log", "_raw", "textPayload", "jsonPayload"})
_AUDIT = frozenset({"label", "correct"})
_NAME = re.compile(r"[\w@][\w@. -]*")
MOST_LINES = 1000
"""A field that spans more lines has lost its closing quote."""


class LogTable:
    """A CSV whose header names action and confidence, or a column of log lines; line by line, fields may span several."""

    def __init__(self) -> None:
        self._header: list[str] = []
        self._delimiter = ","
        self._held: list[str] = []

    @property
    def open(self) -> bool:
        """Whether a row has begun and not ended."""
        return bool(self._held)

    @property
    def labeled(self) -> bool:
        """Whether its rows may carry labels."""
        return not _AUDIT.isdisjoint(self._header)

    def starts(self, text: str) -> bool:
        """Whether the line is a header; then the lines that follow are rows."""
        if self._held or "{" in text or not any(name in text for name in ("confidence", *_LINE)):
            return False
        for mark in ",;\t|":
            names = [name.strip().strip('"') for name in text.split(mark)]
            known = set(names) >= _DECISION or not _LINE.isdisjoint(names)
            if len(names) > 1 and known and all(_NAME.fullmatch(name) or not name for name in names):
                self._header, self._delimiter = names, mark
                return True
        return False

    def within(self, text: str) -> bool:
        """Whether the line is one of its rows, or should be."""
        return bool(self._held) or bool(self._header and text and text[0] not in "{[")

    def row(self, line: str) -> Mapping[str, Any] | None:
        """The row that the line completes, without its blank cells, empty where it is none; None while a field is open."""
        self._held.append(line.rstrip("\r\n") + "\n")
        if sum(part.count('"') for part in self._held) % 2 and len(self._held) < MOST_LINES:
            return None
        held, self._held = self._held, []
        try:
            fields = next(csv.reader(held, delimiter=self._delimiter), [])
        except csv.Error:
            return {}
        if len(fields) != len(self._header):
            return {}
        return {name: _value(cell) for name, cell in zip(self._header, fields, strict=True) if name and cell.strip()}


def _value(cell: str) -> Any:
    if cell[:1] in "[{":
        try:
            return json_text.parse(cell)
        except ValueError:
            pass
    return cell


def parquet_rows(file: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, blank cells left out. Raises UsageError for a damaged one."""
    import pyarrow.parquet as pq  # only here: most logs are text

    try:
        opened = pq.ParquetFile(file, page_checksum_verification=True)
        if (said := parquet_size.inflated(opened.metadata)) is not None:
            raise ValueError(said)
        for batch in opened.iter_batches(batch_size=8192):
            for row in batch.to_pylist():
                yield {k: _plain(v) for k, v in row.items() if v is not None and v == v}
    except Exception as error:  # whatever a damaged page makes Arrow say
        raise UsageError(
            f"{name}: damaged, or not a Parquet file ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
