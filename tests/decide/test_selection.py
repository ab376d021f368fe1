"""The choice of signal and the learned signal."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from cascade_threshold.learned import check_learned, learned_confidence
from cascade_threshold.signals import SIGNALS
from pipeline.decide.scores import learned_model, signal_choice
from pipeline.decide.scores.chosen_signal import chosen_signal
from pipeline.decide.scores.learned_model import Inputs, cross_fitted, fit_learned, learned_features, learned_values
from pipeline.decide.scores.signal_choice import SIMPLICITY, select_signal
from pipeline.errors import UsageError

Floats = np.ndarray


def rows(n: int, seed: int) -> tuple[np.random.Generator, Floats, Floats]:
    """Generator, true log-odds and correctness."""
    rng = np.random.default_rng(seed)
    z = rng.normal(1.5, 2, n)
    return rng, z, (rng.random(n) < expit(z)).astype(float)


def fold_areas(values: Floats, y: Floats, seed: int) -> Floats:
    """The area under the error-coverage curve of each of the ten folds, of values that are all different."""
    fold = np.random.default_rng(seed).permutation(np.arange(len(y)) % 10)
    wrong = [1 - y[fold == f][np.argsort(-values[fold == f])] for f in range(10)]
    return np.array([np.mean(np.cumsum(w) / np.arange(1, len(w) + 1)) for w in wrong])


def test_a_clearly_better_signal_is_chosen_though_it_is_less_simple() -> None:
    rng, z, y = rows(800, 1)
    signals = {"label_probability": expit(z + rng.normal(0, 0.3, 800)), "first_token": expit(z + rng.normal(0, 3, 800))}
    name, table = select_signal(signals, y, seed=0)
    assert name == "label_probability"
    assert [row["signal"] for row in table] == ["first_token", "label_probability", "learned"]
    assert [row["chosen"] for row in table] == [False, True, False]


def test_of_signals_that_cannot_be_told_apart_the_simplest_is_chosen() -> None:
    chosen = []
    for seed in range(20):
        rng, z, y = rows(300, seed)
        noisy = {k: expit(z + rng.normal(0, 1, 300)) for k in ("mean", "entropy", "label_probability")}
        chosen.append(select_signal(noisy, y, seed=seed, learned=False)[0])
    assert chosen.count("mean") >= 10  # one in three would be left to chance


def test_equal_signals_go_to_the_simpler_whatever_the_order_given() -> None:
    _, z, y = rows(200, 3)
    same = {k: expit(z) for k in reversed(SIMPLICITY)}
    assert select_signal(same, y, seed=0)[0] == "first_token"


def test_two_signals_that_complement_each_other_are_learned() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0, 2, (2, 1500))
    y = (rng.random(1500) < expit(a + b)).astype(float)
    name, table = select_signal({"first_token": expit(a), "entropy": expit(b)}, y, seed=0)
    assert name == "learned"
    assert {r["signal"]: r["aurc"] for r in table}["learned"] < min(
        r["aurc"] for r in table if r["signal"] != "learned"
    )


def test_noise_is_not_learned_though_it_would_fit_the_rows_that_it_saw() -> None:
    rng, z, y = rows(150, 5)
    signals = {"first_token": expit(z), **{f"noise_{i}": rng.random(150) for i in range(15)}}
    assert select_signal(signals, y, seed=0)[0] == "first_token"


def test_a_null_counts_as_the_least_sure() -> None:
    rng, z, y = rows(1000, 6)
    good = expit(z)
    holes = np.where(rng.random(1000) < 0.6, np.nan, good)
    name, table = select_signal(
        {"first_token": holes, "entropy": expit(z + rng.normal(0, 0.5, 1000))}, y, seed=0, learned=False
    )
    assert name == "entropy"
    assert table[0]["null_rate"] == pytest.approx(np.isnan(holes).mean())


def test_figures_are_those_of_an_own_computation_on_the_same_folds() -> None:
    rng, z, y = rows(400, 7)
    c = expit(z + rng.normal(0, 1, 400))
    _, table = select_signal({"mean": c}, y, seed=9, learned=False)
    areas = fold_areas(c, y, 9)
    assert table[0]["aurc"] == pytest.approx(np.mean(areas))
    assert table[0]["aurc_se"] == pytest.approx(np.std(areas, ddof=1) / np.sqrt(10))
    assert table[0]["n"] == 400


def test_a_simpler_signal_may_be_one_standard_error_behind_the_best_and_no_more() -> None:
    near = far = 0
    for seed in range(40):
        rng, z, y = rows(400, seed)
        simple, other = expit(z + rng.normal(0, 1.0, 400)), expit(z + rng.normal(0, 0.7, 400))
        name, table = select_signal({"first_token": simple, "entropy": other}, y, seed=seed, learned=False)
        behind = fold_areas(simple, y, seed) - fold_areas(other, y, seed)
        gap, se = behind.mean(), behind.std(ddof=1) / np.sqrt(10)
        assert name == ("first_token" if gap <= se else "entropy")
        if gap > 0:
            assert (table[0]["gap"], table[0]["gap_se"]) == pytest.approx((gap, se))
        near += 0 < gap <= se
        far += se < gap <= 2 * se
    assert min(near, far) >= 4


@pytest.mark.slow
def test_the_learned_signal_is_judged_on_rows_that_its_model_has_not_seen() -> None:
    rng, z, y = rows(400, 11)
    signals = {"first_token": expit(z + rng.normal(0, 1, 400)), "entropy": expit(z + rng.normal(0, 1, 400))}
    signals |= {name: rng.random(400) for name in ("label_sequence", "mean", "minimum", "margin", "label_probability")}
    _, table = select_signal(signals, y, seed=9)
    x = np.column_stack([logit(np.clip(c, 1e-6, 1 - 1e-6)) for c in signals.values()])
    whole = fit_learned(learned_features(signals), y, seed=9)
    assert whole is not None
    fold = np.random.default_rng(9).permutation(np.arange(400) % 10)
    unseen, seen = np.zeros(400), np.zeros(400)
    for f in range(10):
        for values, fitted in ((unseen, fold != f), (seen, fold >= 0)):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=whole["penalty"], tol=1e-10, max_iter=1000))
            model.fit(x[fitted], y[fitted])
            values[fold == f] = model.predict_proba(x[fold == f])[:, 1]
    entry = {row["signal"]: row for row in table}["learned"]
    assert entry["auroc"] == pytest.approx(roc_auc_score(y, unseen), abs=1e-4)
    assert roc_auc_score(y, seen) > entry["auroc"] + 0.005, "rows that were seen would flatter it"
    assert entry["aurc"] == pytest.approx(fold_areas(unseen, y, 9).mean(), abs=1e-4)


@pytest.mark.parametrize("y", [[], [1.0], [1.0] * 30, [np.nan] * 30, [0.0, 1.0] * 4])
def test_too_little_to_tell_gives_the_simplest_signal(y: list[float]) -> None:
    c = np.linspace(0.1, 0.9, len(y)) if y else np.zeros(0)
    signals = {"entropy": c, "first_token": c}
    if np.isnan(y).all():
        with pytest.raises(ValueError, match="nothing to choose"):
            select_signal(signals, y, seed=0)
    else:
        assert select_signal(signals, y, seed=0)[0] == "first_token"


def test_every_signal_that_is_measured_has_a_place_in_the_order() -> None:
    assert set(SIMPLICITY) == set(SIGNALS)


def test_learned_numbers_are_what_production_evaluates() -> None:
    rng, z, y = rows(300, 8)
    signals = {k: expit(z + rng.normal(0, 1, 300)) for k in ("first_token", "entropy")}
    features = learned_features(signals, rng.integers(1, 4, 300))
    numbers = fit_learned(features, y, seed=0)
    assert numbers is not None
    check_learned(numbers)
    one_by_one = [learned_confidence(numbers, {k: float(v[i]) for k, v in features.items()}) for i in range(300)]
    assert learned_values(numbers, features) == pytest.approx(one_by_one, abs=1e-12)


def test_the_learned_model_is_scikit_learns_ridge_regression() -> None:
    rng, z, y = rows(500, 9)
    features = {"logit_first_token": z + rng.normal(0, 1, 500), "logit_entropy": z + rng.normal(0, 2, 500)}
    numbers = fit_learned(features, y, seed=0, penalty=0.1)
    assert numbers is not None
    x = np.column_stack(list(features.values()))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    peer = LogisticRegression(C=0.1, tol=1e-10, max_iter=1000).fit(x, y)
    assert learned_values(numbers, features) == pytest.approx(peer.predict_proba(x)[:, 1], abs=1e-5)


def test_segments_and_lengths_enter_as_scikit_learns_columns_do() -> None:
    """The peer: standardised columns, one indicator a segment with ten rows or more."""
    rng, z, _ = rows(400, 12)
    segment = rng.choice(["a", "b", "c"], 400, p=[0.5, 0.4, 0.1]).astype(object)
    segment[:3] = "rare"
    tokens = rng.integers(1, 60, 400)
    y = (rng.random(400) < expit(z + (segment == "b") - np.log(tokens) / 2)).astype(float)
    read = Inputs(learned_features({"mean": expit(z)}, None, tokens), segments=segment)
    numbers = fit_learned(read, y, seed=0, penalty=0.1)
    assert numbers is not None
    x = np.column_stack([logit(np.clip(expit(z), 1e-6, 1 - 1e-6)), np.log(tokens)])
    x = np.column_stack([(x - x.mean(axis=0)) / x.std(axis=0), *[segment == name for name in "abc"]])
    peer = LogisticRegression(C=0.1, tol=1e-10, max_iter=1000).fit(x, y)
    assert learned_values(numbers, read) == pytest.approx(peer.predict_proba(x)[:, 1], abs=1e-5)
    assert numbers["segments"]["rare"] == 0.0
    other = Inputs(read.features, segments=np.array(["new"] * 400, dtype=object))
    assert np.isnan(learned_values(numbers, other)).all(), "no fit row had it"


def test_features_that_are_often_null_or_constant_are_left_out() -> None:
    rng, z, y = rows(400, 10)
    features = {
        "logit_first_token": z,
        "logit_margin": np.where(rng.random(400) < 0.3, np.nan, z),
        "answer_tokens": np.ones(400),
        "logit_entropy": np.where(np.arange(400) == 0, np.nan, z),
    }
    numbers = fit_learned(features, y, seed=0)
    assert numbers is not None
    assert numbers["features"] == ["logit_first_token", "logit_entropy"]


@pytest.mark.parametrize("y", [np.ones(200), np.r_[np.ones(195), np.zeros(5)], np.tile([0.0, 1.0], 20)])
def test_too_few_rows_or_errors_learn_nothing(y: Floats) -> None:
    assert fit_learned({"logit_mean": np.linspace(-1, 1, len(y))}, y, seed=0) is None


def test_features_are_the_logits_of_the_other_signals() -> None:
    got = learned_features({"mean": [0.2, 0.9, np.nan, 1.0], "learned": [0.5] * 4}, [1, 2, 3, 4], [1, 4, np.nan, 9])
    assert set(got) == {"logit_mean", "answer_tokens", "log_reply_tokens"}
    assert got["log_reply_tokens"] == pytest.approx(np.log([1, 4, np.nan, 9]), nan_ok=True)
    assert got["logit_mean"] == pytest.approx([logit(0.2), logit(0.9), np.nan, logit(1 - 1e-6)], nan_ok=True)


def told(
    n: int, seed: int, *, by_answer: float = 0.0, by_word: float = 0.0, by_length: float = 0.0, by_segment: float = 0.0
) -> tuple[Inputs, Floats]:
    """Rows whose correctness also depends on the answer, the reply's length, the segment, or what the text speaks of."""
    rng = np.random.default_rng(seed)
    z, spam, hard = rng.normal(1.5, 1.0, n), rng.random(n) < 0.5, rng.random(n) < 0.5
    long, foreign = rng.random(n) < 0.5, rng.random(n) < 0.5
    y = rng.random(n) < expit(z - by_answer * spam - by_word * hard - by_length * long - by_segment * foreign)
    words = [
        f"{'contract' if h else 'weather'} {'tariff' if h else 'sunshine'} number {rng.integers(40)} please"
        for h in hard
    ]
    answers = np.where(spam, "spam", "work").astype(object)
    features = learned_features({"mean": expit(z)}, np.where(spam, 2, 1), np.where(long, 20, 3) + rng.integers(0, 3, n))
    segments = np.where(foreign, "fr", "de").astype(object)
    return Inputs(features, answers, np.array(words, dtype=object), segments), y.astype(float)


