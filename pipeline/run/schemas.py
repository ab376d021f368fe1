"""Schemas: the columns of every Parquet artefact, and a writer that holds only one row group in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.vocabulary import LENGTHS, ROLES, SIGNALS
from pipeline.run import address, footer
from pipeline.run.atomic import atomic
from pipeline.run.directory import parquet_options

ROW_GROUP = 32_768
BATCH = 1024
"""Rows buffered as Python objects, which take ten times the memory and cost garbage collection."""

_ALTERNATIVE = pa.struct([("token", pa.string()), ("bytes", pa.binary()), ("logprob", pa.float64())])

_PROBABILITY = pa.struct([("label", pa.string()), ("probability", pa.float64())])

TOKENS = pa.schema(
    [
        ("request_id", pa.string()),
        ("example_id", pa.string()),
        ("role", pa.string()),
        ("position", pa.int32()),
        ("token", pa.string()),
        ("bytes", pa.binary()),
        ("logprob", pa.float64()),
        ("in_answer", pa.bool_()),
        ("alternatives", pa.list_(_ALTERNATIVE)),
    ]
)

REPLIES = pa.schema(
    [
        ("request_id", pa.string()),
        ("example_id", pa.string()),
        ("role", pa.string()),
        ("provider", pa.string()),
        ("model", pa.string()),
        ("response_model", pa.string()),
        ("state", pa.string()),
        ("http_status", pa.int32()),
        ("finish_reason", pa.string()),
        ("shape", pa.string()),
        ("text", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("usd", pa.float64()),
        ("seconds", pa.float64()),
        ("attempts", pa.int32()),
        ("received_at", pa.string()),
    ]
)

PREDICTIONS = pa.schema(
    [
        ("example_id", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("segment", pa.string()),
        ("label", pa.string()),
        ("cheap_answer", pa.string()),
        ("cheap_status", pa.string()),
        ("cheap_correct", pa.bool_()),
        ("strong_answer", pa.string()),
        ("strong_status", pa.string()),
        ("strong_correct", pa.bool_()),
        ("cheap_usd", pa.float64()),
        ("strong_usd", pa.float64()),
        ("cheap_cached_tokens", pa.int64()),
        ("strong_cached_tokens", pa.int64()),
        ("cheap_s", pa.float64()),
        ("strong_s", pa.float64()),
        ("confidence", pa.float64()),
        ("strong_wanted", pa.string()),
        ("strong_weight", pa.float64()),
        ("coin", pa.float64()),
        *((f"signal_{name}", pa.float64()) for name in SIGNALS),
        ("label_probabilities", pa.list_(_PROBABILITY)),
        ("strong_probabilities", pa.list_(_PROBABILITY)),
    ]
)

DECIDED = ("split", "confidence", "strong_wanted", "strong_weight", "coin")
"""Columns that a decision adds to graded rows."""

GRADED = pa.schema(
    [field for field in PREDICTIONS if field.name not in DECIDED] + [(name, pa.int64()) for name in LENGTHS]
)
"""A row's answers, graded, with its dollars, its seconds, every signal and the lengths that a learned one may read."""

_REPLY = (
    ("request_id", pa.string()),
    ("state", pa.string()),
    ("http_status", pa.int32()),
    ("seconds", pa.float64()),
    ("attempts", pa.int32()),
    ("received_at", pa.string()),
    ("form", pa.string()),
    ("body", pa.binary()),
)

SHARD = pa.schema(
    [
        ("example_id", pa.string()),
        ("group", pa.string()),
        ("segment", pa.string()),
        ("label", pa.string()),
        ("options", pa.string()),
        ("strong_wanted", pa.bool_()),
        *((f"{role}_{name}", kind) for role in ROLES for name, kind in _REPLY),
    ]
)
"""What a shard is made from: its rows, options as JSON, and the raw reply of each role (request id null: none is wanted,
body null: none is kept). A body whose form is `recorded` is the whole line of a file of replies."""


