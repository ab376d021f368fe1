"""Answers in tool calls, replies that broke off, and special tokens in the text."""

from __future__ import annotations

import pytest
from runtime.bodies import chat, entry, spelled

from cascade_threshold.answers import AnswerSet, read_answer
from cascade_threshold.completion import parse

MAIL = AnswerSet.classify(["work", "personal", "spam", "not spam"])


def status(body: object, role: str = "cheap") -> tuple[str, str | None]:
    found = read_answer(parse(body), MAIL, role=role)  # type: ignore[arg-type]
    return found.status, found.answer


TOOL = {"tool_calls": [{"type": "function", "function": {"name": "classify", "arguments": '{"label": "work"}'}}]}


def test_the_argument_of_the_only_tool_call_is_an_answer_and_its_logprobs_must_be_the_answers() -> None:
    pieces = [entry('{"label": "', -0.01), entry("work", -0.3), entry('"}', -0.01)]
    found = read_answer(parse(chat(None, pieces, message=TOOL)), MAIL)
    assert (found.status, found.answer, found.first, found.last) == ("ok", "work", 1, 1)
    assert status(chat("", [entry("spam")], message=TOOL)) == ("unaligned", "work")
    assert status(chat(None, None, message=TOOL), role="strong") == ("ok", "work")
    two = {"tool_calls": TOOL["tool_calls"] * 2}
    assert status(chat(None, pieces, message=two)) == ("empty", None)
    old = {"function_call": TOOL["tool_calls"][0]["function"]}
    assert status(chat(None, pieces, message=old)) == ("ok", "work")
    as_object = {"tool_calls": [{"function": {"arguments": {"label": "spam"}}}]}
    assert status(chat("", None, message=as_object), role="strong") == ("ok", "spam")
    assert status(chat("personal", [entry("personal")], message=TOOL)) == ("ok", "personal"), "text goes first"
    called = chat("Let me label it.", None, message=TOOL, finish="tool_calls")
    assert status(called, role="strong") == ("ok", "work"), "the text announces the call"


def test_the_answer_is_the_choice_of_index_0() -> None:
    first, second = spelled("work"), spelled("spam")
    two = {**first, "choices": [{**second["choices"][0], "index": 1}, {**first["choices"][0], "index": 0}]}
    assert status(two) == ("ok", "work")


@pytest.mark.parametrize("finish", ["max_output_tokens", "max_completion_tokens", "model_context_window_exceeded"])
def test_each_name_of_the_length_limit_is_known(finish: str) -> None:
    assert status(spelled("wor", finish=finish)) == ("truncated", None)


@pytest.mark.parametrize("finish", ["PROHIBITED_CONTENT", "guardrail_intervened", "recitation"])
def test_each_name_of_a_filter_is_known(finish: str) -> None:
    assert status(spelled("work", finish=finish)) == ("filtered", None)


@pytest.mark.parametrize("finish", ["error", "abort", "cancelled", "insufficient_system_resource"])
def test_a_reply_that_broke_off_is_no_reply(finish: str) -> None:
    assert status(spelled("work", finish=finish)) == ("failed", None)
    assert status(spelled("work", finish=finish), role="strong") == ("failed", None)


def test_an_error_beside_or_within_the_choice_is_no_reply() -> None:
    within, beside = spelled("work"), spelled("work")
    within["choices"][0]["error"] = {"code": 502, "message": "upstream"}
    beside["error"] = {"message": "overloaded"}
    assert status(within) == status(beside) == ("failed", None)
    assert status(spelled("work") | {"error": None}) == ("ok", "work")


def test_a_special_token_in_the_text_takes_no_part_in_the_span() -> None:
    found = read_answer(parse(spelled("work", "<|im_end|>")), MAIL)
    assert (found.status, found.first, found.last) == ("ok", 0, 0)
    boxed = read_answer(parse(spelled("\\", "boxed", "{", "work", "}")), MAIL)
    assert (boxed.status, boxed.first, boxed.last) == ("ok", 3, 3)
    chinese = read_answer(parse(spelled("正面", "。")), AnswerSet.classify(["正面", "负面"]))
    assert (chinese.answer, chinese.first, chinese.last) == ("正面", 0, 0)


CALL = '{"name": "sort", "arguments": {"label": "%s"}}'


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (CALL % "work", "work"),
        (f"<tool_call>\n{CALL % 'Work'}\n</tool_call>", "work"),
        (f"<think>spam?</think><tool_call>{CALL % 'work'}</tool_call>", "work"),
        ('{"type": "function", "name": "sort", "parameters": {"why": "a", "category": "work"}}', "work"),
        (f"<tool_call>{CALL % 'work'}</tool_call>\n<tool_call>{CALL % 'spam'}</tool_call>", None),
        ('{"name": "spam", "arguments": {"label": "work"}}', None),
        ('{"name": "sort", "arguments": {"rejected": "work"}}', None),
        ('{"name": "sort", "arguments": {"label": "work"}, "and": {"label": "spam"}}', None),
        (f"I call {CALL % 'work'}", None),
        ("<tool_call></tool_call>", None),
    ],
)
def test_a_tool_call_that_the_server_left_in_the_text_is_read_like_one_that_it_took_out(
    text: str, answer: str | None
) -> None:
    answers = AnswerSet.classify(["work", "spam"])
    found = answers.find(text)
    assert (None if found is None else answers.labels[found[0]]) == answer
    if found is not None:
        assert text[found[1] : found[2]].casefold() == answer, "the span, whose logprobs count, is the answer's"