@pytest.mark.parametrize(
    ("rows", "standard_errors", "chosen"), [(50, 1.3, 0), (50, 1.6, 1), (200, 1.1, 1), (200, 0.9, 0)]
)
def test_of_few_rows_more_is_read_where_it_gains_more_than_folds_that_share_their_rows_vary(
    monkeypatch, rows: int, standard_errors: float, chosen: int
) -> None:
    """Ten folds whose models share eight ninths of their rows: sqrt(1/10 + 1/9) of the spread, 1.45 times the usual error."""
    gains = np.linspace(-1, 1, 10)
    gains = gains / (gains.std(ddof=1) / 10**0.5) + standard_errors
    fold = np.repeat(np.arange(10), rows // 10)
    read = Inputs(learned_features({"mean": np.full(rows, 0.7)}), np.array(["a", "b"] * (rows // 2), dtype=object))
    monkeypatch.setattr(
        learned_model, "_held_out", lambda choice, *more: np.full(rows, 0.0 if choice.answers is None else 1.0)
    )
    monkeypatch.setattr(learned_model, "rank_figure", lambda name, v, y: 50.0 - v[0] * gains[int(y[0])])
    found = cross_fitted(read, fold.astype(float), fold, 0)
    assert found is not None
    assert (found[0].answers is not None) == bool(chosen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("effect", "reads"),
    [
        ({}, "signals"),
        ({"by_length": 3.0}, "the reply"),
        ({"by_answer": 3.0}, "the reply"),
        ({"by_segment": 3.0}, "segments"),
        ({"by_word": 3.0}, "texts"),
        ({"by_word": 3.0, "by_segment": 3.0}, "segments and texts"),
    ],
)
def test_the_model_reads_lengths_segment_or_text_only_where_they_tell_something(
    effect: dict[str, float], reads: str
) -> None:
    found = []
    for seed in range(2):
        read, y = told(700, seed, **effect)
        with threadpool_limits(1):  # as the commands compute
            chosen = cross_fitted(read, y, np.random.default_rng(seed).permutation(700) % 5, seed)
        assert chosen is not None
        inputs = chosen[0]
        asked = [name for name in ("segments", "texts") if getattr(inputs, name) is not None]
        found.append(
            " and ".join(asked)
            or ("the reply" if inputs.answers is not None or len(inputs.features) > 1 else "signals")
        )
    assert found == [reads] * 2


@pytest.mark.slow
def test_numbers_with_answers_and_words_are_what_production_evaluates() -> None:
    read, y = told(600, 3, by_answer=2.0, by_word=2.0, by_segment=1.0)
    numbers = fit_learned(read, y, seed=0)
    assert numbers is not None
    check_learned(numbers)
    assert set(numbers["labels"]) == {"spam", "work"}
    assert set(numbers["segments"]) == {"de", "fr"}
    assert {"answer_tokens", "log_reply_tokens"} <= set(numbers["features"])
    rows_read = [{k: float(v[i]) for k, v in read.features.items()} for i in range(600)]
    one_by_one = [
        learned_confidence(numbers, row, answer=read.answers[i], text=read.texts[i], segment=read.segments[i])
        for i, row in enumerate(rows_read)
    ]
    assert learned_values(numbers, read) == pytest.approx(one_by_one, abs=1e-9)
    assert learned_confidence(numbers, rows_read[0], answer="spam") is None, "it reads the text, and none is given"
    hard = [c for c, t in zip(one_by_one, read.texts, strict=True) if "tariff" in t]
    easy = [c for c, t in zip(one_by_one, read.texts, strict=True) if "tariff" not in t]
    assert np.mean(easy) - np.mean(hard) > 0.15
    # the same texts under another hash seed of the interpreter would give the same numbers: no use is made of hash()
    assert roc_auc_score(y, one_by_one) > roc_auc_score(y, [row["logit_mean"] for row in rows_read])


def test_beside_a_named_signal_the_learned_one_is_fitted_on_a_part_of_very_many_rows(monkeypatch) -> None:
    rng, z, y = rows(4000, 8)
    signals = {"first_token": expit(z + rng.normal(0, 1, 4000)), "entropy": expit(z + rng.normal(0, 1, 4000))}
    _, whole = select_signal(signals, y, seed=0, named="first_token")
    fitted: list[int] = []
    fit = learned_model.fit_learned
    monkeypatch.setattr(signal_choice, "MOST_COMPARED", 600)
    monkeypatch.setattr(
        learned_model, "fit_learned", lambda read, y, **more: (fitted.append(len(y)), fit(read, y, **more))[1]
    )
    _, part = select_signal(signals, y, seed=0, named="first_token")
    assert max(fitted) == 600
    learned = {row["signal"]: row for row in part}["learned"]
    assert learned["n"] == 4000  # every row has a value of a model that did not see it
    assert learned["auroc"] == pytest.approx({row["signal"]: row for row in whole}["learned"]["auroc"], abs=0.005)
    assert [(row["aurc"], row["auroc"]) for row in part[:2]] == [(row["aurc"], row["auroc"]) for row in whole[:2]]
    fitted.clear()
    select_signal(signals, y, seed=0, named="learned")
    assert max(fitted) == 4000


def test_why_no_reply_has_a_confidence_is_told_by_what_came() -> None:
    """Probabilities in place of logprobs came, and token ids: not that the model returns none."""
    rows = pd.DataFrame({"cheap_status": ["no_logprobs"] * 3 + ["unaligned"], "signal_first_token": [np.nan] * 4})
    with pytest.raises(
        UsageError, match=r"3 of 4 have no logprobs.*such as probabilities.*1 of 4 have tokens that do not spell"
    ):
        chosen_signal(rows, np.ones(4), task="t", wanted="first_token", reasons={}, seed=1)
