"""Figures of strong answers that the coin drew, near 1 and under production's mix: as exact as the rows that were asked about."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from decide.evaluated import texts
from decide.sampled import GOAL, bought, pooled, rates, tossed
from scipy import stats

from pipeline.decide.advice.holdout_check import share
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.breakdown.wrong_kept import wrong_kept
from pipeline.decide.curves.at_threshold import Expectation, mix_weights
from pipeline.decide.curves.label_rates import label_rates
from pipeline.decide.sweep import sweep
from pipeline.decide.testing.paired_interval import paired_difference
from pipeline.decide.testing.sampled_interval import sampled_difference
from pipeline.decide.testing.share_interval import Seen, estimated_share, share_interval

NAMES = ("system_accuracy", "strong_accuracy", "agreement_with_strong")


def drawn(rng, n, *, cheap=0.8, strong=(0.97, 0.998), rare=0.05, kept=0.6):
    """Rows of a sure and an unsure kind; `strong` is right so often where the cheap model is wrong, and where it is right."""
    labels = np.where(rng.random(n) < rare, "rare", "common").astype(object)
    sure = rng.random(n) < kept
    right = (rng.random(n) < np.where(sure, 0.985, cheap)).astype(float)
    other = (rng.random(n) < np.where(right == 1, strong[1], strong[0])).astype(float)
    of = {1.0: lambda y: y, 0.0: lambda y: f"not {y}"}
    return replace(
        pooled(n, rng, labels=labels),
        confidence=np.where(sure, 0.9, 0.3) + 0.1 * rng.random(n),
        cheap_correct=right,
        strong_correct=other,
        cheap_answer=texts([of[c](y) for y, c in zip(labels, right, strict=True)]),
        strong_answer=texts([of[s](y) for y, s in zip(labels, other, strict=True)]),
    )


def figures(seen, threshold, weights=None, level=0.9):
    return Expectation(seen, threshold, split="certify", seed=0, weights=weights, level=level).all()


def test_a_strong_model_that_was_always_right_has_the_limits_of_the_answers_seen():
    """A fifth of the cheap answers is wrong: a sum over rows would swing by that share, though no strong answer is wrong."""
    rng = np.random.default_rng(1)
    rows = replace(drawn(rng, 600), strong_correct=np.ones(600))
    for tries in range(5):
        _, seen = bought(rows, tossed(600, np.random.default_rng(tries)), rates(0.25), replace(GOAL, within=1e-4))
        shown = figures(seen, None, level=0.99)["strong_accuracy"]
        assert (shown.value, shown.upper) == (1.0, 1.0)
        exact = stats.binomtest(150, 150).proportion_ci(0.99, "exact").low
        assert exact - 0.02 < shown.lower <= exact


def test_answers_seen_on_a_part_of_the_rows_are_never_taken_for_all_of_them():
    """No kept answer of the coin's rows differs: that is so of 75 rows, not of the 300 that they stand for."""
    n, half = 400, np.arange(400) < 300
    x = np.where(half & (np.arange(n) % 4 > 0), np.nan, 1.0)
    seen = Seen(~np.isnan(x), half.astype(np.int64), np.where(half, 4.0, 1.0))
    lower, upper = share_interval(x, np.ones(n, dtype=bool), seen=seen, level=0.9)
    assert upper == 1.0
    of_the_seen = 0.75 * stats.binomtest(75, 75).proportion_ci(0.9, "exact").low + 0.25
    assert of_the_seen - 0.02 < lower < of_the_seen + 0.01
    assert lower < stats.binomtest(n, n).proportion_ci(0.9, "exact").low


def test_an_answer_that_was_seen_counts_for_as_many_rows_as_it_stands_for():
    seen = Seen(np.array([True, True, False, False]), np.zeros(4, dtype=np.int64), np.array([3.0, 1.0, 1.0, 1.0]))
    assert estimated_share(np.array([1.0, 0.0, np.nan, np.nan]), np.ones(4, dtype=bool), seen=seen) == 0.75


