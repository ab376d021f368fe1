"""Tables of predictions that people have: read as they are written, or refused with row, value, rule and remedy."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade_threshold.answers import AnswerSet
from pipeline.collect.data.predictions_file import read
from pipeline.config.split import Split
from pipeline.errors import DataError

SPLIT = Split(fit=0.3, certify=0.5, test=0.2)


def table(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    (tmp_path / name).write_text(text, "utf-8")
    return tmp_path / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "confidence;cheap_correct\n0,9;1\n0,25;0\n"),
        ("t.csv", 'confidence;cheap_correct;"a, b"\n0,9;1;x\n0,25;0;y\n'),
        ("t.csv", "sep=;\nconfidence;cheap_correct\n0,9;1\n0,25;0\n"),
        ("t.csv", "confidence\tcheap_correct\n0.9\tcorrect\n0.25\tincorrect\n"),
        ("t.tsv", "confidence\tcheap_correct\n0.9\tT\n0.25\tF\n"),
        ("t.csv", "confidence,cheap_correct\n0.9,True\n0.25,false\n"),
        ("t.csv", 'confidence,cheap_correct\n"0,9",1\n"0,25",0\n'),
        ("t.tsv", "confidence\tcheap_correct\n0,9\tT\n0,25\tF\n"),
        ("t.csv", ",confidence,cheap_correct\n0,0.9,right\n1,0.25,wrong\n"),
    ],
)
def test_separators_and_words_for_right_and_wrong(tmp_path: Path, name: str, text: str) -> None:
    frame = read(table(tmp_path, text, name), SPLIT)
    assert frame["confidence"].tolist() == [0.9, 0.25]
    assert frame["cheap_correct"].tolist() == [True, False]
    assert frame["example_id"].tolist() == ["row-1", "row-2"], "a table without ids is numbered"


def test_rows_without_a_label_are_not_graded(tmp_path: Path) -> None:
    path = table(tmp_path, "confidence,cheap_answer,label,strong_answer\n.9,a,a,a\n.8,b,,b\n.7,a,b,b\n")
    frame = read(path, SPLIT)
    assert frame["label"].isna().tolist() == [False, True, False]
    assert frame["cheap_correct"].isna().tolist() == [False, True, False]
    assert frame["cheap_correct"].dropna().tolist() == [True, False]
    assert frame["strong_correct"].dropna().tolist() == [True, True]


def test_labels_of_a_table_are_folded_as_on_the_main_path(tmp_path: Path) -> None:
    path = table(
        tmp_path, "confidence,cheap_answer,label,strong_answer\n.9,spam,Spam,spam\n.8,ham,Spam,HAM\n.7,Ham,ham,\n"
    )
    frame = read(path, SPLIT)
    assert frame["cheap_correct"].tolist() == [True, False, True]
    assert frame["strong_correct"].tolist()[:2] == [True, False]
    assert frame["strong_correct"].isna().tolist() == [False, False, True], "no strong answer is unknown"
    assert frame["strong_status"].isna().tolist() == [False, False, True]
    cased = table(tmp_path, "confidence,cheap_answer,label\n.9,m,M\n.8,m,m\n")
    assert read(cased, SPLIT)["cheap_correct"].tolist() == [False, True], "m and M are two labels here"


def test_row_75_typed_columns_of_parquet_are_read_like_text(tmp_path: Path) -> None:
    rows = {
        "confidence": [0.5, 1 + 2e-7, -1e-7],
        "label": pa.array([5, 1, 2], pa.int64()),
        "cheap_answer": pa.array(["5", "1", "1"]).dictionary_encode(),
        "group": pa.array([7, 7, 8]),
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    frame = read(tmp_path / "t.parquet", SPLIT)
    assert frame["cheap_correct"].tolist() == [True, True, False]
    assert frame["confidence"].tolist() == [0.5, 1.0, 0.0], "what is rounding is clipped"
    assert frame["group"].tolist() == ["7", "7", "8"]
    booleans = pa.table({"confidence": [0.5, 0.6], "label": [True, False], "cheap_answer": ["yes", "yes"]})
    pq.write_table(booleans, tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet", SPLIT, AnswerSet.judge())["cheap_correct"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "confidence,cheap_correct\n95,1\n40,0\n99,1\n",
            r"t\.csv:4: .*per cents.*--set predictions\.confidence=percent",
        ),
        (
            "confidence,cheap_correct\n-0.1,1\n-2,0\n-0.01,1\n",
            r"t\.csv:3: .*logprobs.*--set predictions\.confidence=logprob",
        ),
        ("confidence,cheap_correct\n4,1\n2,0\n5,1\n", r"t\.csv:2: confidence is 4\.0.*divide a rating"),
        ("confidence,cheap_correct\n0.5,1\n1.01,0\n0.3,1\n", r"t\.csv:3: confidence is 1\.01.*\[0, 1\]"),
        ("confidence,cheap_correct\n0.5,1\n-0.2,0\n0.3,1\n", r"t\.csv:3: confidence is -0\.2"),
        ("confidence,cheap_correct,cheap_usd\n0.5,1,0.1\n0.4,1,-0.1\n", r"t\.csv:3: cheap_usd is -0\.1"),
        ("confidence,cheap_correct,strong_usd\n0.5,1,inf\n", r"t\.csv:2: strong_usd is inf"),
        (
            "confidence,cheap_correct,strong_usd\n0.5,1,1e200\n",
            r"t\.csv:2: strong_usd is 1e\+200; dollars .* at most 1,000,000,000",
        ),
        ("confidence,cheap_correct,cheap_s\n0.5,1,fast\n", r"t\.csv:2: cheap_s is 'fast', not a number"),
        ("confidence,cheap_correct,strong_s\n0.5,1,-3\n", r"t\.csv:2: strong_s is -3\.0; seconds are not below 0"),
        ("sep=;\nconfidence;cheap_correct\n0.5;maybe\n", r"t\.csv:3: cheap_correct is 'maybe'"),
        ("confidence,cheap_correct\n0.5,maybe\n", r"t\.csv:2: cheap_correct is 'maybe'"),
        ("score,cheap_correct\n0.5,1\n", r"no column 'confidence'.*score.*predictions: \{columns"),
        ("confidence,ok\n0.5,1\n", r"needs a column cheap_correct.*confidence, ok"),
        ("example_id,confidence,cheap_correct\na,0.5,1\na,0.4,1\n", "duplicate ids"),
        ("example_id,confidence,cheap_correct\na,0.5,1\n,0.4,1\n", r"t\.csv:3: example_id is blank"),
    ],
)
def test_row_75_what_cannot_be_used_is_named_with_its_remedy(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(table(tmp_path, text), SPLIT)


def test_row_75_columns_that_bear_the_names_of_our_own_are_read_where_they_are_what_these_are(tmp_path: Path) -> None:
    """Times and statuses are used; another tool's statuses, and whatever else an artefact has columns for, is left out."""
    text = (
        "confidence,cheap_correct,cheap_s,strong_s,cheap_status,strong_status,coin,drawn,signal_mean,cheap_cached_tokens\n"
        "0.5,1,0.25,,success,out_of_set,heads,x,high,many\n0.4,0,1,2,error,,tails,y,low,few\n"
    )
    frame = read(table(tmp_path, text), SPLIT)
    assert frame["cheap_s"].tolist() == [0.25, 1.0]
    assert math.isnan(frame["strong_s"].iloc[0])
    assert frame["cheap_status"].tolist() == ["ok", "ok"]
    assert frame["strong_status"].iloc[0] == "out_of_set"
    assert not {"coin", "drawn", "signal_mean", "cheap_cached_tokens"} & set(frame)


