"""Learned model: P(right) as a ridge logistic regression of the signals, the lengths, the answer, and the request's segment and words.

It is fitted on rows that certify nothing, and held as the plain numbers that `cascade_threshold.learned` evaluates. How much
it may read is chosen there too: the signals; these and the lengths; and the answer; and of the request, which production
must then pass, its segment, its text, or both. The words enter through the directions in which the texts differ most (a
truncated SVD of hashed words), so that a few hundred rows can weigh them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from cascade_threshold.hashed_words import BUCKETS, hashed_words
from cascade_threshold.learned import FEATURES, LENGTHS
from cascade_threshold.logistic_form import CLIP
from pipeline.decide.arrays import Flags, Floats, Ints
from pipeline.decide.scores.rank_figure import rank_figure

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Texts = npt.NDArray[np.object_]

RIDGES = (0.001, 0.01, 0.1, 1.0, 10.0)  # scikit-learn's C: the inverse of the penalty
FEWEST_ROWS, FEWEST_OF_EACH = 50, 10  # with fewer, no model is fitted
FEWEST_OF_NAME = 10  # fewest rows with an answer, or in a segment, that gets a coefficient of its own
FEW_ROWS = 150  # below them only what gains clearly is read besides the signals
MOST_NULL = 0.02  # a feature that is null more often than this would make the learned signal null too
DIRECTIONS = 25  # of the texts


@dataclass(frozen=True)
class Inputs:
    """What a model may read of n rows: features (n,) each, NaN for null; answers, texts and segments (n,), None where it may not."""

    features: Mapping[str, Floats]
    """The logits of the signals, and the lengths."""
    answers: Texts | None = None
    texts: Texts | None = None
    segments: Texts | None = None

    def take(self, which: npt.NDArray[Any]) -> Inputs:
        """Some of the rows."""
        names = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "features"]
        parts = {name: None if part is None else part[which] for name, part in names}
        return Inputs({k: v[which] for k, v in self.features.items()}, **parts)

    def choices(self) -> list[Inputs]:
        """What may be read, from least to most: first what a reply tells, then what production must pass along."""
        out = [Inputs({k: v for k, v in self.features.items() if k not in LENGTHS})]
        if len(out[0].features) < len(self.features):
            out.append(Inputs(self.features))
        if self.answers is not None:
            out.append(Inputs(self.features, self.answers))
        if self.segments is not None:
            out.append(replace(self, texts=None))
        if self.texts is not None:
            out.append(replace(self, segments=None))
        return [*out, self] if self.segments is not None and self.texts is not None else out


def learned_features(
    signals: Mapping[str, npt.ArrayLike],
    answer_tokens: npt.ArrayLike | None = None,
    reply_tokens: npt.ArrayLike | None = None,
) -> dict[str, Floats]:
    """Features of the learned signal: `logit_<name>` of every signal that production knows as a feature, and the lengths that are given.

    All (n,), NaN for null.
    """
    out = {}
    for name, column in signals.items():
        if f"logit_{name}" in FEATURES:
            p = np.clip(np.asarray(column, dtype=np.float64), CLIP, 1 - CLIP)
            out[f"logit_{name}"] = np.log(p / (1 - p))
    if answer_tokens is not None:
        out["answer_tokens"] = np.asarray(answer_tokens, dtype=np.float64)
    if reply_tokens is not None:
        out["log_reply_tokens"] = np.log(np.asarray(reply_tokens, dtype=np.float64))
    return out


@dataclass(frozen=True)
class _Words:
    """The directions of the texts, and how to get back from them to one number a bucket."""

    idf: Floats
    directions: Floats
    center: Floats
    scale: float

    @classmethod
    def of(cls, texts: Sequence[str], seed: int) -> _Words | None:
        """None if the texts share no words."""
        from sklearn.decomposition import TruncatedSVD

        table = _table(texts)
        seen = np.bincount(table.indices, minlength=BUCKETS)
        idf = np.log((1 + len(texts)) / (1 + seen)) + 1
        rank = min(DIRECTIONS, len(texts) - 1, int((seen > 0).sum()) - 1)
        if rank < 1:
            return None
        fitted = TruncatedSVD(rank, random_state=seed).fit(table @ _diagonal(idf))
        found = table @ (idf[:, None] * fitted.components_.T)
        center, spread = found.mean(axis=0), float(found.std())
        return None if spread < 1e-9 else cls(idf, fitted.components_, center, spread)

    def scores(self, texts: Sequence[str]) -> Floats:
        """(n, directions): centered, and of one common scale, so that the penalty weighs down the small directions."""
        found = _table(texts) @ (self.idf[:, None] * self.directions.T)
        return np.asarray((found - self.center) / self.scale, dtype=np.float64)

    def unfolded(self, coefficients: Floats) -> tuple[Floats, float]:
        """One weight per bucket, and what is to be added to the intercept."""
        return self.idf * (self.directions.T @ coefficients) / self.scale, -float(
            self.center @ coefficients
        ) / self.scale


def _table(texts: Sequence[str]) -> csr_array:
    rows = [hashed_words(text) for text in texts]
    ends = np.append(0, np.cumsum([len(row) for row in rows]))
    columns = np.array([bucket for row in rows for bucket in row], dtype=np.int64)
    values = np.array([weight for row in rows for weight in row.values()], dtype=np.float64)
    return csr_array((values, columns, ends), shape=(len(rows), BUCKETS))


def _diagonal(values: Floats) -> csr_array:
    return csr_array((values, (np.arange(len(values)), np.arange(len(values)))), shape=(len(values), len(values)))


def fit_learned(
    read: Inputs | Mapping[str, npt.ArrayLike], correct: npt.ArrayLike, *, seed: int, penalty: float | None = None
) -> dict[str, Any] | None:
    """Fit P(right) to what is read.

    `read`: features alone, or `Inputs`. Features that are constant, or null on more than 2 % of the graded rows, are left out; so
    are rows with a null among the rest. `correct` (n,): 1, 0, NaN unknown. `penalty`: scikit-learn's C; None chooses by five-fold
    NLL. Returns the numbers that `cascade_threshold.learned` evaluates: {"features", "mean", "scale", "coef", "intercept"},
    with answers "labels", with segments "segments" (each that a row is in; 0 for those of fewer than 10 rows), with texts
    "text", and the penalty; None with fewer than 50 rows, 10 of a class, or no feature.
    """
    read = read if isinstance(read, Inputs) else Inputs({k: np.asarray(v, dtype=np.float64) for k, v in read.items()})
    y = np.asarray(correct, dtype=np.float64)
    graded = ~np.isnan(y)
    names = _telling(read.features, graded)
    if not names:
        return None
    x = np.column_stack([read.features[k] for k in names])
    rows = graded & ~np.isnan(x).any(axis=1)
    x, target = x[rows], y[rows].astype(np.int64)
    if len(x) < FEWEST_ROWS or min(target.sum(), len(target) - target.sum()) < FEWEST_OF_EACH:
        return None
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    labels, parts, words = _common(read.answers, rows), _common(read.segments, rows), None
    columns = [(x - mean) / scale]
    columns += [
        np.asarray(names_of[rows][:, None] == np.array(names, dtype=object), dtype=np.float64)
        for names, names_of in ((labels, read.answers), (parts, read.segments))
        if names_of is not None
    ]
    if read.texts is not None and (words := _Words.of(read.texts[rows].tolist(), seed)) is not None:
        columns.append(words.scores(read.texts[rows].tolist()))
    z = np.column_stack(columns)
    best = _model(_chosen_penalty(z, target, seed) if penalty is None else penalty).fit(z, target)
    widths = np.cumsum([len(names), len(labels), len(parts)])
    signals, of_labels, of_parts, of_words = np.split(best.coef_[0], widths)
    found = {
        "penalty": best.C,
        "features": names,
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "coef": signals.tolist(),
        "intercept": float(best.intercept_[0]),
    }
    if labels:
        found["labels"] = dict(zip(labels, of_labels.tolist(), strict=True))
    if parts:
        assert read.segments is not None
        found["segments"] = dict.fromkeys(sorted(set(read.segments[rows].tolist())), 0.0) | dict(
            zip(parts, of_parts.tolist(), strict=True)
        )
    if words is not None:
        weights, constant = words.unfolded(of_words)
        found |= {"text": weights.tolist(), "intercept": found["intercept"] + constant}
    return found


def _telling(features: Mapping[str, Floats], graded: Flags) -> list[str]:
    """The features that vary on the graded rows and are null on few of them."""
    names = [k for k, v in features.items() if graded.any() and np.isnan(v[graded]).mean() <= MOST_NULL]
    return [k for k in names if np.nanstd(features[k][graded]) > 1e-9]


def _common(names: Texts | None, rows: Flags) -> list[str]:
    """Answers or segments with enough rows; none where there is only one."""
    if names is None:
        return []
    known = Counter(name for name in names[rows].tolist() if isinstance(name, str))
    return sorted(name for name, count in known.items() if count >= FEWEST_OF_NAME) if len(known) > 1 else []


def _model(penalty: float) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=penalty, solver="newton-cholesky", tol=1e-8, max_iter=200)


def _chosen_penalty(z: Floats, target: Ints, seed: int) -> float:
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    losses = [-cross_val_score(_model(c), z, target, cv=folds, scoring="neg_log_loss").mean() for c in RIDGES]
    return RIDGES[int(np.argmin(losses))]


def learned_values(numbers: Mapping[str, Any], read: Inputs | Mapping[str, npt.ArrayLike]) -> Floats:
    """The learned signal of many rows, (n,); for choosing only, since production's own function may differ in a last bit."""
    read = read if isinstance(read, Inputs) else Inputs({k: np.asarray(v, dtype=np.float64) for k, v in read.items()})
    columns = [read.features[k] for k in numbers["features"]]
    x = (np.column_stack(columns) - np.array(numbers["mean"])) / np.array(numbers["scale"])
    z = x @ np.array(numbers["coef"]) + numbers["intercept"]
    if "labels" in numbers and read.answers is not None:
        z = z + np.array([numbers["labels"].get(a, 0.0) for a in read.answers.tolist()])
    if "segments" in numbers and read.segments is not None:
        z = z + np.array([numbers["segments"].get(s, np.nan) for s in read.segments.tolist()])
    if "text" in numbers and read.texts is not None:
        z = z + _table(read.texts.tolist()) @ np.array(numbers["text"])
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -700, 700))), dtype=np.float64)