def test_the_difference_joins_exact_intervals_of_losses_on_all_rows_and_of_gains_on_the_drawn_ones():
    """40 of 200 cheap answers are wrong, and all of these were asked about; of the 160 right ones the coin drew 40, of the wrong ten."""
    n, wrong = 200, np.arange(200) < 40
    drawn = (np.arange(n) < 10) | (np.arange(n) >= 160)
    strong = np.full(n, np.nan)
    strong[:37] = np.arange(37) < 15  # 15 losses, and three answers that never came
    strong[160:199] = np.arange(39) >= 4  # four gains, and one answer that never came
    rows = replace(
        pooled(n, np.random.default_rng(6)),
        cheap_correct=np.where(wrong, 0.0, 1.0),
        strong_correct=strong,
        drawn=drawn.astype(float),
        strong_weight=np.where(wrong, 1.0, np.where(drawn, 4.0, 0.0)),
    )
    found = sampled_difference(rows, np.ones(n, dtype=bool), level=0.9, split="certify")

    def limits(k, of):
        return stats.binomtest(k, of).proportion_ci(0.95, "exact")

    assert found.lower == pytest.approx(limits(4, 50).low - limits(18, n).high)
    assert found.upper == pytest.approx(limits(5, 50).high - limits(15, n).low)


def test_where_all_is_seen_the_limits_are_those_of_a_whole_sample():
    rng = np.random.default_rng(2)
    x, of = (rng.random(300) < 0.9).astype(float), rng.integers(0, 3, 300)
    every = np.ones(300, dtype=bool)
    exact = stats.binomtest(int(x.sum()), 300).proportion_ci(0.9, "exact")
    assert share_interval(x, every, seen=Seen(every, of, np.ones(300)), level=0.9) == pytest.approx(
        (exact.low, exact.high), abs=2e-3
    )


def test_the_curve_meets_the_figure_at_the_threshold():
    rng = np.random.default_rng(3)
    rows = drawn(rng, 600)
    done, seen = bought(rows, tossed(600, rng), rates(0.25))
    weights = mix_weights(rows.label, {"rare": 0.3, "common": 0.7})
    kept = rows.confidence >= done.threshold
    table = sweep(seen.calibrated(kept, weights), [done.threshold], replicates=50, seed=0, weights=weights)
    shown = figures(seen, done.threshold, weights)
    for name in ("system_accuracy", "usd_per_1000"):
        assert table.set_index("split").loc["certify", name] == pytest.approx(shown[name].value, rel=1e-9)


def test_curves_of_sampled_answers_are_shares():
    rng = np.random.default_rng(6)
    rows = drawn(rng, 200, cheap=0.5, strong=(1.0, 1.0), kept=0.3)
    _, seen = bought(rows, tossed(200, rng), rates(0.1, 0.1))
    table = sweep(seen, np.linspace(0.3, 1, 20), replicates=200, seed=0)
    for name in ("system_accuracy", "accepted_accuracy", "coverage"):
        for kind in ("", "_lower", "_upper", "_sim_lower", "_sim_upper"):
            assert table[name + kind].dropna().between(0, 1).all(), name + kind


def test_many_labels_of_few_rows_do_not_widen_each_others_intervals():
    """Sixty labels whose weights hardly differ are nearly one sample; each by itself would know little."""
    rng = np.random.default_rng(4)
    labels = texts(np.array([f"label {i % 60}" for i in range(900)], dtype=object))
    weights = mix_weights(labels, {f"label {i}": (1 + 0.01 * (i % 2)) / 60.3 for i in range(60)})
    x = (rng.random(900) < 0.97).astype(float)
    lower, upper = share_interval(x, np.ones(900, dtype=bool), weights=weights, level=0.99)
    exact = stats.binomtest(int(x.sum()), 900).proportion_ci(0.99, "exact")
    assert (lower, upper) == pytest.approx((exact.low, exact.high), abs=2e-3)


def test_wrong_answers_kept_have_the_limits_of_the_weighted_share_at_every_threshold():
    rng = np.random.default_rng(7)
    n, mix = 500, {"rare": 0.4, "common": 0.6}
    labels = np.where(rng.random(n) < 0.05, "rare", "common")
    confidence, right = rng.random(n), (rng.random(n) < 0.97).astype(float)
    frame = pd.DataFrame(
        {
            "example_id": [f"r{i}" for i in range(n)],
            "split": "test",
            "label": labels,
            "confidence": confidence,
            "cheap_correct": right,
        }
    )
    at = np.array([0.0, 0.5, 0.9])
    found = wrong_kept(CodedRows.of_table(pa.Table.from_pandas(frame)), "test", at, mix)
    weights = mix_weights(texts(labels.astype(object)), mix)
    for i, threshold in enumerate(at):
        wrong = ((confidence >= threshold) & (right == 0)).astype(float)
        limits = share_interval(wrong, np.ones(n, dtype=bool), weights=weights, level=0.9)
        assert found.share[i] == pytest.approx(weights @ wrong / weights.sum())
        assert (found.lower[i], found.upper[i]) == pytest.approx(limits, rel=1e-9)


