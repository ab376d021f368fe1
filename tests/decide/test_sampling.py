"""Strong answers bought by the coin: what is bought, that the answer is that of the whole sample, and what the figures are."""

from dataclasses import replace

import numpy as np
import pytest
from decide.sampled import GOAL, bought, pooled, rates, tossed
from populations import Population
from scipy import stats

from pipeline.config.strong_answers import StrongAnswers
from pipeline.config.target import Target
from pipeline.decide.advice.warnings import row_warnings
from pipeline.decide.certify import certify
from pipeline.decide.curves.at_threshold import Expectation, mix_weights
from pipeline.decide.purchase import purchase
from pipeline.decide.recommend import recommend
from pipeline.decide.sampling import coins, draw
from pipeline.decide.target import Goal
from pipeline.decide.testing.clusters import betting_p
from pipeline.decide.testing.sampled_interval import sampled_difference
from pipeline.decide.testing.share_interval import Seen, share_interval
from pipeline.decide.testing.weighted_score import WeightedTest
from pipeline.decide.thresholds import accepted


def whole_answer(rows, coin, q):
    """The threshold by the definition, every strong answer known: the last candidate before the first that fails."""
    n, drawn = len(rows), np.zeros(len(rows), bool)
    drawn[np.argsort(coin, kind="stable")[: round(q * n)]] = True
    test, passed = WeightedTest(n, int(drawn.sum()), 0.02, gamma=0.001), 0.0
    for t in np.unique(rows.confidence)[::-1]:
        kept = rows.confidence >= t
        a = int((kept & (rows.cheap_correct == 0) & (rows.strong_correct == 1)).sum())
        b = int((kept & drawn & (rows.cheap_correct == 1) & (rows.strong_correct == 0)).sum())
        if test.p_values([a], [b])[0] > 0.1:
            return passed
        passed = float(kept.mean())
    return passed


def test_coins_are_spread_evenly_nested_and_drawn_to_the_row():
    rng = np.random.default_rng(0)
    rows, coin = pooled(998, rng), tossed(998, rng)
    assert np.histogram(coin, bins=4, range=(0, 1))[0].min() > 190
    assert (coins(["a text"]) == coins(["a text"])).all()
    sets = [draw(rows, coin, rates(q), GOAL).kept for q in (0.1, 0.25, 0.5)]
    assert [int(s.sum()) for s in sets] == [100, 250, 499]
    assert (sets[0] <= sets[1]).all()
    assert (sets[1] <= sets[2]).all()


def test_of_a_group_one_row_is_drawn_and_the_coin_is_its_own():
    rng = np.random.default_rng(1)
    rows = replace(pooled(400, rng), group=np.array([f"g{i // 2}" for i in range(400)], dtype=object))
    coin = np.repeat(tossed(200, rng), 2)
    drawn = draw(rows, coin, rates(0.25), Goal("match_strong", 0.1, within=0.05))
    assert drawn.unit.sum() == 200
    assert drawn.kept.sum() == 50
    assert (drawn.kept <= drawn.unit).all()
    assert set(drawn.weight_if_kept[drawn.kept]) == {8.0}


@pytest.mark.parametrize("q", [0.1, 0.25, 0.5])
def test_the_lazily_bought_answer_is_that_of_the_full_coin_set_whatever_the_blocks(q):
    rng = np.random.default_rng(2)
    rows, coin = pooled(600, rng), tossed(600, rng)
    expected = whole_answer(rows, coin, q)
    assert 0 < expected < 1
    for blocks in ((), (0.01, 0.02, 0.5), (1.0,)):
        done, seen = bought(rows, coin, rates(q), blocks=blocks)
        assert float((rows.confidence >= done.threshold).mean()) == pytest.approx(expected)
        found = certify(seen, GOAL, sampling=rates(q), seed=0)
        assert found.threshold == done.threshold
        assert found.details["q"] == q
        assert found.details["unbought_counted_as_loss"] == 0
    assert bought(rows, coin, rates(q))[0].stopped_at < 1


def test_answers_that_are_not_bought_change_nothing():
    rng = np.random.default_rng(3)
    rows, coin = pooled(500, rng), tossed(500, rng)
    done, seen = bought(rows, coin, rates(0.25))
    unbought = np.array([why is None for why in done.wanted])
    assert unbought.sum() > 250
    other = replace(rows, strong_correct=np.where(unbought, 1 - rows.strong_correct, rows.strong_correct))
    again, seen_again = bought(other, coin, rates(0.25))
    assert (again.wanted == done.wanted).all()
    np.testing.assert_array_equal(seen_again.strong_correct, seen.strong_correct)


