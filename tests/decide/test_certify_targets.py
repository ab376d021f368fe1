"""Every target of a config through `certify`: closed forms, brute force, and what the words say."""

from dataclasses import replace

import numpy as np
import pytest
from decide.evaluated import evaluated, texts
from scipy import stats

from pipeline.config.target import Target
from pipeline.decide.certify import (
    certify,
    certify_accepted_accuracy,
    certify_agreement,
    certify_match_strong,
    certify_system_accuracy,
)
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing import clusters as groups
from pipeline.decide.testing import fallback_weights, total_cost
from pipeline.decide.thresholds import accepted, candidate_levels


@pytest.fixture(scope="module")
def rows() -> Rows:
    return evaluated()


def ask(rows, *, seed=0, levels="fit", **target):
    held = rows.of("certify")
    at = candidate_levels(rows.of("fit").confidence) if isinstance(levels, str) else levels
    human = target.pop("human", False)
    return certify(held, Target(**target), levels=at, human=human, seed=seed)


def test_the_start_is_where_the_fit_rows_promise_most_kept_rows():
    usual = np.array([0.25, 0.25, 0.5])
    # 3 candidates of 100, 200 and 300 fit rows: flawless, flawless, hopeless
    weights = fallback_weights.informed_weights(
        np.array([0, 0, 90]), np.array([100, 200, 300]), np.array([100, 200, 300]), 1.0, 0.05, 0.1, usual
    )
    assert weights.argmax() == 1
    assert weights.sum() == pytest.approx(1.0)
    # nothing can pass with so few rows: the usual starts stay
    few = np.array([1, 2, 3])
    assert fallback_weights.informed_weights(few * 0, few, few, 1.0, 0.05, 0.1, usual).tolist() == usual.tolist()
    for trials, most in zip(
        (10, 45, 100, 333), fallback_weights._most_errors(np.array([10, 45, 100, 333]), 0.05, 0.1), strict=True
    ):
        assert stats.binom.cdf(most, trials, 0.05) <= 0.1 < stats.binom.cdf(most + 1, trials, 0.05)


def test_certify_equals_the_pinned_functions_on_the_same_levels(rows):
    held, levels = rows.of("certify"), candidate_levels(rows.of("fit").confidence)
    shares = np.array([np.mean(rows.of("fit").confidence >= t) for t in levels])
    c, cheap, strong = held.confidence, held.cheap_correct, held.strong_correct
    for found, pinned in (
        (
            ask(rows, kind="match_strong", within=0.02),
            certify_match_strong(c, cheap, strong, within=0.02, delta=0.1, levels=levels),
        ),
        (
            ask(rows, kind="accepted_accuracy", at_least=0.95),
            certify_accepted_accuracy(c, cheap, at_least=0.95, delta=0.1, levels=levels, level_shares=shares),
        ),
        (
            ask(rows, kind="system_accuracy", at_least=0.9),
            certify_system_accuracy(c, cheap, strong, at_least=0.9, delta=0.1, levels=levels, level_shares=shares),
        ),
        (
            ask(rows, kind="agree_with_strong", within=0.05),
            certify_agreement(c, held.agree, within=0.05, delta=0.1, levels=levels),
        ),
    ):
        assert found.threshold is not None
        assert (found.threshold, found.p_value, found.n) == (pinned.threshold, pinned.p_value, pinned.n)


def test_the_target_is_written_down_as_the_config_says_it(rows):
    found = ask(rows, kind="match_strong", within=0.02, certainty=0.95)
    assert found.target == {"kind": "match_strong", "within": 0.02, "certainty": 0.95}
    assert (found.look, found.delta) == (1, 0.05)


def test_people_as_the_strong_side_are_right_by_definition(rows):
    held = rows.of("certify")
    found = ask(rows, kind="match_strong", within=0.03, human=True)
    kept = accepted(held.confidence, found.threshold)
    losses = int((kept & (held.cheap_correct == 0)).sum())
    assert found.p_value == pytest.approx(stats.binom.cdf(losses, len(held), 0.03))
    blank = replace(held, strong_correct=np.full(len(held), np.nan))
    levels = candidate_levels(rows.of("fit").confidence)
    assert (
        certify(blank, Goal("match_strong", 0.1, within=0.03), levels=levels, human=True, seed=0).threshold
        == found.threshold
    )


def test_agreement_needs_no_labels(rows):
    n = len(rows)
    blind = replace(rows, label=texts([None] * n), cheap_correct=np.full(n, np.nan), strong_correct=np.full(n, np.nan))
    assert (
        ask(blind, kind="agree_with_strong", within=0.05).threshold
        == ask(rows, kind="agree_with_strong", within=0.05).threshold
    )


