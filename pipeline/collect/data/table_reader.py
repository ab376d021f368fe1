"""TableFile: the rows of a .jsonl, .csv or .parquet file as they stand, with the line of each; nothing is guessed."""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from cascade_threshold import json_text
from pipeline.errors import DataError
from pipeline.redact import bare_address, keep_address_secret, redact
from pipeline.run import parquet_size

SUFFIXES = (".jsonl", ".csv", ".parquet")
MOST_COLUMNS = 10_000
"""Of a table; a file that is wider was transposed, or is no table of rows."""
MOST_LINE = 64_000_000
"""Bytes of one row of a .jsonl file."""
OTHERS = {
    b"\x1f\x8b": "is compressed (gzip); unpack it",
    b"BZh": "is compressed (bzip2); unpack it",
    b"\xfd7zXZ": "is compressed (xz); unpack it",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd); unpack it",
    b"PK\x03\x04": "is an archive or a spreadsheet (zip); unpack it, or save the sheet as CSV",
    b"PAR1": "is a Parquet file; rename it to .parquet",
    b"ARROW1": "is an Arrow file; write it as Parquet",
    b"SQLite format 3": "is an SQLite database; write its table as CSV",
}
"""How files begin that are taken for text, and what to do with them."""
BLOCK = 1 << 20
"""Bytes of a .csv file that are looked through at a time."""
MOST_NAMED = 40
"""Columns that a message lists."""


def short(text: str) -> str:
    """The start of a value, for a message."""
    return text if len(text) <= 80 else f"{text[:77]}..."


def columns_shown(columns: Iterable[str], form: str = "{!r}") -> str:
    """The names of columns for a message, the first of them where there are many; `form`: how each is written."""
    names = list(columns)
    rest = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(form.format(short(name)) for name in names[:MOST_NAMED]) + rest


def is_storable(text: str) -> bool:
    """Whether the text is UTF-8: JSON may hold half of a pair that stands for one character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class ClassName(str):
    """The name that a Parquet file's metadata gives a numbered class; `code` is the number as text."""

    __slots__ = ("code",)
    code: str

    def __new__(cls, name: str, code: int) -> ClassName:
        """A text that knows its number."""
        made = super().__new__(cls, name)
        made.code = str(code)
        return made


