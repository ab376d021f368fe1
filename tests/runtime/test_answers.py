from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from runtime.bodies import chat, entry, legacy, spelled

from cascade_threshold.answers import STATUSES, AnswerSet, read_answer
from cascade_threshold.completion import parse
from cascade_threshold.signals import measure

MAIL = AnswerSet.classify(["work", "personal", "spam", "not spam"])


def status(body: object, answers: AnswerSet = MAIL, role: str = "cheap") -> tuple[str, str | None]:
    found = read_answer(parse(body), answers, role=role)
    assert found.status in STATUSES
    return found.status, found.answer


@pytest.mark.parametrize(
    "text",
    [
        "work",
        " work",
        "\n\twork \n",
        "Work",
        "WORK",
        "\uff57\uff4f\uff52\uff4b",  # full-width letters are the same under NFKC
        "work.",
        '"work"',
        '"work".',
        '"work."',
        "'work'",
        "“work”",
        "«work»",
        "`work`",
        "*work*",
        "**work**",
        "***work***",
        "_work_",
        "**`work`**",
        "```\nwork\n```",
        '```json\n{"label": "work"}\n```',
        "Label: work",
        "label:work",
        "Answer: work.",
        "Category : work",
        "Class: Work",
        "Final answer: work",
        "**Answer:** work",
        "**Answer**: work",
        "Answer: **work**",
        '{"label": "work"}',
        '{"anything": "work"}',
        '{ "Answer" : " work " }',
        '{"confidence": 0.9, "label": "work", "tags": ["spam", "x"], "why": {"label": "spam"}}',
        '{"reason": "looks like \\"spam\\"", "category": "work"}',
        '{"label": "w\\u006frk"}',
        "<think>spam? no.</think>work",
        "<think>\nspam\n</think>\n\nLabel: work",
        "spam it is not</think> work",
        "<THINKING>a</THINKING><reasoning>b</reasoning>**work**",
        "[THINK]It may be spam.[/THINK]work",
        "◁think▷spam◁/think▷ work",
        "<|channel|>analysis<|message|>spam?<|end|><|start|>assistant<|channel|>final<|message|>work<|return|>",
        "work!",
        "work。",
        "work！",
        "“work。”",
        "work।",
        "work۔",
        "(work)",
        "[work]",
        "（work）",
        "【work】",
        "「work」",
        "『work』。",
        "《work》",
        "„work“",
        "»work«",
        "‹work›",
        '["work"]',
        "work<|im_end|>",
        "work</s>",
        "work<|eot_id|><|endoftext|>",
        "work\n<end_of_turn>",
        "<s> work</s>",
        "<|begin_of_box|>work<|end_of_box|>",
        "work<｜end▁of▁sentence｜>",
        "\\boxed{work}",
        "$\\boxed{work}$",
        "$$\\boxed{\\text{work}}$$",
        "\\(\\boxed{work}\\)",
        "\\[ \\boxed{\\textbf{work}} \\].",
        "**\\boxed{work}**",
        "<answer>work</answer>",
        "<think>x</think><answer> work </answer>",
        "Answer：work。",
        "\ufeffwork",
        "work❗",
        "work‼",
        "work༎",
        "work\u05c3",
        "\u202bwork\u202c\u200f",
        "´work´",
        "❝work❞",
        "⟦work⟧",
        "﹁work﹂。",
        "\\boxed{\\texttt{work}}",
        "<final_answer>work</final_answer>",
        "<result>work</result>.",
        "Classification: work",
        "答案：work。",
        "**Antwort:** work",
        "Réponse : work",
        '{"result": "work", "reason": "not spam"}',
        '{"confidence": 0.9, "topic": "work"}',
        "w\u200bork",
        "<analysis>spam?</analysis>work",
        "<scratchpad>spam</scratchpad>\n<answer>work</answer>",
        "<rationale>spam</rationale>work",
        "<longcat_think>spam</longcat_think>work",
        "<mm:think>spam</mm:think>work",
        "<unused94>thought\nspam<unused95>work",
        "<|START_THINKING|>spam<|END_THINKING|><|START_RESPONSE|>work<|END_RESPONSE|>",
        "<|thought_start|>spam<|thought_end|>work",
        "<|thinking|>spam<|/thinking|>work",
        "<|inner_prefix|>spam<|inner_suffix|>work",
        "<|channel>thought\nspam<channel|>work",
        "<|channel|>analysis<|message|>spam<|end|><|start|>assistant<|channel|>final <|message|>work",
        "analysisThe user asks. It is not spam.assistantfinalwork",
        "<|im_start|>assistant\nwork<|im_end|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\nwork<|eot_id|>",
        "<start_of_turn>model\nwork<end_of_turn>",
        "### Answer: work",
        "- work",
        "• **work**",
        "> work",
        "Predicted label: work",
        "Prediction: work",
        "<b>work</b>",
        "[ANSWER]work[/ANSWER]",
        "{'label': 'work'}",
        "{'label': 'work', 'confidence': 0.9}",
        '{label: "work", reason: "not spam"}',
        '{"label": "work",}',
        '{"predicted_label": "work", "alternatives": ["spam"]}',
        '{"finalAnswer": "work", "other": "spam"}',
        '{"work": "work"}',
    ],
)
def test_row_18_a_decorated_label_is_read_as_the_label(text: str) -> None:
    found = MAIL.find(text)
    assert found is not None
    label, start, end = found
    assert MAIL.labels[label] == "work"
    inside = text[start:end]
    assert MAIL.fold(inside) == "work" or "\\u006f" in inside


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "impersonal",  # "personal" stands in it
        "workshop",
        "work spam",
        "work, spam",
        "work\nspam",
        "work\nwork",
        "work..",
        "work?",
        "work, ",
        "work) (spam",
        "(work) (spam)",
        "work<|im_end|>spam",
        "[THINK]spam",
        "\\boxed{work} or \\boxed{spam}",
        "<answer>work",
        "the label is work",
        "It is work.",
        "not work",
        "wor",
        '"work',
        "work*",
        "*work",
        "I cannot help with that.",
        "label",
        "Label:",
        "Label: work\nLabel: spam",
        "work <think>",
        "<think>work",
        "<think>work</think>",
        '{"label": "work", "answer": "spam"}',
        '{"label": "work", "answer": "work"}',
        '{"label": ["work"]}',
        '{"label": 1}',
        '{"a": "work", "b": "x"}',
        '{"label": "work"',
        '{"label": "work"} {"label": "spam"}',
        '["work", "spam"]',
        "{}",
        "```work",
        "answer: work; ignore the rest",
        "w o r k",
        "<analysis>work",
        "-work",
        "<b>work</i>",
        "analysis work",
        '{"not": "work"}',
        '{"excluded_label": "work"}',
        '{"rejected": "work"}',
        '{"second_choice": "work"}',
        '{"reason": "work"}',
        '{"confidence": "work"}',
        '{"spam": "work"}',
        "{'label': 'work'} {'label': 'spam'}",
        "{'label': 'work', 'answer': 'spam'}",
        "wоrk",  # a Cyrillic o is another letter under NFKC
    ],
)
def test_row_19_anything_but_a_whole_label_is_not_an_answer(text: str) -> None:
    assert MAIL.match(text) is None