def test_buying_step_by_step_asks_for_nothing_twice_and_ends_where_the_whole_walk_does():
    rng = np.random.default_rng(4)
    rows, coin = pooled(600, rng), tossed(600, rng)
    asked, steps = np.zeros(600, bool), []
    while not (step := purchase(rows.with_strong_of(asked), coin, rates(0.25), GOAL, asked=asked)).complete:
        assert not (step.missing & asked).any()
        asked = asked | step.missing
        steps.append(int(step.missing.sum()))
    whole = purchase(rows, coin, rates(0.25), GOAL)
    assert len(steps) > 5
    assert (step.wanted == whole.wanted).all()
    assert (asked == np.array([why is not None for why in whole.wanted])).all()


def test_a_purchase_that_stops_early_or_loses_calls_never_lowers_the_threshold():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rows, coin = pooled(500, rng), tossed(500, rng)
        complete = bought(rows, coin, rates(0.25))[0].threshold
        lost = rng.random(500) < 0.2
        failing = replace(rows, strong_correct=np.where(lost, np.nan, rows.strong_correct))
        capped = rows.with_strong_of((np.cumsum(np.ones(500)) < 150) | (rows.confidence > 0.99))
        for worse in (failing, capped):
            threshold = bought(worse, coin, rates(0.25))[0].threshold
            assert threshold is None or (complete is not None and threshold >= complete)


def test_every_row_of_a_floored_label_is_bought_and_wins_count_by_the_coin_alone():
    rng = np.random.default_rng(5)
    labels = np.where(rng.random(600) < 0.1, "rare", "common")
    rows, coin = pooled(600, rng, labels=labels), tossed(600, rng)
    goal = replace(GOAL, label_floors={"rare": 0.5})
    done, seen = bought(rows, coin, rates(0.25), goal)
    rare = rows.label == "rare"
    assert all(why is not None for why in done.wanted[rare])
    assert not all(why is not None for why in done.wanted[~rare])
    found = certify(seen, goal, sampling=rates(0.25), seed=0)
    kept = accepted(rows.confidence, found.threshold)
    drawn = np.zeros(600, bool)
    drawn[np.argsort(coin)[:150]] = True
    wins = kept & drawn & (rows.cheap_correct == 1) & (rows.strong_correct == 0)
    assert found.details["wins_seen"] == wins.sum()
    assert found.details["win_weight"] == 4.0


def test_agreement_is_tested_on_the_rows_that_the_coin_drew_alone():
    rng = np.random.default_rng(9)
    rows, coin, goal = pooled(600, rng), tossed(600, rng), Goal("agree_with_strong", 0.1, within=0.05)
    done, seen = bought(rows, coin, rates(0.5), goal)
    found = certify(seen, goal, sampling=rates(0.5), seed=0)
    drawn, kept = done.drawn == 1, accepted(rows.confidence, found.threshold)
    differ = int((drawn & kept & (rows.cheap_answer != rows.strong_answer)).sum())
    assert drawn.sum() == 300
    assert set(done.wanted[~drawn & kept]) == {None}
    assert found.p_value == pytest.approx(stats.binom.cdf(differ, 300, 0.05))
    assert (found.details["losses"], found.details["wins_seen"]) == (differ, None)
    assert found.details["unbought_counted_as_loss"] == 0


def test_auto_weighs_calls_against_a_years_escalations():
    assert StrongAnswers().rate(1000, 100_000) == 1
    assert StrongAnswers(sample=0.25).rate(1000, None) == 0.25
    auto = StrongAnswers(sample="auto")
    # sqrt(100,000 / (5 x 1,000^1.5)) = .795, sqrt(10,000 / ...) = .25, sqrt(300 / ...) = .044
    assert [auto.rate(1000, year) for year in (100_000, 10_000, 300)] == [1.0, 0.25, 0.0]


@pytest.mark.parametrize(
    ("said", "target", "dollars"),
    [
        (0.25, "system_accuracy", False),
        (0.5, "total_cost", False),
        (0.1, "budget", True),
        ("auto", "match_strong", False),
    ],
)
def test_a_sample_is_refused_where_it_could_not_keep_the_promise(said, target, dollars):
    with pytest.raises(ValueError, match=r"every strong answer|requests_per_year"):
        StrongAnswers(sample=said).require(target, dollars, None)
    StrongAnswers().require(target, dollars, None)
    StrongAnswers(sample=0.25).require("accepted_accuracy", False, None)


