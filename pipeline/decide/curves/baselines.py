"""Baselines: what a cascade must beat, and what it cannot reach, at the same share of rows sent to the strong model.

random   any rows; every row pays the cheap call, so at equal share it costs what an average cascade costs
oracle   first the rows where only the strong model is right, last those where only the cheap one is; pays both calls
router   reads the text alone (TF-IDF and logistic regression, fitted on `fit`, predicts where the cheap model errs)
         and pays no cheap call for what it sends up
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from pipeline.decide.predictions import Rows
from pipeline.decide.testing.clusters import fold_of

Floats = npt.NDArray[np.float64]

COLUMNS = ["name", "split", "escalation_rate", "system_accuracy", "usd_per_1000", "n"]
FEWEST_ERRORS = 5
FOLDS = 5
_WORDS: dict[str, Any] = {
    "tokenizer": re.compile(r"\w+").findall,
    "token_pattern": None,
}  # single letters are words too


def baselines(
    rows_fit: Rows,
    rows_eval: Rows,
    rates: npt.ArrayLike,
    texts_fit: Sequence[str] | None = None,
    texts_eval: Sequence[str] | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    seed: int,
    split: str = "test",
) -> pd.DataFrame:
    """Expected accuracy and cost of each baseline on `rows_eval` at each escalation rate in [0, 1].

    Evaluated on the rows where both models' correctness is known (n of them); NaN without any. Unknown dollars count as
    the mean of the known ones, NaN where none is known. Rows of equal score are sent up in random order, in expectation.
    `weights` (n,): how much each row of `rows_eval` counts, in its share of the escalated too; None counts all alike.
    Where strong answers were sampled the gain of a row is estimated, so there is no oracle, which would have to know it.
    Without fit rows the router is cross-fitted over the groups of `rows_eval`. It is absent without texts, or where the fit rows hold fewer than five errors or five right answers.
    """
    share = np.asarray(rates, dtype=np.float64)
    graded = ~np.isnan(rows_eval.cheap_correct) & ~np.isnan(rows_eval.strong_estimate)
    rows = rows_eval.take(graded)
    weight = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)[graded]
    gain = rows.strong_estimate - rows.cheap_correct
    scores = {"random": np.zeros(len(rows))} | ({} if rows.sampled else {"oracle": gain})
    if texts_fit is not None and texts_eval is not None:
        texts = [t for t, g in zip(texts_eval, graded, strict=True) if g]
        predicted = (
            router_scores(texts_fit, 1 - rows_fit.cheap_correct, texts, seed=seed)
            if len(rows_fit)
            else cross_fitted_scores(texts, 1 - rows.cheap_correct, rows.group, seed=seed)
        )
        if predicted is not None:
            scores["router"] = predicted
    cheap_usd, strong_usd = _filled(rows.cheap_usd, weight), _filled(rows.strong_usd, weight * rows.strong_weight)
    tables = []
    for name, score in scores.items():
        extra = strong_usd - cheap_usd if name == "router" else strong_usd
        table = {
            "name": name,
            "split": split,
            "escalation_rate": share,
            "system_accuracy": _mean(rows.cheap_correct, weight) + _moved(score, gain, weight, share),
            "usd_per_1000": 1000 * (_mean(cheap_usd, weight) + _moved(score, extra, weight, share)),
            "n": len(rows),
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def router_scores(
    texts_fit: Sequence[str], wrong_fit: npt.ArrayLike, texts_eval: Sequence[str], *, seed: int
) -> Floats | None:
    """Predicted probability that the cheap model errs on each of `texts_eval`, from words and word pairs alone.

    `wrong_fit`: 1 where it erred on a fit row, 0, or NaN (left out). None with fewer than five rows of a class or no words.
    """
    wrong = np.asarray(wrong_fit, dtype=np.float64)
    known = ~np.isnan(wrong)
    target = wrong[known].astype(np.int64)
    if min(target.sum(), len(target) - target.sum()) < FEWEST_ERRORS:
        return None
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2, max_features=50_000, **_WORDS)
    try:
        x = words.fit_transform([t for t, k in zip(texts_fit, known, strict=True) if k])
    except ValueError:  # no word occurs twice
        return None
    model = LogisticRegression(C=1.0, max_iter=1000, random_state=seed).fit(x, target)
    return np.asarray(model.predict_proba(words.transform(list(texts_eval)))[:, 1], dtype=np.float64)


def cross_fitted_scores(
    texts: Sequence[str], wrong: npt.ArrayLike, group: npt.NDArray[np.object_], *, seed: int
) -> Floats | None:
    """As `router_scores`, each row by a model of the other groups' rows in five parts; None where one cannot be fitted."""
    fold = fold_of(group, FOLDS, seed)
    errors, found = np.asarray(wrong, dtype=np.float64), np.full(len(texts), np.nan)
    for k in range(FOLDS):
        inside, others = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
        scores = router_scores(
            [texts[int(i)] for i in others], errors[others], [texts[int(i)] for i in inside], seed=seed
        )
        if scores is None:
            return None
        found[inside] = scores
    return found


def _moved(score: Floats, delta: Floats, weight: Floats, share: Floats) -> Floats:
    """Mean of `delta` over all rows when the `share` of largest `score` is sent up; linear inside blocks of ties."""
    if not weight.any():
        return np.full(len(share), np.nan)
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    mass, sums = (np.append(0.0, np.cumsum(x[order])[ends]) for x in (weight, weight * delta))
    return np.asarray(np.interp(share * mass[-1], mass, sums) / mass[-1], dtype=np.float64)


def _mean(values: Floats, weight: Floats) -> float:
    return float(weight @ values / weight.sum()) if weight.any() else float("nan")


def _filled(usd: Floats, weight: Floats) -> Floats:
    known = ~np.isnan(usd) & (weight > 0)
    return np.where(known, usd, _mean(usd[known], weight[known]))
