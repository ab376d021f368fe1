"""Strong replies that are no whole answer: what the certificate, the figures and the words make of them."""

from dataclasses import replace

import numpy as np
import pytest
from decide.evaluated import evaluated, texts

from cascade_threshold.errors import UsageError
from pipeline.decide.advice.unreadable import Unreadable
from pipeline.decide.certify import certify
from pipeline.decide.recommend import recommend
from pipeline.decide.target import Goal

MATCH = Goal("match_strong", 0.1, within=0.02)


def unread(rows, share, status="out_of_set", seed=1):
    """The rows with a share of the strong replies made unreadable, as the tables hold them."""
    hit = np.random.default_rng(seed).random(len(rows)) < share
    return replace(
        rows,
        strong_answer=texts(np.where(hit, None, rows.strong_answer)),
        strong_correct=np.where(hit, 0.0, rows.strong_correct),
        strong_status=texts(np.where(hit, status, "ok")),
    )


def known(rows):
    return replace(rows, strong_status=texts(["ok"] * len(rows)))


def test_a_certificate_counts_an_unreadable_reply_as_right_where_the_cheap_answer_is_wrong_and_never_as_a_win():
    """The p-value is that of the same rows with each unreadable reply right where cheap is wrong and equal where it is right."""
    rows = unread(evaluated(3000, seed=4), 0.03).of("certify")
    hit = rows.strong_unreadable
    assert hit.sum() > 20
    worst = replace(
        rows,
        strong_correct=np.where(hit, 1.0, rows.strong_correct),
        strong_status=texts(["ok"] * len(rows)),
    )
    got, as_worst = (certify(r, MATCH, levels=[0.5], seed=1) for r in (rows, worst))
    assert got.p_value == as_worst.p_value
    taken_as_wrong = certify(replace(rows, strong_status=worst.strong_status), MATCH, levels=[0.5], seed=1)
    assert got.p_value > taken_as_wrong.p_value


@pytest.mark.parametrize("goal", [MATCH, Goal("agree_with_strong", 0.1, within=0.2)])
def test_more_than_the_limit_bars_every_target_that_compares_with_the_strong_model(goal):
    clean = evaluated(3000, seed=2)
    found = certify(unread(clean, 0.1).of("certify"), goal, levels=None, seed=1)
    assert found.threshold is None
    assert "none of the labels" in found.reason
    assert "max_unreadable" in found.reason
    assert certify(known(clean).of("certify"), goal, levels=None, seed=1).threshold is not None
    allowed = certify(unread(clean, 0.1).of("certify"), goal, levels=None, max_unreadable=1.0, seed=1)
    assert "max_unreadable" not in allowed.reason


def test_exactly_the_limit_is_allowed():
    rows = known(evaluated(400, seed=3, shares=(0, 1, 0)))
    status = rows.strong_status.copy()
    status[:20] = "empty"
    assert not Unreadable.of(replace(rows, strong_status=status)).beyond(0.05)
    status[20] = "empty"
    assert Unreadable.of(replace(rows, strong_status=status)).beyond(0.05)


def test_a_target_that_does_not_compare_is_not_barred_and_counts_them_as_errors():
    rows = unread(evaluated(3000, seed=2), 0.1).of("certify")
    goal = Goal("system_accuracy", 0.1, at_least=0.6)
    found = certify(rows, goal, levels=[0.9999], seed=1)
    assert found.threshold is not None
    kept = rows.confidence >= found.threshold
    wrong = np.where(kept, rows.cheap_correct != 1, rows.strong_correct != 1)  # unreadable ones are 0 here
    assert found.statistic == pytest.approx(wrong.mean())


def test_another_answer_than_any_in_agreement():
    rows = unread(evaluated(500, seed=5), 0.2)
    assert (rows.agree[rows.strong_unreadable] == 0).all()
    assert not np.isnan(rows.agree).any()


@pytest.mark.parametrize(
    ("status", "remedy"),
    [("truncated", "max_tokens"), ("empty", "reasoning"), ("out_of_set", "exactly one of the labels")],
)
def test_the_first_warning_names_cause_and_remedy(status, remedy):
    rows = unread(evaluated(3000, seed=2), 0.12, status)
    held = rows.of("certify")
    certificate = certify(held, MATCH, levels=None, unread=Unreadable.of(rows), seed=1)
    found = recommend(rows, MATCH, certificate=certificate, seed=1)
    first = found.warnings[0]
    assert first.code == "unreadable_strong"
    assert first.gravity == 3
    assert remedy in first.text
    assert found.verdict == "uncertified"
    assert "12" in first.text
    assert "less accurate" not in found.sentence
    assert found.labels_needed is None
    assert found.tightest is None


def test_both_ends_of_what_was_not_read_stand_beside_the_figures():
    rows = unread(evaluated(4000, seed=2), 0.03)
    certificate = certify(rows.of("certify"), MATCH, levels=None, seed=1)
    blurred = recommend(rows, MATCH, certificate=certificate, seed=1).to_json()["unreadable"]
    test = rows.of("test")
    low, high = (blurred["strong_accuracy"][end]["value"] for end in ("all_wrong", "all_right"))
    assert low == pytest.approx(test.strong_correct.mean())
    assert high - low == pytest.approx(test.strong_unreadable.mean())
    found = recommend(rows, MATCH, certificate=certificate, seed=1)
    kept = test.confidence >= found.threshold
    ends = {}
    for end, right in (("all_wrong", 0.0), ("all_right", 1.0)):
        strong = np.where(test.strong_unreadable, right, test.strong_correct)
        cascade = np.where(kept, test.cheap_correct, strong)
        ends[end] = np.mean(cascade - strong)
        assert blurred["difference"][end]["value"] == pytest.approx(ends[end])
    assert ends["all_right"] < ends["all_wrong"]
    assert found.difference.value == pytest.approx(ends["all_right"])  # the badge goes by the worse end
    assert found.outcome.qualified == (ends["all_right"] < -0.02)
    first = next(w.text for w in found.warnings if w.code == "unreadable_strong")
    for value in ends.values():
        assert f"{100 * value:+.1f}".replace("-", "\u2212") in first
    assert recommend(known(evaluated(4000, seed=2)), MATCH, certificate=certificate, seed=1).unreadable is None


def test_agreement_without_any_answer_is_an_error():
    rows = evaluated(300, seed=1).of("certify")
    empty = replace(rows, strong_answer=texts([None] * len(rows)))
    with pytest.raises(UsageError, match="strong_answer"):
        certify(empty, Goal("agree_with_strong", 0.1, within=0.05), levels=None, seed=1)
