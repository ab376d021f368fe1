"""Prompts: few-shot turns, any column name, JSON strings, literal braces, and a digest over all of it."""

from __future__ import annotations

import hashlib
import json

import pytest
from pydantic import ValidationError

from pipeline.config.prompt import Prompt

NASTY = 'say "no" {text} }} \\ \n é 😀 \x00 \ud83d'


@pytest.mark.parametrize(
    ("template", "columns", "expected"),
    [
        ("{text}", {"text": "a {text} b"}, "a {text} b"),
        ("{{text}}", {}, "{text}"),
        ("{{{text}}}", {"text": "x"}, "{x}"),
        (
            "{Ticket text}/{customer-id}/{e-mail (body)}",
            {"Ticket text": "a", "customer-id": "b", "e-mail (body)": "c"},
            "a/b/c",
        ),
        ("{a.b}{c[0]}{d!r}{f:>3}", {"a.b": "1", "c[0]": "2", "d!r": "3", "f:>3": "4"}, "1234"),
        ('{{"q": {text:json}}}', {"text": 'a"b'}, '{"q": "a\\"b"}'),
        ("no column at all }}{{", {}, "no column at all }{"),
    ],
)
def test_placeholders(template, columns, expected):
    prompt = Prompt(user=template)
    assert prompt.filled(columns) == ({"role": "user", "content": expected},)
    assert prompt.columns == tuple(columns)


def test_a_json_message_reads_back_whatever_the_row_holds():
    prompt = Prompt(user='{{"question": {the text:json}, "again": {the text:json}}}')
    (message,) = prompt.filled({"the text": NASTY})
    assert json.loads(message["content"]) == dict.fromkeys(
        ("question", "again"), NASTY.replace("\x00", "\ufffd").replace("\ud83d", "?")
    )


@pytest.mark.parametrize(
    "template",
    ["{", "}", "{text", "text}", "{}", "{ }", "{:json}", '{"label": "{text}"}', "{a\nb}", "{{text}", "\ud83d"],
)
def test_what_is_no_template_is_refused(template):
    with pytest.raises(ValidationError, match=r"double the braces|literal brace twice|half a character"):
        Prompt(user=template)


def few_shot(**changes):
    turns = [
        {"role": "system", "content": "Sort."},
        {"role": "user", "content": "win money now"},
        {"role": "assistant", "content": "spam"},
        {"role": "user", "content": "{subject}: {text}"},
    ]
    return Prompt(messages=tuple({**turn, **changes.get(str(i), {})} for i, turn in enumerate(turns)))


def test_few_shot_turns_are_sent_in_their_order():
    prompt = few_shot()
    assert prompt.columns == ("subject", "text")
    assert [(m["role"], m["content"]) for m in prompt.filled({"subject": "s", "text": "t"})] == [
        ("system", "Sort."),
        ("user", "win money now"),
        ("assistant", "spam"),
        ("user", "s: t"),
    ]


def test_the_digest_covers_every_turn_and_its_role():
    changed = [few_shot(**{str(i): {"content": "other"}}) for i in range(4)] + [
        few_shot(**{"0": {"role": "developer"}})
    ]
    assert len({few_shot().digest, *(p.digest for p in changed)}) == 6
    assert few_shot().digest == few_shot().digest


def test_one_prompt_written_in_two_ways_has_one_digest_and_it_stays_what_policies_hold():
    written = Prompt(system="Sort é.", user="{text}")
    turns = Prompt(messages=({"role": "system", "content": "Sort e\u0301."}, {"role": "user", "content": "{text}"}))
    pinned = hashlib.sha256('{"system":"Sort é.","user":"{text}"}'.encode()).hexdigest()
    assert written.digest == turns.digest == pinned
    alone = Prompt(messages=({"role": "user", "content": "{text}"},))
    assert alone.digest == Prompt(user="{text}").digest == hashlib.sha256(b'{"system":"","user":"{text}"}').hexdigest()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "either `user`"),
        ({"user": "x", "messages": [{"role": "user", "content": "x"}]}, "either `user`"),
        ({"system": "x", "messages": [{"role": "user", "content": "x"}]}, "make it the first message"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "the last message must be the user's"),
        ({"messages": []}, "at least 1"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "'system', 'developer', 'user' or 'assistant'"),
        ({"messages": [{"role": "user", "content": "{"}]}, "literal brace twice"),
    ],
)
def test_what_is_no_prompt_is_refused(fields, said):
    with pytest.raises(ValidationError, match=said):
        Prompt(**fields)
