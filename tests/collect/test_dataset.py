"""Rows are read strictly, get stable ids and splits, or the error names the place and the remedy."""

from __future__ import annotations

import gc
import hashlib
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.collect.data import table_reader
from pipeline.collect.data.dataset import Dataset, normalised, read, split_of
from pipeline.collect.data.table_reader import TableFile
from pipeline.config.split import Split
from pipeline.config.task import TaskConfig
from pipeline.config.yaml_file import load
from pipeline.errors import DataError
from pipeline.run.digests import digest_of_list

LABELS = ["work", "spam", "None"]


def config(tmp_path: Path, name: str, kind: str = "classify", **dataset: object) -> TaskConfig:
    tree: dict[str, object] = {
        "task": "t",
        "kind": kind,
        "dataset": {"path": name, "label": "label", **dataset},
        "prompt": {"user": "{text}" + (" {options}" if kind == "choose" else "")},
        "target": {"kind": "match_strong", "within": 0.02},
    }
    if kind == "classify":
        tree["labels"] = LABELS
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(tree))
    return load(path)


def canonical(text: str) -> str | None:
    return {label.casefold(): label for label in LABELS}.get(text.strip().casefold())


def rows(tmp_path: Path, name: str, content: str | bytes, **dataset: object) -> Dataset:
    raw = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(raw)
    return read(config(tmp_path, name, **dataset), canonical)