def test_a_missing_strong_answer_is_a_disagreement(rows):
    gone = rows.strong_answer.copy()
    gone[::4] = None
    found = ask(replace(rows, strong_answer=gone), kind="agree_with_strong", within=0.05, levels=[0.99])
    held = replace(rows, strong_answer=gone).of("certify")
    differ = accepted(held.confidence, 0.99) & (
        held.strong_answer != held.cheap_answer  # None is no answer, so it differs as well
    )
    closest = stats.binom.cdf(int(differ.sum()), len(held), 0.05)
    assert found.threshold is None
    assert found.p_value == pytest.approx(closest)


def test_a_label_floor_can_only_raise_the_threshold_and_the_largest_p_decides(rows):
    free = ask(rows, kind="match_strong", within=0.03)
    floored = ask(rows, kind="match_strong", within=0.03, label_floors={"spam": 0.88})
    assert floored.threshold >= free.threshold
    held = rows.of("certify")
    right = np.where(accepted(held.confidence, floored.threshold), held.cheap_correct, held.strong_correct)[
        held.label == "spam"
    ]
    p = stats.binom.cdf(int((right == 0).sum()), len(right), 0.12)
    assert floored.p_value >= p - 1e-12
    assert floored.p_value <= 0.1
    assert "spam" in floored.reason


def test_a_label_without_rows_certifies_nothing(rows):
    found = ask(rows, kind="match_strong", within=0.03, label_floors={"unseen": 0.5})
    assert found.threshold is None


def test_the_budget_threshold_is_the_order_statistic_of_the_beta_law(rows):
    held = rows.of("certify")
    n, ordered = len(held), np.sort(held.confidence)
    found = ask(rows, kind="budget", escalation_rate=0.2)
    k = max(k for k in range(n) if stats.beta.sf(0.2, k + 1, n - k) <= 0.1)
    assert ordered[k - 1] < found.threshold <= ordered[k]
    assert found.p_value == pytest.approx(stats.beta.sf(0.2, k + 1, n - k))
    assert found.escalation_rate == pytest.approx(k / n)


