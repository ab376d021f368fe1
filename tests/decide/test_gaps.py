"""Facts that a one-line mistake in the code would break without any other test noticing."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from decide.made_rows import made
from scipy import stats

from pipeline.decide.curves.bands import bands
from pipeline.decide.curves.threshold_counts import Segments
from pipeline.decide.target import Goal
from pipeline.decide.testing import clusters, threshold_search, total_cost
from pipeline.decide.testing.certificate import candidates
from pipeline.decide.testing.multiple_testing import fallback, fixed_sequence
from pipeline.decide.testing.share_interval import share_interval
from pipeline.decide.thresholds import accepted, shortest_decimal


def test_a_confidence_equal_to_the_threshold_stays_with_the_cheap_model():
    kept = accepted(np.array([0.4, 0.5, 0.6, np.nan]), 0.5)
    assert kept.tolist() == [False, True, True, False]


def test_the_cross_fitted_cost_of_confidence_that_says_nothing_is_above_the_cost_on_the_same_rows():
    """Where every threshold costs the same in truth, the choice fits noise, and only other rows show it."""
    gaps = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = 60
        confidence = rng.random(n)
        kept, escalated = rng.exponential(1.0, n), rng.exponential(1.0, n)
        ones = np.ones(n)
        threshold = total_cost._cheapest(confidence, escalated - kept, seed)
        seen = total_cost._mean_cost(confidence, kept, escalated, ones, threshold)
        gaps.append(total_cost._cross_fitted(confidence, kept, escalated, ones, seed) - seen)
    assert np.mean(gaps) > 3 * np.std(gaps) / np.sqrt(len(gaps))
    assert np.mean(gaps) > 0.02


def test_a_threshold_lies_above_what_it_escalates_and_not_above_what_it_keeps():
    rng = np.random.default_rng(3)
    pairs = np.sort(np.round(rng.random((300, 2)), 3), axis=1)
    for lo, hi in pairs[pairs[:, 0] < pairs[:, 1]].tolist():
        t = shortest_decimal(lo, hi)
        assert lo < t <= hi
        digits = -Decimal(repr(t)).normalize().as_tuple().exponent
        coarser = [k / 10 ** (digits - 1) for k in range(10 ** max(digits - 1, 0) + 1)] if digits > 0 else []
        assert not [c for c in coarser if lo < c <= hi], "a shorter decimal would do"


def test_what_was_not_tested_ends_a_sequence():
    assert fixed_sequence(np.array([0.01, np.nan, 0.01]), 0.1) == 1


@pytest.mark.parametrize(
    "starts", [threshold_search.ACCEPTED_STARTS, threshold_search.SYSTEM_STARTS, threshold_search.LEARNT_STARTS]
)
def test_the_starts_of_a_fallback_sequence_share_one_delta(starts: dict[float, float]):
    assert sum(starts.values()) == pytest.approx(1.0)


def test_which_row_stands_for_its_group_does_not_depend_on_where_it_is():
    group = np.repeat(np.arange(2000), 2)
    names = np.array([f"row {i}" for i in range(4000)], dtype=object)
    first = clusters.one_row_each(group, names) % 2 == 0
    assert abs(first.mean() - 0.5) < 4 * 0.5 / np.sqrt(2000)
    turned = np.arange(4000).reshape(-1, 2)[:, ::-1].ravel()  # the two rows of each group change places
    again = clusters.one_row_each(group, names[turned])
    assert set(names[turned][again]) == set(names[clusters.one_row_each(group, names)])


def test_a_bet_on_values_whose_mean_is_harmless_rarely_wins():
    """E[value] = 0 is the edge of the hypothesis: p <= .1 in at most a tenth of draws."""
    rng = np.random.default_rng(4)
    columns = np.where(rng.random((1500, 200)) < 0.9, -0.05, 0.45)
    assert abs(columns.mean()) < 0.005
    share = float((clusters.betting_p(list(columns), 0.45) <= 0.1).mean())
    assert share <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 1500)


def test_a_cascade_that_loses_nothing_is_better_than_allowed_by_exactly_what_is_allowed():
    rows = made(400, 5, group=[f"g{i // 4}" for i in range(400)], cheap_correct=1.0, strong_correct=1.0)
    goal, group = Goal("match_strong", 0.1, within=0.03), clusters.codes(rows.group)
    laid = candidates(rows.confidence, np.arange(0, 1, 0.1))
    found = clusters.evidence(laid, rows, rows.strong_correct, rows.agree, goal, group, in_sequence=False)
    assert found.statistic == pytest.approx(-0.03)


def test_a_simultaneous_band_is_wider_than_the_pointwise_one_at_every_level_and_end():
    rows = made(300, 6)
    sure = rows.confidence >= np.quantile(rows.confidence, 0.93)
    rows = made(300, 6, cheap_correct=np.where(sure, 1.0, rows.cheap_correct))  # an end: nothing wrong among the surest
    levels = np.quantile(rows.confidence, np.linspace(0.02, 0.98, 25))
    found = bands(Segments.of(rows, levels), rows, level=0.9, replicates=400, rng=np.random.default_rng(7))[
        "accepted_accuracy"
    ]
    at_end = found.upper == 1.0
    assert at_end.any()
    assert not at_end.all()
    assert (found.sim_lower < found.lower - 1e-3).all()
    assert (found.sim_upper >= found.upper).all()
    many_wrong = np.flatnonzero(~at_end)[:12]
    assert (found.sim_upper[many_wrong] > found.upper[many_wrong] + 1e-3).all()


@pytest.mark.parametrize(("right", "n"), [(7, 10), (93, 100), (0, 12), (12, 12)])
def test_without_groups_the_limits_of_a_share_are_the_exact_binomial_ones(right: int, n: int):
    x = np.r_[np.ones(right), np.zeros(n - right), np.ones(5)]
    among = np.r_[np.ones(n, dtype=bool), np.zeros(5, dtype=bool)]
    exact = stats.binomtest(right, n).proportion_ci(0.9, method="exact")
    assert share_interval(x, among, level=0.9) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_rows_that_repeat_their_group_say_no_more_than_the_groups_do():
    x, group = np.repeat(np.r_[np.ones(7), np.zeros(3)], 5), np.repeat(np.arange(10), 5)
    exact = stats.binomtest(7, 10).proportion_ci(0.9, method="exact")
    lower, upper = share_interval(x, np.ones(50, dtype=bool), group=group, level=0.9)
    assert lower <= exact.low
    assert upper >= exact.high


def test_a_sequence_ends_at_its_first_failure_however_small_later_p_values_are() -> None:
    assert fixed_sequence(np.array([0.01, 0.2, 0.01, 0.0]), 0.1) == 1
    assert fixed_sequence(np.array([0.2, 0.0]), 0.1) == 0
    assert fixed_sequence(np.array([0.1, 0.05]), 0.1) == 2


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        ([0.5, 0.04], [False, False]),  # a failure keeps its share: the second has half of delta
        ([0.02, 0.04], [True, True]),  # a rejection hands its share on: the second has all of delta
        ([0.02, 0.06], [True, False]),
        ([0.03, 0.02], [False, True]),
    ],
)
def test_a_hypothesis_hands_its_share_of_delta_on_only_when_it_is_rejected(
    p_values: list[float], rejected: list[bool]
) -> None:
    assert fallback(np.array(p_values), np.array([0.5, 0.5]), 0.05).tolist() == rejected


@pytest.mark.parametrize("ties", [False, True])
def test_a_start_by_rank_keeps_the_rows_strictly_surer_than_the_row_at_that_rank(ties: bool) -> None:
    confidence = np.random.default_rng(5).uniform(size=200)
    confidence = confidence.round(1 if ties else 9)
    laid, weights = threshold_search.lay_out(confidence, Goal("accepted_accuracy", 0.1, at_least=0.9), None)
    assert weights is not None
    ranked = np.sort(confidence)[::-1]
    expected: dict[int, float] = {}
    for rank, weight in ((90, 0.6), (30, 0.4)):  # 0.45 and 0.15 of 200 rows
        kept = int(np.count_nonzero(confidence > ranked[rank - 1]))
        expected[kept] = expected.get(kept, 0.0) + weight
    assert {int(laid.n_accepted[i]): float(weights[i]) for i in np.flatnonzero(weights)} == pytest.approx(expected)