def test_a_csv_with_bom_crlf_and_line_breaks_in_quotes_is_read_exactly(tmp_path: Path) -> None:
    content = '\ufefftext,label\r\n"two\r\nlines, ""quoted""",Work\r\nNA,None\r\n'
    found = rows(tmp_path, "r.csv", content)
    assert [e.texts[0] for e in found.examples] == ['two\r\nlines, "quoted"', "NA"]
    assert [e.label for e in found.examples] == ["work", "None"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text;label\na;work\n", r"r\.csv:1: the header is one field with ';'"),
        ("text,label\na,work\nb,c,work\n", r"r\.csv:3: 3 fields, the header has 2"),
        ("text,label\na,work\nb,\n", r"r\.csv:3: the label is blank"),
        ("text,label\na,wrok\n", r"r\.csv:2: label 'wrok'.*did you mean 'work'"),
        ("txt,label\na,work\n", r"no column 'text'.*did you mean 'txt'"),
        ("text,label\n", "no rows"),
        ("", "no rows"),
        ('text,label\n"a,work\n', r"r\.csv:2"),
        ("text,text,label\na,b,work\n", "appears twice"),
        ("text,label\na,work\n".encode("utf-16"), "UTF-16"),
        ("text,label\nab,work\ncaf\xe9,work\n".encode("latin-1"), r"r\.csv:3: not UTF-8: byte 22 is 0xe9"),
    ],
)
def test_csv_faults_are_named(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        rows(tmp_path, "r.csv", content)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a", "label": 1.5}', r"r\.jsonl:2: label 1\.5 is float"),
        ('{"text": "a", "label": true}', "label True is bool"),
        ('{"text": "a", "label": null}', "label is blank"),
        ('{"text": {"deep": 1}, "label": "work"}', "column 'text' holds dict"),
        ('{"text": "a"', r"r\.jsonl:2: not valid JSON"),
        ('["a", "work"]', "holds list"),
        ('{"label": "work"}', "no 'text' here"),
    ],
)
def test_jsonl_faults_are_named(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        rows(tmp_path, "r.jsonl", '{"text": "first", "label": "work"}\n' + line + "\n")


def test_half_a_character_is_refused_in_an_id_and_kept_elsewhere(tmp_path: Path) -> None:
    line = '{"id": "m1", "text": "t1", "label": "work", "user": "u1"}\n'
    found = rows(tmp_path, "r.jsonl", line.replace("t1", r"t\ud83d").replace("u1", r"u\ud83d"), id="id", group="user")
    assert (found.examples[0].texts, found.examples[0].group) == (("t\ud83d",), "u\ud83d")
    with pytest.raises(DataError, match=r"r\.jsonl:2: id 'm\\ud83d' holds half a character.*fix"):
        rows(tmp_path, "r.jsonl", line + line.replace("m1", r"m\ud83d"), id="id")
    with pytest.raises(DataError, match=r"r\.jsonl:1: label 'work\\ud83d' is not one of"):
        rows(tmp_path, "r.jsonl", line.replace("work", r"work\ud83d"))


def test_duplicate_ids_are_listed_with_their_lines(tmp_path: Path) -> None:
    lines = "".join(f'{{"id": "{i}", "text": "t{k}", "label": "work"}}\n' for k, i in enumerate("abab"))
    with pytest.raises(DataError, match=r"2 duplicate ids: 'a' at lines 1 and 3; 'b' at lines 2 and 4"):
        rows(tmp_path, "r.jsonl", lines, id="id")


def test_parquet_is_read_by_column_and_a_wrong_type_is_named(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": ["a", "b"], "label": pa.array(["work", "spam"]).dictionary_encode()}), tmp_path / "r.parquet"
    )
    found = read(config(tmp_path, "r.parquet"), canonical)
    assert [e.label for e in found.examples] == ["work", "spam"]
    pq.write_table(pa.table({"text": [["a"], ["b"]], "label": ["work", "spam"]}), tmp_path / "r.parquet")
    with pytest.raises(DataError, match="row 1: column 'text' holds list"):
        read(config(tmp_path, "r.parquet"), canonical)
    (tmp_path / "r.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="damaged"):
        read(config(tmp_path, "r.parquet"), canonical)


def test_row_39_copies_share_a_split_and_are_counted_with_conflicts(tmp_path: Path) -> None:
    texts = [("Buy  NOW", "spam"), ("buy now", "work"), ("Buy  NOW", "spam"), ("other", "work")]
    found = rows(tmp_path, "r.jsonl", "".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in texts))
    assert len({e.split for e in found.examples[:3]}) == 1
    assert len({e.id for e in found.examples}) == 4
    health = found.health
    assert (health["duplicate_texts"], health["duplicate_texts_normalised"]) == (1, 2)
    assert (health["conflicting_labels"], health["leaked_between_splits"]) == (1, 0)


def test_row_39_copies_in_different_groups_are_reported_as_leaks(tmp_path: Path) -> None:
    split = Split(fit=0.3, certify=0.5, test=0.2)
    by_split: dict[str, str] = {}
    for i in range(100):
        by_split.setdefault(split_of(f"g{i}", split), f"g{i}")
    lines = "".join(json.dumps({"text": "same", "label": "work", "g": by_split[s]}) + "\n" for s in ("fit", "test"))
    found = rows(tmp_path, "r.jsonl", lines, group="g", split=split.model_dump())
    assert found.health["leaked_between_splits"] == 1
    assert rows(tmp_path, "r.jsonl", lines, group="g").health["leaked_between_splits"] == 0  # all rows certify


def test_the_order_of_rows_moves_nothing(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"text {i}", "label": "work"}) + "\n" for i in range(60)]
    split = {"fit": 0.3, "certify": 0.5, "test": 0.2}
    forward = {e.id: e.split for e in rows(tmp_path, "r.jsonl", "".join(lines), split=split).examples}
    backward = {e.id: e.split for e in rows(tmp_path, "r.jsonl", "".join(reversed(lines)), split=split).examples}
    assert forward == backward
    assert set(forward.values()) == set(split)


def test_a_limit_keeps_the_same_rows_whatever_stands_beside_them(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"text {i}", "label": "work"}) + "\n" for i in range(60)]
    few = rows(tmp_path, "r.jsonl", "".join(lines)).limited(20)
    fewer = few.limited(7)
    assert {e.id for e in fewer.examples} < {e.id for e in few.examples}
    assert few.health["excluded"] == {"limit": 40}
    assert few.digest != rows(tmp_path, "r.jsonl", "".join(lines)).digest