def test_row_75_two_answers_without_a_label_are_enough_for_agreement_alone(tmp_path: Path) -> None:
    path = table(tmp_path, "confidence,Label,cheap_answer,strong_answer\n0.5,a,a,a\n0.4,b,a,b\n")
    assert "cheap_correct" not in read(path, SPLIT)
    with pytest.raises(
        DataError, match=r"cheap_answer together with label \(for the target agree.*columns here: confidence, Label"
    ):
        read(path, SPLIT, labeled=True)


def test_row_75_a_number_of_hundreds_of_digits_is_none_that_is_used(tmp_path: Path) -> None:
    path = table(tmp_path, f'{{"confidence": {"9" * 400}, "cheap_correct": 1}}\n', "t.jsonl")
    with pytest.raises(DataError, match=r"t\.jsonl:1: .*a whole number of 400 digits"):
        read(path, SPLIT)


def test_row_75_a_column_that_a_parquet_table_has_twice_is_refused_as_in_csv(tmp_path: Path) -> None:
    twice = pa.table([[0.5, 0.4], [0.6, 0.7], [True, False]], ["confidence", "confidence", "cheap_correct"])
    pq.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column 'confidence' appears twice; rename one"):
        read(tmp_path / "t.parquet", SPLIT)


def test_row_75_per_cents_and_logprobs_are_converted_when_they_are_named(tmp_path: Path) -> None:
    percent = table(tmp_path, "confidence,cheap_correct\n95%,1\n40,0\n")
    assert read(percent, SPLIT, confidence="percent")["confidence"].tolist() == [0.95, 0.4]
    with pytest.raises(DataError, match=r"t\.csv:2: .*probabilities already; leave predictions\.confidence out"):
        read(table(tmp_path, "confidence,cheap_correct\n0.95,1\n0.4,0\n"), SPLIT, confidence="percent")
    logs = table(tmp_path, "confidence,cheap_correct\n-0.5,1\n-2,0\n,1\n")
    found = read(logs, SPLIT, confidence="logprob")["confidence"].tolist()
    assert found[:2] == [math.exp(-0.5), math.exp(-2)]
    assert math.isnan(found[2])
    with pytest.raises(DataError, match=r"read as logprob"):
        read(table(tmp_path, "confidence,cheap_correct\n0.5,1\n"), SPLIT, confidence="logprob")


