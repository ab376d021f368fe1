"""The tables of a run: what goes in comes out, a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.run import schemas
from pipeline.run.schemas import table_writer, utf8

ALTERNATIVES = [[], [("a", b"a", -0.1)], [("b", None, None), ("c", b"\xff", float("-inf"))]]


def token(position: int, text: str = "x", alternatives: object = ()) -> tuple[object, ...]:
    return ("r", "e", "cheap", position, text, b"x", -0.5, True, alternatives)


def read(path: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(path, page_checksum_verification=True).to_pylist()
    return rows


def test_lists_of_structs_come_back_as_they_were(tmp_path: Path) -> None:
    with table_writer(tmp_path / "t", schemas.TOKENS) as table:
        table.add(token(i, alternatives=ALTERNATIVES[i % 3]) for i in range(7))
    names = ("token", "bytes", "logprob")
    for i, row in enumerate(read(tmp_path / "t")):
        assert row["position"] == i
        assert row["alternatives"] == [dict(zip(names, other, strict=True)) for other in ALTERNATIVES[i % 3]]


def test_a_list_that_is_unknown_stays_unknown_and_an_empty_one_empty(tmp_path: Path) -> None:
    schema = pa.schema([schemas.PREDICTIONS.field("label_probabilities")])
    given = [[("a", 0.5)], None, [], [("b", 0.25), ("c", None)], None]
    with table_writer(tmp_path / "t", schema) as table:
        table.add((value,) for value in given)
    read_back = [row["label_probabilities"] for row in read(tmp_path / "t")]
    assert [value and [tuple(e.values()) for e in value] for value in read_back] == given


def test_memory_holds_one_row_group_and_the_file_has_as_many_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "ROW_GROUP", 10)
    monkeypatch.setattr(schemas, "BATCH", 5)
    with table_writer(tmp_path / "t", schemas.TOKENS) as table:
        for i in range(25):
            table.add([token(i)])
            assert len(table.rows) < 5
            assert table.held < 10
    file = pq.ParquetFile(tmp_path / "t")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10, 10, 5]
    assert [row["position"] for row in read(tmp_path / "t")] == list(range(25))


def test_files_are_put_together_a_row_group_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "ROW_GROUP", 10)
    monkeypatch.setattr(schemas, "BATCH", 5)
    parts = [tmp_path / "a", tmp_path / "b"]
    for part, count in zip(parts, (25, 3), strict=True):
        with table_writer(part, schemas.TOKENS) as table:
            for i in range(count):
                table.add([token(i)])
    schemas.merge(schemas.row_groups(parts), tmp_path / "t", schemas.TOKENS, {"task": "x"})
    file = pq.ParquetFile(tmp_path / "t")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10, 10, 5, 3]
    assert read(tmp_path / "t") == read(parts[0]) + read(parts[1])
    assert pq.read_schema(tmp_path / "t").metadata == {b"task": b"x"}


def test_text_that_utf8_cannot_hold_is_written_as_an_escape_and_its_neighbours_as_they_are(tmp_path: Path) -> None:
    with table_writer(tmp_path / "t", schemas.TOKENS) as table:
        table.add([token(0, "a\ud800", [("\udfff", b"", -1.0), ("é", None, -2.0)]), token(1, "é")])
    first, second = read(tmp_path / "t")
    assert (first["token"], second["token"]) == ("a\\ud800", "é")
    assert [other["token"] for other in first["alternatives"]] == ["\\udfff", "é"]


@given(st.text())
def test_what_is_stored_is_always_utf8_and_unchanged_where_it_can_be(text: str) -> None:
    utf8(text).encode()
    if not any(0xD800 <= ord(character) < 0xE000 for character in text):
        assert utf8(text) == text


def test_a_table_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[object, ...]]:
        yield token(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), table_writer(tmp_path / "t", schemas.TOKENS) as table:
        table.add(broken())
    assert not list(tmp_path.iterdir())


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    with table_writer(tmp_path / "t", schemas.REPLIES):
        pass
    assert pq.read_table(tmp_path / "t").schema.names == schemas.REPLIES.names
    assert pa.types.is_string(pq.read_schema(tmp_path / "t").field("text").type)