def test_split_shares_are_kept_over_many_groups() -> None:
    n = 20_000
    found = [split_of(f"group {i}", Split(fit=0.3, certify=0.5, test=0.2)) for i in range(n)]
    for name, share in (("fit", 0.3), ("certify", 0.5), ("test", 0.2)):
        # five binomial standard errors
        assert abs(found.count(name) / n - share) < 5 * (share * (1 - share) / n) ** 0.5


def test_options_may_be_named_by_letter_or_text_and_ambiguity_is_refused(tmp_path: Path) -> None:
    def choose(label: str, options: object) -> Dataset:
        (tmp_path / "r.jsonl").write_text(json.dumps({"text": "q", "options": options, "label": label}) + "\n")
        return read(config(tmp_path, "r.jsonl", "choose", options="options"), canonical)

    assert choose("b", ["first", "second"]).examples[0].label == "B"
    assert choose("first", ["first", "second"]).examples[0].label == "A"
    with pytest.raises(DataError, match="'B' is B as a letter and A as an option's text"):
        choose("B", ["B", "A"])
    assert choose("A", ["x", "y"]).examples[0].texts == ("q", "A. x\nB. y")
    for label, options, said in (
        ("z", ["x", "y"], "neither an option"),
        ("x", ["x", "x"], "2 options"),
        ("A", ["x"], "2 to 26"),
        ("A", "x|y", "JSON list"),
    ):
        with pytest.raises(DataError, match=said):
            choose(label, options)


