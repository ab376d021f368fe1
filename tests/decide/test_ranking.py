"""Ranking measures against scikit-learn, brute force and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from pipeline.decide.curves.ranking import (
    average_precision,
    ndcg,
    options,
    passages,
    precision_at,
    ranked_relevance,
    share_relevant,
)


def test_measures_equal_scikit_learns_on_untied_scores() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        m = int(rng.integers(2, 14))
        relevant = (rng.random(m) < 0.4).astype(float)
        score = rng.permutation(m).astype(float)
        ranked = ranked_relevance(relevant, score)
        if not relevant.any():
            assert np.isnan(ndcg(ranked))
            assert np.isnan(average_precision(ranked))
            continue
        assert ndcg(ranked) == pytest.approx(ndcg_score([relevant], [score], k=10))
        assert average_precision(ranked) == pytest.approx(average_precision_score(relevant, score))
        best = np.argsort(-score)[:3]
        assert precision_at(ranked, 3) == pytest.approx(relevant[best].mean())


def test_ties_go_against_us_and_null_scores_come_last() -> None:
    relevant = np.array([1.0, 0.0, 1.0])
    assert ranked_relevance(relevant, np.array([0.5, 0.5, 0.5])).tolist() == [0, 1, 1]
    assert ranked_relevance(relevant, np.array([np.nan, 0.1, 0.2])).tolist() == [1, 0, 1]
    assert ranked_relevance(relevant, np.array([1.0, 1.0, 0.0]), np.array([0.9, 0.1, 0.5])).tolist() == [1, 0, 1]


def test_a_cascade_that_keeps_all_is_the_cheap_model_and_one_that_keeps_none_starts_with_the_strong_answer() -> None:
    rng = np.random.default_rng(2)
    n = 300
    group = np.array([f"q{i // 3}" for i in range(n)], dtype=object)
    relevant = (rng.random(n) < 0.4).astype(float)
    score = np.clip(relevant * 0.3 + rng.random(n) * 0.7, 0, 1)
    strong = np.where(rng.random(n) < 0.9, relevant, 1 - relevant)
    common = {"relevance": score, "strong_share": (0.1, 0.8), "seed": 1}
    everything = passages(group, relevant, score, strong, np.ones(n, bool), **common)
    assert everything["cascade"] == everything["cheap"]
    nothing = passages(group, relevant, score, strong, np.zeros(n, bool), **common)
    assert nothing["cascade"]["map"]["value"] >= nothing["strong"]["map"]["value"]
    by_hand = np.mean([relevant[q][np.lexsort((-score[q], -strong[q]))][0] for q in np.split(np.arange(n), n // 3)])
    assert nothing["cascade"]["precision_at_1"]["value"] == pytest.approx(by_hand)
    assert nothing["queries"] == n // 3
    assert passages(group, relevant, score, np.full(n, np.nan), np.ones(n, bool), **common)["cascade"] is None


def test_an_escalated_passage_ranks_by_how_often_the_strong_model_is_right() -> None:
    group = np.array(["q"] * 3, dtype=object)
    relevant, score = np.array([1.0, 0.0, 0.0]), np.array([0.95, 0.5, 0.4])
    kept = np.array([True, False, False])
    found = passages(
        group, relevant, score, np.array([1.0, 1.0, 0.0]), kept, relevance=score, strong_share=(0.1, 0.9), seed=1
    )
    assert found["cascade"]["map"]["value"] == 1  # .95 of a kept answer goes before .9 of a strong yes
    no, yes = share_relevant(np.array([1.0, 1, 0, 0, 0]), np.array([1.0, 1, 1, 0, 0]))
    assert (no, yes) == pytest.approx((0.5 / 3, 2.5 / 4))


def test_queries_that_are_all_in_perfect_order_give_no_interval() -> None:
    group = np.array(["a", "a", "b", "b"], dtype=object)
    relevant = score = np.array([1.0, 0.0, 1.0, 0.0])
    found = passages(group, relevant, score, score, np.ones(4, bool), relevance=score, strong_share=(0.1, 0.9), seed=1)
    assert found["cheap"]["ndcg_at_10"] == {"value": 1.0, "lower": None, "upper": None, "level": 0.9, "n": 2}


def test_options_are_ranked_by_probability_and_escalated_rows_start_with_the_strong_answer() -> None:
    label = np.array(["A", "B", "C"], dtype=object)
    names = ["ABC"] * 3
    chances = [{"A": 0.7, "B": 0.2, "C": 0.1}, {"A": 0.6, "B": 0.3, "C": 0.1}, None]
    strong = np.array(["A", "C", "C"], dtype=object)
    found = options(label, names, chances, strong, np.array([True, True, False]), seed=1)
    assert found["cheap"]["top_1"]["value"] == pytest.approx(1 / 3)
    assert found["cheap"]["mrr"]["value"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert found["cascade"]["top_1"]["value"] == pytest.approx(2 / 3)
    assert found["cascade"]["mrr"]["value"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found["strong"]["top_1"]["value"] == pytest.approx(2 / 3)
    assert found["strong"]["mrr"] is None
    assert found["null_scores"] == 1
    sent_up = options(label, names, chances, strong, np.zeros(3, bool), seed=1)
    assert sent_up["cascade"]["mrr"]["value"] == pytest.approx((1 + 1 / 3 + 1) / 3)
