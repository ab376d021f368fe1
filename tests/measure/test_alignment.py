"""Where the answer stands among the tokens, checked against a walk over single bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure.bodies import chat, entry, legacy, spelled

from pipeline.measure.answers import AnswerSet, read_answer
from pipeline.measure.tokens import parse

MAIL = AnswerSet.classify(["work", "spam", "not spam"])
WORLD = AnswerSet.classify(["工作", "😊", "é", "straße", "not spam", "🧎🏽"])


def span(body: object, answers: AnswerSet = MAIL) -> tuple[str, int | None, int | None]:
    found = read_answer(parse(body), answers)
    return found.status, found.first, found.last


def owners(pieces: list[bytes], start: int, end: int) -> tuple[int, int]:
    """First and last piece that holds a byte of [start, end)."""
    holder = [index for index, piece in enumerate(pieces) for _ in piece]
    return holder[start], holder[end - 1]


cuts = st.lists(st.integers(0, 400), max_size=12)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    points = sorted({point % (len(data) + 1) for point in at} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(points)]


@settings(max_examples=300, deadline=None)
@given(
    label=st.sampled_from(WORLD.labels),
    before=st.sampled_from(
        ["", " ", '"', "**", "<think>été 😊 spam</think>\n", "Label: ", '{"why": "ü", "label": "', "\n\n`"]
    ),
    at=cuts,
    kind=st.sampled_from(["bytes", "no bytes key", "null"]),
)
def test_any_tokenisation_of_any_text_aligns_by_bytes(label: str, before: str, at: list[int], kind: str) -> None:
    text = before + label + {'"': '"', "**": "**", "\n\n`": "`"}.get(before, '"}' if before.startswith("{") else "")
    pieces = cut(text.encode(), at)
    if kind != "bytes":  # without bytes only whole characters can be told apart
        pieces = [character.encode() for character in text] if len(pieces) > 1 else [text.encode()]
    entries = [entry(piece, -0.1) for piece in pieces]
    for made in entries:
        if kind == "no bytes key":
            del made["bytes"]
        elif kind == "null":
            made["bytes"] = None
    start = len(before.encode())
    expected = owners(pieces, start, start + len(label.encode()))
    assert span(chat(text, entries), WORLD) == ("ok", *expected)


@settings(max_examples=200, deadline=None)
@given(
    thought=st.text(max_size=30),
    at=cuts,
    ending=st.sampled_from([[], [b""], [b"<|im_end|>"], [b"</s>"], [b"\n"], [b" ", b"<|eot_id|>", b""]]),
    opening=st.sampled_from([[], [b""], [b"\n\n"], [b"<|channel|>", b"final", b"<|message|>"]]),
)
def test_thoughts_special_tokens_and_space_around_the_content_do_not_move_the_answer(
    thought: str, at: list[int], ending: list[bytes], opening: list[bytes]
) -> None:
    data = thought.encode("utf-8", "surrogatepass") + b"</think>\n"
    pieces = [*cut(data, at), *opening, b"not", b" spam", *ending]
    found = span(chat("not spam", [entry(piece) for piece in pieces]))
    first = len(pieces) - len(ending) - 2
    assert found == ("ok", first, first + 1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=6), max_size=6), st.text(max_size=12))
def test_tokens_that_do_not_spell_the_text_never_give_a_confident_place(pieces: list[str], before: str) -> None:
    """Whatever the tokens are: if the status is ok, the bytes under the span hold the answer."""
    body = chat(before + "work", [entry(piece.encode("utf-8", "surrogatepass")) for piece in pieces])
    found = read_answer(parse(body), MAIL)
    if found.status == "ok":
        assert found.first is not None
        assert found.last is not None
        under = "".join(pieces[found.first : found.last + 1])
        assert "work" in under.casefold()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (chat("work", [entry("home"), entry("work")]), ("unaligned", None, None)),
        (chat("work", [entry("homework")]), ("unaligned", None, None)),
        (chat("work", [entry("workshop")]), ("unaligned", None, None)),
        (chat("work", [entry("spam"), entry("work")]), ("unaligned", None, None)),
        (chat("work", [entry("work"), entry("\nQ: next")]), ("ok", 0, 0)),  # cut at a stop word, still listed
        (chat("work", [entry("work"), entry("\n"), entry("work")]), ("unaligned", None, None)),  # first or last?
        (chat("work", [entry("work"), entry(" hm</think>"), entry("work")]), ("ok", 2, 2)),
        (
            chat("work", [entry("work or "), entry("spam? "), entry("work")], message={"reasoning": "work or spam?"}),
            ("ok", 2, 2),
        ),
        (chat("work", [entry("x"), entry("work")], message={"reasoning_content": "y"}), ("ok", 1, 1)),
        (chat("spam", [entry(" " * 26), entry("spam"), entry("")]), ("ok", 1, 1)),  # white space stripped
        (chat("not spam", [entry(""), entry("not"), entry(""), entry(" spam"), entry("")]), ("ok", 1, 3)),
        (chat("work", [entry("work", bytes=[1, 2])]), ("ok", 0, 0)),  # wrong bytes, right text
        (chat("work", [entry("work", bytes=[300])]), ("ok", 0, 0)),
        (chat("work", [entry("work", bytes="work")]), ("ok", 0, 0)),
        (legacy("not spam", ["Ġnot", "Ġspam"], [-1, -2]), ("ok", 0, 1)),
        (legacy("not spam", ["▁not", "▁spam", "</s>"], [-1, -2, -3]), ("ok", 0, 1)),
        (legacy(" work", [" work", ".", "\n", "The"], [-1, -2, -3, -4]), ("ok", 0, 0)),
        (legacy("<|endoftext|>work", ["<|endoftext|>", "work"], [None, -1]), ("out_of_set", None, None)),
    ],
)
def test_a_place_is_given_only_when_it_is_certain(body: object, expected: tuple[str, int | None, int | None]) -> None:
    assert span(body) == expected


def test_markers_of_every_byte_of_a_vocabulary_are_read_back() -> None:
    answers = AnswerSet.classify(["é 工", "x"])
    assert span(legacy("é 工", ["Ã©", "ĠåĶ", "·"], [-1, -1, -1]), answers)[0] == "unaligned"
    assert span(legacy("é 工", ["Ã©", "Ġå·", "¥"], [-1, -1, -1]), answers) == ("ok", 0, 2)
    assert span(legacy("é 工", ["<0xC3>", "<0xA9>", "▁", "工"], [-1] * 4), answers) == ("ok", 0, 3)


def test_lost_characters_matter_only_inside_the_answer() -> None:
    """A server that lost the bytes of a split character: U+FFFD four times for one emoji."""
    emoji = [entry("\ufffd")] * 4
    smile = AnswerSet.classify(["😊", "spam"])
    assert span(chat("😊", emoji), smile) == ("unaligned", None, None)
    thoughts = [entry("<think>"), *emoji, entry("</think>"), entry("spam")]
    assert span(chat("<think>😊</think>spam", thoughts), smile) == ("ok", 6, 6)
    after = [entry('{"label": "'), entry("spam"), entry('", "why": "'), *emoji, entry('"}')]
    assert span(chat('{"label": "spam", "why": "😊"}', after), smile) == ("ok", 1, 1)
    both = [entry('{"a": "'), *emoji, entry('", "label": "'), entry("spam"), entry('", "b": "'), *emoji, entry('"}')]
    assert span(chat('{"a": "😊", "label": "spam", "b": "😊"}', both), smile) == ("ok", 6, 6)
    twice = [
        entry('{"spam": "'),
        *emoji,
        entry('", "label": "'),
        entry("spam"),
        entry('", "b": "'),
        *emoji,
        entry('"}'),
    ]
    assert span(chat('{"spam": "😊", "label": "spam", "b": "😊"}', twice), smile)[0] == "unaligned"


def test_tokens_held_back_until_a_character_is_whole_belong_to_the_answer() -> None:
    smile = AnswerSet.classify(["🧎", "spam"])
    assert span(chat("🧎", [entry(b""), entry(b""), entry("🧎")]), smile) == ("ok", 0, 2)
    assert span(chat("spam", [entry(b""), entry("spam")]), smile) == ("ok", 1, 1)


def test_quotes_and_label_in_one_token_count_as_the_answers_token() -> None:
    found = read_answer(parse(spelled('{"label":', ' "not', " spam", '"}')), MAIL)
    assert (found.status, found.first, found.last) == ("ok", 1, 2)
    assert found.span is not None
    assert found.span.lead == 2


def test_a_long_reply_is_aligned_in_linear_time() -> None:
    """No timing: a reply of 50,000 tokens simply has to come back."""
    pieces = ["<think>", *["so "] * 50_000, "</think>", "work"]
    assert span(spelled(*pieces)) == ("ok", 50_002, 50_002)
    hostile = ["<s>"] * 50_000 + ["</think>"] * 1_000 + [" \n" * 100_000, "work", *["\n", "</s>"] * 50_000]
    assert span(chat("work", [entry(piece) for piece in hostile]))[0] == "ok"
    for text in ("`" * 60_000, "```\n" + "\n" * 60_000 + "x```", '{"a":' * 900, "*_" * 50_000, "answer:" * 20_000):
        assert span(spelled(text))[0] == "out_of_set"
