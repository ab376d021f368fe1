"""TypedPredictions: a Parquet table whose columns are numbers, booleans and plain texts, read without an object per value.

It makes what `predictions_file.read` makes of the same table, or nothing: whatever needs a rule, a conversion or a message
(other types, blanks, values out of range, ids that occur twice) is left to the reader that goes row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config.limits import MOST_DOLLARS
from pipeline.config.vocabulary import SPLITS
from pipeline.run import parquet_size

TEXTS = ("example_id", "group", "segment", "split")
NAMES = ("example_id", "group")
NUMBERS = ("confidence", "cheap_usd", "strong_usd")
TRUTHS = ("cheap_correct", "strong_correct")
AT_ONCE = 1 << 16
"""Ids that are Python objects at a time."""
FEWEST = 10_000
"""Rows from which on it is worth it."""


def table(path: Path, columns: Mapping[str, str]) -> pa.Table | None:
    """The columns that are used, under our names; None where the file is anything but plain."""
    if path.suffix.lower() != ".parquet" or columns:
        return None
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            known = (*TEXTS, *NUMBERS, *TRUTHS)
            plain = (
                set(names) <= set(known)
                and len(set(names)) == len(names)
                and {"example_id", "confidence", "cheap_correct"} <= set(names)
                and parquet_size.inflated(file.metadata) is None
            )
            if not plain or file.metadata.num_rows < FEWEST or not all(_is_plain(field) for field in file.schema_arrow):
                return None
            groups = range(file.num_row_groups)
            found = pa.concat_tables([file.read_row_group(i, use_threads=False) for i in groups])  # half the memory
    except (pa.ArrowException, OSError, ValueError):
        return None
    return found if _is_valid(found) else None


def _is_plain(field: pa.Field) -> bool:
    if field.name in TEXTS:
        return bool(pa.types.is_string(field.type) or pa.types.is_large_string(field.type))
    if field.name in NUMBERS:
        return bool(pa.types.is_float64(field.type))
    return bool(pa.types.is_boolean(field.type))


def _is_valid(found: pa.Table) -> bool:
    """Whether every value is one that is taken as it stands."""
    ids = found["example_id"]
    if ids.null_count or _any(pc.equal(pc.utf8_trim_whitespace(ids), "")) or not _are_distinct(ids):
        return False
    for name in (name for name in TEXTS[1:] if name in found.column_names):
        column = found[name]
        if column.null_count or _any(pc.equal(pc.utf8_trim_whitespace(column), "")):
            return False
    if "split" in found.column_names and not pc.all(pc.is_in(found["split"], pa.array(SPLITS))).as_py():
        return False
    for name in ("cheap_usd", "strong_usd"):
        if name in found.column_names and not _within(found[name], 0.0, MOST_DOLLARS):
            return False
    return _within(found["confidence"], 0.0, 1.0)


def _are_distinct(ids: pa.ChunkedArray) -> bool:
    """Whether no two ids have one hash of 64 bits: equal ids have, and of ten million others hardly ever two."""
    hashes = np.empty(len(ids), dtype=np.int64)
    for start in range(0, len(ids), AT_ONCE):
        hashes[start : start + AT_ONCE] = list(map(hash, ids[start : start + AT_ONCE].to_pylist()))
    hashes.sort()
    return not np.any(hashes[1:] == hashes[:-1])


def _any(column: pa.ChunkedArray) -> bool:
    return bool(pc.any(column).as_py())


def _within(column: pa.ChunkedArray, low: float, high: float) -> bool:
    for chunk in column.chunks:
        values = chunk.to_numpy(zero_copy_only=False)
        known = values[~np.isnan(values)]
        if len(known) and not (known.min() >= low and known.max() <= high):
            return False
    return True


def frame(found: pa.Table) -> pd.DataFrame:
    """The table as a frame in the order of its columns: names as Arrow holds them, texts that repeat as categories, correctness
    as `boolean`.
    """
    out: dict[str, object] = {}
    for name in found.column_names:
        column, found = found[name], found.drop_columns([name])  # freed as soon as it is converted
        if name in TRUTHS:
            out[name] = pd.array(column.to_numpy(zero_copy_only=False), dtype="boolean")
        elif name in NUMBERS:
            out[name] = column.to_numpy()
        elif name in NAMES:
            out[name] = column.to_pandas(types_mapper=lambda _: pd.StringDtype("pyarrow"))
        else:
            out[name] = column.dictionary_encode().unify_dictionaries().to_pandas()
    return pd.DataFrame(out, copy=False)
