from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.bodies import chat, entry, legacy

from cascade_threshold.completion import UNREADABLE, Alternative, Reply, Token, parse


def test_both_shapes_of_one_reply_give_the_same_token_rows() -> None:
    top = [(" work", -0.1), ("spam", -2.5)]
    ours = parse(chat("not work", [entry("not", -0.3), entry(" work", -0.1, top)]))
    theirs = parse(legacy("not work", ["not", " work"], [-0.3, -0.1], [None, dict(top)]))
    assert (ours.shape, theirs.shape) == ("content", "legacy")
    assert ours.tokens is not None
    assert theirs.tokens is not None
    for a, b in zip(ours.tokens, theirs.tokens, strict=True):
        assert (a.token, a.logprob) == (b.token, b.logprob)
        assert [(x.token, x.logprob) for x in a.alternatives] == [(x.token, x.logprob) for x in b.alternatives]
    assert ours.tokens[1].bytes == b" work"
    assert theirs.tokens[1].bytes is None, "the legacy shape has no bytes, and none are invented"


def test_a_declared_but_empty_shape_does_not_hide_the_other() -> None:
    """The SDK's model_dump has both shapes' keys in every reply, the unused ones None."""
    body = chat("work", [entry("work")])
    body["choices"][0]["logprobs"] |= {"tokens": None, "token_logprobs": None, "top_logprobs": None, "token_ids": None}
    assert parse(body).shape == "content"
    body = legacy("work", ["work"], [-0.1])
    body["choices"][0]["logprobs"]["content"] = None
    assert parse(body).shape == "legacy"
    body["choices"][0]["logprobs"]["content"] = []
    assert parse(body).shape == "legacy"
    assert [token.token for token in parse(body).tokens or ()] == ["work"]
    body = chat("work", None)
    body["choices"][0]["logprobs"] = {"content": [], "tokens": []}
    assert parse(body)[:3] == ("work", (), "content")
    body["choices"][0]["logprobs"] = {"content": None, "tokens": None}
    assert parse(body)[:3] == ("work", None, "none")


def test_mapping_text_and_bytes_are_read_alike() -> None:
    body = chat("wörk", [entry("wörk")])
    expected = parse(body)
    assert parse(json.dumps(body)) == parse(json.dumps(body).encode()) == parse(MappingProxyType(body)) == expected
    marked = "\ufeff" + json.dumps(body)
    assert parse(marked) == parse(marked.encode()) == expected, "a byte order mark is no part of the JSON"
    assert parse({"result": body}) == expected
    assert parse(body["choices"][0])[:4] == expected[:4], "a bare choice, as some archives keep it"


def test_text_may_be_parts_and_thoughts_stay_apart() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "wo"}, {"type": "text", "text": "rk"}]
    assert parse(chat(parts, None)).text == "work"
    assert parse(chat([{"type": "image"}], None)).text is None
    assert parse(chat("work", None, message={"reasoning": "hm"})).has_reasoning
    assert not parse(chat("work", None, message={"reasoning": ""})).has_reasoning


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "not JSON"),
        ("<html></html>", "not JSON"),
        (b"\x00\xff", "not JSON"),
        ('{"choices": [', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5_000, "not JSON"),
        ("3", "not a JSON object"),
        ("[{}]", "not a JSON object"),
        ("{}", "not a completion body"),
        ({"foo": 1}, "not a completion body"),
        ("data: {}\n\ndata: [DONE]", "streaming body"),
        ("event: x\ndata: {}", "streaming body"),
        (": a comment keeps the connection open\n\ndata: {}", "streaming body"),
        ({"model": "m", "response": "wo", "done": False}, "streaming body"),
        ({"object": "chat.completion.chunk", "choices": []}, "streaming body"),
        ({"choices": [{"delta": {"content": "x"}}]}, "streaming body"),
        ({"object": "response", "output": []}, "responses-api body"),
        ({"object": "response", "output": [], "choices": None}, "responses-api body"),
        ({"error": {"message": "x"}}, "error body"),
        ({"error": "x", "choices": None}, "error body"),
        ({"choices": []}, "no choices"),
        ({"choices": None}, "no choices"),
        ({"choices": "x"}, "no choices"),
        ({"choices": [{"message": None, "index": 0}]}, "no message"),
        ({"choices": [{"message": {"content": None}}]}, "no message"),
        (chat(None, None, message={"refusal": "no"}), "refusal"),
        (chat(None, None, finish="content_filter"), "filtered"),
        (
            {"choices": [{"message": {"content": ""}, "content_filter_results": {"hate": {"filtered": True}}}]},
            "filtered",
        ),
        (legacy("ab", ["a", "b"], [-1.0]), "tokens and token_logprobs differ in length"),
        (chat("x", None), None),
        ({"error": None, "choices": [{"text": "x", "finish_reason": "eos"}]}, None),
    ],
)
def test_an_odd_body_is_named(body: Any, problem: str | None) -> None:
    assert parse(body).problem == problem


