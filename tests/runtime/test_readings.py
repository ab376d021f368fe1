"""Kinds choose and judge: replies that say a letter or a verdict and go on, and which logprobs are then the answer's."""

from __future__ import annotations

import json
import math
import random

import pytest
from runtime.bodies import chat, entry, spelled

from cascade_threshold.answers import AnswerSet, read_answer
from cascade_threshold.completion import parse
from cascade_threshold.signals import measure

OPTIONS = ["Oslo", "Paris", "A Coruña", "Rome (Italy)"]
FOUR = AnswerSet.choose(OPTIONS)
JUDGE = AnswerSet.judge()


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("[B]", "B"),
        ("B)", "B"),
        ("B.", "B"),
        ("b", "B"),
        ("**B**", "B"),
        ("B. Paris", "B"),
        ("B) Paris", "B"),
        ("(B) Paris", "B"),
        ("B: Paris", "B"),
        ("**B.** Paris", "B"),
        ("**B. Paris**", "B"),
        ("Option B", "B"),
        ("option b", "B"),
        ("Option (B)", "B"),
        ("Option B: Paris", "B"),
        ("The answer is B.", "B"),
        ("Answer: B) Paris", "B"),
        ("The correct answer is (B).", "B"),
        ("\\boxed{B}", "B"),
        ("B\n\nParis is the capital of France.", "B"),
        ("B) It is the capital, not a port.", "B"),
        ("Paris", "B"),
        ("paris.", "B"),
        ("**Paris**", "B"),
        ("A Coruña", "C"),
        ("a coruna", "C"),
        ("C. A Coruña", "C"),
        ("D) Rome (Italy)", "D"),
        ("<think>A or B?</think>B) Paris", "B"),
        ("B、Paris", "B"),
        ("B - Paris", "B"),
        ("B Paris", "B"),
        ('{"answer": "B. Paris"}', "B"),
        ('{"option": "B", "reason": "A port is not it"}', "B"),
        ("Ｂ．Paris", "B"),
        ("答案：B", "B"),
        ("Option B, a port", "B"),
        ("Option B is correct, A is not", "B"),
        ('{"B": "Paris"}', "B"),
        ("{'answer': 'B'}", "B"),
    ],
)
def test_a_letter_is_read_where_the_reply_starts_with_it(text: str, letter: str) -> None:
    found = read_answer(parse(spelled(text)), FOUR)
    assert (found.answer, found.status) == (letter, "ok")


@pytest.mark.parametrize(
    "text",
    [
        "A dog",
        "Bergen",
        "Because of the harbour.",
        "E",
        "(E)",
        "Option E",
        "A or B",
        "A and B",
        "A) Oslo B) Paris",
        "(A) (B)",
        "A. is wrong. The answer is B",
        "It is Paris",
        "Paris or Rome",
        "Paris, France",
        "I choose B",
        "Not B",
        "B?",
        "AB",
        "",
        "A is wrong",
        "Option Bergen",
        "A\nB",
        "The answer is Bergen",
        "Option A or B",
        "Option A and B",
        "(A), (D)",
        "option a or b",
        "Option A is not correct",
        "Option A is wrong",
        "A) Not true",
        "(A) isn't right",
        "Option A can be ruled out",
        '{"A": "Paris"}',
        '{"A": "B. Paris"}',
        "B. Oslo",
        "(B) Rome (Italy)",
        "Option A: Paris",
        "B - Oslo",
        "B Oslo",
        "**B.** Oslo",
    ],
)
def test_a_letter_within_a_word_or_one_of_two_is_no_answer(text: str) -> None:
    assert read_answer(parse(spelled(text)), FOUR).answer is None


def test_an_options_text_is_read_only_where_it_names_one_option() -> None:
    assert read_answer(parse(spelled("Paris")), AnswerSet.choose(4)).answer is None, "the texts are not known"
    assert read_answer(parse(spelled("Paris")), AnswerSet.choose(["Paris", "Paris ", "Rome"])).answer is None
    assert AnswerSet.choose(["Paris", "Paris ", "Rome"]).match("C") == "C"
    swapped = AnswerSet.choose(["B", "A"])
    assert swapped.match("A") == "A", "a letter is a letter, as the prompt asks"


def test_the_logprobs_are_those_of_the_letter() -> None:
    others = [(" B", math.log(0.7)), (" A", math.log(0.2)), (" C", math.log(0.05)), ("The", math.log(0.05))]
    body = chat(
        "Option B: Paris",
        [entry("Option", -1.5), entry(" B", math.log(0.7), others), entry(":", -0.9), entry(" Paris", -2.0)],
    )
    found = measure(body, FOUR)
    assert (found.answer, found.reading) == ("B", "letter and text")
    assert found.signals["first_token"] == pytest.approx(0.7)
    assert found.signals["label_probability"] == pytest.approx(0.7 / 0.95)
    assert found.label_probabilities == pytest.approx({"A": 0.2 / 0.95, "B": 0.7 / 0.95, "C": 0.05 / 0.95, "D": 0})
    joined = chat(
        "(B)", [entry("(B", math.log(0.6), [("(B", math.log(0.6)), ("(A", math.log(0.4))]), entry(")", -0.01)]
    )
    assert measure(joined, FOUR).label_probabilities == pytest.approx({"A": 0.4, "B": 0.6, "C": 0, "D": 0})
    assert measure(joined, FOUR).signals["first_token"] == pytest.approx(0.6)


