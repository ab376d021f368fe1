"""Intervals of figures hold their level where rows come in groups, count with weights, or are missing because they were wrong.

Simulated populations whose true figure is known; 90 % intervals must cover it in at least .87 of the draws.
"""

from dataclasses import replace

import numpy as np
import pytest
from decide.evaluated import texts
from scipy import stats

from pipeline.decide.curves.at_threshold import Expectation, mix_weights, waiting
from pipeline.decide.predictions import Rows
from pipeline.decide.sweep import sweep
from pipeline.decide.testing.intervals import clopper_pearson
from pipeline.decide.testing.share_interval import share_interval
from pipeline.decide.testing.tango import weighted_tango

LEAST = 0.87


def correlated(rng, groups, size, rate, icc, columns):
    """0/1 of exchangeable rows, (groups * size, columns): with probability icc^.5 a row takes its group's common draw."""
    common = rng.random((groups, 1, columns)) < rate
    own = rng.random((groups, size, columns)) < rate
    takes = rng.random((groups, size, columns)) < icc**0.5
    return np.where(takes, common, own).reshape(groups * size, columns).astype(float)


def drawn(rng, groups, size, icc):
    n = groups * size
    cheap, strong, surer = correlated(rng, groups, size, np.array([0.88, 0.95, 0.7]), icc, 3).T
    confidence = np.where(surer == 1, 0.9, 0.3)
    seconds = np.exp(np.repeat(rng.normal(size=groups), size) * icc**0.5 + rng.normal(size=n) * (1 - icc) ** 0.5)
    names = texts([f"e{i}" for i in range(n)])
    nothing = texts([None] * n)
    return Rows(
        example_id=names,
        split=texts(["certify"] * n),
        group=texts([f"g{i // size}" for i in range(n)]),
        segment=nothing,
        label=texts(["a"] * n),
        cheap_answer=texts(np.where(cheap == 1, "a", "b")),
        strong_answer=texts(np.where(strong == 1, "a", "b")),
        confidence=confidence,
        cheap_correct=cheap,
        strong_correct=strong,
        cheap_usd=1e-4 * seconds,
        strong_usd=1e-3 * seconds,
        cheap_s=seconds,
        strong_s=seconds,
    )


TRUTH = {
    "coverage": 0.7,
    "accepted_accuracy": 0.88,
    "system_accuracy": 0.7 * 0.88 + 0.3 * 0.95,
    "strong_accuracy": 0.95,
    "usd_per_1000": 1000 * np.exp(0.5) * (1e-4 + 0.3 * 1e-3),
}


@pytest.mark.slow
@pytest.mark.parametrize("icc", [0.3, 1.0])
@pytest.mark.parametrize(("groups", "size"), [(200, 4), (100, 4), (40, 20), (20, 20)])
def test_shares_of_groups_are_covered(groups, size, icc):
    runs, rates = 1500, np.array([0.7, 0.88, 0.95, 0.99])
    hits = np.zeros(len(rates))
    group, every = np.repeat(np.arange(groups), size), np.ones(groups * size, dtype=bool)
    for run in range(runs):
        x = correlated(np.random.default_rng([groups, size, run]), groups, size, rates, icc, len(rates))
        for i, rate in enumerate(rates):
            lower, upper = share_interval(x[:, i], every, group=group, level=0.9)
            hits[i] += lower <= rate <= upper
    print(groups, size, icc, hits / runs)
    assert hits.min() >= (LEAST - 0.01) * runs, hits / runs  # a rate of 1,500 runs has a standard error of .009


@pytest.mark.slow
@pytest.mark.parametrize("icc", [0.3, 1.0])
@pytest.mark.parametrize(("groups", "size"), [(100, 4), (20, 20)])
def test_every_figure_of_groups_is_covered(groups, size, icc):
    runs, hits = 200, dict.fromkeys([*TRUTH, "latency_p50_s"], 0)
    for run in range(runs):
        rows = drawn(np.random.default_rng([groups, size, run]), groups, size, icc)
        found = Expectation(rows, 0.5, split="certify", seed=1).all()
        for name, truth in TRUTH.items():
            hits[name] += found[name].lower <= truth <= found[name].upper
        waits = waiting(rows.cheap_s, "certify", group=np.repeat(np.arange(groups), size))["latency_p50_s"]
        hits["latency_p50_s"] += waits.lower <= 1.0 <= (waits.upper or np.inf)
    print(groups, size, icc, hits)
    assert min(hits.values()) >= (LEAST - 0.03) * runs, hits  # standard error .021


