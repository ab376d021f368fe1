"""The bundled comments: enriched, asymmetric, ambiguous at stated rates, and harmless to read."""

import random
import re
from collections import Counter

import pytest

from datasets import style
from datasets.content_moderation import generate


@pytest.fixture(scope="module")
def evaluation():
    return generate.rows(generate.EVALUATION_SEED, generate.EVALUATION_ROWS)


def test_the_mix_of_labels_is_the_one_the_datasheet_states(evaluation):
    counts = Counter(row["label"] for row in evaluation)
    stated = {"safe": 0.47, "spam": 0.15, "scam": 0.15, "harassment": 0.15, "self_harm": 0.08}
    for label, share in stated.items():
        assert abs(counts[label] / len(evaluation) - share) < 0.025, label


def test_posts_are_connected_texts_of_which_few_sentences_recur(evaluation):
    assert len(set(generate.sentences())) >= 150  # whole posts, each with alternatives and slots
    found = style.figures(evaluation, ["text"])
    assert found["recurring"] < 0.4
    assert found["once"] > 0.5


def test_texts_are_short_and_complete(evaluation):
    lengths = sorted(len(row["text"].split()) for row in evaluation)
    assert 20 <= lengths[len(lengths) // 2] <= 40
    assert lengths[-1] <= 90
    assert not any(set("{}|") & set(row["text"]) for row in evaluation)


@pytest.mark.slow
def test_labels_disagree_with_the_situation_as_often_as_the_datasheet_says():
    rng = random.Random(99)
    drawn = [generate.compose(rng) for _ in range(8000)]
    ceiling = sum(max(truth.values()) for _, truth in drawn) / len(drawn) * (1 - generate.LABEL_NOISE)
    surprising = sum(row["label"] not in truth for row, truth in drawn) / len(drawn)
    assert 0.96 <= ceiling <= 0.98
    # a slip inside a grey pair can land on the pair's other label, so the rate is a little under the constant
    assert 0.8 * generate.LABEL_NOISE < surprising < 1.25 * generate.LABEL_NOISE


def test_texts_about_self_harm_name_no_method_and_are_not_dressed_up():
    words = re.compile(r"\b(pills?|rope|knife|blade|bridge|cut|cutting|overdose|gun|jump|hang|train)\b")
    bank = generate.SITUATIONS["self_harm"].values()
    sentences = [line for entry in bank for line in generate.lines(entry["post"])]
    sentences += [
        line
        for pair in generate.SHARED["pair"]
        if "self_harm" in pair["labels"]
        for line in generate.lines(pair["second"])
    ]
    assert len(sentences) > 20
    assert not [line for line in sentences if words.search(line.lower())]
