"""Baselines against enumeration."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from decide.made_rows import made
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from pipeline.decide.curves import text_router
from pipeline.decide.curves.baselines import baselines
from pipeline.decide.curves.text_router import cross_fitted_scores, router_scores
from pipeline.decide.predictions import Rows
from pipeline.decide.testing.clusters import fold_of


def sent(rows: Rows, chosen: tuple[int, ...]) -> tuple[float, float]:
    """Accuracy and dollars per 1,000 when these rows go to the strong model after the cheap one."""
    mask = np.isin(np.arange(len(rows)), chosen)
    accuracy = np.where(mask, rows.strong_correct, rows.cheap_correct).mean()
    return float(accuracy), float(1000 * (rows.cheap_usd + np.where(mask, rows.strong_usd, 0)).mean())


def at(table: object, name: str) -> tuple[np.ndarray, np.ndarray]:
    part = table[table.name == name]  # type: ignore[index,attr-defined]
    return part.system_accuracy.to_numpy(), part.usd_per_1000.to_numpy()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_is_the_mean_and_the_oracle_the_best_of_all_subsets(seed: int) -> None:
    rows = made(8, seed)
    rates = np.arange(9) / 8
    table = baselines(rows, rates)
    assert set(table.name) == {"random", "oracle"}
    for k in range(9):
        outcomes = np.array([sent(rows, chosen) for chosen in combinations(range(8), k)])
        accuracy, usd = at(table, "random")
        assert accuracy[k] == pytest.approx(outcomes[:, 0].mean())
        assert usd[k] == pytest.approx(outcomes[:, 1].mean())
        assert at(table, "oracle")[0][k] == pytest.approx(outcomes[:, 0].max())


def test_the_ends_are_the_models_themselves() -> None:
    rows = made(300, 4)
    table = baselines(rows, [0.0, 1.0], np.zeros(300), split="certify")
    assert (table.split == "certify").all()
    both = 1000 * (rows.cheap_usd + rows.strong_usd).mean()
    for name, usd_at_end in (("random", both), ("oracle", both), ("router", 1000 * rows.strong_usd.mean())):
        accuracy, usd = at(table, name)
        assert accuracy == pytest.approx([rows.cheap_correct.mean(), rows.strong_correct.mean()])
        assert usd == pytest.approx([1000 * rows.cheap_usd.mean(), usd_at_end])


def test_a_row_that_counts_twice_is_two_rows() -> None:
    """Unknown dollars and ungraded rows among them."""
    rows = made(80, 12, gaps=0.1)
    twice = np.arange(80) % 3 == 0
    router = np.arange(80) % 7 / 7
    repeated = np.repeat(np.arange(80), np.where(twice, 2, 1))
    rates = np.linspace(0, 1, 9)
    weighted = baselines(rows, rates, router, weights=np.where(twice, 2.0, 1.0))
    plain = baselines(rows.take(repeated), rates, router[repeated])
    assert set(weighted.name) == {"random", "oracle", "router"}
    for name in set(weighted.name):
        for mine, theirs in zip(at(weighted, name), at(plain, name), strict=True):
            assert mine == pytest.approx(theirs)


def hard_words(n: int, seed: int) -> tuple[Rows, list[str]]:
    """The cheap model fails exactly on texts with one word; the strong one never."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.3
    texts = [f"please {'arbitrate' if h else 'sort'} this mail {rng.integers(5)}" for h in hard]
    return replace(made(n, seed), cheap_correct=(~hard).astype(float), strong_correct=np.ones(n)), texts


def test_the_router_finds_the_words_on_which_the_cheap_model_errs() -> None:
    fit, texts_fit = hard_words(200, 5)
    held, texts = hard_words(100, 6)
    share = 1 - held.cheap_correct.mean()
    table = baselines(held, [share], router_scores(texts_fit, 1 - fit.cheap_correct, texts, seed=0))
    accuracy, usd = at(table, "router")
    assert accuracy == pytest.approx([1.0])
    hard = held.cheap_correct == 0
    assert usd == pytest.approx(
        [1000 * np.where(hard, held.strong_usd, held.cheap_usd).mean()]
    )  # no cheap call for those


def test_the_router_learns_nothing_from_labels_it_may_not_see() -> None:
    fit, texts_fit = hard_words(200, 7)
    _, texts = hard_words(100, 8)
    scores = router_scores(texts_fit, 1 - fit.cheap_correct, texts, seed=0)
    again = router_scores(texts_fit, 1 - fit.cheap_correct, texts[::-1], seed=0)
    assert scores is not None
    assert again is not None
    assert scores == pytest.approx(again[::-1])