def figures(rows, threshold):
    return Expectation(rows, threshold, split="certify", seed=0).all()


def test_without_a_drawn_row_gains_are_unknown_and_accuracy_is_not():
    rng = np.random.default_rng(6)
    rows, coin = pooled(600, rng), tossed(600, rng)
    done, seen = bought(rows, coin, rates(0.0, 0.25))
    shown = figures(seen, done.threshold)
    assert shown["strong_accuracy"].value is None
    assert shown["system_accuracy"].value == pytest.approx(rows.strong_correct.mean(), abs=0.06)
    assert sampled_difference(seen, accepted(rows.confidence, done.threshold), level=0.9, split="certify").value is None


def test_answers_that_never_came_are_stood_in_for_by_those_of_their_class():
    """Kept and wrong: all asked, one of two came. Kept and right: a half drawn. Escalated: a quarter drawn, half of which came."""
    base = pooled(26, np.random.default_rng(0))
    #                 kept, wrong  kept, right         escalated
    cheap = np.array([0, 0] + [1] * 8 + [1] * 8 + [0] * 8, dtype=float)
    strong, weight = np.full(26, np.nan), np.zeros(26)
    weight[[0, 1]], weight[[2, 3, 4, 5]], weight[[10, 11, 18, 19]] = 1.0, 2.0, 4.0
    strong[[0, 2, 3, 4, 5]] = 1, 1, 1, 0, 1
    strong[[10, 18]] = 1, 1  # of 11 and 19 none came
    drawn = (weight > 1).astype(float)
    rows = replace(
        base,
        confidence=np.where(np.arange(26) < 10, 0.9, 0.1),
        cheap_correct=cheap,
        strong_correct=strong,
        strong_weight=weight,
        drawn=drawn,
    )
    shown = figures(rows, 0.5)
    # the escalated: 8 of 16 are right by the cheap model; 1 of the 2 that came gains, so 16 x .5 more
    assert shown["system_accuracy"].value == pytest.approx((8 + 8 + 8) / 26)
    # the kept: 8 right, both wrong ones lost as the one that came, 1 of 4 drawn won: 8 + 2 - 8 / 4
    assert shown["strong_accuracy"].value == pytest.approx((8 + 2 - 2 + 8 + 8) / 26)
    kept = rows.confidence > 0.5
    assert sampled_difference(rows, kept, level=0.9, split="").value == pytest.approx(-(2 - 2) / 26)
    whole = replace(rows, strong_correct=np.where(weight > 0, np.nan_to_num(strong, nan=1.0), np.nan))
    assert np.array_equal(whole.stood_in(whole.strong_correct, cheap, kept), whole.strong_estimate)
    # the weights of this sample add up to the rows of each class already
    assert np.array_equal(whole.calibrated(kept).strong_weight, whole.strong_weight)


@pytest.mark.slow
def test_a_cascade_is_weighed_against_the_strong_model_by_its_rows_and_not_by_those_asked_about():
    """At a coin of 0 only wrong kept answers are asked about: they are few, and so many rows escalate that are drawn."""
    rows, coin = pooled(700, np.random.default_rng(11)), tossed(700, np.random.default_rng(11))
    for q in (0.0, 0.25):
        _, seen = bought(rows, coin, rates(q))
        certificate = certify(seen, GOAL, sampling=rates(q), seed=0)
        assert 0.1 < certificate.escalation_rate < 0.5
        # the cascade costs .1 + escalated share x 1 dollars per 1,000, the strong model 1
        assert (
            recommend(seen, Target(kind="match_strong", within=0.02), certificate=certificate, seed=0).verdict
            == "certified"
        )


def test_unreadable_strong_replies_that_were_sampled_do_not_make_the_strong_model_worse():
    rows = pooled(600, np.random.default_rng(12))
    odd = np.random.default_rng(13).random(600) < 0.2
    status = np.where(odd, "out_of_set", "ok").astype(object)
    rows = replace(rows, strong_correct=np.where(odd, 0.0, rows.strong_correct), strong_status=status)
    _, seen = bought(rows, tossed(600, np.random.default_rng(14)), rates(0.25))
    certificate = certify(seen, GOAL, sampling=rates(0.25), seed=0)
    figures = Expectation(seen, None, split="certify", seed=0, alone=True).all()
    codes = {
        w.code
        for w in row_warnings(seen, certificate, figures, human=False, needed=None, reweighted=False, partly=False)
    }
    assert rows.strong_correct.mean() < rows.cheap_correct.mean()
    assert "strong_worse" not in codes


