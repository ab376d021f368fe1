"""The bundled queries and passages: grouped, near misses share the words, ambiguity at stated rates."""

import json
import math
import random
import re
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from datasets import style
from datasets.retrieval_relevance import generate

EXAMPLES = Path(generate.__file__).with_name("examples.jsonl")


@pytest.fixture(scope="module")
def evaluation():
    return [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]


def words(text):
    return {word.rstrip("s") for word in re.findall(r"\w+", text.lower()) if len(word) > 3}


def test_there_are_at_least_200_distinct_queries_with_20_to_36_different_passages_each(evaluation):
    groups = defaultdict(list)
    for row in evaluation:
        groups[row["query_id"]].append(row)
    assert len(groups) >= 200
    assert len({rows[0]["query"].casefold() for rows in groups.values()}) == len(groups)
    for rows in groups.values():
        assert 20 <= len(rows) <= 36
        assert len({row["query"] for row in rows}) == 1
        assert len({row["passage"] for row in rows}) == len(rows)


def test_the_vocabulary_is_open_and_most_sentences_are_new():
    figures = style.figures(
        [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()], ["passage"]
    )
    assert figures["once"] > 0.6  # of the distinct words, as in running text (Zipf); none in a closed bank
    assert figures["recurring"] < 0.7


def test_a_random_order_of_the_passages_is_far_from_a_good_one(evaluation):
    groups = defaultdict(list)
    for row in evaluation:
        groups[row["query_id"]].append(float(row["label"] == "yes"))
    rng, scores = random.Random(3), []
    for gains in groups.values():
        if sum(gains):
            order = rng.sample(gains, len(gains))
            dcg = sum(g / math.log2(k + 2) for k, g in enumerate(order))
            scores.append(dcg / sum(g / math.log2(k + 2) for k, g in enumerate(sorted(gains, reverse=True))))
    assert 0.5 < statistics.mean(scores) < 0.7


def test_training_queries_are_not_evaluation_queries(evaluation):
    train = {row["query"].casefold() for row in generate.train_rows(3, 6000)}
    assert not train & {row["query"].casefold() for row in evaluation}


def test_about_a_third_of_the_passages_answer_and_a_few_queries_have_no_answer(evaluation):
    assert 0.3 < sum(row["label"] == "yes" for row in evaluation) / len(evaluation) < 0.38
    answered = {row["query_id"] for row in evaluation if row["label"] == "yes"}
    assert 0 < 1 - len(answered) / len({row["query_id"] for row in evaluation}) < 0.25


def test_sharing_words_with_the_query_is_not_enough_to_be_an_answer(evaluation):
    shared = {label: [] for label in ("yes", "no")}
    for row in evaluation:
        asked = words(row["query"])
        shared[row["label"]].append(len(asked & words(row["passage"])) / max(len(asked), 1))
    assert statistics.mean(shared["yes"]) > statistics.mean(shared["no"]) > 0.2
    best = max(
        sum(x >= t for x in shared["yes"]) + sum(x < t for x in shared["no"]) for t in [i / 20 for i in range(22)]
    ) / len(evaluation)
    assert best < 0.8  # overlap alone, with the best cut, stays far from the ceiling


def test_labels_are_as_uncertain_as_the_datasheet_says():
    rng = random.Random(8)
    chances = [row["chance_of_yes"] for _ in range(400) for row in generate.draw_query(rng)["rows"]]
    ceiling = statistics.mean(max(chance, 1 - chance) for chance in chances) * (1 - generate.LABEL_NOISE)
    assert 0.94 < ceiling < 0.96


def test_texts_are_short_and_complete(evaluation):
    assert max(len(row["passage"].split()) for row in evaluation) <= 110
    assert not any(set("{}|") & set(row["query"] + row["passage"]) for row in evaluation)
    assert len(generate.sentences()) >= 400