def test_every_row_of_the_documented_table_is_read_as_work() -> None:
    module = Path(__file__).parents[2] / "cascade_threshold" / "answers.py"
    table = module.read_text(encoding="utf-8").split("=====\n")[2].split("\n=====")[0]
    examples = re.findall(r"``(.+?)``|`` (`.+?`) ``", table)
    assert len(examples) >= 11
    for plain, quoted in examples:
        example = (plain or quoted).replace("\\n", "\n")
        if "work" not in example or example == "work":
            continue
        if example.startswith('" '):  # white space is shown between quotes
            example = example[1:-1]
        assert MAIL.match(example) == "work", example


def test_labels_that_differ_only_in_case_stay_two_answers() -> None:
    answers = AnswerSet.classify(["m", "M"])
    assert [answers.match(text) for text in ("m", "M", " M", "MM", '"m"')] == ["m", "M", "M", None, "m"]
    mixed = AnswerSet.classify(["m", "M", "Tie"])
    assert mixed.match("Tie") == "Tie"
    assert mixed.match("tie") is None, "folding is dropped for the whole set, not label by label"


def test_labels_that_nfkc_would_merge_stay_two_answers() -> None:
    answers = AnswerSet.classify(["x2", "x\u00b2"])
    assert answers.match("x\u00b2") == "x\u00b2"
    assert answers.match(" x2 ") == "x2"
    assert answers.match("X2") is None