def utf8(text: str) -> str:
    """The text, with lone surrogates (which no UTF-8 file can hold) written as ``\\udXXX``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def column(kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    """An Arrow column of Python values. Lists of structs are built from flat columns, several times quicker than from their rows."""
    if pa.types.is_list(kind):
        struct, flat = kind.value_type, list(chain.from_iterable(value or () for value in values))
        parts = zip(*flat, strict=True) if flat else [()] * struct.num_fields
        fields = [column(field.type, part) for field, part in zip(struct, parts, strict=True)]
        offsets: list[int | None] = list(accumulate((len(value) if value else 0 for value in values), initial=0))
        for place, value in enumerate(values) if None in values else ():
            if value is None:
                offsets[place] = None  # unknown, not empty
        return pa.ListArray.from_arrays(
            pa.array(offsets, type=pa.int32()), pa.StructArray.from_arrays(fields, fields=list(struct))
        )
    try:
        return pa.array(values, type=kind)
    except UnicodeEncodeError:
        return pa.array([None if value is None else utf8(value) for value in values], type=kind)


class TableWriter:
    """Rows in, row groups out. A row is a tuple in the schema's order; a struct within a list is one too."""

    def __init__(self, path: Path, schema: pa.Schema, metadata: Mapping[str, str] | None, level: int) -> None:
        self.path, self.schema = path, schema.with_metadata(dict(metadata or {}))
        self.writer = pq.ParquetWriter(path, self.schema, **parquet_options(schema, level=level))
        self.rows: list[tuple[Any, ...]] = []
        self.batches: list[pa.RecordBatch] = []
        self.held = 0
        """Rows in `batches`."""

    def add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Append rows; a full row group is written at once. Where row groups begin depends on nothing but the number of rows."""
        self.rows.extend(rows)
        while len(self.rows) >= BATCH:
            self._pack()
            if self.held >= ROW_GROUP:
                self._write()

    def _pack(self) -> None:
        rows, self.rows = self.rows[:BATCH], self.rows[BATCH:]
        columns = [column(f.type, values) for f, values in zip(self.schema, zip(*rows, strict=True), strict=True)]
        self.batches.append(pa.RecordBatch.from_arrays(columns, schema=self.schema))
        self.held += len(rows)

    def _write(self) -> None:
        self.writer.write_table(pa.Table.from_batches(self.batches, schema=self.schema), row_group_size=self.held)
        self.batches, self.held = [], 0

    def flush(self) -> None:
        """Write what is held."""
        if self.rows:
            self._pack()
        if self.batches:
            self._write()


@contextmanager
def table_writer(
    path: Path, schema: pa.Schema, metadata: Mapping[str, str] | None = None, *, level: int = 3
) -> Iterator[TableWriter]:
    """A streaming writer whose file appears whole, or not at all. `level`: see `parquet_options`."""
    with atomic(path) as temporary:
        writer = TableWriter(temporary, schema, metadata, level)
        try:
            yield writer
            writer.flush()
        finally:
            writer.writer.close()
        footer.seal(temporary)


def row_groups(parts: Iterable[str | Path]) -> Iterator[pa.Table]:
    """The row groups of some files, one in memory at a time. `parts`: their addresses."""
    for part in parts:
        with address.parquet(str(part)) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)


def read_parts(parts: Iterable[str | Path], schema: pa.Schema) -> pa.Table:
    """Files of one schema as one table."""
    return pa.concat_tables([schema.empty_table(), *row_groups(parts)])


def merge(
    groups: Iterable[pa.Table],
    path: Path,
    schema: pa.Schema,
    metadata: Mapping[str, str],
    keep: Sequence[str] = (),
    *,
    coded: Sequence[str] = (),
) -> pa.Table:
    """Put row groups of one schema together in a file. Returns the columns `keep`, of which those that are also in `coded` are
    codes into their distinct values."""
    codes = pa.dictionary(pa.int32(), pa.string())
    kept = pa.schema([schema.field(n).with_type(codes) if n in coded else schema.field(n) for n in keep])
    held, absent = [kept.empty_table()], dict[pa.DataType, pa.Array]()
    with table_writer(path, schema, metadata) as whole:
        for table in groups:
            whole.writer.write_table(table)
            if keep:
                held.append(pa.Table.from_arrays([_held(table[f.name], f.type, absent) for f in kept], schema=kept))
    return pa.concat_tables(held)


def _held(column: pa.ChunkedArray, kind: pa.DataType, absent: dict[pa.DataType, pa.Array]) -> pa.ChunkedArray:
    """A column of a row group as it is kept: all that are null throughout share their memory, which is in `absent`."""
    if column.null_count == len(column):
        if len(absent.get(kind, ())) < len(column):
            absent[kind] = pa.nulls(max(len(column), ROW_GROUP), type=kind)
        return pa.chunked_array([absent[kind].slice(0, len(column))])
    return column.dictionary_encode() if pa.types.is_dictionary(kind) else column