def cross_fitted(
    read: Inputs, y: Floats, fold: Ints, seed: int, most: int | None = None
) -> tuple[Inputs, Floats] | None:
    """Which inputs a model should read, and the signal of every row from a model fitted without its fold.

    The least that is within one standard error of the best cross-validated AURC, over the folds' paired differences. Below
    `FEW_ROWS` rows it allows for models of two folds that share most of their rows (Nadeau and Bengio 2003, Machine Learning 52): there
    what says nothing is taken too often otherwise, while above more would be lost where something tells (measured). A row in a
    segment that the other folds do not have has no value, as in production, and counts as the least sure. None where
    no model can be fitted. `y` (n,): 1 or 0; `fold` (n,): 0, 1, ... Only the penalty, one of five values, is chosen on all rows.
    `most`: fit each model on a random part of so many rows; None: on all.
    """
    held_out = ((choice, _held_out(choice, y, fold, seed, most)) for choice in read.choices())
    tried = [(choice, values) for choice, values in held_out if values is not None]
    if not tried:
        return None
    risk = np.array(
        [[rank_figure("aurc_mean", v[fold == f], y[fold == f]) for f in range(int(fold.max()) + 1)] for _, v in tried]
    )
    risk = risk[:, ~np.isnan(risk).any(axis=0)]
    if risk.shape[1] < 2:
        return tried[0]
    worse = risk - risk[np.argmin(risk.mean(axis=1))]
    parts = risk.shape[1]
    shared = 1 / (parts - 1) if len(y) < FEW_ROWS else 0.0
    gap, error = worse.mean(axis=1), worse.std(axis=1, ddof=1) * np.sqrt(1 / parts + shared)
    return next(found for found, g, e in zip(tried, gap, error, strict=True) if g <= e)


def _held_out(read: Inputs, y: Floats, fold: Ints, seed: int, most: int | None) -> Floats | None:
    every = np.arange(len(y))
    if most is not None and most < len(y):
        every = np.random.default_rng(seed).choice(every, most, replace=False)
    whole = fit_learned(read.take(every), y[every], seed=seed)
    if whole is None:
        return None
    out = np.full(len(y), np.nan)
    for f in range(int(fold.max()) + 1):
        others = every[fold[every] != f]
        numbers = fit_learned(read.take(others), y[others], seed=seed, penalty=whole["penalty"])
        if numbers is None:
            return None
        out[fold == f] = learned_values(numbers, read.take(fold == f))
    return out
