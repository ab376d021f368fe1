"""Tables: the columns of every Parquet artefact, and a writer that holds only one row group in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import SIGNAL_NAMES
from pipeline.run import atomic, parquet_options

ROW_GROUP = 32_768

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
        ("confidence", pa.float64()),
        *((f"signal_{name}", pa.float64()) for name in SIGNAL_NAMES),
        ("label_probabilities", pa.list_(_PROBABILITY)),
    ]
)


def _column(field: pa.Field, rows: list[Mapping[str, Any]]) -> pa.Array:
    """An Arrow column. Lists of structs are built from flat lists, which is several times quicker than from dicts."""
    values = list(map(itemgetter(field.name), rows))
    if not pa.types.is_list(field.type):
        return pa.array(values, type=field.type)
    struct = field.type.value_type
    flat = [item for value in values if value for item in value]
    parts = [pa.array(list(map(itemgetter(part.name), flat)), type=part.type) for part in struct]
    offsets = list(accumulate((len(value) if value else 0 for value in values), initial=0))
    return pa.ListArray.from_arrays(
        pa.array(offsets, type=pa.int32()), pa.StructArray.from_arrays(parts, fields=list(struct))
    )


class TableWriter:
    """Rows in, row groups out."""

    def __init__(self, path: Path, schema: pa.Schema, metadata: Mapping[str, str] | None = None) -> None:
        self.schema = schema.with_metadata(dict(metadata or {}))
        self.writer = pq.ParquetWriter(path, self.schema, **parquet_options(schema))
        self.rows: list[Mapping[str, Any]] = []

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows, each with a value for every column; a full row group is written at once."""
        self.rows.extend(rows)
        if len(self.rows) >= ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self.rows:
            columns = [_column(field, self.rows) for field in self.schema]
            self.writer.write_table(pa.Table.from_arrays(columns, schema=self.schema))
            self.rows = []


@contextmanager
def table_writer(path: Path, schema: pa.Schema, metadata: Mapping[str, str] | None = None) -> Iterator[TableWriter]:
    """A streaming writer whose file appears whole, or not at all."""
    with atomic(path) as temporary:
        writer = TableWriter(temporary, schema, metadata)
        try:
            yield writer
            writer.flush()
        finally:
            writer.writer.close()