def test_an_options_own_text_is_ranked_by_the_texts() -> None:
    others = [("Par", math.log(0.8)), ("Os", math.log(0.1)), ("Rome", math.log(0.1))]
    found = measure(chat("Paris", [entry("Par", math.log(0.8), others), entry("is", 0.0, [("is", 0.0)])]), FOUR)
    assert (found.answer, found.reading) == ("B", "option's text")
    assert found.label_probabilities == pytest.approx({"A": 0.1, "B": 0.8, "C": 0, "D": 0.1})


def test_a_letter_whose_tokens_are_not_there_has_no_confidence() -> None:
    found = measure(chat("B. Paris", [entry("Paris", -0.1)]), FOUR)
    assert (found.answer, found.status) == ("B", "unaligned")
    assert set(found.signals.values()) == {None}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes, it does", "yes"),
        ("Y", "yes"),
        ("n", "no"),
        ("Yes.\n\nThe passage says so.", "yes"),
        ("No. It does not.", "no"),
        ("**Yes**, it does", "yes"),
        ("YES!", "yes"),
        ("Yes — the passage does.", "yes"),
        ("No\nIt is about cars.", "no"),
        ('{"relevant": true}', "yes"),
        ('{"relevant": false}', "no"),
        ('```json\n{"is_relevant": true}\n```', "yes"),
        ("true", "yes"),
        ("True", "yes"),
        ("<answer>false</answer>", "no"),
        ('{"answer": true, "why": "x"}', "yes"),
        ('{"reason": "it says so", "relevant": true}', "yes"),
        ('{"toxic": false, "confidence": 0.9}', "no"),
        ("No.\n\n1. The passage is about cars.", "no"),
        ("{'relevant': True}", "yes"),
        ("irrelevant", "no"),
        ("Non-relevant.", "no"),
        ("not-relevant", "no"),
        ("0.", "no"),
        ('{"yes": false}', "no"),
        ("(Y)", "yes"),
    ],
)
def test_a_verdict_is_read_where_the_reply_starts_with_it(text: str, answer: str) -> None:
    found = read_answer(parse(spelled(text)), JUDGE)
    assert (found.answer, found.status) == (answer, "ok")


@pytest.mark.parametrize(
    "text",
    [
        "Yes and no",
        "Yes, no",
        "Yes. No.",
        "Yesterday, it rained",
        "Not sure, yes",
        "No doubt it does",
        "Yes?",
        "Maybe",
        "Yep",
        '{"irrelevant": true}',
        '{"not_relevant": true}',
        '{"isNotRelevant": false}',
        '{"no": true}',
        '{"relevant": "true"}',
        '{"relevant": 1}',
        '{"a": true, "b": false}',
        '{"relevant": null}',
        "[true]",
        "Yes: false",
        "No - true",
        '{"safe": true}',
        '{"mismatch": true}',
        '{"isnt_relevant": true}',
        '{"lacks_evidence": true}',
        '{"safe": "yes"}',
        '{"not_relevant": "yes"}',
        '{"no": "yes"}',
        "1 or 0",
        "[1]",
        '{"refused": false}',
        '{"relevant": true, "sure": false}',
    ],
)
def test_a_verdict_that_is_not_plain_is_no_answer(text: str) -> None:
    assert read_answer(parse(spelled(text)), JUDGE).answer is None


def test_a_judge_is_read_in_the_language_of_its_labels() -> None:
    french = AnswerSet.judge(["oui", "non"], positive="oui")
    table = {
        "Oui, il répond": "oui",
        "Non.\nPas du tout": "non",
        "O": "oui",
        '{"pertinent": true}': "oui",
        "ouin, x": None,
    }
    table |= {"OUI": "oui", "Yes, it does": None}
    assert {text: read_answer(parse(spelled(text)), french).answer for text in table} == table
    chinese = AnswerSet.judge(["否", "是"], positive="是")
    assert read_answer(parse(spelled("是，", "它回答了")), chinese).answer == "是"
    found = measure(spelled('{"answers": ', "true", "}", logprob=math.log(0.9)), chinese)
    assert (found.answer, found.span and found.span.first) == ("是", 1)
    relevant = AnswerSet.judge(["irrelevant", "relevant"])
    assert relevant.positive == 1
    assert read_answer(parse(spelled('{"irrelevant": true}')), relevant).answer is None
    assert read_answer(parse(spelled('{"relevant": true}')), relevant).answer == "relevant"
    table = {
        "Relevant: no": None,
        "Relevant - no, it is about cars": None,
        "Relevant: yes": "relevant",
        "Irrelevant: yes": None,
    }
    assert {text: read_answer(parse(spelled(text)), relevant).answer for text in table} == table


