"""A Parquet file's footer, bit by bit, and read by programs that know nothing of its digest."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DataError
from pipeline.run import address
from pipeline.run.directory import Folder, read_parquet
from pipeline.run.schemas import table_writer

TABLE = pa.table({"name": [f"n{i % 7}" for i in range(300)], "value": np.arange(300) / 7})


def file_of(folder: Path, way: str) -> Path:
    if way == "whole":
        Folder(folder).write_table("t.parquet", TABLE, {"schema": "t/1"})
    else:
        with table_writer(folder / "t.parquet", TABLE.schema, {"schema": "t/1"}) as writer:
            writer.add(zip(*TABLE.to_pydict().values(), strict=True))
    return folder / "t.parquet"


@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_a_bit_turned_anywhere_in_the_footer_is_noticed(tmp_path: Path, way: str) -> None:
    path = file_of(tmp_path, way)
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    missed, named = [], 0
    for bit in range(8 * (len(whole) - length - 8), 8 * len(whole)):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(broken)
        try:
            read_parquet(path)
            missed.append(bit)
        except DataError as error:
            named += str(path) in str(error)
    assert missed == []
    assert named == 8 * (length + 8)
    path.write_bytes(whole)
    assert read_parquet(path).equals(TABLE)


def test_a_part_read_at_its_address_is_held_to_its_footer_too(tmp_path: Path) -> None:
    path = file_of(tmp_path, "streamed")
    whole = bytearray(path.read_bytes())
    with address.parquet(str(path)) as file:
        assert file.read().equals(TABLE)
    whole[-12] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match="footer"), address.parquet(str(path)) as file:
        file.read()


def test_other_programs_read_the_file_and_a_file_of_theirs_is_read(tmp_path: Path) -> None:
    path = file_of(tmp_path, "whole")
    rows = list(zip(*TABLE.to_pydict().values(), strict=True))
    assert duckdb.sql(f"select * from '{path}'").fetchall() == rows
    assert pl.read_parquet(path).rows() == rows
    assert pq.read_table(path).schema.metadata[b"schema"] == b"t/1"
    pq.write_table(TABLE, path)
    assert read_parquet(path).equals(TABLE)


@pytest.mark.parametrize("size", [0, 3, 7, 8, 11])
def test_a_file_shorter_than_any_footer_is_damaged(tmp_path: Path, size: int) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1\xff\xff\xff\xffPAR1"[-size:] if size else b"")
    with pytest.raises(DataError, match="damaged"):
        read_parquet(path)


def test_a_footer_longer_than_what_is_read_at_once_is_found(tmp_path: Path) -> None:
    wide = pa.table({f"column {i}": [i] for i in range(2000)})
    Folder(tmp_path).write_table("t.parquet", wide, {})
    path = tmp_path / "t.parquet"
    whole = bytearray(path.read_bytes())
    assert int.from_bytes(whole[-8:-4], "little") > 1 << 16
    assert read_parquet(path).num_columns == 2000
    place = whole.rindex(b"column 1999")
    whole[place + 7] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match="footer"):
        read_parquet(path)
