"""Where the answer stands among the tokens, checked against a walk over single bytes."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from runtime.bodies import chat, entry, legacy, spelled

from cascade_threshold.answers import AnswerSet, read_answer
from cascade_threshold.completion import parse

MAIL = AnswerSet.classify(["work", "spam", "not spam"])
WORLD = ["工作", "😊", "é", "straße", "not spam", "🧎🏽"]


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


def unicode(least: int, most: int) -> st.SearchStrategy[str]:
    """Any characters but lone surrogates, which no UTF-8 holds."""
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most)


@st.composite
def answered(draw: st.DrawFn) -> tuple[AnswerSet, str, str, str]:
    """An answer set of any text, one of its labels, and what stands before and after it in a reply."""
    labels = unicode(1, 8) | st.sampled_from(WORLD)
    try:
        answers = AnswerSet.classify([draw(labels), draw(labels)])
    except ValueError:
        reject()
    label, said = draw(st.sampled_from(answers.labels)).strip(), draw(unicode(0, 10))
    form = draw(st.sampled_from(["plain", "space", "thoughts", "quotes", "name", "json"]))
    if form == "json":
        assume(json.dumps(label, ensure_ascii=False) == f'"{label}"')
        return answers, label, f'{{"why": {json.dumps(said, ensure_ascii=False)}, "label": "', '"}'
    before = {"space": "\n\n ", "thoughts": f"<think>{said}</think>\n", "quotes": '"', "name": "Label: "}.get(form, "")
    return answers, label, before, {"quotes": '"', "space": " "}.get(form, "")


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(answered(), cuts, st.sampled_from(["bytes", "no bytes key", "null"]))
def test_row_16_any_tokenisation_of_any_text_aligns_by_bytes(
    reply: tuple[AnswerSet, str, str, str], at: list[int], kind: str
) -> None:
    answers, label, before, after = reply
    text = before + label + after
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
    first, last = owners(pieces, start, start + len(label.encode()))
    found = read_answer(parse(chat(text, entries)), answers)
    assert (found.status, found.answer, found.first, found.last) == ("ok", answers.match(label), first, last)
    assert found.span is not None
    assert found.span.lead == start - len(b"".join(pieces[:first]))


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


PIECES = [
    "work",
    "wo",
    "rk",
    " ",
    "home",
    "spam",
    "</think>",
    "<think>",
    "\n",
    "Label:",
    '"',
    ".",
    "",
    "<|im_end|>",
    "\ufffd",
]
MIDDLES = [["work"], ["wo", "rk"], ["wo", "", "rk", "\n"], ["work", "work"], ["home", "work"], ["homework"], ["wo"], []]


@st.composite
def loosely(draw: st.DrawFn) -> tuple[list[str], str]:
    """Tokens, and a text before "work" that they may or may not spell."""
    noise = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=2)
    front, back = draw(noise), draw(noise)
    before = draw(st.sampled_from(["", " ", "".join(front), "Label: ", "<think>work</think>\n", "home</think>"]))
    return [*front, *draw(st.sampled_from(MIDDLES)), *back], before


def bytes_under(pieces: list[str], before: str) -> bytes | None:
    """What the tokens from the answer's first byte to the end of its last token spell; None when the status is not ok."""
    entries = [entry(piece.encode("utf-8", "surrogatepass")) for piece in pieces]
    found = read_answer(parse(chat(before + "work", entries)), MAIL)
    if found.status != "ok":
        return None
    assert found.span is not None
    under = "".join(pieces[found.span.first : found.span.last + 1])
    return under.encode("utf-8", "surrogatepass")[found.span.lead :]


@settings(max_examples=500, deadline=None)
@given(loosely())
def test_tokens_that_do_not_spell_the_text_never_give_a_confident_place(reply: tuple[list[str], str]) -> None:
    """Whatever the tokens are: if the status is ok, the bytes under the span hold the answer."""
    under = bytes_under(*reply)
    assert under is None or under.startswith(b"work")


def test_loosely_fitting_tokens_spell_the_text_often_enough() -> None:
    spelled_it = []

    @settings(max_examples=500, deadline=None, derandomize=True, database=None)
    @given(loosely())
    def count(reply: tuple[list[str], str]) -> None:
        spelled_it.append(bytes_under(*reply) is not None)

    count()
    assert 40 <= sum(spelled_it) <= len(spelled_it) - 100


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


@pytest.mark.slow
def test_a_long_reply_is_aligned_in_linear_time() -> None:
    """No timing: a reply of 50,000 tokens simply has to come back."""
    pieces = ["<think>", *["so "] * 50_000, "</think>", "work"]
    assert span(spelled(*pieces)) == ("ok", 50_002, 50_002)
    hostile = ["<s>"] * 50_000 + ["</think>"] * 1_000 + [" \n" * 100_000, "work", *["\n", "</s>"] * 50_000]
    assert span(chat("work", [entry(piece) for piece in hostile]))[0] == "ok"
    for text in ("`" * 60_000, "```\n" + "\n" * 60_000 + "x```", '{"a":' * 900, "*_" * 50_000, "answer:" * 20_000):
        assert span(spelled(text))[0] == "out_of_set"