def test_rows_without_confidence_use_up_the_budget(rows):
    confidence = rows.confidence.copy()
    confidence[: len(rows) // 2] = np.nan
    assert ask(replace(rows, confidence=confidence), kind="budget", escalation_rate=0.2).threshold is None
    confidence = rows.confidence.copy()
    confidence[np.random.default_rng(0).random(len(rows)) < 0.1] = np.nan
    found = ask(replace(rows, confidence=confidence), kind="budget", escalation_rate=0.2)
    assert found.threshold > 0
    assert found.n == len(rows.of("certify"))


def test_ties_never_break_the_budget():
    confidence = np.repeat([0.1, 0.5, 0.9], [100, 300, 600])
    rows = evaluated(1000, shares=(0, 1, 0))
    tied = replace(rows, confidence=confidence)
    # 400 rows lie below 0.9: over the budget. 100 lie below 0.5: within it
    assert 0.1 < ask(tied, kind="budget", escalation_rate=0.3, levels=None).threshold <= 0.5


def test_a_worse_strong_model_is_not_paid_for_though_the_budget_allows_it(rows):
    swapped = replace(rows, strong_correct=np.zeros(len(rows)))
    assert ask(swapped, kind="budget", escalation_rate=0.3).threshold == 0.0


def test_a_dollar_budget_is_approximate_and_leaves_unknown_costs_out(rows):
    found = ask(rows, kind="budget", usd_per_1000=0.5)
    assert found.delta is None
    assert "approximate" in found.method
    # cheap 0.2 + rate x 1.0 dollars per 1,000
    assert 0.2 + found.escalation_rate < 0.5
    assert found.details["usd_per_1000_upper"] <= 0.5
    strong = rows.strong_usd.copy()
    strong[::2] = np.nan
    half = ask(replace(rows, strong_usd=strong), kind="budget", usd_per_1000=0.5)
    assert half.details["rows_with_unknown_dollars"] == int(
        np.isnan(replace(rows, strong_usd=strong).of("certify").strong_usd).sum()
    )
    assert half.threshold == pytest.approx(found.threshold, rel=0.2)
    unknown = ask(replace(rows, strong_usd=np.full(len(rows), np.nan)), kind="budget", usd_per_1000=0.5)
    assert unknown.threshold is None
    assert ask(rows, kind="budget", usd_per_1000=0.1).threshold is None


def test_total_cost_finds_what_a_search_over_all_thresholds_finds_without_bags(monkeypatch, rows):
    monkeypatch.setattr(total_cost, "BAGS", 1)
    held = rows.of("certify")

    class Ones:
        def poisson(self, _rate, size):
            return np.ones(size)

    monkeypatch.setattr(np.random, "default_rng", lambda *_: Ones())
    saved = held.strong_usd + 0.02 * ((held.strong_correct == 0).astype(float) - (held.cheap_correct == 0))
    threshold = total_cost._cheapest(held.confidence, saved, 0)
    cost = {
        t: float(np.where(held.confidence >= t, 0, saved).sum()) for t in np.append(np.unique(held.confidence), 2.0)
    }
    assert np.where(held.confidence >= threshold, 0, saved).sum() == pytest.approx(min(cost.values()), abs=1e-9)


def test_total_cost_reports_its_optimism_and_no_promise(rows):
    found = ask(rows, kind="total_cost", usd_per_error=0.02)
    assert found.delta is None
    assert not found.certified
    assert found.details["usd_per_1000_cross_fitted"] - found.details["usd_per_1000"] == pytest.approx(
        found.details["optimism_usd_per_1000"]
    )
    assert found.details["usd_per_1000"] <= found.details["cheap_only_usd_per_1000"]
    # errors that cost nothing are never worth a call
    assert ask(rows, kind="total_cost", usd_per_error=1e-9).threshold == 0.0


def test_error_costs_may_depend_on_the_label_and_on_the_answer():
    label, answer = texts(["spam", "spam", "work", "work", "spam"]), texts(["work", "other", "spam", "work", None])
    correct = np.array([0.0, 0, 0, 1, np.nan])
    costs = {"spam": {"work": 2.0, "other": 5.0}, "work": 10.0}
    assert total_cost.error_usd(costs, label, answer, correct)[:4].tolist() == [2.0, 5.0, 10.0, 0.0]
    assert np.isnan(total_cost.error_usd(costs, label, answer, correct)[4])
    assert total_cost.error_usd(3.0, label, answer, np.zeros(5)).tolist() == [3.0] * 5
    assert total_cost.error_usd({"spam": {"work": 2.0}, "work": 1.0}, label, texts(["odd"] * 5), np.zeros(5))[0] == 2.0
    with pytest.raises(ValueError, match="work"):
        total_cost.error_usd({"spam": 1.0}, label, answer, correct)


def test_rows_without_a_label_have_no_cost_by_label_not_even_where_they_are_right(rows):
    """Else only the right ones of them would count, and keeping them would look free."""
    unlabeled = replace(rows, label=texts([None] * len(rows)))
    assert np.isnan(total_cost.error_usd({"spam": 1.0}, unlabeled.label, rows.cheap_answer, np.ones(len(rows)))).all()
    found = ask(unlabeled, kind="total_cost", usd_per_error={"spam": 1.0})
    assert found.threshold is None
    assert "known costs" in found.reason


def test_groups_of_one_row_change_nothing(rows):
    alone = replace(rows, group=texts([None] * len(rows)))
    assert ask(alone, kind="match_strong", within=0.02) == ask(rows, kind="match_strong", within=0.02)


def test_copies_are_one_group_and_one_row_of_each_is_drawn(rows):
    held = rows.of("certify")
    twice = held.take(np.concatenate([np.arange(len(held)), np.arange(200)]))
    found = certify(
        twice, Goal("match_strong", 0.1, within=0.02), levels=candidate_levels(rows.of("fit").confidence), seed=4
    )
    assert (found.n, found.unit) == (len(held), "groups")
    assert groups.ONE_ROW in found.method
    assert found.threshold == ask(rows, kind="match_strong", within=0.02).threshold


def test_groups_whose_rows_are_unlike_enter_by_their_means():
    rows = evaluated(4000, shares=(0.5, 0.5, 0))
    group = np.empty(len(rows), dtype=object)
    for split in ("fit", "certify"):
        at = np.flatnonzero(rows.split == split)
        group[at] = [f"{split}-{i // 5}" for i in range(len(at))]
    rows = replace(rows, group=group)
    held, fit = rows.of("certify"), rows.of("fit")
    goal, levels = Goal("accepted_accuracy", 0.1, at_least=0.9), candidate_levels(fit.confidence)
    found = certify(held, goal, levels=levels, fit=fit, seed=0)
    assert (found.n, found.unit) == (len(set(held.group)), "groups")
    assert groups.MEANS in found.method
    # without rows to tell, sizes decide: five rows a group, or two
    assert groups.MEANS in certify(held, goal, seed=0).method
    pairs = replace(held, group=np.array([f"pair {i // 2}" for i in range(len(held))], dtype=object))
    assert groups.ONE_ROW in certify(pairs, goal, seed=0).method
    # where rows of a group are copies of each other one row of each is safer to use
    copies = evaluated(1500, groups=300)
    assert groups.ONE_ROW in certify(copies, goal, levels=levels, fit=copies, seed=0).method
    floored = Goal("match_strong", 0.1, within=0.05, label_floors={"spam": 0.5})
    assert groups.ONE_ROW in certify(held, floored, levels=levels, fit=fit, seed=0).method


def test_the_intraclass_correlation_is_what_was_put_in():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(3000), rng.integers(1, 8, 3000))
    for share in (0.0, 0.3, 1.0):
        shared, own = rng.normal(size=3000)[group], rng.normal(size=len(group))
        values = np.sqrt(share) * shared + np.sqrt(1 - share) * own
        assert groups.intraclass_correlation(group, values) == pytest.approx(share, abs=0.03)
    assert groups.intraclass_correlation(np.arange(50), rng.normal(size=50)) == 1.0