def test_a_judge_reads_relevance_grades_as_yes_and_no(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("text,label\na,1\nb,0\nc,yes\n")
    found = read(config(tmp_path, "r.csv", "judge"), lambda text: {"yes": "yes", "no": "no"}.get(text))
    assert [e.label for e in found.examples] == ["yes", "no", "yes"]


def test_rows_behind_an_fsspec_address_are_read(tmp_path: Path) -> None:
    import fsspec

    with fsspec.open("memory://folder/r.jsonl", "w") as handle:
        handle.write('{"text": "a", "label": "work"}\n')
    assert len(read(config(tmp_path, "memory://folder/r.jsonl"), canonical)) == 1


@given(st.text(), st.text())
def test_normalisation_is_blind_to_surrounding_and_doubled_space(a: str, b: str) -> None:
    once = normalised([a, b])
    assert normalised([f"  {a}\n", b.replace(" ", " \t ")]) == once


def test_one_reading_of_a_choice_holds_for_the_whole_file(tmp_path: Path) -> None:
    def labels(*rows: tuple[object, list[object]]) -> list[str | None]:
        lines = [{"text": f"q{i}", "options": options, "label": label} for i, (label, options) in enumerate(rows)]
        (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = read(config(tmp_path, "r.jsonl", "choose", options="options"), canonical)
        return [e.label for e in found.examples]

    words = ["w", "x", "y", "z"]
    assert labels((0, words), (3, words)) == ["A", "D"], "indices from 0"
    assert labels((1, words), (4, words)) == ["A", "D"], "indices from 1: 4 is no index from 0"
    assert labels((2.0, words), ("0", words)) == ["C", "A"]
    assert labels(("x", words), ("Z", words)) == ["B", "D"], "text, whatever its case"
    assert labels((10, [10, 20]), (20, [10, 20])) == ["A", "B"], "options that are numbers"
    assert labels(("A", ["A", "B"]), ("B", ["A", "B"])) == ["A", "B"], "letter and text agree"
    for rows, said in (
        ([(1, words), (2, words)], r"1:.*index from 0 and A as an index from 1"),
        ([(1, ["1", "0"]), (0, ["0", "1"])], r"'1' is A as an option's text and B as an index from 0.*give the letter"),
        (
            [("A", words), ("B", words), ("y", words)],
            r"3: label 'y' is an option's text, while most rows of the file give a letter",
        ),
    ):
        with pytest.raises(DataError, match=said):
            labels(*rows)


def test_labels_of_any_type_are_read_as_the_config_spells_them(tmp_path: Path) -> None:
    def read_parquet(labels: list[str], column: pa.Array, metadata: dict[str, str] | None = None) -> list[str | None]:
        texts = [f"t{i}" for i in range(len(column))]
        table = pa.table({"text": pa.array(texts).cast(pa.binary()), "label": column}).replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / "r.parquet")
        tree = {
            "task": "t",
            "kind": "classify",
            "labels": labels,
            "dataset": {"path": "r.parquet", "label": "label"},
            "prompt": {"user": "{text}"},
            "target": {"kind": "match_strong", "within": 0.02},
        }
        (tmp_path / "c.yaml").write_text(json.dumps(tree))
        loaded = load(tmp_path / "c.yaml")
        assert loaded.answer_set is not None
        found = read(loaded, loaded.answer_set.label_of)
        assert [e.texts for e in found.examples] == [(t,) for t in texts], "bytes are text"
        return [e.label for e in found.examples]

    assert read_parquet(["1", "5"], pa.array([5.0, 1.0])) == ["5", "1"]
    assert read_parquet(["True", "False"], pa.array([True, False])) == ["True", "False"]
    assert read_parquet(["spam", "ham"], pa.array([b"ham", b"spam"])) == ["ham", "spam"]
    assert read_parquet(["spam", "ham"], pa.array(["ham", "spam"]).dictionary_encode()) == ["ham", "spam"]
    names = json.dumps({"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}})
    assert read_parquet(["neg", "pos"], pa.array([1, 0]), {"huggingface": names}) == ["pos", "neg"]
    assert read_parquet(["0", "1"], pa.array([1, 0]), {"huggingface": names}) == ["1", "0"], (
        "the config has the numbers"
    )
    with pytest.raises(DataError, match="the label is blank"):
        read_parquet(["neg", "pos"], pa.array([1, -1]), {"huggingface": names})
    with pytest.raises(DataError, match="row 2: column 'label' holds bytes that are not UTF-8"):
        read_parquet(["spam", "ham"], pa.array([b"ham", b"\xff"]))


def test_nameless_columns_are_dropped_where_they_are_blank_and_named_where_not(tmp_path: Path) -> None:
    found = rows(tmp_path, "r.csv", "text,label,,\na,work,,\nb,spam,,\n")
    assert [e.label for e in found.examples] == ["work", "spam"]
    assert len(rows(tmp_path, "r.csv", ",text,label\n0,a,work\n1,b,spam\n").examples) == 2, "pandas' index"
    with pytest.raises(DataError, match=r"r\.csv:3: 'x' is in a column without a name"):
        rows(tmp_path, "r.csv", "text,label,\na,work,\nb,spam,x\n")


@given(st.lists(st.none() | st.text(st.characters()) | st.lists(st.text(st.characters()))))
def test_the_digest_of_a_row_is_that_of_its_json(parts):
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    assert digest_of_list(*parts) == hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def test_the_search_for_garbage_goes_on_after_rows_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every row needs it"):
        rows(tmp_path, "r.jsonl", '{"text": "a", "label": "work"}\n{"text": "b"}\n')
    assert gc.isenabled()


@pytest.mark.parametrize("block", range(1, 9))
def test_a_csv_reads_alike_wherever_its_blocks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(table_reader, "BLOCK", block)
    good = "\ufefftext,label\na€b,work\n😀\u00e9,spam\n"
    assert [e.texts for e in rows(tmp_path, "r.csv", good).examples] == [("a€b",), ("😀é",)]
    for bad in (b"\xff", b"\xf0\x9f", b"\xe2\x82"):
        place = len(good.encode()) + len("ab€")
        with pytest.raises(DataError, match=rf"r\.csv:4: not UTF-8: byte {place + 2} is {bad[0]:#04x}"):
            rows(tmp_path, "r.csv", good.encode() + "ab€".encode() + bad)


def test_a_csv_is_never_in_memory_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_reader, "BLOCK", 1 << 14)
    path = tmp_path / "r.csv"
    path.write_text("text,label\n" + f"{'x' * 990},work\n" * 2_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in TableFile(str(path)).rows()) == 2_000
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 8
    finally:
        tracemalloc.stop()