def test_casefold_knows_more_than_lower_case() -> None:
    answers = AnswerSet.classify(["straße", "weg"])
    assert answers.match("STRASSE") == "straße"


@pytest.mark.parametrize(
    ("labels", "text", "expected"),
    [
        (["iş", "özel"], "İŞ", "iş"),  # the dotted capital is i and a combining dot to casefold
        (["İSTANBUL", "ANKARA"], "istanbul", "İSTANBUL"),
        (["sıcak", "soğuk"], "SICAK", "sıcak"),  # and the dotless i is another letter
        (["ΛΌΓΟΣ", "έργο"], "λόγος", "ΛΌΓΟΣ"),  # final sigma
        (["café", "bar"], "cafe\u0301", "café"),
        (["café", "bar"], "CAFE", "café"),
        (["❤️", "👎"], "❤", "❤️"),  # a variation selector more or less
        (["❤", "👎"], "❤️", "❤"),
        (["👍", "👎"], "👎🏽", "👎"),  # or a skin tone
        (["👍🏻", "👍🏿"], "👍🏿", "👍🏿"),  # while the set stays distinct
        (["שלום", "לא"], "שָׁלוֹם", "שלום"),
        (["नहीं", "हाँ"], "नहीं।", "नहीं"),
        (["कल", "आज"], "कुल", None),  # a vowel sign of Devanagari makes another word
        (["か", "き"], "が", None),  # so does the voicing mark
        (["resume", "résumé"], "RÉSUMÉ", "résumé"),  # accents count where the set needs them
        (["resume", "résumé"], "re\u0301sume\u0301", "résumé"),
        (["resume", "résumé"], "resumé", None),
    ],
)
def test_spellings_of_one_label_are_joined_while_the_set_stays_distinct(
    labels: list[str], text: str, expected: str | None
) -> None:
    assert AnswerSet.classify(labels).match(text) == expected


def test_a_character_cut_between_tokens_still_leads_to_its_label() -> None:
    answers = AnswerSet.classify(["école", "usine"])
    assert answers.reach("é".encode()[:1])[0] == (0,)
    assert answers.reach("É".encode())[0] == (0,)
    korean = AnswerSet.classify(["긍정", "부정"])
    assert [korean.reach("긍".encode()[:n])[0] for n in (1, 2, 3)] == [(0, 1), (0,), (0,)] or korean.reach(
        "긍".encode()[:2]
    )[0] == (0,)


