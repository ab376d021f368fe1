"""The statistics behind the watch on the promise, against scipy, closed forms and simulation."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
from deliver.monitor_simulation import FAULTS, PASTS, alarm_share, median_delay, paired_alarm_share
from deliver.policies import population
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.decide.monitor_facts import quantiles
from pipeline.deliver.monitoring.drift import (
    beta_binomial,
    confidence_check,
    kolmogorov_limit,
    kolmogorov_tail,
    ks_distance,
    share_check,
)
from pipeline.deliver.monitoring.eprocess import HEAD_START, LENGTH, e_values, lambdas, watch

# ---- the e-process


def test_the_bets_are_those_of_the_design() -> None:
    assert np.allclose(lambdas(0.05), np.geomspace(0.3, 12, 12))
    for alpha in (1e-4, 0.3, 0.999):
        assert max(lambdas(alpha)) * alpha < 1
    assert all(1 + bet * (-1 - 0.02) > 0 for bet in lambdas(0.02, -1.0))


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=40),
    st.floats(0.01, 0.9),
    st.booleans(),
    st.integers(50, 1000),
)
def test_the_e_value_is_the_weighted_mean_of_bets_started_at_every_value(
    values: list[float], bound: float, errors: bool, length: int
) -> None:
    """By its definition: every bet from every start, the one that starts with the log weighing r, all others 1."""
    lowest = 0.0 if errors else -1.0
    given_ = [abs(x) for x in values] if errors else values
    found, head = e_values(given_, bound, lowest=lowest, length=length), HEAD_START * length
    for t in range(1, len(given_) + 1):
        total = sum(
            weight * math.prod(1 + bet * (x - bound) for x in given_[start:t])
            for bet in lambdas(bound, lowest)
            for start, weight in [(0, head), *((s, 1.0) for s in range(t))]
        )
        assert found[t - 1] == pytest.approx(total / 12 / (head + length), rel=1e-9)


def test_on_the_boundary_the_expected_e_value_grows_by_one_start_a_label_and_is_one_at_the_stated_length() -> None:
    bound, length = 0.2, 10
    for n in (1, 5, 10):
        mean = sum(
            math.prod(bound if x else 1 - bound for x in path) * e_values(path, bound, length=length)[-1]
            for path in itertools.product((0.0, 1.0), repeat=n)
        )
        assert mean == pytest.approx((HEAD_START * length + n) / (HEAD_START * length + length), rel=1e-9)


def test_of_a_longer_log_the_newest_values_count_and_the_alarm_is_numbered_in_the_whole() -> None:
    values = [1.0] * 50 + [0.0] * 100 + [1.0] * 30
    found = watch(values, 0.05, length=80)
    assert found.labels == 180
    assert found.alarm_at is not None
    assert found.alarm_at == 100 + (watch(values[-80:], 0.05, length=80).alarm_at or 0)
    assert watch(values, 0.05).alarm_at is not None
    assert (watch(values, 0.05).alarm_at or 0) < 50


def test_false_alarms_over_3000_labels_stay_within_the_stated_rate() -> None:
    assert alarm_share(0.05, 3000, 400, seed=1) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("past", [0, 1000])
def test_a_good_past_costs_less_than_twice_the_labels_of_a_fresh_log(past: int) -> None:
    assert median_delay(0.15, past, 300, seed=2) <= 2 * 79
    assert median_delay(0.15, 0, 300, seed=2) == pytest.approx(79, rel=0.2)


def documented() -> dict[float, list[float]]:
    """The table of docs/monitoring.md: error rate -> labels to the alarm after each past."""
    text = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\d.]+) % \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", text, re.MULTILINE)
    return {float(r[0]) / 100: [float(n.replace(",", "")) for n in r[1:]] for r in rows}


@pytest.mark.slow
def test_the_documented_delays_are_those_of_the_simulation_and_a_good_past_at_most_doubles_them() -> None:
    table = documented()
    assert sorted(table) == pytest.approx(sorted(FAULTS))
    for fault, stated in table.items():
        found = [median_delay(fault, past, 1000, seed=3) for past in PASTS]
        assert found == pytest.approx(stated, rel=0.1)
        assert max(found) <= 2 * found[0]


@pytest.mark.slow
def test_false_alarms_over_the_whole_stated_length_stay_within_five_per_cent() -> None:
    assert alarm_share(0.05, LENGTH, 1000, seed=4) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.slow
def test_the_paired_evidence_sees_a_lead_that_the_bound_on_errors_hides_and_rarely_anything_else() -> None:
    assert paired_alarm_share(0.025, 0.025, 6000, 500, seed=5) <= 0.05
    assert paired_alarm_share(0.055, 0.025, 6000, 500, seed=5) >= 0.8


def test_a_bound_that_is_no_rate_is_refused() -> None:
    for alpha in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            watch([1.0], alpha)


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
