"""Replies of real servers that break parsers: small likenesses here, the recorded samples under REAL_DATA_DIR."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from runtime.bodies import chat, entry, legacy

from cascade_threshold.answers import AnswerSet
from cascade_threshold.completion import parse
from cascade_threshold.signals import SIGNALS, Measurement, measure

REAL = os.environ.get("REAL_DATA_DIR")


def read(body: Any, *labels: str) -> Measurement:
    measured = measure(body, AnswerSet.classify([*labels, "zzz"] if len(labels) < 2 else list(labels)))
    assert set(measured.signals) == set(SIGNALS)
    if measured.status != "ok":
        assert set(measured.signals.values()) == {None}
    return measured


def test_echo_puts_a_null_first_logprob_before_the_answer() -> None:
    body = legacy("<|endoftext|>run", ["<|endoftext|>", "run"], [None, -11.5], [None, {"The": -2.5}], finish="length")
    assert read(body, "run").status == "truncated"  # the prompt is part of the text, so no whole label
    assert read(body, "<|endoftext|>run").status == "no_logprobs"


def test_a_part_of_a_character_written_as_text_is_read_as_its_bytes() -> None:
    body = legacy(
        " cat", [" cat", ".", "\n"], [-0.9, -1.1, -1.2], [{" cat": -0.9, "bytes:\\xe2\\x80": -1.5}, None, None]
    )
    measured = read(body, "cat", "dog")
    assert measured.status == "ok"
    assert measured.in_answer == (True, False, False)
    assert measured.reply.tokens is not None
    assert measured.reply.tokens[0].alternatives[1].bytes == b"\xe2\x80"


def test_legacy_lists_in_a_chat_reply_without_alternatives_support_the_plain_signals() -> None:
    body = legacy("", ["spam"], [-0.25])
    body["choices"][0] = body["choices"][0] | {"message": {"role": "assistant", "content": "spam"}, "text": None}
    del body["choices"][0]["logprobs"]["top_logprobs"]
    measured = read(body | {"prompt": []}, "spam", "work")
    assert measured.status == "ok"
    assert {name for name, value in measured.signals.items() if value is not None} == {
        "first_token",
        "label_sequence",
        "mean",
        "minimum",
    }


def test_an_impossible_positive_logprob_counts_only_inside_the_answer() -> None:
    tokens, values = [' "', "But", " why", '"'], [0.7, -0.04, 0, -0.01]
    assert read(legacy(' "But why"', tokens, values), "but why").status == "ok"
    assert read(legacy("But why", ["But", " why"], [0.7, 0]), "but why").status == "no_logprobs"


def test_null_logprobs_though_asked_for_are_named() -> None:
    body = legacy(" work", [], [])
    body["choices"][0]["logprobs"] = None
    assert read(body, "work", "spam").status == "no_logprobs"


def test_null_and_missing_bytes_fall_back_to_the_tokens_text() -> None:
    for change in ({"bytes": None}, {}):
        made = entry("**", -0.2) | change
        label = entry("Work", -0.3, [("Work", -0.3), ("Spam", -2.0)]) | change
        for item in (made, label, *label["top_logprobs"]):
            if not change:
                del item["bytes"]
            else:
                item["bytes"] = None
        measured = read(chat("**Work**", [made, label, made]), "work", "spam")
        assert measured.status == "ok"
        assert measured.signals["label_probability"] is not None


def test_a_native_list_of_logprobs_with_lost_bytes_is_unaligned() -> None:
    lost = {"token": "\ufffd", "logprob": -0.02, "bytes": [239, 191, 189]}
    body = {
        "model": "x",
        "response": "😊",
        "done": True,
        "done_reason": "stop",
        "eval_count": 5,
        "logprobs": [lost] * 4,
    }
    assert read(body, "😊").status == "unaligned"
    assert read(body | {"response": "😎"}, "😊").status == "out_of_set"


def test_characters_of_two_bytes_and_an_empty_list_of_alternatives() -> None:
    measured = read(chat("°C", [entry("°C", -7e-6)]), "°C", "°F")
    assert measured.signals["first_token"] is not None
    assert measured.signals["label_probability"] is None
    assert "alternatives" in measured.reasons["label_probability"]


def test_a_sentinel_on_the_end_token_is_nobodys_business() -> None:
    entries = [entry("yes", -0.04, [("yes", -0.04), ("no", -3.3)]), entry("", -9999.0)]
    measured = measure(chat("yes", entries), AnswerSet.judge())
    assert measured.status == "ok"
    assert measured.in_answer == (True, False)


def test_empty_alternatives_of_an_emoji_are_no_label_mass() -> None:
    empty = entry("", -1e-7, [("", -1e-7), ("", -16.1), ("", -17.3)])
    measured = read(chat("🧎", [empty, entry("🧎", 0.0)]), "🧎", "🧍")
    assert measured.status == "ok"
    assert measured.signals["label_probability"] is None
    assert measured.in_answer == (True, True)


def test_truncated_prose_is_truncated() -> None:
    body = chat(
        "**Deep learning** is", [entry("**"), entry("Deep"), entry(" learning"), entry("** is")], finish="length"
    )
    assert read(body, "deep learning", "other").status == "truncated"


def test_certainty_made_by_sampling_settings_is_flagged() -> None:
    measured = read(chat("Deep", [entry("Deep", 0, [("Deep", 0)])], finish="length"), "deep", "wide")
    assert measured.status == "ok"
    assert measured.exact_zero is True
    assert measured.signals["label_probability"] is None, "one alternative cannot be a distribution over labels"


def test_a_wrapped_body_with_marker_tokens() -> None:
    body = {
        "result": legacy(
            " north east", ["Ġnorth", "Ġeast"], [-1.0, -0.5], [{"Ġnorth": -1.0, "Ġsouth": -1.2}, {"Ġeast": -0.5}]
        )
    }
    measured = read(body, "north east", "south east")
    assert measured.status == "ok"
    assert measured.label_probabilities is not None
    assert measured.label_probabilities["north east"] == pytest.approx(1 / (1 + 2.718281828459045**-0.2))


def test_filter_details_beside_null_logprobs_do_not_filter_the_text() -> None:
    body = chat('"work"', None)
    body["choices"][0]["content_filter_results"] = {"hate": {"filtered": False, "severity": "safe"}}
    assert read(body, "work", "spam").status == "no_logprobs"


def test_escaped_and_true_bytes_of_a_part_of_a_character() -> None:
    true = {"token": "\\xf0\\x9f\\x8c", "bytes": [240, 159, 140], "logprob": -0.5}
    rest = {"token": "\\xb8", "bytes": [0xB8], "logprob": -0.25}
    measured = read(chat("🌸", [true, rest]), "🌸")
    assert measured.status == "ok"
    assert measured.signals["label_sequence"] == pytest.approx(2.718281828459045**-0.75)


def test_a_sampled_answer_may_be_the_less_likely_one() -> None:
    body = chat("m", [entry("m", -3.0, [("M", -0.05), ("m", -3.0), (" M", -12.0)])], finish="length")
    measured = read(body, "m", "M")
    assert measured.answer == "m"
    assert measured.signals["label_probability"] is not None
    assert measured.signals["label_probability"] < 0.06


def test_an_answer_beside_the_labels_at_the_length_limit_is_truncated_else_out_of_set() -> None:
    entries = [entry("Neither", -1.3, [("m", -0.3), ("Neither", -1.3)])]
    assert read(chat("Neither", entries, finish="length"), "m", "M").status == "truncated"
    assert read(chat("Neither", entries), "m", "M").status == "out_of_set"


def test_a_json_answer_is_measured_on_its_value_alone() -> None:
    pieces = [("{", 0.0), ('"label": "', 0.0), ("not", -0.2), (" spam", -0.3), ('"}', 0.0)]
    body = chat('{"label": "not spam"}', [entry(piece, value) for piece, value in pieces])
    measured = read(body, "not spam", "spam")
    assert measured.in_answer == (False, False, True, True, False)
    assert measured.signals["mean"] == pytest.approx(2.718281828459045**-0.25)
    many = chat('{"name": "work", "date": "x"}', [entry('{"name": "work", "date": "x"}')])
    assert read(many, "work", "spam").status == "out_of_set"


def test_a_responses_api_body_is_refused_by_name() -> None:
    body = {"object": "response", "output": [{"type": "message", "content": [{"type": "output_text", "text": "work"}]}]}
    assert parse(body).problem == "responses-api body"
    assert read(body, "work", "spam").status == "failed"


def test_fragments_that_are_no_completion_are_refused() -> None:
    for fragment in (
        [{"token": "x", "bytes": [240], "logprob": -1}],
        [{"logprobs": {"tokens": ["a"]}}],
        {"token": "x"},
    ):
        assert read(fragment, "x", "y").status == "failed"


RECORDED = [
    # file, labels, status, tokens, tokens in the answer
    ("01", ["<|endoftext|>test", "x"], "no_logprobs", 2, 2),
    ("01", ["test", "x"], "truncated", 2, 0),
    ("02", ["dog", "cat"], "ok", 8, 1),
    ("03", ["on the cross-entropy", "x"], "no_logprobs", 6, 6),
    ("04", ["1. Define the function with the async keyword.", "x"], "ok", 10, 10),
    ("04", ["async", "x"], "truncated", 10, 0),
    ("05", ["but why", "x"], "failed", None, 0),  # a list of fragments, no completion
    ("06", ["ge", "x"], "no_logprobs", None, 0),
    ("07", ["the capital of france is", "x"], "unaligned", 1, 0),
    ("08", ["😊", "x"], "unaligned", 4, 0),
    ("09", ["°C", "x"], "ok", 1, 1),
    ("10", ["{}", "x"], "ok", 3, 2),
    ("11", ["🧎", "x"], "ok", 2, 2),
    ("12", ["deep learning", "x"], "truncated", 10, 0),
    ("13", ["deep", "x"], "ok", 1, 1),
    ("14", ["north east", "x"], "ok", 2, 2),
    ("15", ["renewable energy sources like solar, wind...", "x"], "no_logprobs", None, 0),
    ("15", ["renewable", "x"], "out_of_set", None, 0),
    ("16", ["x", "y"], "failed", None, 0),
    ("17", ["m", "M"], "ok", 1, 1),
    ("18", ["m", "M"], "truncated", 1, 0),
    ("18", ["neither", "m"], "ok", 1, 1),
    ("19", ["m", "M"], "ok", 1, 1),
    ("20", ["science fair", "x"], "out_of_set", 17, 0),
    ("21", ["the capital of minas gerais is belo horizonte", "x"], "failed", None, 0),
]


@pytest.mark.skipif(not REAL, reason="REAL_DATA_DIR is not set")
@pytest.mark.parametrize(("number", "labels", "status", "tokens", "inside"), RECORDED)
def test_every_recorded_odd_shape_ends_as_rows_or_as_a_named_status(
    number: str, labels: list[str], status: str, tokens: int | None, inside: int
) -> None:
    (path,) = (Path(str(REAL)) / "odd_shapes").glob(f"{number}_*.json")
    payload = json.loads(path.read_text(encoding="utf-8"))["payload"]
    measured = read(payload, *labels)
    assert measured.status == status, measured.detail
    assert (None if measured.reply.tokens is None else len(measured.reply.tokens)) == tokens
    assert sum(measured.in_answer) == inside


@pytest.mark.skipif(not REAL, reason="REAL_DATA_DIR is not set")
def test_recorded_fragments_are_judged_inside_a_completion() -> None:
    folder = Path(str(REAL)) / "odd_shapes"
    quoted, plain = json.loads((folder / "05_together_positive_first_logprob.json").read_text())["payload"]
    texts = ' "But why?"', " I apologize,"
    for choice, text in zip((quoted, plain), texts, strict=True):
        choice["message"] = {"content": text}
    assert read({"choices": [quoted]}, "but why?").status == "ok", "the impossible value is on the quote"
    assert read({"choices": [plain]}, "i apologize,").status == "no_logprobs"
    deepseek, vllm = json.loads((folder / "16_deepseek_escaped_bytes_token.json").read_text())["payload"]
    rest = {"token": "x", "bytes": [0xB8], "logprob": -0.1}
    assert read(chat("🌸", [deepseek, rest]), "🌸").status == "ok"
    assert read(chat("🌸", [vllm, rest]), "🌸").status == "unaligned"