def test_a_verdict_may_use_other_known_names_than_the_labels() -> None:
    judge = AnswerSet.judge(["not relevant", "relevant"])
    table = {
        "Yes": "relevant",
        "irrelevant.": "not relevant",
        "non-relevant": "not relevant",
        "1": "relevant",
        "Yes, no": None,
    }
    assert {text: read_answer(parse(spelled(text)), judge).answer for text in table} == table
    others = [("yes", math.log(0.9)), ("no", math.log(0.1))]
    found = measure(chat("no", [entry("no", math.log(0.1), others)]), judge)
    assert (found.answer, found.reading) == ("not relevant", "other words")
    assert found.label_probabilities == pytest.approx({"relevant": 0.9, "not relevant": 0.1})


def test_which_label_means_yes_is_known_by_name_or_named() -> None:
    assert AnswerSet.judge(["0", "1"]).positive == 1
    assert AnswerSet.judge(["True", "False"]).positive == 0
    for labels in (["good", "bad"], ["yes", "relevant"]):
        with pytest.raises(ValueError, match=r"judge\.positive"):
            AnswerSet.judge(labels)
    assert AnswerSet.judge(["good", "bad"], "Bad").positive == 1
    with pytest.raises(ValueError, match="none of the labels"):
        AnswerSet.judge(["good", "bad"], "fine")


def test_p_yes_comes_from_one_logprob_alone() -> None:
    yes, no = chat("yes", [entry("yes", math.log(0.8))]), chat("no", [entry("no", math.log(0.6))])
    assert measure(yes, JUDGE).label_probabilities == pytest.approx({"yes": 0.8, "no": 0.2})
    assert measure(no, JUDGE).label_probabilities == pytest.approx({"yes": 0.4, "no": 0.6})
    assert measure(no, JUDGE).signals["label_probability"] is None, "it has its own rule, and no alternatives"
    pair = AnswerSet.classify(["yes", "no"])
    assert measure(yes, pair).label_probabilities is None, "nothing is ranked"


def test_a_boolean_has_the_probability_of_true_and_false() -> None:
    others = [("true", math.log(0.7)), ("false", math.log(0.3))]
    found = measure(
        chat('{"x": true}', [entry('{"x": ', -0.1), entry("true", math.log(0.7), others), entry("}", -0.1)]), JUDGE
    )
    assert (found.reading, found.answer) == ("JSON boolean", "yes")
    assert found.label_probabilities == pytest.approx({"yes": 0.7, "no": 0.3})


def test_one_logprob_of_the_first_token_is_kept_bit_for_bit() -> None:
    """Triage as it is usually set up: logprobs: 1, one token or several, a leading newline: exp of the first token's logprob."""
    draw, answers = random.Random(4), AnswerSet.classify(["urgent", "not urgent", "spam"])
    split = {"urgent": ["urg", "ent"], "not urgent": ["not", " urgent"], "spam": ["spam"]}
    for number in range(1500):
        label = draw.choice(answers.labels)
        pieces = split[label] if draw.random() < 0.5 else [label]
        lead = draw.choice(["", "\n", " "])
        logprob = -draw.expovariate(1.5) if number % 7 else 0.0
        tokens = [entry("\n", -0.4)] if lead == "\n" else []
        first = (" " if lead == " " else "") + pieces[0]
        tokens += [entry(first, logprob), *(entry(piece, -0.01) for piece in pieces[1:]), entry("", -9999.0)]
        body = json.dumps(chat(lead + label, tokens))
        found = measure(body, answers)
        assert (found.status, found.answer) == ("ok", label)
        assert found.signals["first_token"] == math.exp(logprob)


def test_a_reply_cut_behind_its_letter_is_decided() -> None:
    assert read_answer(parse(spelled("B", ". Par", finish="length")), FOUR).answer == "B"
    assert read_answer(parse(spelled("Yes", ",", finish="length")), JUDGE).answer == "yes"
    assert read_answer(parse(spelled("A Cor", finish="length")), FOUR).status == "truncated"


def test_a_strong_reply_with_logprobs_says_by_what_it_is_ranked() -> None:
    others = [("Yes", math.log(0.8)), ("No", math.log(0.2))]
    yes = chat("Yes, it does", [entry("Yes", math.log(0.8), others), entry(", it does", -0.1)])
    cheap, strong = measure(yes, JUDGE), measure(yes, JUDGE, role="strong")
    assert strong.label_probabilities == cheap.label_probabilities == pytest.approx({"yes": 0.8, "no": 0.2})
    assert set(strong.signals.values()) == {None}
    assert measure(yes, AnswerSet.classify(["yes", "no"]), role="strong").label_probabilities is None, (
        "nothing is ranked"
    )
