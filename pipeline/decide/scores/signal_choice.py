"""Selection: which confidence signal the task uses, and the model behind the `learned` one. Rows of the fit split only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from cascade_threshold.learned import FEATURES
from cascade_threshold.logistic_form import CLIP
from cascade_threshold.signals import SIGNALS
from pipeline.decide.scores.formulas import estimates
from pipeline.decide.scores.value_counts import Cells

Floats = npt.NDArray[np.float64]

SIMPLICITY = tuple(SIGNALS)
"""Simplest first: one logprob; several; those that need alternatives; the mass over spellings; a fitted model."""
FOLDS = 10
RIDGES = (0.001, 0.01, 0.1, 1.0, 10.0)  # scikit-learn's C: the inverse of the penalty
FEWEST_ROWS, FEWEST_OF_EACH = 50, 10  # below these no model is learned
MOST_NULL = 0.02  # a feature that is null more often than this would make the learned signal null too


def select_signal(
    signals: Mapping[str, npt.ArrayLike],
    correct: npt.ArrayLike,
    *,
    seed: int,
    answer_tokens: npt.ArrayLike | None = None,
    learned: bool = True,
) -> tuple[str, list[dict[str, Any]]]:
    """The signal with the smallest cross-validated AURC, or a simpler one within one standard error of it.

    `signals`: values on [0, 1] by name, shape (n,) each, NaN for null; a null counts as the least sure, as it does in a
    cascade. `correct` (n,): 1, 0, NaN unknown (left out). AURC is averaged over ten folds; the standard error is that of
    the paired difference to the best signal over the folds. `learned` enters as a candidate that is fitted on nine folds
    and judged on the tenth (values passed under that name are ignored). Ties, as with too few rows to tell, go to the
    simpler signal in the order of SIMPLICITY.

    Returns the name and a table in order of simplicity: signal, aurc, aurc_se (over folds), gap and gap_se (to the best),
    auroc (all rows; cross-fitted for learned), n, null_rate, chosen. Unknown figures are None; a signal that is null on every
    row has no others.
    Raises ValueError when no signal has a value at all.
    """
    y = np.asarray(correct, dtype=np.float64)
    graded = ~np.isnan(y)
    y = y[graded]
    values = {k: np.asarray(v, dtype=np.float64)[graded] for k, v in signals.items() if k != "learned"}
    fold = np.random.default_rng(seed).permutation(np.arange(len(y)) % FOLDS)
    tokens = None if answer_tokens is None else np.asarray(answer_tokens, dtype=np.float64)[graded]
    if learned and (crossed := _cross_fitted(learned_features(values, tokens), y, fold, seed)) is not None:
        values["learned"] = crossed
    usable = sorted((k for k, v in values.items() if not np.isnan(v).all()), key=_rank)
    if not usable:
        raise ValueError("no signal has a value on the fit split, so there is nothing to choose from")
    per_fold = np.array([[_aurc(values[k][fold == f], y[fold == f]) for f in range(FOLDS)] for k in usable])
    per_fold = per_fold[:, ~np.isnan(per_fold).any(axis=0)]
    table = [_entry(k, values[k], y) for k in sorted(values, key=_rank)]
    chosen = usable[0]
    if per_fold.shape[1] > 1:
        root = np.sqrt(per_fold.shape[1])
        mean = per_fold.mean(axis=1)
        difference = per_fold - per_fold[np.argmin(mean)]
        gap, gap_se = difference.mean(axis=1), difference.std(axis=1, ddof=1) / root
        chosen = next(k for k, g, se in zip(usable, gap, gap_se, strict=True) if g <= se)
        spread = per_fold.std(axis=1, ddof=1) / root
        for i, k in enumerate(usable):
            entry = next(e for e in table if e["signal"] == k)
            entry |= {
                "aurc": float(mean[i]),
                "aurc_se": float(spread[i]),
                "gap": float(gap[i]),
                "gap_se": float(gap_se[i]),
            }
    for entry in table:
        entry["chosen"] = entry["signal"] == chosen
    return chosen, table


def learned_features(
    signals: Mapping[str, npt.ArrayLike], answer_tokens: npt.ArrayLike | None = None
) -> dict[str, Floats]:
    """Features of the learned signal: `logit_<name>` of every signal that production knows as a feature, and `answer_tokens` where given."""
    out = {}
    for name, column in signals.items():
        if f"logit_{name}" in FEATURES:
            p = np.clip(np.asarray(column, dtype=np.float64), CLIP, 1 - CLIP)
            out[f"logit_{name}"] = np.log(p / (1 - p))
    if answer_tokens is not None:
        out["answer_tokens"] = np.asarray(answer_tokens, dtype=np.float64)
    return out


def fit_learned(
    features: Mapping[str, npt.ArrayLike], correct: npt.ArrayLike, *, seed: int, penalty: float | None = None
) -> dict[str, Any] | None:
    """Fit P(right) as a ridge logistic regression of standardised features.

    `features`: shape (n,) each, NaN for null. Features that are constant, or null on more than 2 % of the graded rows, are
    left out; so are rows with a null among the rest. `penalty`: scikit-learn's C; None chooses by five-fold NLL. Returns the numbers that `cascade_threshold.learned` evaluates:
    {"features", "mean", "scale", "coef", "intercept"} and the penalty, or None with fewer than 50 rows, 10 of a class, or no feature.
    """
    y = np.asarray(correct, dtype=np.float64)
    graded = ~np.isnan(y)
    columns = {k: np.asarray(v, dtype=np.float64) for k, v in features.items()}
    names = [k for k, v in columns.items() if graded.any() and np.isnan(v[graded]).mean() <= MOST_NULL]
    names = [k for k in names if np.nanstd(columns[k][graded]) > 1e-9]
    if not names:
        return None
    x = np.column_stack([columns[k] for k in names])
    rows = graded & ~np.isnan(x).any(axis=1)
    x, target = x[rows], y[rows].astype(np.int64)
    if len(x) < FEWEST_ROWS or min(target.sum(), len(target) - target.sum()) < FEWEST_OF_EACH:
        return None
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    z = (x - mean) / scale
    best = _model(_chosen_penalty(z, target, seed) if penalty is None else penalty).fit(z, target)
    return {
        "penalty": best.C,
        "features": names,
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "coef": best.coef_[0].tolist(),
        "intercept": float(best.intercept_[0]),
    }


def _model(penalty: float) -> LogisticRegression:
    return LogisticRegression(C=penalty, solver="newton-cholesky", tol=1e-8, max_iter=200)


def _chosen_penalty(z: Floats, target: npt.NDArray[np.int64], seed: int) -> float:
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    losses = [-cross_val_score(_model(c), z, target, cv=folds, scoring="neg_log_loss").mean() for c in RIDGES]
    return RIDGES[int(np.argmin(losses))]


def learned_values(numbers: Mapping[str, Any], features: Mapping[str, npt.ArrayLike]) -> Floats:
    """The learned signal of many rows, (n,); for choosing only, since production's own function may differ in a last bit."""
    columns = [np.asarray(features[k], dtype=np.float64) for k in numbers["features"]]
    x = (np.column_stack(columns) - np.array(numbers["mean"])) / np.array(numbers["scale"])
    z = x @ np.array(numbers["coef"]) + numbers["intercept"]
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -700, 700))), dtype=np.float64)


