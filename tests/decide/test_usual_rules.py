"""What people usually do, the paired difference and the findings, each against a count by hand or a closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.decide.advice import findings
from pipeline.decide.certify import certify_match_strong
from pipeline.decide.curves.usual_rules import FIXED, Setting, best_looking, usual_rules
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing.paired_interval import paired_difference
from pipeline.decide.testing.tango import tango_interval

GOAL = Goal("match_strong", 0.1, within=0.05)


def drawn(n: int, seed: int = 0, split: str = "test") -> Rows:
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    cheap = (rng.random(n) < 0.4 + 0.6 * confidence).astype(float)
    strong = (rng.random(n) < np.where(cheap == 1, 0.98, 0.8)).astype(float)
    return Rows.from_frame(
        pd.DataFrame(
            {
                "example_id": [f"r{i}" for i in range(n)],
                "split": split,
                "group": [f"r{i}" for i in range(n)],
                "label": np.where(rng.random(n) < 0.5, "a", "b"),
                "confidence": confidence,
                "cheap_correct": cheap,
                "strong_correct": strong,
                "cheap_usd": 1e-5,
                "strong_usd": 1e-4,
            }
        )
    )


def both(rows: Rows) -> Setting:
    """The same rows to show and to test on."""
    return Setting(rows, GOAL, "test", 0.9, False, False)


@pytest.mark.parametrize("n", [20, 300])
def test_where_no_row_differs_the_interval_is_that_of_the_closed_form(n: int) -> None:
    z = stats.norm.ppf(0.95)
    low, high = tango_interval(0, 0, n, 0.9)
    assert (low, high) == pytest.approx((-(z**2) / (n + z**2), z**2 / (n + z**2)), abs=1e-9)


def test_the_interval_is_what_the_likelihood_of_the_restricted_law_does_not_reject() -> None:
    """Restricted estimates by maximising the trinomial likelihood numerically, not by the formula of the test."""
    losses, wins, n = 12, 2, 100
    low, high = tango_interval(losses, wins, n, 0.95)
    grid = np.linspace(1e-9, 0.5, 200_001)
    for bound in (low, high):
        loss = -bound  # P(loss) - P(win)
        p_win = grid[grid + loss > 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            fit = (
                losses * np.log(p_win + loss) + wins * np.log(p_win) + (n - losses - wins) * np.log1p(-2 * p_win - loss)
            )
        win = p_win[np.nanargmax(fit)]
        z = (losses - wins - n * loss) / np.sqrt(n * (2 * win + loss - loss**2))
        assert abs(z) == pytest.approx(stats.norm.ppf(0.975), abs=2e-3)


@pytest.mark.slow
def test_the_interval_covers_at_its_level() -> None:
    rng = np.random.default_rng(1)
    draws = rng.multinomial(120, [0.06, 0.02, 0.92], 800)
    inside = [low <= -0.04 <= high for low, high in (tango_interval(a, b, 120, 0.9) for a, b, _ in draws)]
    assert 0.87 < np.mean(inside) < 0.94


def test_groups_enter_by_their_means() -> None:
    mine, other = np.array([1, 1, 0, 0, 0.0]), np.array([1, 0, 1, 1, 1.0])
    group = np.array(["x", "x", "y", "y", "y"], dtype=object)
    at = paired_difference(mine, other, level=0.9, split="test", group=group)
    assert at.value == pytest.approx((0.5 - 1) / 2)
    half = stats.t.ppf(0.95, 1) * np.std([0.5, -1], ddof=1) / np.sqrt(2)
    assert (at.lower, at.upper) == pytest.approx((at.value - half, at.value + half))


def test_every_rule_is_counted_row_by_row() -> None:
    rows = drawn(400)
    router = np.random.default_rng(3).random(400) + (rows.cheap_correct == 0)
    told = {r["name"]: r for r in usual_rules(both(rows), both(rows), 0.6, routers=(router, router))}
    assert list(told) == ["cascade", "fixed", "best_looking", "random", "router", "oracle", "strong", "cheap"]
    right = {"cascade": 0.0, "fixed": 0.0, "oracle": 0.0, "strong": 0.0, "cheap": 0.0}
    usd = dict.fromkeys(right, 0.0)
    for c, cheap, strong in zip(rows.confidence, rows.cheap_correct, rows.strong_correct, strict=True):
        for name, kept in (
            ("cascade", c >= 0.6),
            ("fixed", c >= FIXED),
            ("oracle", not (cheap == 0 and strong == 1)),
            ("strong", False),
            ("cheap", True),
        ):
            right[name] += cheap if kept else strong
            usd[name] += (0 if name == "strong" else 1e-5) + (0 if kept else 1e-4)
    for name, count in right.items():
        assert told[name]["accuracy"]["value"] == pytest.approx(count / 400), name
        assert told[name]["usd_per_1000"]["value"] == pytest.approx(1000 * usd[name] / 400), name
    assert told["strong"]["difference"]["value"] == 0
    assert told["strong"]["kept"] is True
    # the router spends what the cascade spends, to the last request that still fits
    assert 0 <= told["cascade"]["usd_per_1000"]["value"] - told["router"]["usd_per_1000"]["value"] < 1000 * 1e-4 / 400
    assert told["router"]["against_cascade"]["value"] > 0
    assert [w.code for w in findings.of_usual_rules(list(told.values()))] == ["router_better"]


def test_a_rule_keeps_its_promise_when_the_certifying_test_says_so() -> None:
    rows = drawn(900, seed=2)
    told = {r["name"]: r for r in usual_rules(both(rows), both(rows), 0.7)}
    for name, threshold in (("cascade", 0.7), ("fixed", FIXED)):
        found = certify_match_strong(
            rows.confidence, rows.cheap_correct, rows.strong_correct, within=0.05, delta=0.1, levels=[threshold]
        )
        assert told[name]["p_value"] == pytest.approx(found.p_value)
        assert told[name]["kept"] == (found.threshold is not None)
    assert told["cheap"]["kept"] is False


def test_random_escalation_is_the_mean_of_many_lots() -> None:
    rows = drawn(300, seed=4)
    told = {r["name"]: r for r in usual_rules(both(rows), both(rows), 0.6)}
    kept, rng = int((rows.confidence >= 0.6).sum()), np.random.default_rng(0)
    lots = []
    for _ in range(2000):
        mine = np.zeros(300, dtype=bool)
        mine[rng.permutation(300)[:kept]] = True
        lots.append(np.where(mine, rows.cheap_correct, rows.strong_correct).mean())
    assert told["random"]["accuracy"]["value"] == pytest.approx(np.mean(lots), abs=0.002)


def test_the_best_looking_threshold_is_the_lowest_that_meets_the_target() -> None:
    rows = drawn(250, seed=5)
    best = best_looking(rows, GOAL, human=False)
    assert best is not None

    def difference(threshold: float) -> float:
        kept = rows.confidence >= threshold
        return float(np.where(kept, rows.cheap_correct - rows.strong_correct, 0).mean())

    assert difference(best) >= -0.05
    assert all(difference(t) < -0.05 for t in np.unique(rows.confidence) if t < best)


@pytest.mark.slow
def test_the_stretch_that_passed_is_where_single_tests_pass_in_order() -> None:
    rows = drawn(700, seed=6)
    given = (rows.confidence, rows.cheap_correct, rows.strong_correct)
    levels = np.linspace(0.02, 0.98, 49)
    found = certify_match_strong(*given, within=0.05, delta=0.1, levels=levels)
    stretches = found.details["passed"]

    def inside(t: float) -> bool:
        return any((low is None or t > low) and t <= high for low, high in stretches)

    alone = [certify_match_strong(*given, within=0.05, delta=0.1, levels=[t]).threshold is not None for t in levels]
    first_failure = max((i for i, passed in enumerate(alone) if not passed), default=-1)
    for i, t in enumerate(levels):
        assert inside(t) == (i > first_failure), t


def test_surest_answers_that_are_the_worst_are_a_grave_finding() -> None:
    rows = drawn(600, seed=8, split="certify")
    assert "surest_are_worst" not in [w.code for w in findings.findings(rows, GOAL, 0.5, human=False, grouped=False)]
    worst = replace(rows, cheap_correct=np.where(rows.confidence > 0.85, 0.0, rows.cheap_correct))
    found = {w.code: w for w in findings.findings(worst, GOAL, 0.5, human=False, grouped=False)}
    assert found["surest_are_worst"].gravity == 3
    assert found["surest_are_worst"].text.startswith("The most confident answers are the worst: 0")


def test_parts_that_disagree_and_labels_beyond_the_margin_are_findings() -> None:
    held, test = drawn(600, seed=9, split="certify"), drawn(600, seed=10)
    bad = replace(test, cheap_correct=np.where(test.label == "a", 0.0, test.cheap_correct))
    both = Rows(**{k: np.concatenate([getattr(held, k), getattr(bad, k)]) for k in vars(held)})
    found = {w.code: w for w in findings.findings(both, GOAL, 0.4, human=False, grouped=False)}
    assert found["splits_disagree"].gravity == 3
    assert found["label_beyond_margin"].gravity == 2
    assert "'a'" in found["label_beyond_margin"].text
    calm = Rows(**{k: np.concatenate([getattr(held, k), getattr(test, k)]) for k in vars(held)})
    assert "splits_disagree" not in {w.code for w in findings.findings(calm, GOAL, 0.4, human=False, grouped=False)}


def test_a_ranking_that_is_no_better_is_a_finding() -> None:
    worse = {"cheap": {"ndcg_at_10": {"value": 0.9505}}, "cascade": {"ndcg_at_10": {"value": 0.9492}}}
    (found,) = findings.of_ranking(worse)
    assert "0.9492 against 0.9505" in found.text
    assert list(findings.of_ranking({"cheap": worse["cascade"], "cascade": worse["cheap"]})) == []
    assert list(findings.of_ranking(None)) == []
