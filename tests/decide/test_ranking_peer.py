"""The ranking table against ir-measures on Cranfield's judgements, for every model and tie rule. Set REAL_DATA_DIR to run it."""

from __future__ import annotations

import csv
import os
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.decide.curves.ranking import Ranked, average_precision, ndcg, passages, precision_at

DATA = os.environ.get("REAL_DATA_DIR")
MINE = {
    "nDCG@10": ndcg,
    "AP": average_precision,
    "P@1": lambda ranked: precision_at(ranked, 1),
    "P@3": lambda ranked: precision_at(ranked, 3),
}
LINEAR = ("nDCG@10", "P@1", "P@3")
"""Sums over positions: their mean over all orders of tied ones is exact from rotating one tied block after the other."""
WHO = ("cheap", "cascade", "strong")
Numbers = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture(scope="module")
def cranfield() -> dict[str, Any]:
    """Lists of row numbers by query, relevance, and made-up answers: a cheap P(yes) in steps of .05, a bare strong verdict
    that is right in 67.7 %, and the rows that the cheap model keeps."""
    if DATA is None:
        pytest.skip("REAL_DATA_DIR is not set")
    with (Path(DATA) / "labeled" / "retrieval_cranfield.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(11)
    relevant = np.array([float(row["relevance"]) for row in rows])
    says = np.where(rng.random(len(rows)) < 0.677, relevant, 1 - relevant)
    cheap = np.round(20 / (1 + np.exp(-0.5 * (2 * relevant - 1) - rng.normal(size=len(rows))))) / 20
    kept = np.abs(cheap - 0.5) >= 0.25
    queries: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        queries[row["query"]].append(i)
    scores = {"cheap": cheap, "cascade": np.where(kept, cheap, 0.1 + 0.8 * says), "strong": says}
    return {"queries": queries, "relevant": relevant, "says": says, "kept": kept, "scores": scores}


def theirs(orders: dict[str, list[int]], relevant: Numbers) -> dict[str, dict[str, float]]:
    """ir-measures' value of each measure for each named order that holds a relevant passage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ir_measures
    measures = [ir_measures.parse_measure(name) for name in MINE]
    qrels = {name: {str(i): int(relevant[i]) for i in rows} for name, rows in orders.items() if relevant[rows].any()}
    run = {name: {str(i): float(-place) for place, i in enumerate(orders[name])} for name in qrels}
    found: dict[str, dict[str, float]] = {name: {} for name in qrels}
    for metric in ir_measures.iter_calc(measures, qrels, run):
        found[metric.query_id][str(metric.measure)] = metric.value
    return found


def ours(queries: dict[str, list[int]], relevant: Numbers, *scores: Numbers) -> dict[str, float]:
    ranked = [
        Ranked.of(relevant[rows], *(s[rows] for s in scores)) for rows in queries.values() if relevant[rows].any()
    ]
    return {name: float(np.mean([f(r) for r in ranked])) for name, f in MINE.items()}


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("rule", ["luckiest", "worst", "as in the file"])
def test_every_model_agrees_with_the_peer_whatever_order_tied_passages_are_put_in(
    cranfield: dict[str, Any], who: str, rule: str
) -> None:
    relevant, score = cranfield["relevant"], cranfield["scores"][who]
    place = -np.arange(len(score), dtype=float)
    tie = {"luckiest": relevant, "worst": -relevant, "as in the file": place}[rule]
    orders = {
        q: sorted(rows, key=lambda i: (-score[i], -tie[i], -place[i])) for q, rows in cranfield["queries"].items()
    }
    peer = theirs(orders, relevant)
    mine = ours(cranfield["queries"], relevant, score, tie, place)
    for name in MINE:
        assert mine[name] == pytest.approx(np.mean([values[name] for values in peer.values()]), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
def test_every_model_agrees_with_the_peer_by_expected_value(cranfield: dict[str, Any], who: str) -> None:
    relevant, score = cranfield["relevant"], cranfield["scores"][who]
    orders: dict[str, list[int]] = {}
    for q, rows in cranfield["queries"].items():
        order = sorted(rows, key=lambda i: -score[i])
        orders[q] = order
        start = 0
        while start < len(order):
            size = sum(score[i] == score[order[start]] for i in order)
            for turn in range(size):
                block = order[start : start + size]
                orders[f"{q}|{start}|{turn}"] = order[:start] + block[turn:] + block[:turn] + order[start + size :]
            start += size
    found = theirs(orders, relevant)
    mine = ours(cranfield["queries"], relevant, score)
    for name in LINEAR:
        expected = []
        for q in cranfield["queries"]:
            if q not in found:
                continue
            blocks: dict[str, list[float]] = defaultdict(list)
            for key, values in found.items():
                if key.startswith(f"{q}|"):
                    blocks[key.split("|")[1]].append(values[name])
            expected.append(found[q][name] + sum(np.mean(turned) - found[q][name] for turned in blocks.values()))
        assert mine[name] == pytest.approx(np.mean(expected), abs=1e-5)


def test_the_table_holds_these_figures(cranfield: dict[str, Any]) -> None:
    """The strong model alone, right more often than the cheap one, is no worse than its ties make it look."""
    queries, relevant, kept = cranfield["queries"], cranfield["relevant"], cranfield["kept"]
    group = np.empty(len(relevant), dtype=object)
    for query, rows in queries.items():
        group[rows] = query
    cheap = cranfield["scores"]["cheap"]
    table = passages(group, relevant, cheap, cranfield["says"], kept, relevance=cheap, strong_share=(0.3, 0.7))
    for who in ("cheap", "strong"):
        mine = ours(queries, relevant, cranfield["scores"][who])
        assert table[who]["ndcg_at_10"]["value"] == pytest.approx(mine["nDCG@10"], abs=1e-5)
        assert table[who]["map"]["value"] == pytest.approx(mine["AP"], abs=1e-5)
    worst = ours(queries, relevant, cranfield["says"], -relevant)["nDCG@10"]
    best = ours(queries, relevant, cranfield["says"], relevant)["nDCG@10"]
    assert worst + 0.1 < table["strong"]["ndcg_at_10"]["value"] < best - 0.1
    assert table["cascade"]["ndcg_at_10"]["value"] > table["cheap"]["ndcg_at_10"]["value"]