def test_a_drawn_row_represents_its_group_evenly():
    group = np.array([0, 0, 0, 1, 1, 2])
    picks = np.array([groups.one_row_each(group, texts([f"{draw}-{i}" for i in range(6)])) for draw in range(3000)])
    assert picks.shape == (3000, 3)
    for column, size in zip(picks.T, (3, 2, 1), strict=True):
        _, counts = np.unique(column, return_counts=True)
        assert len(counts) == size
        assert stats.chisquare(counts).pvalue > 1e-4 if size > 1 else True


def test_no_seed_changes_a_promise(rows):
    held = rows.of("certify")
    twice = held.take(np.concatenate([np.arange(len(held)), np.arange(200)]))
    twice = replace(twice, example_id=texts([f"copy {i}" for i in range(len(twice))]))
    for goal in (Goal("match_strong", 0.1, within=0.03), Goal("budget", 0.1, escalation_rate=0.3)):
        assert certify(twice, goal, levels=None, seed=1) == certify(twice, goal, levels=None, seed=2)


def test_means_inside_groups_are_means():
    assert groups.means(np.array([0, 1, 0, 1, 1]), np.array([1.0, 0, 3, 3, 0])).tolist() == [2.0, 1.0]
    assert groups.codes(texts(["b", None, "a", "b", None])).tolist() == [0, 1, 2, 0, 3]


def test_no_rows_is_an_answer():
    found = certify(
        evaluated(50, shares=(1, 0, 0)).of("certify"), Goal("match_strong", 0.1, within=0.02), levels=[0.5], seed=0
    )
    assert (found.threshold, found.n) == (None, 0)


def test_impossible_targets_are_refused():
    for arguments in (
        {"kind": "match_strong", "delta": 0.1},
        {"kind": "budget", "delta": 0.1, "escalation_rate": 1.5},
        {"kind": "other", "delta": 0.1},
        {"kind": "match_strong", "delta": 0.0, "within": 0.1},
    ):
        with pytest.raises(ValueError, match=r"target|must be"):
            Goal(**arguments)


def test_a_floor_on_several_labels_counts_being_told_for_any_of_them() -> None:
    """Brute force: the p-value of the group is the binomial tail of rows whose final answer lies outside the group."""
    rng = np.random.default_rng(5)
    n = 900
    labels = np.array(rng.choice(["safe", "spam", "scam"], n, p=[0.5, 0.25, 0.25]), dtype=object)
    answers = labels.copy()
    confused = (labels != "safe") & (rng.random(n) < 0.3)
    answers[confused] = np.where(labels[confused] == "spam", "scam", "spam")  # wrong, yet unsafe all the same
    missed = (labels != "safe") & (rng.random(n) < 0.04)
    answers[missed] = "safe"
    right = (answers == labels).astype(float)
    unknown = np.full(n, np.nan)
    rows = Rows(
        example_id=np.array([str(i) for i in range(n)], dtype=object),
        split=np.full(n, "certify", dtype=object),
        group=np.array([str(i) for i in range(n)], dtype=object),
        segment=np.full(n, None, dtype=object),
        label=labels,
        cheap_answer=answers,
        strong_answer=labels.copy(),
        confidence=np.full(n, 0.9),
        cheap_correct=right,
        strong_correct=np.ones(n),
        cheap_usd=unknown,
        strong_usd=unknown,
        cheap_s=unknown,
        strong_s=unknown,
    )
    groups = {"unsafe": ("spam", "scam")}
    unsafe = labels != "safe"
    errors = int((unsafe & (answers == "safe")).sum())
    for floor in (0.90, 0.97):
        goal = Goal("system_accuracy", 0.1, at_least=0.7, label_floors={"unsafe": floor}, label_groups=groups)
        found = certify(rows, goal, levels=[0.0], seed=1)
        tail = stats.binom.cdf(errors, int(unsafe.sum()), 1 - floor)
        assert (found.threshold is not None) == (tail <= 0.1 * 0.5)  # the level at 0.0 inherits every weight it follows
        assert found.p_value == pytest.approx(max(tail, stats.binom.cdf(int(n - right.sum()), n, 0.3)))
    alone = Goal("system_accuracy", 0.1, at_least=0.7, label_floors={"spam": 0.90})
    assert certify(rows, alone, levels=[0.0], seed=1).threshold is None  # by itself, every confusion is a miss