@pytest.mark.parametrize(
    ("texts", "wrong"),
    [
        (["a"] * 100, np.zeros(100)),
        ([f"w{i}" for i in range(40)], np.tile([0.0, 1.0], 20)),
        (["x"] * 8, np.tile([0.0, 1.0], 4)),
    ],
)
def test_there_is_no_router_where_there_is_nothing_to_learn(texts: list[str], wrong: np.ndarray) -> None:
    assert router_scores(texts, wrong, ["hello world"], seed=0) is None


def test_rows_with_an_unknown_outcome_are_left_out_and_unknown_dollars_count_as_the_mean() -> None:
    rows = made(60, 9, gaps=0.2)
    graded = ~np.isnan(rows.cheap_correct) & ~np.isnan(rows.strong_correct)
    table = baselines(rows, [1.0])
    accuracy, usd = at(table, "random")
    part = rows.take(graded)
    assert (table.n == graded.sum()).all()
    assert accuracy == pytest.approx([part.strong_correct.mean()])
    assert usd == pytest.approx([1000 * (np.nanmean(part.cheap_usd) + np.nanmean(part.strong_usd))])


def test_no_graded_rows_and_no_known_dollars_are_unknown_not_zero() -> None:
    nothing = baselines(made(5, 10, strong_correct=np.nan), [0.0, 0.5])
    assert nothing.system_accuracy.isna().all()
    assert nothing.usd_per_1000.isna().all()
    free = baselines(made(5, 11, strong_usd=np.nan, cheap_usd=np.nan), [0.5])
    assert free.usd_per_1000.isna().all()
    assert free.system_accuracy.notna().all()


@pytest.mark.parametrize("most", [50_000, 20])
def test_taking_texts_apart_once_gives_what_a_vectorizer_of_each_folds_own_gives(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    words = rng.zipf(1.5, (240, 12)) % 60
    texts = [" ".join(f"w{w}" for w in row) for row in words]
    wrong = np.where(rng.random(240) < 0.1, np.nan, (words == 3).any(axis=1))
    group = np.array([f"g{i % 80}" for i in range(240)], dtype=object)
    monkeypatch.setattr(text_router, "MOST_TERMS", most)
    found = cross_fitted_scores(texts, wrong, group, seed=2)
    assert found is not None
    for fold in range(5):
        inside = fold_of(group, 5, 2) == fold
        known = ~inside & ~np.isnan(wrong)
        peer = make_pipeline(
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2, token_pattern=r"\w+", max_features=most),
            LogisticRegression(max_iter=1000),
        ).fit([t for t, k in zip(texts, known, strict=True) if k], wrong[known].astype(int))
        expected = peer.predict_proba([t for t, i in zip(texts, inside, strict=True) if i])[:, 1]
        if most > 20:
            assert found[inside] == pytest.approx(expected, abs=1e-9)
        else:  # among terms that are equally frequent at the limit another one may be kept
            assert np.corrcoef(found[inside], expected)[0, 1] > 0.95


def test_without_fit_rows_each_group_is_routed_by_a_model_of_the_others() -> None:
    # the word tells the group and nothing else: a model that saw the group's own rows would tell its errors by it
    group = np.array([f"g{i // 4}" for i in range(400)], dtype=object)
    wrong = np.repeat(np.random.default_rng(3).random(100) < 0.3, 4).astype(float)
    texts = [f"mail {g} {g}" for g in group]
    scores = cross_fitted_scores(texts, wrong, group, seed=0)
    assert scores is not None
    assert abs(np.corrcoef(scores, wrong)[0, 1]) < 0.3
    seen = router_scores(texts, wrong, texts, seed=0)
    assert seen is not None
    assert np.corrcoef(seen, wrong)[0, 1] > 0.9
    told = [f"mail {'odd' if w else 'even'}" for w in wrong]
    assert np.corrcoef(cross_fitted_scores(told, wrong, group, seed=0), wrong)[0, 1] > 0.9


def test_a_router_learns_from_a_part_of_very_many_texts_and_scores_all(monkeypatch):
    rng = np.random.default_rng(4)
    wrong = (rng.random(3000) < 0.3).astype(float)
    told = [f"{'late parcel' if w else 'thanks again'} {rng.integers(10**6)}" for w in wrong]
    group = np.array([f"g{i}" for i in range(3000)], dtype=object)
    wrong[::50] = np.nan
    known = ~np.isnan(wrong)
    every = cross_fitted_scores(told, wrong, group, seed=0)
    monkeypatch.setattr(text_router, "MOST_TEXTS", 300)
    for scores in (cross_fitted_scores(told, wrong, group, seed=0), router_scores(told, wrong, told, seed=0)):
        assert not np.isnan(scores).any()
        assert np.corrcoef(scores, every)[0, 1] > 0.99
        assert scores[known & (wrong == 1)].min() > scores[known & (wrong == 0)].max()
