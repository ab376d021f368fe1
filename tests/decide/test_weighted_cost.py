"""Total cost with production's label mix: the threshold, its totals and those of each model alone are of one population."""

from dataclasses import replace

import numpy as np
import pytest
from decide.evaluated import evaluated, texts

from pipeline.decide.certify import certify
from pipeline.decide.curves.at_threshold import Expectation, mix_weights
from pipeline.decide.recommend import recommend
from pipeline.decide.target import Goal

GOAL = Goal("total_cost", 0.1, usd_per_error={"spam": 0.5, "work": 0.05})
MIX = {"spam": 0.02, "work": 0.98}


def enriched(n=6000):
    """Half of the rows are of a label that production has 2 % of, and the cheap model is poor at it."""
    rows = evaluated(n, seed=3)
    rng = np.random.default_rng(1)
    spam = rng.random(n) < 0.5
    right = (rng.random(n) < np.where(spam, 0.6 + 0.35 * rows.confidence, 0.97)).astype(float)
    label = texts(np.where(spam, "spam", "work"))
    other = np.where(spam, "work", "spam")
    strong = (rng.random(n) < 0.985).astype(float)
    return replace(
        rows,
        label=label,
        cheap_correct=right,
        cheap_answer=texts(np.where(right == 1, label, other)),
        strong_correct=strong,
        strong_answer=texts(np.where(strong == 1, label, other)),
        strong_usd=np.full(n, 0.005),
    )


def production_cost(rows, threshold):
    """Brute force: mean over labels at production's shares of dollars for calls and errors, per 1,000."""
    keep = rows.confidence >= threshold
    price = np.where(rows.label == "spam", 0.5, 0.05)
    each = rows.cheap_usd + np.where(
        keep, price * (rows.cheap_correct == 0), rows.strong_usd + price * (rows.strong_correct == 0)
    )
    return 1000 * sum(share * each[rows.label == name].mean() for name, share in MIX.items())


def test_the_threshold_is_the_cheapest_in_productions_mix():
    rows = enriched()
    held = rows.of("certify")
    found = certify(held, GOAL, levels=None, prevalence=MIX, seed=1)
    best = min(production_cost(held, t) for t in np.append(np.unique(held.confidence), 2.0))
    assert production_cost(held, found.threshold) <= 1.02 * best
    assert found.details["usd_per_1000"] == pytest.approx(production_cost(held, found.threshold))
    assert found.details["cheap_only_usd_per_1000"] == pytest.approx(production_cost(held, 0.0))
    unweighted = certify(held, GOAL, levels=None, seed=1)
    assert production_cost(held, unweighted.threshold if unweighted.threshold is not None else 2.0) > 1.1 * best


def test_totals_of_the_shown_rows_are_productions_too():
    rows = enriched()
    certificate = certify(rows.of("certify"), GOAL, levels=None, prevalence=MIX, seed=1)
    found = recommend(rows, GOAL, certificate=certificate, prevalence=MIX, seed=1)
    test = rows.of("test")
    totals = found.to_json()["totals"]
    assert totals["recommended"]["value"] == pytest.approx(production_cost(test, found.threshold))
    assert totals["cheap_only"]["value"] == pytest.approx(production_cost(test, 0.0))
    price = np.where(test.label == "spam", 0.5, 0.05)
    alone = test.strong_usd + price * (test.strong_correct == 0)
    assert totals["strong_only"]["value"] == pytest.approx(
        1000 * np.average(alone, weights=mix_weights(test.label, MIX))
    )
    assert totals["recommended"]["lower"] < totals["recommended"]["value"] < totals["recommended"]["upper"]


def test_where_the_cheap_model_alone_costs_no_more_it_is_taken():
    rows = replace(enriched(), strong_usd=np.full(6000, 0.4))
    found = certify(rows.of("certify"), GOAL, levels=None, prevalence=MIX, seed=1)
    assert found.threshold == 0.0
    assert found.details["usd_per_1000"] == found.details["cheap_only_usd_per_1000"]


def test_the_interval_of_a_weighted_difference_holds_it_on_both_sides_of_zero():
    rng = np.random.default_rng(3)
    rows = evaluated(800, seed=3, shares=(0, 0, 1))
    weights = np.where(rng.random(800) < 0.3, 2.0, 0.5)
    worse = replace(rows, cheap_correct=(rng.random(800) < 0.8).astype(float), strong_correct=np.ones(800))
    found = Expectation(worse, 0.0, split="test", weights=weights, seed=0).against_strong()
    assert found.lower < found.value < found.upper < 0
    draws = []
    for _ in range(1000):
        take = rng.integers(0, 800, 800)
        draws.append(np.average((worse.cheap_correct - 1)[take], weights=weights[take]))
    assert (found.lower, found.upper) == pytest.approx(np.quantile(draws, [0.05, 0.95]), abs=0.005)