@pytest.mark.slow
@pytest.mark.parametrize("icc", [0.3, 1.0])
@pytest.mark.parametrize(("groups", "size"), [(100, 4), (20, 20)])
def test_bands_of_groups_cover(groups, size, icc):
    runs, hits = 200, dict.fromkeys(("coverage", "accepted_accuracy", "system_accuracy", "usd_per_1000"), 0)
    for run in range(runs):
        rows = drawn(np.random.default_rng([7, groups, size, run]), groups, size, icc)
        table = sweep(rows, [0.5], replicates=300, seed=run).set_index("split").loc["certify"]
        for name in hits:
            hits[name] += table[f"{name}_lower"] <= TRUTH[name] <= table[f"{name}_upper"]
    print(groups, size, icc, hits)
    assert min(hits.values()) >= (LEAST - 0.03) * runs, hits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "right"), [(400, (0.97, 0.90)), (400, (0.95, 0.6)), (1000, (0.97, 0.97)), (2000, (0.98, 0.9))]
)
def test_intervals_of_a_rare_label_weighted_up_cover(n, right):
    """A label of 5 % in the set and 30 % in production."""
    mix, runs = {"common": 0.7, "rare": 0.3}, 600
    truth = 0.7 * right[0] + 0.3 * right[1]
    kept_truth = (0.7 * 0.8 * right[0] + 0.3 * 0.5 * right[1]) / (0.7 * 0.8 + 0.3 * 0.5)
    hits = np.zeros(2)
    for run in range(runs):
        rng = np.random.default_rng([n, run])
        rare = rng.random(n) < 0.05
        cheap = (rng.random(n) < np.where(rare, right[1], right[0])).astype(float)
        confidence = np.where(rng.random(n) < np.where(rare, 0.5, 0.8), 0.9, 0.1)
        weights = mix_weights(texts(np.where(rare, "rare", "common")), mix)
        for i, (among, value) in enumerate(((np.ones(n, dtype=bool), truth), (confidence >= 0.5, kept_truth))):
            lower, upper = share_interval(cheap, among, weights=weights, level=0.9)
            hits[i] += lower <= value <= upper
    print(n, right, hits / runs)
    assert hits.min() >= (LEAST - 0.01) * runs, hits / runs


@pytest.mark.slow
@pytest.mark.parametrize(("n", "cheap", "strong"), [(400, 0.9, 0.97), (1000, 0.97, 0.99)])
def test_the_interval_of_a_difference_weighted_up_covers(n, cheap, strong):
    """A label of 5 % in the set and 30 % in production, on which the two models seldom differ."""
    runs, hits, truth = 500, 0, 0.3 * 0.5 * (cheap - strong) + 0.7 * 0.8 * (0.97 - 0.985)
    for run in range(runs):
        rng = np.random.default_rng([n, run])
        rare = rng.random(n) < 0.05
        kept = rng.random(n) < np.where(rare, 0.5, 0.8)
        mine, other = (rng.random(n) < np.where(rare, a, b) for a, b in ((cheap, 0.97), (strong, 0.985)))
        weights = mix_weights(texts(np.where(rare, "rare", "common")), {"common": 0.7, "rare": 0.3})
        lower, upper = weighted_tango(np.where(kept, mine.astype(float) - other, 0.0), weights, 0.9)
        hits += lower <= truth <= upper
    print(n, cheap, strong, hits / runs)
    assert hits >= (LEAST - 0.02) * runs, hits / runs


@pytest.mark.slow
def test_intervals_cover_though_answers_are_missing_because_they_were_wrong():
    runs, hits = 200, 0
    for run in range(runs):
        rng = np.random.default_rng([5, run])
        rows = drawn(rng, 1000, 1, 0.3)
        gone = (rows.strong_correct == 0) & (rng.random(1000) < 0.3)
        found = Expectation(
            replace(rows, strong_correct=np.where(gone, np.nan, rows.strong_correct)), 0.5, split="certify", seed=1
        )
        estimate = found.all()["strong_accuracy"]
        hits += estimate.lower <= 0.95 <= estimate.upper
    assert hits >= (LEAST - 0.03) * runs, hits / runs


def test_one_row_a_group_and_equal_weights_are_exact():
    rng = np.random.default_rng(0)
    x = (rng.random(60) < 0.9).astype(float)
    every = np.ones(60, dtype=bool)
    exact = tuple(float(v) for v in clopper_pearson(x.sum(), 60, 0.9))
    assert share_interval(x, every, level=0.9) == pytest.approx(exact)
    assert share_interval(x, every, weights=np.full(60, 3.0), level=0.9) == pytest.approx(exact)
    few = np.arange(60) < 10
    assert share_interval(x, few, level=0.9) == pytest.approx(
        tuple(float(v) for v in clopper_pearson(x[:10].sum(), 10, 0.9))
    )


def test_copies_of_a_row_tell_no_more_than_the_row_does():
    """Fifty groups of identical rows: as wide as fifty rows would be, up to Student's factor."""
    rng = np.random.default_rng(1)
    one = (rng.random(50) < 0.8).astype(float)
    copies = share_interval(
        np.repeat(one, 20), np.ones(1000, dtype=bool), group=np.repeat(np.arange(50), 20), level=0.9
    )
    alone = [float(v) for v in clopper_pearson(one.sum(), 50, 0.9)]
    factor = stats.t.ppf(0.95, 49) / stats.norm.ppf(0.95)
    assert copies[1] - copies[0] == pytest.approx((alone[1] - alone[0]) * factor, rel=0.03)
    flawless = share_interval(np.ones(1000), np.ones(1000, dtype=bool), group=np.repeat(np.arange(50), 20), level=0.9)
    assert flawless[0] < 0.05 ** (1 / 50)


def test_a_heavy_label_of_few_flawless_rows_still_widens_the_interval():
    x, rare = np.ones(400), np.arange(400) < 20
    weights = np.where(rare, 0.3 / 0.05, 0.7 / 0.95)
    lower, upper = share_interval(x, np.ones(400, dtype=bool), weights=weights, level=0.9)
    assert upper == 1.0
    assert lower < 1 - 0.3 * (1 - 0.05 ** (1 / 20)) + 1e-9  # the rare label alone leaves that much room