def test_an_inverted_confidence_is_called_inverted(tmp_path: Path) -> None:
    draw = random.Random(2)

    def made(sign: int, n: int = 600) -> Path:
        lines: list[dict[str, Any]] = []
        for _ in range(n):
            p = draw.random()
            lines.append({"confidence": p if sign > 0 else 1 - p, "cheap_correct": draw.random() < 0.5 + p / 2})
        return table(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "t.jsonl")

    with pytest.raises(DataError, match=r"inverted.*1 - value"):
        read(made(-1), SPLIT)
    read(made(1), SPLIT)
    read(made(-1, 60), SPLIT)  # too few rows to say so


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    path = table(tmp_path, "score,ok,confidence\n0.5,1,x\n0.4,0,y\n")
    frame = read(path, SPLIT, columns={"confidence": "score", "cheap_correct": "ok"})
    assert frame["confidence"].tolist() == [0.5, 0.4]
    assert frame["cheap_correct"].tolist() == [True, False]
    with pytest.raises(DataError, match=r"no column 'nope'"):
        read(path, SPLIT, columns={"confidence": "nope"})
    with pytest.raises(DataError, match=r"'sureness', which is none of"):
        read(path, SPLIT, columns={"sureness": "score"})


def graded(tmp_path: Path, label: list[str], answer: list[str], n: int = 40) -> Path:
    rows = [f"0.{i % 90 + 10},{label[i % 2]},{answer[i % 2]}" for i in range(n)]
    return table(tmp_path, "confidence,label,cheap_answer\n" + "\n".join(rows) + "\n")


def test_answers_that_are_spelled_otherwise_than_the_labels_are_not_all_wrong(tmp_path: Path) -> None:
    """Without labels in the config: booleans beside yes and no, indices beside letters."""
    for label, answer in ((["True", "False"], ["yes", "no"]), (["0", "1"], ["A", "B"])):
        with pytest.raises(
            DataError, match=rf"40 of 40 answers in cheap_answer are none of the labels: '{answer[0]}' 20 times"
        ):
            read(graded(tmp_path, label, answer), SPLIT)
    judge = read(graded(tmp_path, ["True", "False"], ["yes", "no"]), SPLIT, AnswerSet.judge())
    assert judge["cheap_correct"].all()
    assert read(graded(tmp_path, ["1", "0"], ["1.0", "0.0"]), SPLIT)["cheap_correct"].all()
    assert not read(graded(tmp_path, ["a", "b"], ["c", "d"], n=4), SPLIT)["cheap_correct"].any(), "a few may be wrong"