@pytest.mark.slow
@pytest.mark.parametrize("prevalence", [None, {"rare": 0.4, "common": 0.6}])
def test_figures_are_unbiased_though_a_third_of_the_answers_never_came_and_labels_are_re_weighted(prevalence):
    population, n, names = Population("S1"), 600, ("system_accuracy", "strong_accuracy", "agreement_with_strong")
    off = {name: [] for name in names}
    for seed in range(40):
        rng = np.random.default_rng([seed, 3])
        rows = pooled(n, rng, population)
        labels = np.where(rng.random(n) < np.where(rows.cheap_correct == 1, 0.1, 0.3), "rare", "common").astype(object)
        gone = rng.random(n) < 0.3
        failing = replace(
            rows,
            label=labels,
            strong_correct=np.where(gone, np.nan, rows.strong_correct),
            strong_answer=np.where(gone, None, rows.strong_answer),
        )
        done, seen = bought(failing, tossed(n, rng), rates(0.25))
        if done.threshold is None:
            continue
        weights = np.ones(n) if prevalence is None else mix_weights(labels, prevalence)
        shown = Expectation(seen, done.threshold, split="certify", seed=0, weights=weights).all()
        kept = accepted(rows.confidence, done.threshold)
        true = (
            np.where(kept, rows.cheap_correct, rows.strong_correct),
            rows.strong_correct,
            np.where(kept, rows.agree, 1.0),
        )
        for name, values in zip(names, true, strict=True):
            off[name].append(shown[name].value - np.average(values, weights=weights))
    for name in names:
        assert len(off[name]) > 30
        assert abs(np.mean(off[name])) <= 3 * np.std(off[name]) / len(off[name]) ** 0.5, name


@pytest.mark.parametrize("floor", [0.7, {"yes": 0.7}])
def test_every_row_of_a_floored_segment_is_bought(floor):
    """Rows that are not known count as wrong, so a floor of a segment could not pass on a sample of it."""
    rng = np.random.default_rng(6)
    segment = np.where(rng.random(800) < 0.2, "legal", "other").astype(object)
    rows, coin = replace(pooled(800, rng), segment=segment), tossed(800, rng)
    goal = replace(GOAL, segment_floors={"legal": floor})
    done, seen = bought(rows, coin, rates(0.25), goal)
    assert all(why is not None for why in done.wanted[segment == "legal"])
    assert not all(why is not None for why in done.wanted[segment == "other"])
    assert certify(seen, goal, sampling=rates(0.25), seed=0).threshold == bought(rows, coin, rates(0.25))[0].threshold