class TableFile:
    """A dataset's file. `rows()` yields (line or row number, {column: value}).

    `delimiters`: what may separate a CSV's fields beside commas, where the header shows it; empty for a dataset, which is
    held to commas.
    """

    def __init__(self, path: str, *, delimiters: str = "") -> None:
        keep_address_secret(path)
        self._address, self.delimiters = path, delimiters
        self.path = bare_address(path)
        """For messages: without the credentials and the signature of an address."""
        self.delimiter = ","
        """What separates the fields of the CSV that was read last."""
        self.suffix = PurePosixPath(self.path.partition("?")[0].replace("\\", "/")).suffix.lower()
        if self.suffix in (".tsv", ".tab", ".txt") and "\t" in delimiters:
            self.suffix = ".csv"
        if self.suffix not in SUFFIXES:
            raise DataError(
                f"{self.path}: a dataset is a {', '.join(SUFFIXES)} file; convert it, or rename it if it is one"
            )
        self.unit = "row" if self.suffix == ".parquet" else "line"

    def where(self, number: int) -> str:
        """A place in the file, for messages."""
        return f"{self.path}, row {number}" if self.suffix == ".parquet" else f"{self.path}:{number}"

    def rows(self, columns: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every row in order. `columns` limits what is read of a Parquet file.

        Raises DataError for anything that is not exactly a table: other encodings, ragged lines, broken JSON.
        """
        reader = {".jsonl": self._jsonl, ".csv": self._csv, ".parquet": self._parquet}[self.suffix]
        with self._open() as handle:
            try:
                yield from reader(handle, columns)
            except OSError as error:
                raise DataError(f"{self.path}: cannot be read: {error.strerror or redact(str(error))}") from None

    def _open(self) -> BinaryIO:
        try:
            if "://" in self._address:
                import fsspec  # only here: most runs read local files

                opened: BinaryIO = fsspec.open(self._address, "rb").open()
                return opened
            return open(self._address, "rb")
        except FileNotFoundError as error:
            if "://" in self._address:  # fsspec says so too where a server does not answer
                cause = error.__cause__
                why = "there is no such file" if cause is None else f"nothing came from there ({type(cause).__name__})"
                raise DataError(f"{self.path}: {why}; check the address, and that its server answers") from None
            raise DataError(
                f"{self.path}: there is no such file; check its name (a config's dataset.path is relative to the config's own folder)"
            ) from None
        except (ImportError, ValueError) as error:
            raise DataError(
                f"{self.path}: {redact(str(error))}; install the package that serves this kind of address"
            ) from None
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or redact(str(error))}") from None
        except Exception as error:  # each service raises errors of its own, whose texts may repeat the address
            raise DataError(f"{self.path}: cannot be read: {type(error).__name__}: {redact(str(error))}") from None

    def _require_text(self, start: bytes) -> None:
        for signature, told in OTHERS.items():
            if start.startswith(signature):
                raise DataError(f"{self.path}: {told}")

    def _text(self, raw: bytes, start: int, line: int) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff") or 3 * raw[:64].count(0) > len(raw[:64])
            kind = "UTF-16" if wide else "not UTF-8"
            raise DataError(
                f"{self.path}:{line}: {kind}: byte {start + error.start} is {raw[error.start]:#04x}; save the file as UTF-8"
            ) from None

    def _jsonl(self, handle: BinaryIO, _: list[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
        offset = 0
        # readline of an fsspec file takes no limit, so such a line is measured when it is there
        lines = handle if "://" in self._address else iter(partial(handle.readline, MOST_LINE + 1), b"")
        for number, raw in enumerate(lines, 1):
            if number == 1:
                self._require_text(raw)
            if len(raw) > MOST_LINE:
                raise DataError(
                    f"{self.path}:{number}: a line of more than {MOST_LINE:,} bytes; each line holds one row"
                )
            line = self._text(raw, offset, number)
            offset += len(raw)
            if number == 1:
                line = line.removeprefix("\ufeff")
            if not line.strip():
                continue
            try:
                row = json_text.parse(line)
            except ValueError as error:
                raise DataError(f"{self.path}:{number}: not valid JSON ({error}); each line holds one object") from None
            if not isinstance(row, dict):
                raise DataError(
                    f"{self.path}:{number}: holds {type(row).__name__}, each line must hold one JSON object {{...}}"
                )
            self._require_narrow(len(row))
            if "\\u" in line and not all(map(is_storable, row)):
                raise DataError(
                    f"{self.path}:{number}: a column's name holds half a character (a lone surrogate); rename it"
                )
            yield number, row

    def _csv(self, handle: BinaryIO, _: list[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
        csv.field_size_limit(sys.maxsize)
        self._require_utf8(handle)
        handle.seek(0)
        with io.TextIOWrapper(handle, "utf-8-sig", newline="") as lines:
            yield from self._fields(lines)

    def _fields(self, lines: io.TextIOWrapper) -> Iterator[tuple[int, dict[str, Any]]]:
        self.delimiter = self._delimiter(lines)
        before = int(lines.tell() > 0)  # lines above the header
        reader = csv.reader(lines, strict=True, delimiter=self.delimiter)
        header: list[str] | None = None
        start = 1 + before
        try:
            for fields in reader:
                line, start = start, reader.line_num + 1 + before
                if not fields:
                    continue
                if header is None:
                    header = self._header(fields)
                elif len(fields) != len(header):
                    raise DataError(
                        f"{self.path}:{line}: {len(fields)} fields, the header has {len(header)}; "
                        "quote fields that hold commas, quotes or line breaks"
                    )
                else:
                    yield line, self._named(line, header, fields)
        except csv.Error as error:
            raise DataError(f"{self.path}:{start}: {error}; double the quotes inside quoted fields") from None

    def _require_utf8(self, handle: BinaryIO) -> None:
        """Read the file once, a block at a time: what is no text is told before any row is."""
        decoder, start, line = codecs.getincrementaldecoder("utf-8")(), 0, 1
        block = handle.read(BLOCK)
        self._require_text(block)
        while True:
            whole = decoder.getstate()[0] + block
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                good = error.start
                self._text(whole[good:] + handle.read(BLOCK), start + good, line + whole[:good].count(b"\n"))
            if not block:
                return
            start, line = start + len(whole) - len(decoder.getstate()[0]), line + whole.count(b"\n")
            block = handle.read(BLOCK)

    def _require_narrow(self, columns: int) -> None:
        if columns > MOST_COLUMNS:
            raise DataError(
                f"{self.path}: {columns:,} columns; a table has at most {MOST_COLUMNS:,}. Keep those that the config names"
            )

    def _header(self, fields: list[str]) -> list[str]:
        self._require_narrow(len(fields))
        header = [" ".join(f.strip().splitlines()) for f in fields]  # a name is one line, as a prompt's braces hold it
        if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
            mark = next(m for m in ";\t|" if m in header[0])
            raise DataError(f"{self.path}:1: the header is one field with {mark!r} in it; separate fields by commas")
        twice = [h for h, n in Counter(header).items() if h and n > 1]
        if twice:
            raise DataError(f"{self.path}:1: column {twice[0]!r} appears twice in the header; rename one")
        if len(header) > 1 and not any(header):
            raise DataError(f"{self.path}:1: the header is blank; the first line must name the columns")
        return header

    def _delimiter(self, lines: io.TextIOWrapper) -> str:
        """What separates the header into the most fields, a comma before others."""
        first = lines.readline()
        if self.delimiters and (said := re.fullmatch(r'"?sep=(.)"?\s*', first)):  # a spreadsheet's own first line
            return said[1]
        lines.seek(0)
        counts = {mark: len(next(csv.reader([first], delimiter=mark), [])) for mark in "," + self.delimiters}
        return max(counts, key=lambda mark: counts[mark])

    def _named(self, line: int, header: list[str], fields: list[str]) -> dict[str, Any]:
        """The fields by name. A column without one is the row's number where it is the first (pandas writes it so), and must
        be blank elsewhere."""
        row = dict(zip(header, fields, strict=True))
        if "" in row:
            place = header.index("", 1) if "" in header[1:] else 0
            if place:
                stray = next((f for h, f in zip(header[1:], fields[1:], strict=True) if not h and f.strip()), None)
                if stray is not None:
                    raise DataError(
                        f"{self.path}:{line}: {stray[:80]!r} is in a column without a name; name it in the header"
                    )
            if header[0]:
                del row[""]
            else:
                row[""] = fields[0]
        return row

    def _parquet(self, handle: BinaryIO, columns: list[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            file = pq.ParquetFile(handle, page_checksum_verification=True)
            self._require_narrow(file.metadata.num_columns)
            if (said := parquet_size.inflated(file.metadata)) is not None:
                raise DataError(
                    f"{self.path}: {said}; write long or repeated texts in smaller row groups, or with a dictionary"
                )
            names = file.schema_arrow.names
            if twice := [name for name, n in Counter(names).items() if n > 1]:
                raise DataError(f"{self.path}: column {twice[0]!r} appears twice; rename one")
            wanted = [c for c in columns if c in names] if columns is not None else names
            binary, classes = self._binary(file.schema_arrow), _class_names(file.schema_arrow)
            number = 0
            for batch in file.iter_batches(batch_size=8192, columns=wanted):
                # a row of no wanted column is still a row
                table = batch.to_pylist() if wanted else [{}] * batch.num_rows
                for row in table:
                    number += 1
                    for column in binary & row.keys():
                        row[column] = self._decoded(number, column, row[column])
                    for column in classes.keys() & row.keys():
                        row[column] = _class(row[column], classes[column])
                    yield number, {**dict.fromkeys(c for c in columns or () if c in names), **row}
        except DataError:
            raise
        except Exception as error:  # whatever a damaged page makes Arrow or Python's own types say
            said = (redact(str(error)).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{self.path}: damaged, or not a Parquet file ({said})") from None

    def _binary(self, schema: pa.Schema) -> set[str]:
        def is_bytes(kind: pa.DataType) -> bool:
            if pa.types.is_dictionary(kind):
                return is_bytes(kind.value_type)
            return bool(
                pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
            )

        return {field.name for field in schema if is_bytes(field.type)}

    def _decoded(self, number: int, column: str, value: Any) -> Any:
        try:
            return value.decode("utf-8") if isinstance(value, bytes) else value
        except UnicodeDecodeError:
            raise DataError(
                f"{self.where(number)}: column {column!r} holds bytes that are not UTF-8 ({value[:12]!r}); write it as text"
            ) from None


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Names of numbered classes by column, as the datasets library writes them into a Parquet file's metadata."""
    try:
        features = json_text.parse((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        found = {c: f["names"] for c, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {
        c: names for c, names in found.items() if isinstance(names, list) and all(isinstance(n, str) for n in names)
    }


def _class(value: Any, names: list[str]) -> Any:
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return None if value == -1 else ClassName(names[value], value) if 0 <= value < len(names) else value