def test_a_label_outside_the_configs_set_is_refused_as_on_the_main_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv:3: the label is 'c', which is none of 'a', 'b'"):
        read(graded(tmp_path, ["a", "c"], ["a", "b"]), SPLIT, AnswerSet.classify(["a", "b"]))


def test_what_pandas_writes_for_a_missing_value_is_blank_unless_it_is_a_label(tmp_path: Path) -> None:
    text = "confidence,label,cheap_answer,strong_answer\n0.9,a,a,nan\n0.8,b,a,<NA>\nnan,b,b,b\n"
    frame = read(table(tmp_path, text), SPLIT, AnswerSet.classify(["a", "b"]))
    assert frame["strong_correct"].isna().tolist() == [True, True, False]
    assert math.isnan(frame["confidence"].iloc[2])
    spelled = table(tmp_path, "confidence,label,cheap_answer\n0.9,nan,nan\n0.8,inf,nan\n")
    assert read(spelled, SPLIT, AnswerSet.classify(["nan", "inf"]))["cheap_correct"].tolist() == [True, False]


def test_a_column_of_correctness_that_denies_the_labels_is_refused(tmp_path: Path) -> None:
    """One that calls other words right, as a grader of meanings does, is not."""

    def made(equal: int, other: int) -> Path:
        rows = [f"0.5,{'paris' if i % 2 else 'lyon'},paris,{equal if i % 2 else other}" for i in range(60)]
        return table(tmp_path, "confidence,cheap_answer,label,cheap_correct\n" + "\n".join(rows) + "\n")

    with pytest.raises(
        DataError, match=r"cheap_correct says wrong in 30 of the 30 rows whose cheap_answer is the label"
    ):
        read(made(0, 1), SPLIT)
    assert read(made(1, 1), SPLIT)["cheap_correct"].all()


def test_a_label_that_answers_spell_with_other_separators_is_refused_and_not_counted_as_wrong(tmp_path: Path) -> None:
    said = (
        "20 answers in cheap_answer are 'not spam', which is none of the labels; the label 'not_spam' differs in spaces"
    )
    spelled = graded(tmp_path, ["not_spam", "spam"], ["not spam", "spam"])
    for answers in (None, AnswerSet.classify(["not_spam", "spam"])):
        with pytest.raises(DataError, match=said):
            read(spelled, SPLIT, answers)
    text = graded(tmp_path, ["not_spam", "spam"], ["not_spam", "spam"]).read_text()
    a_few = table(tmp_path, text.replace(",not_spam,not_spam", ",not_spam,not spam", 1))
    assert read(a_few, SPLIT)["cheap_correct"].tolist() == [False] + [True] * 39, "one answer that is no label is wrong"
    apart = graded(tmp_path, ["a b", "a-b"], ["a_b", "a-b"])  # labels that separators tell apart
    assert read(apart, SPLIT)["cheap_correct"].tolist() == [False, True] * 20


def test_dollars_may_have_their_sign_and_no_other(tmp_path: Path) -> None:
    rows = "confidence,cheap_correct,cheap_usd\n0.9,1,$0.0002\n0.8,0,0.0003 USD\n0.7,1,US$1e-4\n"
    assert read(table(tmp_path, rows), SPLIT)["cheap_usd"].tolist() == [0.0002, 0.0003, 0.0001]
    for odd in ("5%", "€0.01", "$", "$-1"):
        with pytest.raises(DataError, match=r"t\.csv:2: cheap_usd is .*dollars"):
            read(table(tmp_path, f"confidence,cheap_correct,cheap_usd\n0.9,1,{odd}\n"), SPLIT)