def test_a_label_may_itself_look_like_decoration() -> None:
    answers = AnswerSet.classify(['"work"', "work", "Label: x", "e.g.", "{}", "*"])
    assert answers.match('"work"') == '"work"'
    assert answers.match("work") == "work"
    assert answers.match("label: X") == "Label: x"
    assert answers.match("e.g.") == "e.g."
    assert answers.match("{}") == "{}"
    assert answers.match("*") == "*"


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([], "open-ended"),
        (["one"], "open-ended"),
        (["a", " "], "blank"),
        (["a", "b", "a"], "twice"),
        (["a", "a "], "twice"),
        ("ab", "list of texts"),
        (["a", 1], "list of texts"),
        ([True, False], "list of texts"),
    ],
)
def test_a_set_that_cannot_hold_a_confidence_is_refused_with_the_reason(labels: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        AnswerSet.classify(labels)


def test_choose_letters_its_options_and_judge_answers_yes_or_no() -> None:
    assert AnswerSet.choose(4).labels == ("A", "B", "C", "D")
    assert AnswerSet.choose(["x", "y", "z"]).labels == ("A", "B", "C")
    assert AnswerSet.choose(26).labels[-1] == "Z"
    assert AnswerSet.choose(3).match("b.") == "B"
    assert AnswerSet.choose(3).match("D") is None
    assert AnswerSet.judge().labels == ("yes", "no")
    assert AnswerSet.judge().match("**Yes**") == "yes"
    for wrong in (0, 1, 27):
        with pytest.raises(ValueError, match="2 to 26"):
            AnswerSet.choose(wrong)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (spelled("work"), ("ok", "work")),
        (spelled("work", finish="length"), ("ok", "work")),
        (spelled("not", finish="length"), ("truncated", None)),
        (spelled("Neither", finish="length"), ("truncated", None)),
        (spelled("<think>hm", finish="length"), ("truncated", None)),
        (chat("", [], finish="length"), ("truncated", None)),
        (chat("", [entry("")]), ("empty", None)),
        (chat(None, []), ("empty", None)),
        (chat(" \n", [entry(" \n")]), ("empty", None)),
        ({"choices": []}, ("empty", None)),
        ({"choices": None}, ("empty", None)),
        ({"choices": [{"message": None, "finish_reason": "stop"}]}, ("empty", None)),
        (spelled("neither"), ("out_of_set", None)),
        (chat(None, None, message={"refusal": "I cannot"}), ("out_of_set", None)),
        (chat("work", None), ("no_logprobs", "work")),
        (chat("work", []), ("no_logprobs", "work")),
        (chat("work", [entry("spam")]), ("unaligned", "work")),
        (chat("work", [entry("work", None)]), ("no_logprobs", "work")),
        (chat("work", [entry("work", -0.2)], finish="content_filter"), ("filtered", None)),
        (chat(None, None, finish="content_filter"), ("filtered", None)),
        ({"error": {"message": "no", "code": "content_filter"}}, ("filtered", None)),
        ({"error": {"message": "no"}, "choices": None}, ("failed", None)),
        ({}, ("failed", None)),
        ("<html>proxy</html>", ("failed", None)),
        (b"\xff\xfe", ("failed", None)),
        ("[]", ("failed", None)),
        ("null", ("failed", None)),
        ('data: {"choices": []}', ("failed", None)),
        ({"object": "chat.completion.chunk", "choices": [{"delta": {"content": "work"}}]}, ("failed", None)),
        ({"object": "response", "output": [{"content": [{"text": "work"}]}]}, ("failed", None)),
        (legacy("work", ["wo", "rk"], [-0.1]), ("unaligned", "work")),
        (legacy("work", ["wo", "rk"], None), ("no_logprobs", "work")),
    ],
)
def test_every_reply_has_exactly_one_named_status(body: object, expected: tuple[str, str | None]) -> None:
    assert status(body) == expected


def test_a_cut_reply_that_could_have_become_a_longer_label_is_truncated() -> None:
    answers = AnswerSet.classify(["work", "workshop"])
    assert status(spelled("work", finish="length"), answers) == ("truncated", None)
    assert status(spelled("work", finish="stop"), answers) == ("ok", "work")
    assert status(spelled("workshop", finish="length"), answers) == ("ok", "workshop")
    assert status(spelled('"work"', finish="length"), answers) == ("ok", "work"), "the quote ended it"
    city, section = AnswerSet.classify(["New", "New York"]), AnswerSet.classify(["A", "A.1"])
    for text, labels in (("New", city), ("New ", city), ("A", section), ("A.", section)):
        assert status(spelled(text, finish="length"), labels) == ("truncated", None), text
        assert status(spelled(text), labels) == ("ok", labels.labels[0]), text


