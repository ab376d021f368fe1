"""LogTable: decision lines that were exported as a table, as rows of the same fields: a CSV within a log's lines, or a Parquet file."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from cascade_threshold import json_text
from pipeline.errors import UsageError

PARQUET = b"PAR1"
_NEEDED = frozenset({"action", "confidence"})


class LogTable:
    """A CSV whose header names at least action and confidence. One line at a time; fields may span lines."""

    def __init__(self) -> None:
        self._header: list[str] | None = None
        self._delimiter = ","
        self._open = ""

    def starts(self, text: str) -> bool:
        """Whether the line is a header; then the lines that follow are rows."""
        if "{" in text or not all(name in text for name in _NEEDED):
            return False
        for mark in ",;\t|":
            names = [name.strip().strip('"') for name in text.split(mark)]
            if names and set(names) >= _NEEDED:
                self._header, self._delimiter, self._open = names, mark, ""
                return True
        return False

    def row(self, line: str) -> Mapping[str, Any] | bool:
        """The row that the line completes, without its blank cells; True while a field is open, False where it is no row of the table."""
        if self._header is None:
            return False
        text = self._open + line.rstrip("\r\n")
        if text.count('"') % 2:
            self._open = text + "\n"
            return True
        self._open = ""
        fields = next(
            csv.reader([text] if "\n" not in text else text.splitlines(keepends=True), delimiter=self._delimiter), []
        )
        if len(fields) != len(self._header):
            return False
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
        for batch in pq.ParquetFile(file, page_checksum_verification=True).iter_batches(batch_size=8192):
            for row in batch.to_pylist():
                yield {k: _plain(v) for k, v in row.items() if v is not None and v == v}
    except Exception as error:  # whatever a damaged page makes Arrow say
        raise UsageError(
            f"{name}: damaged or no Parquet file ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
