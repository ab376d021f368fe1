"""Text router: the probability that the cheap model errs, from the words of the request alone (TF-IDF, logistic regression)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.testing.clusters import fold_of

if TYPE_CHECKING:  # loaded where they are first needed
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
    from sklearn.linear_model import LogisticRegression

FEWEST_ERRORS = 5
FOLDS = 5
MOST_TERMS = 50_000
FEWEST_TEXTS = 2  # that hold a term
MOST_TEXTS = 20_000  # that models are fitted on
AT_ONCE = 1 << 14  # texts that are taken apart at a time
_WORDS = re.compile(r"\w+").findall  # single letters count as words


def router_scores(
    texts_fit: Sequence[str], wrong_fit: npt.ArrayLike, texts_eval: Sequence[str], *, seed: int
) -> Floats | None:
    """Predicted probability that the cheap model errs on each of `texts_eval`, from words and word pairs alone.

    `wrong_fit`: 1 where it erred on a fit row, 0, or NaN (left out). None with fewer than five rows of a class or no words.
    """
    errors = np.asarray(wrong_fit, dtype=np.float64)
    learnt = _learnt(errors, seed)
    words = _Words.of([texts_fit[i] for i in learnt])
    model = None if words is None else _Model.fitted(words.counts, errors[learnt], seed)
    if words is None or model is None:
        return None
    return np.concatenate([np.zeros(0), *(model.scores(words.counted(texts)) for _, texts in _parts(texts_eval))])


def cross_fitted_scores(
    texts: Sequence[str], wrong: npt.ArrayLike, group: CodedTexts | npt.NDArray[np.object_], *, seed: int
) -> Floats | None:
    """As `router_scores`, each row by a model of the other groups' rows in five parts; None where one cannot be fitted."""
    errors, found = np.asarray(wrong, dtype=np.float64), np.full(len(texts), np.nan)
    learnt = _learnt(errors, seed)
    words = _Words.of([texts[i] for i in learnt])
    if words is None:
        return None
    fold = fold_of(group, FOLDS, seed)
    models = []
    for k in range(FOLDS):
        others = np.flatnonzero(fold[learnt] != k)
        model = _Model.fitted(words.counts[others], errors[learnt[others]], seed)
        if model is None:
            return None
        models.append(model)
    for start, part in _parts(texts):
        here = fold[start : start + len(part)]
        counts = words.counts[start : start + len(part)] if len(learnt) == len(texts) else words.counted(part)
        for k in np.unique(here):
            inside = np.flatnonzero(here == k)
            found[start + inside] = models[k].scores(counts[inside])
    return found


def _parts(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    for start in range(0, len(texts), AT_ONCE):
        yield start, texts[start : start + AT_ONCE]


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


@dataclass(frozen=True)
class _Words:
    """Words and word pairs that at least two of some texts hold, and how often each stands in each of these, (n, terms)."""

    known: CountVectorizer
    counts: csr_matrix

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Words | None:
        """None without a word. The texts are taken apart once for all folds."""
        from sklearn.feature_extraction.text import CountVectorizer

        every = CountVectorizer(analyzer=_terms)
        try:
            table = every.fit_transform(texts)
        except ValueError:
            return None
        often = np.bincount(table.indices, minlength=table.shape[1]) >= FEWEST_TEXTS
        if not often.any():
            return None
        names = every.get_feature_names_out()[often].tolist()
        return cls(CountVectorizer(analyzer=_terms, vocabulary=names), table[:, np.flatnonzero(often)])

    def counted(self, texts: Sequence[str]) -> csr_matrix:
        """How often each stands in each of other texts, (n, terms)."""
        counts: csr_matrix = self.known.transform(texts)
        return counts


@dataclass(frozen=True)
class _Model:
    """A logistic regression on some of the terms."""

    terms: Ints
    weigh: TfidfTransformer
    model: LogisticRegression

    @classmethod
    def fitted(cls, counts: csr_matrix, wrong: Floats, seed: int) -> _Model | None:
        """Fitted on rows (n, terms) of which `wrong` (n,) tells the outcome."""
        from sklearn.feature_extraction.text import TfidfTransformer
        from sklearn.linear_model import LogisticRegression

        target = wrong.astype(np.int64)
        if min(target.sum(), len(target) - target.sum()) < FEWEST_ERRORS:
            return None
        terms = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) >= FEWEST_TEXTS)
        if not len(terms):
            return None
        if len(terms) > MOST_TERMS:
            often = np.bincount(counts.indices, weights=counts.data, minlength=counts.shape[1])[terms]
            terms = np.sort(terms[np.argsort(-often, kind="stable")[:MOST_TERMS]])
        weigh = TfidfTransformer(sublinear_tf=True)
        model = LogisticRegression(C=1.0, max_iter=1000, random_state=seed)
        return cls(terms, weigh, model.fit(weigh.fit_transform(counts[:, terms]), target))

    def scores(self, counts: csr_matrix) -> Floats:
        """Predicted probability of an error, (n,)."""
        weighed = self.weigh.transform(counts[:, self.terms])
        return np.asarray(self.model.predict_proba(weighed)[:, 1], dtype=np.float64)
