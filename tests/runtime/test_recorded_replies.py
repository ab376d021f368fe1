"""Facts of recorded replies, read from REAL_DATA_DIR."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cascade_threshold.answers import AnswerSet
from cascade_threshold.completion import parse
from cascade_threshold.signals import measure, token_rows
from pipeline.run.schemas import TOKENS, table_writer

REAL = os.environ.get("REAL_DATA_DIR")
pytestmark = pytest.mark.skipif(not REAL, reason="REAL_DATA_DIR is not set")


def lines(name: str) -> list[dict[str, Any]]:
    with open(Path(str(REAL)) / name, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_label_probabilities_reproduce_the_recorded_preferences_of_a_judge() -> None:
    import pandas as pd

    table = pd.read_parquet(Path(str(REAL)) / "model_outputs" / "judge_gpt4turbo_A_examples.parquet")
    answers = AnswerSet.classify(["m", "M"])
    statuses: dict[str, int] = {}
    compared = variants = 0
    records = lines("model_outputs/judge_gpt4turbo_A_responses.jsonl")
    for record, known in zip(records, table.to_dict("records"), strict=True):
        assert record["example_id"] == known["example_id"]
        measured = measure({"choices": [record["choice"]] if record["choice"] else []}, answers)
        statuses[measured.status] = statuses.get(measured.status, 0) + 1
        if measured.status != "ok":
            continue
        assert measured.label_probabilities is not None
        label = {"1+P(m)": "m", "1+P(M)": "M"}[known["preference_formula"]]
        top = record["choice"]["logprobs"]["content"][0]["top_logprobs"]
        mass = {
            name: sum(math.exp(a["logprob"]) for a in top if a["token"].strip(' "*`') == name) for name in ("m", "M")
        }
        spellings = sum(a["token"].strip(' "*`') in ("m", "M") for a in top)
        assert measured.label_probabilities[label] == pytest.approx(mass[label] / (mass["m"] + mass["M"]), abs=1e-12)
        if spellings == 2:
            compared += 1
            assert abs(measured.label_probabilities[label] - (known["preference"] - 1)) < 1e-6
        else:
            variants += 1
    assert statuses == {"ok": 2407, "truncated": 2, "empty": 6}
    assert (compared, variants) == (2140, 267)


@pytest.mark.parametrize("folder", ["mmlu_gpt4o", "mmlu_llama"])
def test_recorded_multiple_choice_has_its_accuracy_its_brier_score_and_no_label_probability(folder: str) -> None:
    known = json.loads((Path(str(REAL)) / "recorded" / folder / "reference.json").read_text())
    labels = {row["id"]: row["label"] for row in lines(f"recorded/{folder}/examples.jsonl")}
    answers = AnswerSet.classify(["A", "B", "C", "D"])
    correct, squares = 0, 0.0
    for row in lines(f"recorded/{folder}/cheap.jsonl"):
        measured = measure(row["response"]["body"], answers)
        assert measured.status == "ok"
        assert measured.signals["label_probability"] is None
        assert measured.reasons["label_probability"]
        confidence = measured.signals["first_token"]
        assert confidence is not None
        right = measured.answer == labels[row["custom_id"]]
        correct += right
        squares += (confidence - right) ** 2
    assert correct / len(labels) == pytest.approx(known["cheap_accuracy"])
    assert squares / len(labels) == pytest.approx(known["brier_first_token"])


def test_legacy_completions_give_back_their_text_and_values() -> None:
    recorded = json.loads((Path(str(REAL)) / "model_outputs" / "gpt3_ada_legacy_completions.json").read_text())
    seen = 0
    for body in recorded.values():
        for choice in body["choices"]:
            reply = parse(body | {"choices": [choice]})
            assert reply.shape == "legacy"
            assert reply.tokens is not None
            raw = choice["logprobs"]
            assert [token.logprob for token in reply.tokens] == raw["token_logprobs"]
            assert "".join(token.token for token in reply.tokens).startswith(choice["text"][:40])
            for token, top in zip(reply.tokens, raw["top_logprobs"], strict=True):
                assert {other.token: other.logprob for other in token.alternatives} == (top or {})
            seen += len(reply.tokens)
    assert seen > 600


def test_token_rows_of_recorded_replies_round_trip_through_parquet_byte_for_byte(tmp_path: Path) -> None:
    answers, rows = AnswerSet.classify(["m", "M"]), []
    with table_writer(tmp_path / "tokens.parquet", TOKENS) as table:
        for number, record in enumerate(lines("model_outputs/judge_gpt4turbo_A_responses.jsonl")):
            reply = parse({"choices": [record["choice"]] if record["choice"] else []})
            mine = [(f"r{number}", f"e{number}", "cheap", *row) for row in token_rows(measure(reply, answers))]
            table.add(mine)
            rows += mine
    read = pq.read_table(tmp_path / "tokens.parquet").to_pylist()
    assert len(read) == len(rows) == 2409
    for row, wanted in zip(read, rows, strict=True):
        *values, alternatives = row.values()
        assert (*values, tuple(tuple(other.values()) for other in alternatives)) == wanted
