"""Rows in columns give back, row for row, what was put in; ids are found as a dict finds them."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.collect.data import text_column
from pipeline.collect.data.dataset import read
from pipeline.collect.data.examples import Example, Examples, TextsById
from pipeline.collect.data.id_places import IdPlaces
from pipeline.collect.data.text_column import PIECE, TextColumn
from pipeline.config.yaml_file import load

ANY = st.text(st.characters(), max_size=5)  # lone surrogates too
EDGES = (1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3)


def column(texts: list[str | None]) -> TextColumn:
    found = TextColumn()
    for start in range(0, len(texts), PIECE):
        found.add(texts[start : start + PIECE])
    return found


def rows(n: int, *, grouped: bool) -> tuple[list[tuple[Example, bytes]], Examples]:
    told, found = [], Examples(2, grouped=grouped)
    for i in range(n):
        text = f"text {i % 97}" + "\ud83d" * (i % 31 == 0)
        content = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
        options = None if i % 3 else ("a", f"ü{i}", "\udc00")
        group = f"g{i % 7}" if grouped else content.hexdigest()
        segment = None if i % 5 == 0 else f"s{i % 2}"
        row = Example(f"r{i}", (text, ""), "xyz"[i % 3], options, group, segment, ("fit", "certify", "test")[i * i % 3])
        told.append((row, content.digest()))
        found.add(row, content.digest())
    found.close()
    return told, found


@pytest.mark.parametrize("n", EDGES)
@pytest.mark.parametrize("grouped", [False, True])
def test_rows_come_back_as_they_were_added_whichever_are_asked_for(n: int, grouped: bool) -> None:
    told, found = rows(n, grouped=grouped)
    whole = [row for row, _ in told]
    assert list(found) == whole == found[:]
    for start in (0, n // 2, max(0, n - 3)):
        assert found[start : start + 5] == whole[start : start + 5]
        assert found[start] == whole[start]
    assert found[-1] == whole[-1]
    some = sorted({0, n // 3, n - 1})
    assert list(found.taken(some)) == [whole[i] for i in some]
    assert [*found.ids()] == [row.id for row in whole]
    assert found.labels == [row.label for row in whole]
    assert found.segments == [row.segment for row in whole]
    assert found.splits == [row.split for row in whole]
    assert {name: k for name, k in found.split_counts.items() if k} == Counter(row.split for row in whole)
    assert found.label_counts == Counter(row.label for row in whole)
    for codes, names in (
        (found.group_codes, [r.group for r in whole]),
        (found.content_codes, [c for _, c in told]),
        (found.label_codes, [r.label for r in whole]),
    ):
        assert len(set(zip(codes.tolist(), names, strict=True))) == len(set(names)) == len(set(codes.tolist()))
    assert found.contents_at(np.array(some)).tolist() == [told[i][1] for i in some]
    texts = TextsById(found)
    assert dict(texts) == {row.id: "\n".join(row.texts) for row in whole}
    assert "r-1" not in texts
    assert texts.get("") is None


@given(st.lists(st.none() | ANY, max_size=30), st.lists(ANY, max_size=10))
def test_places_are_those_of_a_dict_and_later_ones_are_told(ids: list[str | None], others: list[str]) -> None:
    places: dict[str, int] = {}
    again = []
    for place, name in enumerate(ids):
        if name is not None and (first := places.setdefault(name, place)) != place:
            again.append((name, first, place))
    found = IdPlaces(column(ids))
    wanted = [*(name for name in ids if name is not None), *others]
    assert found.find(wanted).tolist() == [places.get(name, -1) for name in wanted]
    assert list(found.repeated()) == again


def test_ids_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.collect.data import id_places

    monkeypatch.setattr(id_places, "hash", lambda text: len(text or ""), raising=False)  # those of one length collide
    ids = ["aa", "bb", "c", None, "bb", "dd", "e", "dd", "aa"]
    found = IdPlaces(column(ids))
    assert found.find(["dd", "bb", "aa", "zz", "e", "c", "ff"]).tolist() == [5, 1, 0, -1, 6, 2, -1]
    assert list(found.repeated()) == [("bb", 1, 4), ("dd", 5, 7), ("aa", 0, 8)]


@given(st.lists(st.none() | ANY, min_size=1, max_size=40), st.data())
def test_a_column_gives_any_of_its_texts(texts: list[str | None], data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_column, "PIECE", 4)
        found = TextColumn()
        for start in range(0, len(texts), 4):
            found.add(texts[start : start + 4])
        places = data.draw(st.lists(st.integers(0, len(texts) - 1)))
        assert found.at(np.array(places, dtype=np.int64)) == [texts[i] for i in places]
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(texts))] * 2)))
        assert found.between(start, stop) == texts[start:stop]
        assert [text for piece in found.pieces() for text in piece] == texts


def test_a_row_of_a_dataset_takes_little_more_memory_than_its_text(tmp_path: Path) -> None:
    n, text = 6_000, "some words of a ticket " * 4
    lines = (json.dumps({"id": f"r{i}", "text": f"{text}{i}", "label": "yes"}) + "\n" for i in range(n))
    (tmp_path / "r.jsonl").write_text("".join(lines))
    tree = {
        "task": "t",
        "kind": "classify",
        "labels": ["yes", "no"],
        "dataset": {"path": "r.jsonl", "id": "id", "label": "label"},
        "prompt": {"user": "{text}"},
        "target": {"kind": "match_strong", "within": 0.02},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(tree))
    config = load(tmp_path / "c.yaml")
    tracemalloc.start()
    try:
        found = read(config, str)
        assert len(found) == n
        assert tracemalloc.get_traced_memory()[0] / n < 100, "texts lie in Arrow's memory, which is not counted here"
    finally:
        tracemalloc.stop()