def test_values_are_kept_as_they_came_and_never_become_zero() -> None:
    given = [-0.5, 0, -0.0, -9999.0, 0.7, None, "x", True, [], float("nan"), float("-inf"), 10**400]
    reply = parse(chat("x", [entry("x", value) for value in given]))
    assert reply.tokens is not None
    read = [token.logprob for token in reply.tokens]
    assert read == [-0.5, 0.0, -0.0, -9999.0, 0.7, None, None, None, None, None, float("-inf"), None]
    assert str(read[2]) == "-0.0", "negative zero round-trips"
    assert all(value is None or type(value) is float for value in read)


def test_legacy_alternatives_come_as_mappings_or_lists_or_not_at_all() -> None:
    as_list = [{"token": "a", "logprob": -1, "bytes": [97]}, {"token": 3}, None]
    reply = parse(legacy("ab", ["a", "b"], [-1.0, None], [as_list, {"b": None, "bytes:\\xe2\\x80": -2.0}]))
    assert reply.tokens == (
        Token("a", None, -1.0, (Alternative("a", b"a", -1.0),)),
        Token("b", None, None, (Alternative("b", None, None), Alternative("bytes:\\xe2\\x80", b"\xe2\x80", -2.0))),
    )
    one = parse(legacy("a", ["a"], [-1.0], {"a": -1.0, "b": -2.0}))
    assert one.tokens is not None
    assert len(one.tokens[0].alternatives) == 2
    for unclear in ({"a": -1.0}, [{"a": -1.0}], [], None, "x"):  # which token would they belong to?
        two = parse(legacy("ab", ["a", "b"], [-1.0, -2.0], unclear))
        assert two.tokens is not None
        assert [token.alternatives for token in two.tokens] == [(), ()]


def test_lists_of_unequal_length_keep_their_tokens_without_a_logprob() -> None:
    reply = parse(legacy("ab", ["a", "b"], [-1.0]))
    assert reply.tokens == (Token("a", None, None, ()), Token("b", None, None, ()))


def test_usage_that_cannot_be_true_is_unknown() -> None:
    def usage(value: Any, text: str = "x") -> tuple[int | None, ...]:
        reply = parse(chat(text, None, usage=value))
        return reply.input_tokens, reply.output_tokens, reply.reasoning_tokens

    assert usage({"prompt_tokens": 9, "completion_tokens": 2}) == (9, 2, None)
    assert usage({"prompt_tokens": 0, "completion_tokens": 0}) == (None, None, None)
    assert usage({"prompt_tokens": 9, "completion_tokens": 0}, "") == (9, 0, None)
    assert usage({"prompt_tokens": "9", "completion_tokens": -1}) == (None, None, None)
    assert usage({"prompt_tokens": True}) == (None, None, None)
    assert usage({"prompt_tokens": 10**30, "completion_tokens": 2**63}) == (None, None, None)
    assert usage({"prompt_tokens": 9, "completion_tokens": 5, "reasoning_tokens": 2**63}) == (9, 5, None)
    assert usage(None) == usage([]) == (None, None, None)
    detailed = {"prompt_tokens": 9, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 4}}
    assert usage(detailed) == (9, 5, 4)
    assert usage({"input_tokens": 9, "output_tokens": 5, "reasoning_tokens": 0}) == (9, 5, 0)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
KEYS = [
    "choices",
    "message",
    "content",
    "text",
    "logprobs",
    "tokens",
    "token_logprobs",
    "top_logprobs",
    "token",
    "bytes",
    "logprob",
    "finish_reason",
    "error",
    "object",
    "output",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "result",
    "delta",
    "refusal",
    "done",
    "response",
    "model",
    "content_filter_results",
]
bodies: st.SearchStrategy[Any] = st.recursive(
    json_values,
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(bodies)
def test_no_json_makes_the_parser_raise(body: Any) -> None:
    for form in (body, json.dumps(body)):
        reply = parse(form)
        assert isinstance(reply, Reply)
        if reply.problem in UNREADABLE:
            assert reply.text is None
            assert reply.tokens is None


@settings(max_examples=200, deadline=None)
@given(st.text() | st.binary())
def test_no_text_makes_the_parser_raise(body: str | bytes) -> None:
    assert isinstance(parse(body), Reply)
