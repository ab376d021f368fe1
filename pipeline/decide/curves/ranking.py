"""Ranking: how well probabilities order a query's passages, or a row's options, with and without escalation.

Precision@k, average precision (MAP over queries) and nDCG@k with binary gains (Järvelin and Kekäläinen 2002); for options
the share of rows whose first option is right and the mean reciprocal rank (MRR) of the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cascade_threshold.calibrator import Calibrator
from pipeline.decide import calibration
from pipeline.decide.predictions import Rows
from pipeline.decide.thresholds import accepted

Floats = npt.NDArray[np.float64]

CUT = 10
PRECISION_AT = (1, 3)
REPLICATES = 1000
LEVEL = 0.9


def ranked_relevance(relevant: Floats, *scores: Floats) -> Floats:
    """Relevance (1, 0) of one query's passages from first to last, ordered by the scores, the first score first.

    A null score (NaN) ranks last. Passages that tie on every score are ordered against us: irrelevant before relevant.
    """
    keys = [relevant, *(-np.nan_to_num(score, nan=-np.inf) for score in reversed(scores))]
    return np.asarray(relevant[np.lexsort(keys)], dtype=np.float64)


def average_precision(ranked: Floats) -> float:
    """Mean of the precision at each relevant passage; NaN without one. `ranked` (m,) is 1 where relevant."""
    hits = np.flatnonzero(ranked)
    return float(np.mean(np.arange(1, len(hits) + 1) / (hits + 1))) if len(hits) else float("nan")


def ndcg(ranked: Floats, cut: int = CUT) -> float:
    """Discounted cumulative gain of the first `cut` over that of the best order; NaN without a relevant passage."""
    if not ranked.any():
        return float("nan")
    discount = 1 / np.log2(np.arange(2, min(cut, len(ranked)) + 2))
    best = np.sort(ranked)[::-1]
    return float((ranked[:cut] * discount).sum() / (best[:cut] * discount).sum())


def precision_at(ranked: Floats, k: int) -> float:
    """Share of the first k that are relevant; of all where there are fewer."""
    return float(ranked[:k].mean()) if len(ranked) else float("nan")


def passages(
    group: npt.NDArray[np.object_],
    relevant: Floats,
    score: Floats,
    strong_says: Floats,
    kept: npt.NDArray[np.bool_],
    *,
    relevance: Floats,
    strong_share: tuple[float, float],
    seed: int,
) -> dict[str, Any]:
    """Metrics over queries of the cheap model alone, the cascade and the strong model; arrays of shape (n,).

    `relevant` 1 or 0; `score` the cheap model's P(yes), NaN null; `strong_says` 1, 0 or NaN; `kept` rows that the cheap
    model answers. The two models' words meet on one scale, the probability of being relevant: `relevance` of a kept row
    (calibrated), and for an escalated one `strong_share`, how often passages are relevant that the strong model answers
    with no and with yes (see `share_relevant`); the cheap score breaks ties among them. A bare 1 or 0 would lose the
    order. Queries
    without a relevant passage have no average precision and no nDCG, and are counted. Where strong answers are missing
    throughout, its entries are None. Intervals are a bootstrap over queries.
    """
    orders: dict[str, tuple[Floats, ...]] = {"cheap": (score,)}
    if not np.isnan(strong_says).all():
        orders |= {
            "cascade": (np.where(kept, relevance, np.where(strong_says == 1, *reversed(strong_share))), score),
            "strong": (strong_says,),
        }
    _, code = np.unique(group.astype(str), return_inverse=True)
    queries = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code))[:-1])
    measures: dict[str, Callable[[Floats], float]] = {"ndcg_at_10": ndcg, "map": average_precision}
    measures |= {f"precision_at_{k}": partial(precision_at, k=k) for k in PRECISION_AT}
    out: dict[str, Any] = {
        "kind": "passages", "queries": len(queries), "without_relevant": sum(not relevant[q].any() for q in queries),
        "null_scores": int(np.isnan(score).sum()),
    }  # fmt: skip
    for who in ("cheap", "cascade", "strong"):
        if who not in orders:
            out[who] = None
            continue
        ranked = [ranked_relevance(relevant[q], *(s[q] for s in orders[who])) for q in queries]
        out[who] = {name: _mean(np.array([f(r) for r in ranked]), seed) for name, f in measures.items()}
    return out


def share_relevant(relevant: Floats, strong_says: Floats) -> tuple[float, float]:
    """Share of relevant passages where the strong model says no, and where it says yes, each with half a row added to both
    sides so that neither is ever 0 or 1. From rows that are not the ones ranked."""
    counts = [(np.nansum(relevant[strong_says == says]), (strong_says == says).sum()) for says in (0, 1)]
    no, yes = (float((k + 0.5) / (n + 1)) for k, n in counts)
    return no, yes


def options(
    label: npt.NDArray[np.object_],
    names: Sequence[Sequence[str]],
    probabilities: Sequence[Mapping[str, float] | None],
    strong_answer: npt.NDArray[np.object_],
    kept: npt.NDArray[np.bool_],
    *,
    seed: int,
) -> dict[str, Any]:
    """Top-1 accuracy and MRR of the cheap model alone, the cascade and the strong model, over n rows.

    `names` are each row's option letters, `probabilities` the cheap model's by letter, None where null: then nothing is
    ranked, and the row scores 0. In a cascade an escalated row puts the strong answer first and keeps the cheap order
    behind it. The strong model alone gives no order, so it has no MRR.
    """
    orders = [_order(letters, p) for letters, p in zip(names, probabilities, strict=True)]
    cascade = [
        o if k else _first(s, o or list(n)) for o, s, k, n in zip(orders, strong_answer, kept, names, strict=True)
    ]
    known = any(s is not None for s in strong_answer)
    out: dict[str, Any] = {"kind": "options", "rows": len(label), "null_scores": sum(p is None for p in probabilities)}
    for who, ranked in (("cheap", orders), ("cascade", cascade if known else None)):
        out[who] = None
        if ranked is not None:
            places = np.array([_reciprocal(y, order) for y, order in zip(label, ranked, strict=True)])
            out[who] = {"top_1": _mean((places == 1).astype(float), seed), "mrr": _mean(places, seed)}
    answered = np.array([s is not None for s in strong_answer], dtype=bool)
    right = np.array([s == y for s, y in zip(strong_answer, label, strict=True)], dtype=float)[answered]
    out["strong"] = {"top_1": _mean(right, seed), "mrr": None} if known else None
    return out


def _order(names: Sequence[str], probabilities: Mapping[str, float] | None) -> list[str] | None:
    """Options from likeliest to least; ties in the order shown. None where there are no probabilities."""
    return None if probabilities is None else sorted(names, key=lambda name: -probabilities.get(name, 0.0))


def _first(answer: str | None, order: list[str]) -> list[str]:
    return order if answer is None else [answer, *(name for name in order if name != answer)]


def _reciprocal(label: str, order: list[str] | None) -> float:
    return 0.0 if order is None or label not in order else 1 / (order.index(label) + 1)


def _mean(values: Floats, seed: int) -> dict[str, Any]:
    """Mean of the known values with a percentile bootstrap interval; none where all of them are the same."""
    known = values[~np.isnan(values)]
    if not len(known):
        return {"value": None, "lower": None, "upper": None, "level": LEVEL, "n": 0}
    if np.ptp(known) == 0:
        return {"value": float(known[0]), "lower": None, "upper": None, "level": LEVEL, "n": len(known)}
    rng = np.random.default_rng(seed)
    draws = np.array([known[rng.integers(0, len(known), len(known))].mean() for _ in range(REPLICATES)])
    lower, upper = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": float(known.mean()), "lower": float(lower), "upper": float(upper), "level": LEVEL, "n": len(known)}


def ranked_rows(
    frame: pd.DataFrame,
    threshold: float | None,
    calibrator: Calibrator,
    *,
    letters: Mapping[str, Sequence[str]] | None,
    yes: str,
    seed: int,
) -> dict[str, Any]:
    """How well the held-out rows of a table of predictions are ranked, with and without escalation.

    `letters`: of kind choose, the names of each row's options by its id; None for kind judge, whose answer `yes` says that
    a passage is relevant.
    """
    part_frame = frame[frame["split"] == ("test" if (frame["split"] == "test").any() else "certify")]
    part, held = Rows.from_frame(part_frame), Rows.from_frame(frame[frame["split"] == "certify"])
    kept = accepted(part.confidence, threshold)
    chances = [
        None if p is None else {e["label"]: e["probability"] for e in p} for p in part_frame["label_probabilities"]
    ]
    if letters is not None:
        return options(part.label, [letters[i] for i in part.example_id], chances, part.strong_answer, kept, seed=seed)

    def says(answers: np.ndarray[Any, Any]) -> Floats:
        return np.array([np.nan if a is None else float(a == yes) for a in answers])

    score = np.array([np.nan if p is None else p[yes] for p in chances])
    sure = calibration.apply(calibrator, part.confidence)
    return passages(
        part.group, says(part.label), score, says(part.strong_answer), kept, seed=seed,
        relevance=np.where(part.cheap_answer == yes, sure, 1 - sure),
        strong_share=share_relevant(says(held.label), says(held.strong_answer)),
    )  # fmt: skip