def test_a_labels_recall_counts_sampled_answers_for_those_they_stand_for():
    rng = np.random.default_rng(5)
    rows = drawn(rng, 800, rare=0.3)
    done, seen = bought(rows, tossed(800, rng), rates(0.25))
    kept = rows.confidence >= done.threshold
    weights = np.where(kept, 1.0, seen.strong_weight)
    shown = {e["name"]: e for e in label_rates(seen, kept, split="test", human=False, weights=weights, groups=None)}
    told = np.where(kept, rows.cheap_correct, rows.strong_correct)[rows.label == "rare"].mean()
    recall = shown["rare"]["recall"]
    assert recall["lower"] <= told <= recall["upper"]
    assert recall["upper"] - recall["lower"] < 0.2


def test_groups_that_all_agree_leave_room_for_one_that_does_not():
    group = texts(np.array([f"g{i // 4}" for i in range(200)], dtype=object))
    one_in_fifty = stats.binomtest(0, 50).proportion_ci(0.9, "exact").high
    difference = paired_difference(np.ones(200), np.ones(200), level=0.9, split="test", group=group)
    assert (difference.lower, difference.upper) == pytest.approx((-one_in_fifty, one_in_fifty))
    agreement = share(np.ones(200), level=0.9, split="test", group=group)
    assert agreement.upper == 1
    assert 1 - 1.2 * one_in_fifty < agreement.lower <= 1 - one_in_fifty


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "q", "strong", "mix", "everything"),
    [
        (300, 0.25, (0.97, 0.998), None, True),
        (300, 0.1, (0.99, 0.995), 0.3, False),
        (1000, 0.25, (0.97, 0.998), 0.3, True),
        (1000, 0.25, (0.65, 0.985), 0.3, False),
    ],
)
def test_sampled_figures_near_one_cover_and_are_unbiased(n, q, strong, mix, everything):
    """A label of 5 % of the rows is perhaps 30 % in production; the strong model is right in .94 to .996 of answers."""
    runs, goal = 120, replace(GOAL, within=1e-4) if everything else GOAL
    covered, off, widths = dict.fromkeys(NAMES, 0), {name: [] for name in NAMES}, {name: [] for name in NAMES}
    many = drawn(np.random.default_rng(0), 200_000, strong=strong)
    shares = None if mix is None else {"rare": mix, "common": 1 - mix}
    of_many = None if shares is None else mix_weights(many.label, shares)

    def true(rows, kept, weights):
        final = np.where(kept, rows.cheap_correct, rows.strong_correct)
        values = (final, rows.strong_correct, np.where(kept, rows.cheap_correct == rows.strong_correct, True))
        return [float(np.average(v, weights=weights)) for v in values]

    for run in range(runs):
        rng = np.random.default_rng([run, n])
        rows = drawn(rng, n, strong=strong)
        done, seen = bought(rows, rng.random(n), rates(q), goal)
        weights = None if shares is None else mix_weights(rows.label, shares)
        shown = figures(seen, done.threshold, weights)
        cut = np.inf if done.threshold is None else done.threshold
        truth, here = (true(r, r.confidence >= cut, w) for r, w in ((many, of_many), (rows, weights)))
        for name, value, complete in zip(NAMES, truth, here, strict=True):
            covered[name] += shown[name].lower - 1e-9 <= value <= shown[name].upper + 1e-9
            off[name].append(shown[name].value - complete)
            widths[name].append(shown[name].upper - shown[name].lower)
    print(n, q, strong, mix, {name: (covered[name] / runs, np.mean(widths[name]).round(3)) for name in NAMES})
    for name in NAMES:
        assert covered[name] >= 0.87 * runs - 2 * (0.09 * runs) ** 0.5, name
        assert abs(np.mean(off[name])) <= 3 * np.std(off[name]) / runs**0.5 + 1e-12, name
