"""ParquetSize: whether a foreign Parquet file unpacks to far more than it is, told from its footer before a page is read."""

from __future__ import annotations

import pyarrow.parquet as pq

SMALL = 64_000_000
"""Bytes that a column's part in a row group may unpack to, whatever the file's size."""
MOST_TIMES = 500
"""How many times its size a larger one may unpack to; texts compress to a third or a tenth."""


def inflated(metadata: pq.FileMetaData) -> str | None:
    """The column that goes beyond the limits, with what it unpacks to; None where every one keeps them."""
    for group in range(metadata.num_row_groups):
        part = metadata.row_group(group)
        if part.total_byte_size <= SMALL:
            continue
        for place in range(part.num_columns):
            column = part.column(place)
            size = column.total_uncompressed_size
            if size > max(SMALL, MOST_TIMES * column.total_compressed_size):
                return f"column {column.path_in_schema!r} unpacks to {size:,} bytes, {size // max(1, column.total_compressed_size):,} times what is stored"
    return None
