"""Verdicts, words and figures of a recommendation, on made cases whose right answer is plain."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from decide.evaluated import evaluated, texts
from scipy import stats

from pipeline.config.target import Target
from pipeline.config.vocabulary import VERDICTS
from pipeline.decide.advice import number_text
from pipeline.decide.certify import certify
from pipeline.decide.curves.at_threshold import Expectation, mix_weights, waiting
from pipeline.decide.predictions import Rows
from pipeline.decide.recommend import recommend
from pipeline.decide.sweep import sweep
from pipeline.decide.target import Goal
from pipeline.decide.thresholds import sweep_levels
from pipeline.deliver.report import formatting

EXPECTED = {
    "coverage",
    "escalation_rate",
    "accepted_accuracy",
    "system_accuracy",
    "strong_accuracy",
    "cheap_accuracy",
    "usd_per_1000",
    "strong_usd_per_1000",
    "latency_p50_s",
    "latency_p95_s",
    "wrong_accepted_per_1000",
}


@pytest.fixture(scope="module")
def rows():
    return evaluated()


def advise(rows, *, human=False, look=1, prevalence=None, with_sweep=False, **target):
    aim = Target(**target)
    certificate = replace(certify(rows.of("certify"), aim, fit=rows.of("fit"), human=human, seed=0), look=look)
    table = None
    if with_sweep:
        table = sweep(rows, sweep_levels(rows.confidence, np.array([certificate.threshold])), replicates=50, seed=0)
    found = recommend(
        rows,
        aim,
        certificate=certificate,
        sweep=table,
        human=human,
        prevalence=prevalence,
        data="mails",
        seed=0,
    )
    assert found.verdict in VERDICTS
    assert (found.threshold is None) == (found.verdict in ("uncertified", "strong_only"))
    assert set(found.expected) >= EXPECTED
    json.dumps(found.to_json(), allow_nan=False)
    return found


def codes(found):
    return {w.code for w in found.warnings}


def test_a_certified_threshold_is_said_in_one_sentence_with_its_promise(rows):
    found = advise(rows, kind="match_strong", within=0.02)
    assert found.verdict == "certified"
    assert found.sentence.startswith(f"Escalate when confidence is below {found.threshold}: about ")
    assert "for the strong model alone; cost $" in found.sentence
    assert f"per 1,000 (−{round(100 * (1 - found.expected['usd_per_1000'].value / 1.0))}\u00a0%)" in found.sentence
    n = len(rows.of("certify"))
    assert (
        found.promise
        == f"Promise: at most 2 points worse than the strong model, with 90\u00a0% certainty, on data like mails (n\u00a0=\u00a0{n:,}, first look)."
    )
    assert "This does not say" in found.not_said
    assert found.labels_needed is None


def test_the_figures_are_those_of_the_test_split_with_exact_intervals(rows):
    found = advise(rows, kind="match_strong", within=0.02)
    part = rows.of("test")
    kept = part.confidence >= found.threshold
    final = np.where(kept, part.cheap_correct, part.strong_correct)
    for name, hits, n in (
        ("coverage", kept.sum(), len(part)),
        ("escalation_rate", (~kept).sum(), len(part)),
        ("accepted_accuracy", part.cheap_correct[kept].sum(), kept.sum()),
        ("system_accuracy", final.sum(), len(part)),
        ("strong_accuracy", part.strong_correct.sum(), len(part)),
        ("cheap_accuracy", part.cheap_correct.sum(), len(part)),
    ):
        estimate, exact = found.expected[name], stats.binomtest(int(hits), int(n)).proportion_ci(0.9, "exact")
        assert (estimate.split, estimate.n, estimate.level) == ("test", n, 0.9)
        assert estimate.value == pytest.approx(hits / n)
        assert (estimate.lower, estimate.upper) == pytest.approx((exact.low, exact.high))
    wrong = found.expected["wrong_accepted_per_1000"]
    assert wrong.value == pytest.approx(1000 * (kept & (part.cheap_correct == 0)).mean())
    cost = part.cheap_usd + np.where(kept, 0, part.strong_usd)
    usd = found.expected["usd_per_1000"]
    assert usd.value == pytest.approx(1000 * cost.mean())
    half = 1.645 * 1000 * cost.std() / np.sqrt(len(part))
    assert (usd.value - usd.lower, usd.upper - usd.value) == pytest.approx((half, half), rel=0.15)
    waited = np.sort(np.where(kept, part.cheap_s, part.cheap_s + part.strong_s))
    p95 = found.expected["latency_p95_s"]
    assert p95.value == waited[int(np.ceil(0.95 * len(waited))) - 1]
    assert p95.lower < p95.value < p95.upper


def test_order_statistics_cover_a_quantile_as_often_as_they_say():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        found = waiting(rng.exponential(size=60), "test")["latency_p50_s"]
        hits += found.lower <= np.log(2) <= found.upper
    assert 0.88 <= hits / 400 <= 0.98


def test_a_cheap_model_that_is_always_right_is_enough(rows):
    right = replace(rows, cheap_correct=np.ones(len(rows)))
    found = advise(right, kind="match_strong", within=0.02)
    assert (found.verdict, found.threshold) == ("cheap_only", 0.0)
    assert found.sentence.startswith("Keep every answer of the cheap model: accuracy 100\u00a0%")
    assert "one_class" in codes(found)


def test_rows_without_confidence_are_the_exception_of_cheap_only(rows):
    confidence = np.where(np.arange(len(rows)) % 20 == 0, np.nan, rows.confidence)
    found = advise(
        replace(rows, confidence=confidence, cheap_correct=np.ones(len(rows))), kind="match_strong", within=0.02
    )
    assert found.verdict == "cheap_only"
    assert "except the" in found.sentence
    assert "null_confidence" in codes(found)


def test_row_47_a_cheap_model_that_is_never_right_leaves_the_strong_one(rows):
    found = advise(replace(rows, cheap_correct=np.zeros(len(rows))), kind="match_strong", within=0.02)
    assert found.verdict == "strong_only"
    assert "never right" in found.sentence
    assert "labels or prompt may be what is wrong" in found.not_said
    assert found.tightest is None, "a promise that holds even if every kept answer is wrong is none"
    assert found.expected["escalation_rate"].value == 1.0
    assert found.expected["usd_per_1000"].value == pytest.approx(found.expected["strong_usd_per_1000"].value)


def test_a_cascade_that_costs_more_than_the_strong_model_is_not_recommended(rows):
    found = advise(replace(rows, cheap_usd=np.full(len(rows), 9.5e-4)), kind="match_strong", within=0.02)
    assert found.verdict == "strong_only"
    assert found.certificate.threshold is not None
    assert "the strong model alone $1.00" in found.sentence
    assert found.sentence.count("$1.00") == 1
    assert (
        found.not_said == "This does not say that the cheap model is bad, only that asking it first does not pay here."
    )
    assert found.promise.startswith("No promise")


def test_unknown_costs_are_said_to_be_unknown_and_decide_nothing(rows):
    blank = np.full(len(rows), np.nan)
    found = advise(replace(rows, cheap_usd=blank, strong_usd=blank), kind="match_strong", within=0.02)
    assert found.verdict == "certified"
    assert "cost unknown" in found.sentence
    assert found.to_json()["expected"]["usd_per_1000"]["value"] is None
    assert "costs_unknown" in codes(found)
    half = advise(replace(rows, strong_usd=blank), kind="match_strong", within=0.02)
    assert "unknown" in half.sentence


def test_row_49_an_unreachable_target_is_a_first_class_answer_with_what_would_help(rows):
    found = advise(rows, kind="match_strong", within=0.001)
    assert (found.verdict, found.threshold) == ("uncertified", None)
    start = f"Keep sending everything to the strong model for now: on {len(rows.of('certify')):,} rows no threshold could be shown to stay within 0.1 points of it."
    assert found.sentence.startswith(start)
    assert "too_few_rows" in codes(found)
    assert found.tightest["within"] > 0.001
    assert found.tightest["exploratory"] is True
    again = certify(
        rows.of("certify"),
        Target(kind="match_strong", within=found.tightest["within"]),
        seed=0,
    )
    assert (again.threshold, again.escalation_rate) == (found.tightest["threshold"], found.tightest["escalation_rate"])


def test_what_is_wrong_with_the_data_comes_first_and_more_labels_are_not_asked_for(rows):
    same = replace(rows, label=texts(["a" * 60] * len(rows)))
    found = advise(same, kind="match_strong", within=0.001)
    assert found.verdict == "uncertified"
    assert found.sentence == (
        f"Check the data first: every certify row has the same label, '{'a' * 39}…'. "
        "Until then keep sending everything to the strong model."
    )
    assert found.not_said == "This does not say that no threshold would pass, only that these rows cannot show it."
    silent = advise(replace(rows, confidence=np.full(len(rows), np.nan)), kind="match_strong", within=0.02)
    assert silent.sentence.startswith("Check the data first: no certify row has a confidence")


@pytest.mark.slow
def test_labels_needed_is_about_the_number_that_certifies():
    few = evaluated(400, seed=3)
    found = advise(few, kind="match_strong", within=0.008)
    assert found.verdict == "uncertified"
    assert found.labels_needed is not None
    assert (
        f"About {number_text.roughly(found.labels_needed)} more labeled rows would change that nearly always"
        in found.sentence
    )
    certified = 0
    for seed in range(8):
        fresh = evaluated(found.labels_needed, seed=100 + seed)
        fresh = replace(fresh, group=np.array([f"further {i}" for i in range(len(fresh))], dtype=object))
        more = Rows(**{name: np.concatenate([getattr(few, name), getattr(fresh, name)]) for name in vars(few)})
        certificate = certify(more.of("certify"), Target(kind="match_strong", within=0.008), seed=0)
        certified += certificate.threshold is not None
    assert certified >= 6


@pytest.mark.slow
def test_a_certified_result_says_how_many_more_labels_a_tighter_target_needs():
    some = evaluated(600, seed=3)
    found = advise(some, kind="match_strong", within=0.05)
    assert found.verdict == "certified"
    aim, further = found.tighter["within"], found.tighter["labels_needed"]
    assert aim < found.tightest["within"] <= 0.05
    useful = 0
    for seed in range(8):
        more = evaluated(600 + further, seed=200 + seed)
        again = certify(more.of("certify"), Target(kind="match_strong", within=aim), seed=0)
        useful += again.threshold is not None and again.escalation_rate <= 0.9
    assert useful >= 4
    accepted = advise(some, kind="accepted_accuracy", at_least=0.9)
    assert accepted.tighter["at_least"] > accepted.tightest["at_least"] >= 0.9
    for target in ({"kind": "match_strong", "within": 0.001}, {"kind": "budget", "escalation_rate": 0.5}):
        assert advise(some, **target).tighter is None


def test_the_strong_model_alone_may_be_what_reaches_a_system_accuracy(rows):
    bad = replace(rows, cheap_correct=(np.arange(len(rows)) % 3 == 0).astype(float), strong_correct=np.ones(len(rows)))
    found = advise(bad, kind="system_accuracy", at_least=0.99)
    assert found.verdict == "strong_only"
    assert "the strong model alone reaches 99\u00a0%" in found.sentence
    assert "no threshold was shown to reach the target" in found.not_said


def test_row_50_a_worse_strong_model_is_a_grave_warning(rows):
    found = advise(
        replace(rows, strong_correct=rows.cheap_correct * (np.arange(len(rows)) % 10 > 0)),
        kind="match_strong",
        within=0.02,
    )
    assert found.verdict == "cheap_only"
    assert next(w for w in found.warnings if w.code == "strong_worse").gravity == 3
    assert "the strong model is the less accurate of the two here" in found.sentence


@pytest.mark.slow
def test_a_strong_model_that_is_worse_by_chance_is_no_grave_warning(rows):
    right = np.ones(len(rows))
    for n, gravity in ((400, 2), (12, None)):
        some = replace(rows, cheap_correct=right, strong_correct=np.where(np.arange(len(rows)) == 0, 0.0, 1.0))
        held = some.take(np.arange(n))
        held = replace(held, split=texts(["certify"] * len(held)))
        found = [w for w in advise(held, kind="match_strong", within=0.02).warnings if w.code == "strong_worse"]
        assert [w.gravity for w in found] == ([] if gravity is None else [gravity])
        assert all("that may be chance" in w.text for w in found)


def test_optimized_verdicts_promise_nothing(rows):
    for target in ({"kind": "total_cost", "usd_per_error": 0.02}, {"kind": "budget", "usd_per_1000": 0.5}):
        found = advise(rows, **target)
        assert found.verdict == "optimized"
        assert found.promise.startswith("No promise")
        assert "promise" not in found.sentence, "the promise's own line says that there is none"
        assert found.to_json()["certificate"]["delta"] is None
    assert advise(rows, kind="total_cost", usd_per_error=0.02).optimism["optimism_usd_per_1000"] is not None


def test_what_was_optimized_is_said_beside_the_alternatives(rows):
    found = advise(rows, kind="total_cost", usd_per_error=0.02)
    told = found.certificate.details
    total, strong, cheap = (
        number_text.usd(told[k])
        for k in ("usd_per_1000_cross_fitted", "strong_only_usd_per_1000", "cheap_only_usd_per_1000")
    )
    words = f"calls and errors together cost an estimated {total} per 1,000, against {strong} with the strong model alone and {cheap} with the cheap model alone; "
    assert words in found.sentence
    mixed = advise(rows, kind="total_cost", usd_per_error=0.02, prevalence={"spam": 0.5, "work": 0.5})
    assert "All figures, the totals among them, are re-weighted to production's label mix" in mixed.not_said
    budget = advise(rows, kind="budget", usd_per_1000=0.5)
    assert "per 1,000 of a budget of $0.500; accuracy" in budget.sentence


def test_escalating_everything_can_be_the_cheapest(rows):
    found = advise(
        replace(rows, cheap_correct=(np.arange(len(rows)) % 2).astype(float), strong_correct=np.ones(len(rows))),
        kind="total_cost",
        usd_per_error=5.0,
    )
    assert found.verdict == "strong_only"


def test_people_make_no_errors_in_the_total(rows):
    wrong = replace(rows, strong_correct=np.zeros(len(rows)))
    found = advise(wrong, human=True, kind="total_cost", usd_per_error=0.02)
    assert found.certificate.details["strong_only_usd_per_1000"] == pytest.approx(1.0)


def test_people_are_named_as_people(rows):
    found = advise(rows, human=True, kind="match_strong", within=0.03)
    assert found.verdict == "certified"
    assert "go to people" in found.sentence
    assert "people's answers count as right" in found.sentence
    assert "worse than people" in found.promise
    assert found.expected["strong_accuracy"].value == 1.0


def test_without_labels_agreement_stands_in_for_accuracy(rows):
    n = len(rows)
    blind = replace(rows, label=texts([None] * n), cheap_correct=np.full(n, np.nan), strong_correct=np.full(n, np.nan))
    found = advise(blind, kind="agree_with_strong", within=0.05)
    assert found.verdict == "certified"
    assert "there are no labels" in found.sentence
    assert found.expected["agreement_with_strong"].value > 0.9
    assert found.to_json()["expected"]["system_accuracy"]["value"] is None
    assert found.expected["wrong_accepted_per_1000"].value is None


def test_kept_answers_that_nobody_graded_are_neither_right_nor_wrong(rows):
    """By parts: share kept x share of wrong ones among the kept that are graded; unknown where none is."""
    cheap = np.where(np.arange(len(rows)) % 3 == 0, np.nan, rows.cheap_correct)
    part = replace(rows, cheap_correct=cheap).of("test")
    threshold = float(np.nanmedian(part.confidence))
    kept = part.confidence >= threshold
    found = Expectation(part, threshold, split="test", seed=0).all()["wrong_accepted_per_1000"]
    graded = part.cheap_correct[kept & ~np.isnan(part.cheap_correct)]
    assert found.value == pytest.approx(1000 * kept.mean() * (graded == 0).mean())
    assert found.n == len(part) - kept.sum() + len(graded)
    silent = replace(part, cheap_correct=np.where(kept, np.nan, part.cheap_correct))
    assert Expectation(silent, threshold, split="test", seed=0).all()["wrong_accepted_per_1000"].value is None


def test_a_repeated_look_is_counted_and_its_price_named(rows):
    found = advise(rows, look=3, kind="match_strong", within=0.02)
    assert "third look" in found.promise
    assert "30\u00a0%" in next(w for w in found.warnings if w.code == "looks").text


def test_groups_are_counted_in_the_promise():
    found = advise(evaluated(3000, groups=1500), kind="match_strong", within=0.03)
    assert found.certificate.unit == "groups"
    assert "groups, first look" in found.promise
    assert "groups" in codes(found)


@pytest.mark.slow
def test_few_rows_small_splits_and_ties_are_warned_about():
    small = evaluated(120)
    assert {"too_few_rows", "small_fit", "small_test"} <= codes(advise(small, kind="match_strong", within=0.01))
    tied = replace(evaluated(600), confidence=np.where(np.arange(600) % 3 > 0, 1.0, 0.5))
    assert "ties" in codes(advise(tied, kind="accepted_accuracy", at_least=0.9))
    assert "uninformative" in codes(
        advise(
            replace(evaluated(900), confidence=np.random.default_rng(1).random(900)), kind="match_strong", within=0.02
        )
    )
    assert "no_confidence" in codes(
        advise(replace(small, confidence=np.full(120, np.nan)), kind="match_strong", within=0.02)
    )
    assert not {"small_fit", "small_test"} & codes(
        advise(evaluated(120, shares=(0.0, 1.0, 0.0)), kind="match_strong", within=0.01)
    )


@pytest.mark.slow
def test_where_all_rows_certify_the_figures_are_theirs_at_99_per_cent_and_one_sentence_says_so():
    pooled = evaluated(1500, shares=(0.0, 1.0, 0.0))
    found = advise(pooled, with_sweep=True, kind="match_strong", within=0.03)
    assert found.verdict == "certified"
    assert found.certificate.n == 1500
    assert {(e.level, e.split) for e in found.expected.values()} == {(0.99, "certify")}
    assert not {"no_test", "no_fit"} & codes(found)
    assert found.intervals == {
        "split": "certify",
        "level": 0.99,
        "note": "No row was held out: figures come from the rows that chose the threshold, with 99 % intervals.",
    }
    assert found.optimism is None
    assert "(99\xa0% interval)" in found.sentence
    assert {entry[name]["level"] for entry in found.label_rates for name in ("precision", "recall")} == {0.99}
    held = advise(evaluated(1500), kind="match_strong", within=0.05)
    assert (held.intervals["level"], held.intervals["note"]) == (0.9, None)
    assert "interval)" not in held.sentence
    # exact at 99 %: twice the mass of a tail of .005
    kept = int((pooled.confidence >= found.threshold).sum())
    assert found.expected["coverage"].lower == pytest.approx(stats.beta.ppf(0.005, kept, 1501 - kept))
    assert "no_rows" in codes(advise(evaluated(100, shares=(1, 0, 0)), kind="match_strong", within=0.02))


def test_warnings_come_gravest_first(rows):
    found = advise(evaluated(120), look=2, kind="match_strong", within=0.01)
    assert [w.gravity for w in found.warnings] == sorted((w.gravity for w in found.warnings), reverse=True)


def flipped(rows, split, share, seed=0):
    """Rows of a split whose sure cheap answers are wrong more often, by so much of all rows."""
    at = (rows.split == split) & (rows.confidence > 0.97) & (rows.cheap_correct == 1)
    wrong = np.random.default_rng(seed).permutation(np.flatnonzero(at))[: round(share * (rows.split == split).sum())]
    cheap = rows.cheap_correct.copy()
    cheap[wrong] = 0.0
    return replace(rows, cheap_correct=cheap)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            {"kind": "match_strong", "within": 0.02},
            "points worse than the strong model; the promise is at most 2 points",
        ),
        (
            {"kind": "accepted_accuracy", "at_least": 0.95},
            "that the cheap model keeps are right; the promise is at least 95\u00a0%",
        ),
        ({"kind": "system_accuracy", "at_least": 0.9}, "of all answers are right; the promise is at least 90\u00a0%"),
    ],
)
def test_test_rows_beyond_the_promise_are_a_warning_that_weighs_chance(rows, target, words):
    assert "test_below_promise" not in codes(advise(rows, **target))
    far = advise(flipped(rows, "test", 0.15), **target)
    warning = next(w for w in far.warnings if w.code == "test_below_promise")
    assert warning.gravity == 2
    assert words in warning.text
    assert "Chance alone hardly explains that (90\u00a0% interval [" in warning.text


def test_test_rows_just_beyond_the_promise_are_told_and_left_to_chance(rows):
    plain = advise(rows, kind="match_strong", within=0.02)
    part = rows.of("test")
    loss = np.where(part.confidence >= plain.threshold, part.strong_correct - part.cheap_correct, 0.0)
    near = flipped(rows, "test", 0.023 - loss.mean())
    found = advise(near, kind="match_strong", within=0.02)
    warning = next(w for w in found.warnings if w.code == "test_below_promise")
    worse = found.expected["strong_accuracy"].value - found.expected["system_accuracy"].value
    assert warning.gravity == 1
    assert f"{number_text.points(round(worse, 3))} worse" in warning.text
    assert "Chance may explain that" in warning.text


def test_a_budget_that_the_test_rows_exceed_and_promises_about_groups_are_weighed_too(rows):
    far = replace(rows, confidence=np.where(rows.split == "test", rows.confidence * 0.9, rows.confidence))
    found = advise(far, kind="budget", escalation_rate=0.3)
    assert "of requests go to the strong model; the promise is at most 30\u00a0%" in " ".join(
        w.text for w in found.warnings
    )
    grouped = evaluated(3000, groups=1500)
    assert "test_below_promise" in codes(advise(flipped(grouped, "test", 0.15), kind="match_strong", within=0.03))
    assert "test_below_promise" not in codes(advise(rows, kind="total_cost", usd_per_error=0.02))


@pytest.mark.slow
def test_prevalence_reweights_the_figures_and_leaves_the_promise(rows):
    worse = rows.label == "spam"
    cheap = np.where(worse, (np.arange(len(rows)) % 2).astype(float), 1.0)
    skewed = replace(rows, cheap_correct=cheap)
    mix = {"spam": 0.5, "work": 0.5}
    plain = advise(skewed, kind="match_strong", within=0.15)
    found = advise(skewed, kind="match_strong", within=0.15, prevalence=mix)
    assert found.certificate == plain.certificate
    part = skewed.of("test")
    by_label = [part.cheap_correct[part.label == name].mean() for name in mix]
    assert found.expected["cheap_accuracy"].value == pytest.approx(np.mean(by_label))
    assert found.expected["cheap_accuracy"].lower < np.mean(by_label) < found.expected["cheap_accuracy"].upper
    assert "prevalence" in codes(found)
    assert "re-weighted" in found.not_said
    assert mix_weights(part.label, mix).mean() == pytest.approx(1.0)


def test_intervals_of_reweighted_shares_allow_for_the_heaviest_row(rows):
    """Where every row says the same, as wide as if all counted as much as the heaviest one: (1 - wrong)^(rows) = .05."""
    part = rows.of("test")
    weights = mix_weights(part.label, {"spam": 0.5, "work": 0.5})
    always = replace(part, cheap_correct=np.ones(len(part)), strong_correct=np.ones(len(part)))
    size = weights.sum() ** 2 / (weights @ weights)
    assert size < 0.8 * len(part)
    found = Expectation(always, 0.9, split="test", weights=weights, seed=0).all()
    right = found["system_accuracy"]
    assert (right.value, right.upper, right.n) == (1.0, 1.0, len(part))
    alike = weights.sum() / weights.max()
    assert right.lower == pytest.approx(0.05 ** (1 / alike))
    assert found["wrong_accepted_per_1000"].upper == pytest.approx(1000 * (1 - 0.05 ** (1 / alike)))
    nearly = np.where(np.arange(len(part)) == int(np.argmin(weights)), 0.0, 1.0)
    found = Expectation(replace(part, cheap_correct=nearly), 0.0, split="test", weights=weights, seed=0).all()
    cheap = found["cheap_accuracy"]
    assert cheap.value == pytest.approx(weights @ nearly / weights.sum())
    assert cheap.lower < cheap.value < cheap.upper
    assert cheap.upper < 1


def test_missing_strong_answers_are_neither_right_nor_wrong_in_the_figures(rows):
    strong = np.where(np.arange(len(rows)) % 4 == 0, np.nan, rows.strong_correct)
    found = advise(replace(rows, strong_correct=strong), kind="match_strong", within=0.05)
    part = replace(rows, strong_correct=strong).of("test")
    kept = part.confidence >= found.threshold
    known = ~np.isnan(part.strong_correct)
    value = kept.mean() * part.cheap_correct[kept].mean() + (~kept).mean() * part.strong_correct[~kept & known].mean()
    assert found.expected["system_accuracy"].value == pytest.approx(value)
    assert "missing_strong" in codes(found)


def test_the_optimism_gap_sets_certify_beside_test(rows):
    found = advise(rows, with_sweep=True, kind="match_strong", within=0.02)
    gap = found.optimism["system_accuracy"]
    assert gap["test"] == pytest.approx(found.expected["system_accuracy"].value)
    assert gap["gap"] == pytest.approx(gap["certify"] - gap["test"])
    assert found.ends["cheap_only"]["usd_per_1000"].value == pytest.approx(0.2)
    assert found.ends["strong_only"]["usd_per_1000"].value == pytest.approx(1.0)
    strong = np.sort(rows.of("test").strong_s)
    assert found.ends["strong_only"]["latency_p50_s"].value == strong[int(np.ceil(0.5 * len(strong))) - 1]


@pytest.mark.parametrize(
    ("number", "words"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.9996, "99.96 %"), (0.1234, "12.3 %"), (0.00004, "0.004 %"), (0.95, "95 %")],
)
def test_shares_are_never_rounded_to_certainty(number, words):
    assert number_text.percent(number) == words.replace(" ", number_text.SPACE)


@pytest.mark.parametrize(
    ("dollars", "words"),
    [
        (0.0, "$0"),
        (0.2123, "$0.212"),
        (0.00341, "$0.00341"),
        (12.3456, "$12.35"),
        (12345.6, "$12,346"),
        (-0.5, "−$0.500"),
        (None, "an unknown amount"),
    ],
)
def test_dollars_are_readable_at_every_size(dollars, words):
    assert number_text.usd(dollars) == words


def test_a_sentence_writes_dollars_and_shares_as_the_cards_do():
    for value in (0.0, 0.0008, 0.1034, 0.2157, 1.0, 12.3456, 12345.6):
        assert number_text.usd(value) == formatting.usd(value)
    for value in (0.0, 0.00004, 0.1234, 0.95, 0.9996, 1.0):
        assert number_text.tenths(value) == formatting.share(value)


def test_numbers_keep_to_their_units_and_their_signs():
    assert [number_text.counted(n, "row") for n in (0, 1, 1471)] == ["0 rows", "1 row", "1,471 rows"]
    assert [number_text.roughly(n) for n in (7, 96, 996, 10787, 1_250_001)] == [
        "7",
        "96",
        "1,000",
        "11,000",
        "1,300,000",
    ]
    assert (number_text.signed(-0.0082, 4), number_text.change(-0.524)) == ("−0.0082", "−52\u00a0%")
    assert (number_text.limit(0.9975), number_text.limit(0.9)) == ("99.75\u00a0%", "90\u00a0%")
    assert number_text.shortened("a" * 300) == f"'{'a' * 39}…'"


@pytest.mark.slow
def test_every_reason_speaks_of_one_row_as_of_one_and_has_no_ascii_minus(rows):
    for made in (rows, evaluated(8), evaluated(3000, groups=1500)):
        for target in (
            {"kind": "match_strong", "within": 0.02},
            {"kind": "accepted_accuracy", "at_least": 0.9},
            {"kind": "budget", "usd_per_1000": 0.5},
            {"kind": "total_cost", "usd_per_error": 0.02},
        ):
            found = advise(made, **target)
            for text in (found.certificate.reason, found.sentence, *(w.text for w in found.warnings)):
                assert not re.search(r"\b1 \w*(rows|errors|answers|groups)\b|\d-\d|[( ]-\d|\d ?%", text), text


def test_looks_are_counted_in_words():
    assert [number_text.ordinal(k) for k in (1, 2, 10, 11, 12, 21, 22, 103, 111)] == [
        "first",
        "second",
        "tenth",
        "11th",
        "12th",
        "21st",
        "22nd",
        "103rd",
        "111th",
    ]


@pytest.mark.slow
def test_dollars_that_some_escalated_rows_do_not_tell_are_not_taken_for_nothing(rows):
    whole = advise(rows, kind="match_strong", within=0.02, with_sweep=True)
    rng = np.random.default_rng(3)
    gone = np.where(rng.random(len(rows)) < 0.6, np.nan, rows.strong_usd)
    found = advise(replace(rows, strong_usd=gone), kind="match_strong", within=0.02)
    part, cost = replace(rows, strong_usd=gone).of("test"), found.expected["usd_per_1000"]
    away = ~(part.confidence >= found.threshold)
    by_hand = 1000 * (part.cheap_usd.mean() + away.mean() * np.nanmean(part.strong_usd[away]))
    assert cost.value == pytest.approx(by_hand)
    assert cost.value == pytest.approx(whole.expected["usd_per_1000"].value, rel=0.05)
    assert cost.lower < whole.expected["usd_per_1000"].value < cost.upper
    table = sweep(replace(rows, strong_usd=gone), [found.threshold], replicates=20, seed=0).query("split == 'test'")
    assert cost.value == pytest.approx(table["usd_per_1000"].item()), "the sweep says the same"


def test_what_no_escalated_row_tells_is_unknown(rows):
    silent = replace(rows, strong_usd=np.full(len(rows), np.nan), strong_s=np.full(len(rows), np.nan))
    found = advise(silent, kind="match_strong", within=0.02)
    assert found.expected["usd_per_1000"].value is None
    assert found.expected["latency_p50_s"].value is None
    assert "cost unknown" in found.sentence
    ungraded = replace(rows, strong_correct=np.where(np.isnan(rows.confidence), rows.strong_correct, np.nan))
    told = advise(ungraded, kind="accepted_accuracy", at_least=0.9)
    assert "there are no labels" not in told.sentence


def test_where_strong_answers_are_there_for_some_rows_only_both_models_alone_are_of_these_rows():
    """Strong answers were got for the less sure half, which is harder: the cheap model's figure is of that half, too."""
    rows = evaluated(2000, seed=8, shares=(0, 0.5, 0.5))
    asked = rows.confidence < np.quantile(rows.confidence, 0.5)
    strong = np.where(asked, rows.strong_correct, np.nan)
    some = replace(rows, strong_correct=strong, strong_answer=texts(np.where(asked, rows.strong_answer, None)))
    goal = Goal("accepted_accuracy", 0.1, at_least=0.9)
    found = recommend(some, goal, certificate=certify(some.of("certify"), goal, levels=None, seed=1), seed=1)
    test = some.of("test")
    known = ~np.isnan(test.strong_correct)
    cheap, strong_alone = (found.ends[f"{role}_only"]["accuracy"] for role in ("cheap", "strong"))
    assert (cheap.n, strong_alone.n) == (known.sum(), known.sum())
    assert cheap.value == pytest.approx(test.cheap_correct[known].mean())
    assert strong_alone.value == pytest.approx(test.strong_correct[known].mean())
    assert cheap.value < test.cheap_correct.mean() - 0.02
    assert "against" not in found.sentence.split(";")[1]
    assert f"{known.sum():,} rows" in found.sentence
    assert "strong_partly" in [w.code for w in found.warnings]
    whole = recommend(rows, goal, certificate=certify(rows.of("certify"), goal, levels=None, seed=1), seed=1)
    assert whole.ends["cheap_only"]["accuracy"].n == len(rows.of("test"))
    assert "strong_partly" not in [w.code for w in whole.warnings]


@pytest.mark.slow
def test_a_table_that_holds_every_row_several_times_is_told_and_a_coarse_confidence_is_not():
    some = evaluated(300, seed=4, shares=(0.0, 1.0, 0.0))
    copies = some.take(np.repeat(np.arange(300), 3))
    copies = replace(
        copies, group=texts([f"g{i}" for i in range(900)]), example_id=texts([f"r{i}" for i in range(900)])
    )
    found = [w for w in advise(copies, kind="match_strong", within=0.05).warnings if w.code == "copies"]
    assert len(found) == 1
    assert "3 copies of 300 rows" in found[0].text
    grouped = replace(copies, group=np.repeat(some.group, 3))
    coarse = replace(copies, confidence=np.round(np.random.default_rng(1).random(900), 2))
    for rows in (some, grouped, coarse):
        assert "copies" not in {w.code for w in advise(rows, kind="match_strong", within=0.05).warnings}