@pytest.mark.parametrize("runs", [12, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("floors", [False, True])
def test_figures_are_unbiased_and_their_intervals_cover(floors, runs):
    """Rows bought in the failed block, and those of floored labels, are left out of them."""
    population, n = Population("S1"), 500
    names = ("system_accuracy", "strong_accuracy", "difference", "usd")
    off, naive, covered = {name: [] for name in names}, [], dict.fromkeys(names[:3], 0)
    for seed in range(runs):
        rng = np.random.default_rng(1000 + seed)
        labels = np.where(rng.random(n) < 0.1, "rare", "common")
        rows, coin = pooled(n, rng, population, labels=labels), tossed(n, rng)
        rows = replace(rows, strong_usd=np.where(rows.confidence < 0.9, 2e-3, 1e-3))
        goal = replace(GOAL, label_floors={"rare": 0.5}) if floors else GOAL
        done, seen = bought(rows, coin, rates(0.25), goal, blocks=(0.2, 0.4, 0.6, 0.8))
        kept = accepted(rows.confidence, done.threshold)
        shown = figures(seen, done.threshold)
        final = np.where(kept, rows.cheap_correct, rows.strong_correct)
        difference = sampled_difference(seen, kept, level=0.9, split="")
        complete = (
            final.mean(),
            rows.strong_correct.mean(),
            (final - rows.strong_correct).mean(),
            1000 * (rows.cheap_usd + np.where(kept, 0, rows.strong_usd)).mean(),
        )
        truth = population.system_accuracy(done.threshold), population.strong_accuracy, -population.loss(done.threshold)
        estimates = (shown["system_accuracy"], shown["strong_accuracy"], difference, shown["usd_per_1000"])
        for name, value, estimate in zip(names, complete, estimates, strict=True):
            off[name].append(estimate.value - value)
        for name, true, estimate in zip(names, truth, estimates, strict=False):
            covered[name] += estimate.lower <= true <= estimate.upper
        naive.append(np.nanmean(seen.strong_correct) - rows.strong_correct.mean())
    for name in names:
        assert abs(np.mean(off[name])) <= 3 * np.std(off[name]) / runs**0.5 + 1e-12, name
    if runs > 12:
        assert min(covered.values()) >= 0.87 * runs - 2 * (0.09 * runs) ** 0.5
    # what must not be shown: answers that were bought because the cheap one was wrong
    assert np.mean(naive) < -0.015


def test_groups_that_enter_by_their_means_lose_in_full_and_win_by_the_coin():
    rng = np.random.default_rng(8)
    n, goal = 600, replace(GOAL, within=0.05)
    rows, coin = (
        replace(pooled(n, rng), group=np.repeat([f"g{i}" for i in range(120)], 5).astype(object)),
        tossed(n, rng),
    )
    done, seen = bought(rows, coin, rates(0.25), goal)
    found = certify(seen, goal, sampling=rates(0.25), seed=0)
    assert found.unit == "groups"
    assert found.threshold == done.threshold
    assert (done.drawn == (coin < 0.25)).all()
    kept = accepted(rows.confidence, found.threshold)
    loss = kept & (rows.cheap_correct == 0) & (rows.strong_correct == 1)
    win = kept & (coin < 0.25) & (rows.cheap_correct == 1) & (rows.strong_correct == 0)
    values = (loss - 4.0 * win - 0.05).reshape(120, 5).mean(axis=1)
    assert found.p_value == pytest.approx(betting_p([values], 0.95)[0])


def test_a_group_that_holds_half_of_the_rows_leaves_a_sampled_figure_open_as_it_does_a_whole_one():
    n = 400
    group = np.concatenate([np.zeros(n // 2, dtype=np.int64), np.arange(1, n // 2 + 1)])
    x, among = (np.random.default_rng(1).random(n) < 0.95).astype(float), np.ones(n, dtype=bool)
    least, most = share_interval(x, among, group=group, level=0.99)
    half = np.arange(n) % 2 == 0
    seen = Seen(half, np.zeros(n, dtype=np.int64), np.ones(n))
    low, high = share_interval(np.where(half, x, np.nan), among, seen=seen, group=group, level=0.99)
    assert (low, high) == pytest.approx((least, most), abs=0.03)
    assert high - low > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("population", "q"), [("S1", 0.25), ("S4", 0.1)])
def test_the_promise_is_broken_no_more_often_than_delta(population, q):
    truth, runs, broken = Population(population), 80, 0
    for seed in range(runs):
        rng = np.random.default_rng([seed, 77])
        done, _ = bought(pooled(300, rng, truth), tossed(300, rng), rates(q))
        broken += truth.loss(done.threshold) > 0.02
    assert broken / runs <= 0.1 + 3 * (0.09 / runs) ** 0.5


@pytest.mark.slow
def test_choosing_the_best_of_five_rates_afterwards_breaks_the_promise():
    """Two atoms, the lower of which costs just the margin: each rate alone keeps the promise, their best does not."""
    runs, broken, alone = 150, 0, 0
    for seed in range(runs):
        rng = np.random.default_rng([seed, 5])
        n = 300
        rows = pooled(n, rng)
        low = rng.random(n) < 0.5
        u = rng.random(n)
        cheap = np.where(low, ~(u < 0.10), True).astype(float)
        strong = np.where(low & (u > 1 - 0.0599), 0.0, 1.0)  # loss .5 x (.10 - .0599) = .02005
        rows = replace(rows, confidence=np.where(low, 0.5, 0.9), cheap_correct=cheap, strong_correct=strong)
        coin = tossed(n, rng)
        passed = [bought(rows, coin, rates(q))[0].threshold == 0.0 for q in (0.0, 0.1, 0.25, 0.5, 1.0)]
        broken += any(passed)
        alone += passed[2]
    assert broken / runs > 0.12
    assert alone / runs <= 0.1 + 3 * (0.09 / runs) ** 0.5
