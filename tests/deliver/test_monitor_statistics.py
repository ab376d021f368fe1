"""The statistics behind the watch on the promise, against scipy, closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from deliver.policies import population
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.deliver.formats.policy_document import quantiles
from pipeline.deliver.monitoring.drift import (
    beta_binomial,
    confidence_check,
    kolmogorov_limit,
    kolmogorov_tail,
    ks_distance,
    share_check,
)
from pipeline.deliver.monitoring.eprocess import e_value, lambdas, watch

# ---- the e-process


def test_the_bets_are_those_of_the_design() -> None:
    assert np.allclose(lambdas(0.05), np.geomspace(0.3, 12, 12))
    for alpha in (1e-4, 0.3, 0.999):
        assert max(lambdas(alpha)) * alpha < 1


@settings(max_examples=100)
@given(st.lists(st.booleans(), max_size=60), st.floats(0.01, 0.9))
def test_the_e_value_is_the_mean_of_the_products_of_the_bets(wrong: list[bool], alpha: float) -> None:
    products = [math.prod(1 + bet * (x - alpha) for x in wrong) for bet in lambdas(alpha)]
    assert e_value(sum(wrong), len(wrong), alpha) == pytest.approx(sum(products) / 12, rel=1e-9)
    found = watch(wrong, alpha)
    path = [e_value(sum(wrong[: i + 1]), i + 1, alpha) for i in range(len(wrong))]
    assert found.value == pytest.approx(path[-1] if path else 1.0)
    assert found.largest == pytest.approx(max([1.0, *path]))
    assert found.alarm_at == next((i + 1 for i, e in enumerate(path) if e >= 20), None)


def test_on_the_boundary_the_expected_e_value_is_one_after_any_number_of_labels() -> None:
    for n, alpha in ((1, 0.05), (7, 0.05), (40, 0.2)):
        mean = sum(stats.binom.pmf(k, n, alpha) * e_value(k, n, alpha) for k in range(n + 1))
        assert mean == pytest.approx(1.0, rel=1e-9)


def alarms(error: float, runs: int, seed: int, labels: int = 3000) -> list[float]:
    rng = np.random.default_rng(seed)
    found = [watch((rng.random(labels) < error).tolist(), 0.05).alarm_at for _ in range(runs)]
    return [math.inf if at is None else at for at in found]


def test_false_alarms_over_3000_labels_stay_within_the_stated_rate() -> None:
    found = alarms(0.05, 200, seed=1)
    share = sum(map(math.isfinite, found)) / 200
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize(
    ("error", "median", "runs"), [(0.07, 851, 80), (0.08, 411, 120), (0.10, 155, 200), (0.15, 46, 200)]
)
def test_broken_promises_are_noticed_as_fast_as_was_measured_elsewhere(error: float, median: float, runs: int) -> None:
    assert np.median(alarms(error, runs, seed=2)) == pytest.approx(median, rel=0.25)


@pytest.mark.slow
def test_false_alarms_and_detection_times_in_the_long_run() -> None:
    assert sum(map(math.isfinite, alarms(0.05, 2000, seed=3))) / 2000 <= 0.05
    for error, median in ((0.07, 851), (0.08, 411), (0.10, 155), (0.15, 46)):
        assert np.median(alarms(error, 1000, seed=4)) == pytest.approx(median, rel=0.12)


def test_a_bound_that_is_no_rate_is_refused() -> None:
    for alpha in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            watch([True], alpha)


# ---- drift


@settings(max_examples=100)
@given(st.floats(0.01, 5))
def test_kolmogorovs_law_is_scipys(x: float) -> None:
    assert kolmogorov_tail(x) == pytest.approx(stats.kstwobign.sf(x), abs=1e-12)


def test_the_limit_at_one_per_cent_is_scipys() -> None:
    assert kolmogorov_limit(0.01) == pytest.approx(stats.kstwobign.isf(0.01), rel=1e-9)


def test_the_beta_binomial_law_is_scipys() -> None:
    for m, a, b in ((50, 0.5, 100.5), (1000, 420.5, 1580.5)):
        assert np.allclose(
            beta_binomial(m, a, b), stats.betabinom.pmf(np.arange(m + 1), m, a, b), rtol=1e-8, atol=1e-300
        )


@settings(max_examples=100)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=300), st.lists(st.integers(0, 12), min_size=1, max_size=80))
def test_the_distance_from_quantiles_never_exceeds_the_two_sample_distance_and_loses_at_most_a_step(
    a: list[int], b: list[int]
) -> None:
    exact = max(abs(np.mean(np.array(a) <= x) - np.mean(np.array(b) <= x)) for x in range(13))
    ours = ks_distance(sorted(map(float, b)), quantiles(sorted(map(float, a))) or [])
    assert exact - 1 / 200 - 1e-12 <= ours <= exact + 1e-12


def test_drift_checks_flag_the_shifts_that_were_measured_elsewhere_and_rarely_anything_else() -> None:
    rng = np.random.default_rng(7)
    runs = 60
    flagged = {}
    for name, m, shift in (
        ("none", 1000, {}),
        ("harder mix", 1000, {"easy": 0.6}),
        ("sharper", 200, {"sharper": 1.15}),
    ):
        counts = np.zeros(2)
        for _ in range(runs):
            before, now = np.sort(population(rng, 2000)), population(rng, m, **shift)
            t = float(np.quantile(before, 0.21))
            counts += [
                confidence_check(now.tolist(), quantiles(before.tolist()), 2000).alarm,
                share_check(
                    "escalation rate",
                    int((now < t).sum()),
                    m,
                    float((before < t).mean()),
                    2000,
                    what="Escalated",
                    two_sided=True,
                ).alarm,
            ]
        flagged[name] = counts / runs
    assert (flagged["none"] <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / runs)).all()
    assert flagged["harder mix"][0] > 0.9
    assert flagged["harder mix"][1] > 0.8
    assert flagged["sharper"][0] > 0.8


def test_share_checks_alarm_about_as_often_as_stated_and_see_too_many() -> None:
    for n, p, m in ((500, 0.02, 300), (1000, 0.4, 1000)):
        one, two = 0.0, 0.0
        for k, weight in enumerate(stats.binom.pmf(range(m + 1), m, p)):
            if weight > 1e-7:
                one += weight * share_check("x", k, m, p, n, what="X", two_sided=False).alarm
                two += weight * share_check("x", k, m, p, n, what="X", two_sided=True).alarm
        assert one <= 0.01
        assert two <= 0.01
    assert share_check("x", 40, 400, 0.02, 500, what="X", two_sided=False).alarm
    assert not share_check("x", 0, 400, 0.02, 500, what="X", two_sided=False).alarm


def test_what_cannot_be_tested_says_why() -> None:
    assert "too few" in share_check("x", 3, 20, 0.1, 500, what="X", two_sided=True).text
    assert "does not say" in share_check("x", 3, 200, None, 500, what="X", two_sided=True).text
    assert "does not say" in confidence_check([0.5] * 100, None, None).text
