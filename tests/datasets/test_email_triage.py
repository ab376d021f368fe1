"""The bundled mails: plausible in number, variety and ambiguity. (What all datasets share: test_every_dataset.py.)"""

import random
import re
from collections import Counter

import pytest

from datasets import style
from datasets.email_triage import generate

SLOT = re.compile(r"\{\w+\}")


@pytest.fixture(scope="module")
def evaluation():
    return generate.rows(generate.EVALUATION_SEED, generate.EVALUATION_ROWS)


def text(row):
    return row["subject"] + "\n" + row["body"]


def test_the_bank_holds_at_least_600_distinct_sentences_and_nearly_all_of_them_are_used(evaluation):
    bank = generate.sentences()
    assert len(bank) == len(set(bank)) >= 600
    # a sentence is recognised by its longest stretch without a slot; other words, lower case and typing errors spoil a few
    bodies = "\n".join(row["body"].lower() for row in evaluation)
    stretches = [max(SLOT.split(sentence), key=len).strip().lower() for sentence in bank]
    used = [stretch for stretch in stretches if stretch in bodies]
    assert len(used) >= 0.94 * len(bank)


def test_each_opening_of_each_situation_has_a_subject_details_and_a_closing():
    for name, (_, entry) in generate.BY_NAME.items():
        source = generate.SHARED["openings"][entry["from"]] if "from" in entry else entry
        for number, _ in enumerate(generate.lines(source["open"])):
            assert generate.fitting(source["subject"], number), name
            assert len(generate.fitting(entry["detail"], number)) >= 2, name
            assert generate.fitting(entry["close"], number), name


def test_every_label_has_between_a_fifth_and_a_third_of_the_mails(evaluation):
    counts = Counter(row["label"] for row in evaluation)
    assert set(counts) == set(generate.LABELS)
    assert all(0.19 <= count / len(evaluation) <= 0.34 for count in counts.values())


def test_mails_are_short_enough_for_a_small_model(evaluation):
    lengths = sorted(len(text(row).split()) for row in evaluation)
    assert 50 <= lengths[len(lengths) // 2] <= 90
    assert lengths[-1] <= 170


def test_no_slot_or_mark_of_the_bank_is_left_in_a_mail(evaluation):
    for row in evaluation:
        assert not set("{}~@|") & set(text(row)), row


@pytest.mark.slow
def test_labels_disagree_with_the_situation_as_often_as_the_datasheet_says():
    rng = random.Random(99)
    drawn = [generate.compose(rng) for _ in range(8000)]
    surprising = sum(row["label"] not in truth for row, truth in drawn) / len(drawn)
    ceiling = sum(max(truth.values()) for _, truth in drawn) / len(drawn) * (1 - generate.LABEL_NOISE)
    assert abs(surprising - generate.LABEL_NOISE) < 4 * (generate.LABEL_NOISE / 8000) ** 0.5
    assert 0.94 <= ceiling <= 0.965


def test_quoted_mails_of_another_kind_are_part_of_every_label(evaluation):
    assert {row["label"] for row in evaluation if row["style"] == "forwarded"} == set(generate.LABELS)
    assert 0.1 < sum(row["style"] == "forwarded" for row in evaluation) / len(evaluation) < 0.25


def test_less_than_half_of_the_sentences_recur_and_names_come_from_an_open_vocabulary(evaluation):
    found = style.figures(evaluation, ["subject", "body"])
    assert found["recurring"] < 0.5
    assert found["once"] > 0.4
