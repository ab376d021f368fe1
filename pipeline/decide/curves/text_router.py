"""Text router: the probability that the cheap model errs, from the words of the request alone (TF-IDF, logistic regression)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.testing.clusters import fold_of

FEWEST_ERRORS = 5
FOLDS = 5
MOST_TERMS = 50_000
FEWEST_TEXTS = 2  # that hold a term
MOST_TEXTS = 20_000  # that models are fitted on
_WORDS = re.compile(r"\w+").findall  # single letters count as words


def router_scores(
    texts_fit: Sequence[str], wrong_fit: npt.ArrayLike, texts_eval: Sequence[str], *, seed: int
) -> Floats | None:
    """Predicted probability that the cheap model errs on each of `texts_eval`, from words and word pairs alone.

    `wrong_fit`: 1 where it erred on a fit row, 0, or NaN (left out). None with fewer than five rows of a class or no words.
    """
    errors = np.concatenate([np.asarray(wrong_fit, dtype=np.float64), np.full(len(texts_eval), np.nan)])
    learnt = _learnt(errors, seed)
    counts = _counts([*texts_fit, *texts_eval], learnt)
    if counts is None:
        return None
    return _predicted(counts, learnt, errors[learnt], np.arange(len(texts_fit), len(errors)), seed)


def cross_fitted_scores(
    texts: Sequence[str], wrong: npt.ArrayLike, group: CodedTexts | npt.NDArray[np.object_], *, seed: int
) -> Floats | None:
    """As `router_scores`, each row by a model of the other groups' rows in five parts; None where one cannot be fitted."""
    errors, found = np.asarray(wrong, dtype=np.float64), np.full(len(texts), np.nan)
    learnt = _learnt(errors, seed)
    counts = _counts(texts, learnt)
    if counts is None:
        return None
    fold = fold_of(group, FOLDS, seed)
    for k in range(FOLDS):
        inside, others = np.flatnonzero(fold == k), learnt[fold[learnt] != k]
        scores = _predicted(counts, others, errors[others], inside, seed)
        if scores is None:
            return None
        found[inside] = scores
    return found


def _learnt(errors: Floats, seed: int) -> Ints:
    """The graded rows that models are fitted on: beyond `MOST_TEXTS` a random part, which tells as much of these few weights."""
    graded = np.flatnonzero(~np.isnan(errors))
    if len(graded) <= MOST_TEXTS:
        return graded
    return np.sort(np.random.default_rng(seed).choice(graded, MOST_TEXTS, replace=False))


def _terms(text: str) -> list[str]:
    """Words and word pairs, in half the time that the library's own take."""
    words = _WORDS(text.lower())
    return words + [f"{first} {second}" for first, second in pairwise(words)]


def _counts(texts: Sequence[str], learnt: Ints) -> csr_matrix | None:
    """How often each word and word pair of the texts `learnt`, if two of them hold it, stands in each text, (n, terms).

    None without a word. Taken apart once for all folds.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    known = CountVectorizer(analyzer=_terms)
    try:
        table = known.fit_transform([texts[i] for i in learnt])
    except ValueError:
        return None
    often = np.bincount(table.indices, minlength=table.shape[1]) >= FEWEST_TEXTS
    if not often.any():
        return None
    counts: csr_matrix
    if len(learnt) == len(texts):
        counts = table[:, often]
    else:
        names = known.get_feature_names_out()[often].tolist()
        counts = CountVectorizer(analyzer=_terms, vocabulary=names).transform(texts)
    return counts


def _predicted(counts: csr_matrix, fit: Ints, wrong: Floats, rest: Ints, seed: int) -> Floats | None:
    """Fitted on the rows `fit`, of which `wrong` tells the outcome; (rest,)."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    fit, target = fit[~np.isnan(wrong)], wrong[~np.isnan(wrong)].astype(np.int64)
    if min(target.sum(), len(target) - target.sum()) < FEWEST_ERRORS:
        return None
    seen = counts[fit]
    terms = np.flatnonzero(np.bincount(seen.indices, minlength=seen.shape[1]) >= FEWEST_TEXTS)
    if not len(terms):
        return None
    if len(terms) > MOST_TERMS:
        often = np.bincount(seen.indices, weights=seen.data, minlength=seen.shape[1])[terms]
        terms = np.sort(terms[np.argsort(-often, kind="stable")[:MOST_TERMS]])
    weigh = TfidfTransformer(sublinear_tf=True)
    model = LogisticRegression(C=1.0, max_iter=1000, random_state=seed).fit(weigh.fit_transform(seen[:, terms]), target)
    return np.asarray(model.predict_proba(weigh.transform(counts[rest][:, terms]))[:, 1], dtype=np.float64)
