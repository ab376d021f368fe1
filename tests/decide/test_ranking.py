"""Ranking measures against scikit-learn, brute force and hand-made cases."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from pipeline.decide.curves.ranking import (
    Ranked,
    RankingScale,
    _mean,
    average_precision,
    ndcg,
    options,
    passages,
    precision_at,
    ranked_rows,
    share_relevant,
)


def test_measures_equal_scikit_learns_on_untied_scores() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        m = int(rng.integers(2, 14))
        relevant = (rng.random(m) < 0.4).astype(float)
        score = rng.permutation(m).astype(float)
        ranked = Ranked.of(relevant, score)
        if not relevant.any():
            assert np.isnan(ndcg(ranked))
            assert np.isnan(average_precision(ranked))
            continue
        assert ndcg(ranked) == pytest.approx(ndcg_score([relevant], [score], k=10))
        assert average_precision(ranked) == pytest.approx(average_precision_score(relevant, score))
        best = np.argsort(-score)[:3]
        assert precision_at(ranked, 3) == pytest.approx(relevant[best].sum() / 3)


def test_ties_count_by_their_expected_value_over_all_orders() -> None:
    """Brute force over every order of tied passages, graded gains among them; null scores come last."""
    rng = np.random.default_rng(3)
    for _ in range(40):
        m = int(rng.integers(2, 7))
        gain = rng.choice([0.0, 0.0, 1.0, 3.0], m)
        score = rng.choice([0.1, 0.5, np.nan], m)
        filled = np.nan_to_num(score, nan=-1.0)
        seen: dict[str, list[float]] = {"ndcg": [], "ap": [], "p": []}
        for order in itertools.permutations(range(m)):
            if all(filled[a] >= filled[b] for a, b in itertools.pairwise(order)):
                one = Ranked.of(gain[list(order)], -np.arange(m, dtype=float))
                seen["ndcg"].append(ndcg(one, 3))
                seen["ap"].append(average_precision(one))
                seen["p"].append(precision_at(one, 3))
        tied = Ranked.of(gain, score)
        assert ndcg(tied, 3) == pytest.approx(np.mean(seen["ndcg"]), nan_ok=True)
        assert average_precision(tied) == pytest.approx(np.mean(seen["ap"]), nan_ok=True)
        assert precision_at(tied, 3) == pytest.approx(np.mean(seen["p"]))


def test_a_peer_gives_the_same_on_graded_lists_without_ties() -> None:
    peer = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(4)
    for _ in range(30):
        m = int(rng.integers(2, 25))
        gain, score = rng.choice([0, 0, 1, 2, 3], m), rng.permutation(m).astype(float)
        if not gain.any():
            continue
        names = [f"d{i}" for i in range(m)]
        judge = peer.RelevanceEvaluator({"q": dict(zip(names, map(int, gain), strict=True))}, {"ndcg_cut", "map", "P"})
        theirs = judge.evaluate({"q": dict(zip(names, score.tolist(), strict=True))})["q"]
        mine = Ranked.of(gain.astype(float), score)
        assert ndcg(mine) == pytest.approx(theirs["ndcg_cut_10"], abs=1e-5)
        assert average_precision(mine) == pytest.approx(theirs["map"], abs=1e-5)
        assert precision_at(mine, 5) == pytest.approx(theirs["P_5"], abs=1e-5)  # of 5, however short the list


def test_a_cascade_that_keeps_all_is_the_cheap_model_and_one_that_keeps_none_starts_with_the_strong_answer() -> None:
    rng = np.random.default_rng(2)
    n = 300
    group = np.array([f"q{i // 3}" for i in range(n)], dtype=object)
    relevant = (rng.random(n) < 0.4).astype(float)
    score = np.clip(relevant * 0.3 + rng.random(n) * 0.7, 0, 1)
    strong = np.where(rng.random(n) < 0.9, relevant, 1 - relevant)
    common = {"relevance": score, "strong_share": (0.1, 0.8)}
    everything = passages(group, relevant, score, strong, np.ones(n, bool), **common)
    assert everything["cascade"] == everything["cheap"]
    nothing = passages(group, relevant, score, strong, np.zeros(n, bool), **common)
    assert nothing["cascade"]["map"]["value"] >= nothing["strong"]["map"]["value"]
    assert nothing["queries"] == n // 3
    assert passages(group, relevant, score, np.full(n, np.nan), np.ones(n, bool), **common)["cascade"] is None


def test_an_escalated_passage_ranks_by_how_often_the_strong_model_is_right() -> None:
    group = np.array(["q"] * 3, dtype=object)
    relevant, score = np.array([1.0, 0.0, 0.0]), np.array([0.95, 0.5, 0.4])
    kept = np.array([True, False, False])
    found = passages(group, relevant, score, np.array([1.0, 1.0, 0.0]), kept, relevance=score, strong_share=(0.1, 0.9))
    assert found["cascade"]["map"]["value"] == 1  # .95 of a kept answer goes before .9 of a strong yes
    no, yes = share_relevant(np.array([1.0, 1, 0, 0, 0]), np.array([1.0, 1, 1, 0, 0]))
    assert (no, yes) == pytest.approx((0.5 / 3, 2.5 / 4))


def test_queries_that_are_all_in_perfect_order_still_have_an_interval() -> None:
    group = np.array([f"q{i // 2}" for i in range(80)], dtype=object)
    relevant = score = np.tile([1.0, 0.0], 40)
    found = passages(group, relevant, score, score, np.ones(80, bool), relevance=score, strong_share=(0.1, 0.9))
    cell = found["cheap"]["ndcg_at_10"]
    assert (cell["value"], cell["upper"], cell["n"]) == (1.0, 1.0, 40)
    assert 0.9 < cell["lower"] < 0.05 ** (1 / 40)


def test_a_missing_strong_answer_falls_back_to_the_cheap_order_and_is_counted() -> None:
    group = np.array(["q"] * 4 + ["r"] * 4, dtype=object)
    relevant = np.array([1.0, 0, 0, 0, 1, 0, 0, 0])
    score = np.array([0.9, 0.6, 0.4, 0.2] * 2)
    says = np.array([np.nan] * 4 + [1.0, 0, 0, 0])
    found = passages(group, relevant, score, says, np.zeros(8, bool), relevance=score, strong_share=(0.1, 0.9))
    assert found["strong_missing"] == 4
    assert found["cascade"]["map"]["value"] == 1.0
    assert found["strong"]["map"]["n"] == 1, "the query of which the strong model said something"
    assert found["cheap"]["map"]["n"] == 2


def test_escalation_that_buys_nothing_as_a_ranking_is_said() -> None:
    rng = np.random.default_rng(5)
    n = 600
    group = np.array([f"q{i // 10}" for i in range(n)], dtype=object)
    relevant = (rng.random(n) < 0.3).astype(float)
    score = np.clip(0.5 * relevant + 0.5 * rng.random(n), 0.01, 0.99)
    blind = (rng.random(n) < 0.5).astype(float)
    common = {"relevance": score, "strong_share": (0.3, 0.3)}
    nothing = passages(group, relevant, score, blind, rng.random(n) < 0.7, **common)
    assert "does not clearly improve" in nothing["sentence"] or "worse" in nothing["sentence"]
    perfect = passages(group, relevant, 0.5 * score + 0.25 * rng.random(n), relevant, np.zeros(n, bool), **common)
    assert perfect["sentence"] is None
    assert perfect["difference"]["ndcg_at_10"]["lower"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("queries", [40, 89, 250])
def test_intervals_over_queries_cover_near_one(queries: int) -> None:
    """Most queries are in perfect order, a few far from it: the mean is about .988."""
    runs, hits, truth = 1500, 0, 0.97 + 0.03 * 0.6
    for run in range(runs):
        rng = np.random.default_rng([queries, run])
        values = np.where(rng.random(queries) < 0.97, 1.0, rng.uniform(0.4, 0.8, queries))
        cell = _mean(values, 0.9)
        hits += cell["lower"] <= truth <= cell["upper"]
    assert hits >= 0.87 * runs, hits / runs


def test_options_are_ranked_by_probability_and_escalated_rows_start_with_the_strong_answer() -> None:
    label = np.array(["A", "B", "C"], dtype=object)
    names = ["ABC"] * 3
    chances = [{"A": 0.7, "B": 0.2, "C": 0.1}, {"A": 0.6, "B": 0.3, "C": 0.1}, None]
    strong = np.array(["A", "C", "C"], dtype=object)
    found = options(label, names, chances, strong, np.array([True, True, False]))
    assert found["cheap"]["top_1"]["value"] == pytest.approx(1 / 3)
    assert found["cheap"]["mrr"]["value"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert found["cascade"]["top_1"]["value"] == pytest.approx(2 / 3)
    assert found["cascade"]["mrr"]["value"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found["strong"]["top_1"]["value"] == pytest.approx(2 / 3)
    assert found["strong"]["mrr"] is None
    assert found["null_scores"] == 1
    sent_up = options(label, names, chances, strong, np.zeros(3, bool))
    assert sent_up["cascade"]["mrr"]["value"] == pytest.approx((1 + 1 / 3 + 1) / 3)


def test_a_strong_model_that_gives_logprobs_is_ranked_by_its_own_probability() -> None:
    rng = np.random.default_rng(6)
    n = 600
    group = np.array([f"q{i // 12}" for i in range(n)], dtype=object)
    relevant = (rng.random(n) < 0.4).astype(float)
    cheap, theirs = (1 / (1 + np.exp(-rng.normal(k * (2 * relevant - 1), 1))) for k in (0.4, 1.5))
    says = (theirs >= 0.5).astype(float)

    def ranked(**more: object) -> dict[str, object]:
        return passages(
            group, relevant, cheap, says, np.zeros(n, dtype=bool), relevance=cheap, strong_share=(0.1, 0.9), **more
        )  # type: ignore[arg-type]

    scored, bare = ranked(strong_score=theirs), ranked()
    lists = [q for q in np.split(np.arange(n), n // 12) if relevant[q].any()]
    expected = np.mean([ndcg_score([relevant[q]], [theirs[q]], k=10) for q in lists])
    assert scored["strong"]["ndcg_at_10"]["value"] == pytest.approx(expected)  # type: ignore[index]
    assert scored["strong_is"] == "its own P(yes)"
    assert bare["strong_is"].startswith("bare verdict")  # type: ignore[attr-defined]
    for who in ("strong", "cascade"):
        assert scored[who]["ndcg_at_10"]["value"] > bare[who]["ndcg_at_10"]["value"] + 0.01  # type: ignore[index]
    gone = np.where(np.arange(n) == 0, np.nan, theirs)
    assert ranked(strong_score=gone)["strong_is"] == bare["strong_is"], "one answer without a score: no order of all"


def test_graded_passages_kept_and_escalated_meet_on_one_scale() -> None:
    """Where each model knows the grades of what it answers, the cascade's order is perfect: P(relevant) of a marginal passage that
    escalated would stand above the expected gain of a better one that was kept."""
    rng = np.random.default_rng(3)
    n = 480
    gain = rng.integers(0, 4, n) / 3
    kept = rng.random(n) < 0.6
    score = np.clip(np.where(kept, gain, rng.integers(0, 4, n) / 3), 0.02, 0.98)
    group = np.repeat(np.arange(60), 8).astype(str).astype(object)
    for rows in (n, 40):  # enough to fit, and too few
        found = passages(
            group[:rows],
            (gain[:rows] > 0).astype(float),
            score[:rows],
            gain[:rows].copy(),
            kept[:rows],
            relevance=score[:rows],
            strong_share=(0.1, 0.95),
            gain=gain[:rows],
        )
        assert found["cheap"]["ndcg_at_10"]["value"] < 0.95
        assert found["cascade"]["ndcg_at_10"]["value"] == pytest.approx(1.0)


def test_graded_passages_without_alternatives_are_ranked_by_what_was_answered() -> None:
    """Answers 3, 2, 1, 0, each with p = .7: their expected gains are in this order, .8, .6, .4, .2 (the rest is shared evenly)."""
    labels = ["0", "1", "2", "3"]
    frame = pd.DataFrame(
        {
            "example_id": list("abcd"),
            "split": "certify",
            "group": "q",
            "confidence": 0.7,
            "signal_first_token": 0.7,
            "cheap_answer": labels,
            "cheap_correct": True,
            "label": labels,
        }
    )
    scale = RankingScale("3", None, {"3": 3.0, "2": 2.0, "1": 1.0, "0": 0.0})
    found = ranked_rows(frame, None, np.full(4, 0.7), scale)
    assert found["cheap"]["ndcg_at_10"]["value"] == pytest.approx(1.0)


def test_queries_of_one_passage_each_are_no_ranking() -> None:
    frame = pd.DataFrame(
        {
            "example_id": list("abcd"),
            "split": "certify",
            "group": list("qrst"),
            "confidence": 0.7,
            "signal_first_token": 0.7,
            "cheap_answer": ["yes", "no"] * 2,
            "cheap_correct": True,
            "label": ["yes", "no"] * 2,
        }
    )
    scale = RankingScale("yes", None, None)
    assert ranked_rows(frame, None, np.full(4, 0.7), scale) is None
    assert ranked_rows(frame.assign(group=list("qqrr")), None, np.full(4, 0.7), scale) is not None
