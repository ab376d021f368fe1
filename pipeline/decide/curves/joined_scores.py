"""JoinedScores: what the cheap model's score and the strong model's word say together about an escalated passage.

Fitted on the escalated rows of other queries, in a fixed number of folds. scikit-learn is imported where it is used: most runs rank nothing.
"""

from __future__ import annotations

import numpy as np

from pipeline.decide.arrays import Flags, Floats, Ints

FOLDS, FEWEST_OF_A_CLASS = 5, 10


def by_relevance(
    query: Ints,
    relevant: Floats,
    score: Floats,
    verdict: Floats,
    says: Floats,
    told: Flags,
    share: tuple[float, float],
) -> Floats:
    """P(relevant) of the rows `told`, from cheap logit and strong verdict (or P(yes)); fitted on other queries' rows, (n,)."""
    from sklearn.linear_model import LogisticRegression

    out = np.where(says == 1, share[1], share[0])
    bare = np.isin(verdict[told], (0.0, 1.0)).all()
    terms = np.column_stack([_logit(score), np.nan_to_num(verdict) if bare else _logit(verdict)])
    fold = query % FOLDS
    for k in range(FOLDS):
        rest, mine = told & (fold != k), told & (fold == k)
        hits = int(relevant[rest].sum())
        if mine.any() and min(hits, int(rest.sum()) - hits) >= FEWEST_OF_A_CLASS:
            model = LogisticRegression(C=1.0, max_iter=1000).fit(terms[rest], relevant[rest])
            out[mine] = model.predict_proba(terms[mine])[:, 1]
    return out


def by_gain(query: Ints, gain: Floats, score: Floats, verdict: Floats, told: Flags) -> Floats:
    """Expected gain of the rows `told`, from the cheap model's and the strong one's; least squares on other queries' rows, or
    where these are too few what the strong model says, (n,)."""
    from sklearn.linear_model import LinearRegression

    out = np.nan_to_num(verdict)
    terms = np.column_stack([np.nan_to_num(score, nan=0.5), np.nan_to_num(verdict)])
    fold = query % FOLDS
    for k in range(FOLDS):
        rest, mine = told & (fold != k), told & (fold == k)
        if mine.any() and rest.sum() >= 2 * FEWEST_OF_A_CLASS:
            out[mine] = LinearRegression().fit(terms[rest], gain[rest]).predict(terms[mine]).clip(0, 1)
    return out


def _logit(score: Floats) -> Floats:
    known = np.clip(np.nan_to_num(score, nan=0.5), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(known) - np.log1p(-known))