def test_a_number_in_json_is_a_label_and_null_is_none() -> None:
    numbers, null = AnswerSet.classify(["1", "2"]), AnswerSet.classify(["null", "other"])
    found = read_answer(parse(spelled('{"label":', " ", "1", "}")), numbers)
    assert (found.status, found.answer, found.first, found.last) == ("ok", "1", 2, 2)
    joined = read_answer(parse(spelled('{"label":', " 1", "}")), numbers)
    assert joined.span is not None
    assert (joined.first, joined.last, joined.span.lead) == (1, 1, 1), "the space is no part of it"
    for text in ('{"label": null}', '{"label":null, "why": "x"}'):
        assert status(spelled(text), null) == ("out_of_set", None)
    assert status(spelled('{"label": "null"}'), null) == ("ok", "null")


def test_the_strong_role_needs_no_logprobs() -> None:
    for body in (chat("work", None), chat("work", [entry("spam")]), chat("work", [entry("work", None)])):
        assert status(body, role="strong") == ("ok", "work")
    assert status(chat("", None), role="strong") == ("empty", None)
    assert status(spelled("not", finish="length"), role="strong") == ("truncated", None)
    found = read_answer(parse(spelled(" ", "work")), MAIL, role="strong")
    assert (found.first, found.last) == (1, 1), "the span is given where it can be"


@pytest.mark.parametrize(
    "bad",
    [
        0.69970703,
        1.1e-6,
        float("nan"),
        float("inf"),
        None,
        "-0.1",
        True,
        -9999.0,
        -100,
        float("-inf"),
        -3.4e38,
        10**400,
    ],
)
def test_an_unusable_logprob_inside_the_answer_makes_the_row_no_logprobs(bad: object) -> None:
    inside = chat("not spam", [entry("not", -0.1), entry(" spam", bad), entry("")])
    outside = chat(
        "not spam.", [entry("", bad), entry("not", -0.1), entry(" spam", -0.2), entry(".", bad), entry("", bad)]
    )
    assert status(inside) == ("no_logprobs", "not spam")
    assert status(outside) == ("ok", "not spam"), "what stands outside the answer is nobody's business"


def test_rounding_above_zero_is_accepted() -> None:
    for fine in (1e-6, 0, 0.0, -0.0, 5e-7, -99.9):
        assert status(chat("work", [entry("work", fine)])) == ("ok", "work")


@pytest.mark.parametrize(
    ("labels", "text", "expected"),
    [
        (["non-toxic", "toxic"], "non\u2011toxic", "non-toxic"),  # the hyphen that some models write
        (["don't know", "know"], "Don\u2019t know.", "don't know"),
        (["-1", "0", "1"], "\u22121", "-1"),
        (["-1", "0", "1"], "- 1", None),  # a list entry or a minus
        (["a-b", "a\u2013b"], "a\u2013b", "a\u2013b"),
        (["1", "2", "10"], "2.0", "2"),
        (["1", "2", "10"], '{"label": 10.0}', "10"),
        (["1", "2", "10"], "1.5", None),
        (["1", "1.0"], "1.0", "1.0"),
    ],
)
def test_one_sign_or_number_in_two_spellings(labels: list[str], text: str, expected: str | None) -> None:
    assert AnswerSet.classify(labels).match(text) == expected


def test_the_span_of_a_number_with_decimals_is_the_label() -> None:
    numbers = AnswerSet.classify(["1", "2", "10"])
    found = read_answer(parse(spelled("2", ".", "0")), numbers)
    assert (found.answer, found.first, found.last) == ("2", 0, 0)
    others = [("1.0", math.log(0.6)), ("2.0", math.log(0.3)), ("10.0", math.log(0.1))]
    joined = measure(chat("1.0", [entry("1.0", math.log(0.6), others)]), numbers)
    assert (joined.answer, joined.status) == ("1", "ok")
    assert joined.label_probabilities == pytest.approx({"1": 0.6, "2": 0.3, "10": 0.1})


@pytest.mark.parametrize(("value", "label"), [("1.0", "yes"), ("0.0", "no"), (1.0, "yes"), ("1.5", None), ("10", None)])
def test_a_judges_numbers_of_a_table_of_floats_are_its_labels(value: object, label: str | None) -> None:
    assert AnswerSet.judge().label_of(value) == label