def _cross_fitted(features: dict[str, Floats], y: Floats, fold: npt.NDArray[np.int64], seed: int) -> Floats | None:
    """The learned signal of every row from a model that has not seen its fold; None where a fold cannot be fitted.

    Only the penalty, one of five values, is chosen on all rows.
    """
    whole = fit_learned(features, y, seed=seed)
    if whole is None:
        return None
    out = np.full(len(y), np.nan)
    for f in range(FOLDS):
        part = {k: v[fold != f] for k, v in features.items()}
        numbers = fit_learned(part, y[fold != f], seed=seed, penalty=whole["penalty"])
        if numbers is None:
            return None
        out[fold == f] = learned_values(numbers, {k: v[fold == f] for k, v in features.items()})
    return out


def _rank(name: str) -> tuple[int, str]:
    return (SIMPLICITY.index(name) if name in SIMPLICITY else len(SIMPLICITY), name)


def _ranks(values: Floats) -> Floats:
    """Dense ranks on [0, 1] with all nulls in one block at the bottom: only the order matters here."""
    ranks = np.unique(np.where(np.isnan(values), -1.0, values), return_inverse=True)[1]
    return np.asarray(ranks / max(1, ranks.max(initial=0)), dtype=np.float64)


def _figure(name: str, values: Floats, y: Floats) -> float:
    if len(y) == 0:
        return float("nan")
    cells = Cells.of(_ranks(values), y)
    return float(estimates(cells.value, cells.n[None], cells.right[None], {})[name][0])


def _aurc(values: Floats, y: Floats) -> float:
    return _figure("aurc_mean", values, y)


def _entry(name: str, values: Floats, y: Floats) -> dict[str, Any]:
    auroc = float("nan") if np.isnan(values).all() else _figure("auroc", values, y)
    return {
        "signal": name,
        "aurc": None,
        "aurc_se": None,
        "gap": None,
        "gap_se": None,
        "auroc": None if np.isnan(auroc) else auroc,
        "n": len(y),
        "null_rate": float(np.isnan(values).mean()) if len(y) else None,
        "chosen": False,
    }
