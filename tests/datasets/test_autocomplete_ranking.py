"""The bundled candidates: four to eight a row, one typed, position without meaning."""

import json
import random
import statistics
from collections import Counter
from pathlib import Path

import pytest

from datasets.autocomplete_ranking import generate


@pytest.fixture(scope="module")
def evaluation():
    path = Path(generate.__file__).with_name("examples.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_row_has_four_to_eight_different_options_and_the_letter_names_the_answer(evaluation):
    for row in evaluation:
        assert 4 <= len(row["options"]) <= 8
        assert len({option.casefold() for option in row["options"]}) == len(row["options"])
        assert row["options"]["ABCDEFGH".index(row["label"])] == row["answer"]
    assert set(Counter(len(row["options"]) for row in evaluation)) == {4, 5, 6, 7, 8}


def test_the_position_of_the_answer_is_uniform(evaluation):
    for size in (4, 5, 6):
        rows = [row for row in evaluation if len(row["options"]) == size]
        expected = len(rows) / size
        counts = Counter(row["label"] for row in rows)
        chi_square = sum((counts[letter] - expected) ** 2 / expected for letter in "ABCDEFGH"[:size])
        assert chi_square < 20.5  # the .999 quantile of chi-square with 5 degrees of freedom


def test_there_are_at_least_3000_distinct_options_and_every_context_comes_once(evaluation):
    assert len({option.casefold() for row in evaluation for option in row["options"]}) >= 3000
    assert len({" ".join(row["context"].casefold().split()) for row in evaluation}) == len(evaluation)


def test_the_words_behind_a_candidate_do_not_tell_whether_it_was_meant(evaluation):
    right = [row["answer"] for row in evaluation]
    wrong = [option for row in evaluation for option in row["options"] if option != row["answer"]]
    bank = {
        line.split("{")[0].strip().casefold()
        for states in generate.STATES.values()
        for part in states.values()
        for line in generate.lines(part["completion"])
    }

    def bare(texts):
        return sum(text.casefold() in bank for text in texts) / len(texts)

    assert abs(bare(right) - bare(wrong)) < 0.05


def test_two_completions_of_the_state_that_the_lead_describes_never_compete(monkeypatch):
    monkeypatch.setattr(generate, "ENDED", 0.0)
    rng = random.Random(4)
    for _ in range(500):
        pen = generate.Line(rng)
        family = rng.choice(list(generate.FAMILIES))
        state = rng.choice(list(generate.STATES[family]))
        options = generate.candidates(pen, family, state)
        fitting = {pen.fill(line) for line in generate.lines(generate.STATES[family][state]["completion"])}
        assert len(fitting & set(options)) == 1


@pytest.mark.slow
def test_a_perfect_reader_is_right_as_often_as_the_datasheet_says():
    rng = random.Random(5)
    assert 0.91 < statistics.mean(generate.compose(rng)[1] for _ in range(6000)) < 0.94


def test_texts_are_short_and_complete(evaluation):
    assert max(len(row["context"].split()) for row in evaluation) <= 70
    assert not any(set("{}|") & set(row["context"] + "".join(row["options"])) for row in evaluation)
    assert len(generate.sentences()) >= 400
