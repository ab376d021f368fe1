"""SignalChoice: which confidence signal the task uses. Fit rows only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade_threshold.signals import SIGNALS
from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.scores.learned_model import Inputs, cross_fitted, learned_features
from pipeline.decide.scores.rank_figure import rank_figure

SIMPLICITY = tuple(SIGNALS)
"""Simplest first: one logprob; several; those that need alternatives; the mass over spellings; a fitted model."""
FOLDS = 10
MOST_COMPARED = 20_000
"""Rows that the learned signal is fitted on where another one is named: then it only fills a line of the table."""


def select_signal(
    signals: Mapping[str, npt.ArrayLike],
    correct: npt.ArrayLike,
    *,
    seed: int,
    learned: bool = True,
    crossed: tuple[Inputs, Floats] | None = None,
    named: str | None = None,
) -> tuple[str, list[dict[str, Any]]]:
    """The signal with the smallest cross-validated AURC, or a simpler one within one standard error of it.

    `signals`: values on [0, 1] by name, shape (n,) each, NaN for null; a null counts as the least sure, as it does in a
    cascade. `correct` (n,): 1, 0, NaN unknown (left out). `crossed`: what `learned_model.cross_fitted` found for the graded
    rows and `folds`; left out: the learned signal reads the others alone. AURC is averaged over ten folds; the
    standard error is that of the paired difference to the best signal over the folds. `learned` enters as a candidate that is fitted on nine folds
    and judged on the tenth (values passed under that name are ignored). Ties, as with too few rows to tell, go to the
    simpler signal in the order of SIMPLICITY. `named` is taken as it is: then the table only tells how the others compare.

    Returns the name and a table in order of simplicity: signal, aurc, aurc_se (over folds), gap and gap_se (to the best),
    difference and difference_se (to the chosen one), auroc (all rows; cross-fitted for learned), n, null_rate, chosen. Unknown figures are None; a signal that is null on every
    row has no others.
    Raises ValueError when no signal has a value at all.
    """
    y = np.asarray(correct, dtype=np.float64)
    graded = ~np.isnan(y)
    y = y[graded]
    values = {k: np.asarray(v, dtype=np.float64)[graded] for k, v in signals.items() if k != "learned"}
    fold = folds(len(y), seed)
    if learned:
        most = MOST_COMPARED if named not in (None, "learned") else None
        crossed = crossed or cross_fitted(Inputs(learned_features(values)), y, fold, seed, most)
        if crossed is not None:
            values["learned"] = crossed[1]
    usable = sorted((k for k, v in values.items() if not np.isnan(v).all()), key=_rank)
    if not usable:
        raise ValueError("no signal has a value on the fit split, so there is nothing to choose from")
    per_fold = np.array(
        [[rank_figure("aurc_mean", values[k][fold == f], y[fold == f]) for f in range(FOLDS)] for k in usable]
    )
    per_fold = per_fold[:, ~np.isnan(per_fold).any(axis=0)]
    chosen, compared = _compared(usable, per_fold, named)
    unknown = dict.fromkeys(("aurc", "aurc_se", "gap", "gap_se", "difference", "difference_se"))
    table = [
        {"signal": k, **unknown, **compared.get(k, {}), **_told(values[k], y), "chosen": k == chosen}
        for k in sorted(values, key=_rank)
    ]
    return chosen, table


def _compared(usable: list[str], per_fold: Floats, named: str | None) -> tuple[str, dict[str, dict[str, float | None]]]:
    """The chosen signal, and by name each one's AURC and its differences to the best and to the chosen one; none with one fold."""
    if per_fold.shape[1] < 2:
        return usable[0] if named is None else named, {}

    def over_folds(x: Floats) -> tuple[Floats, Floats]:
        return x.mean(axis=1), x.std(axis=1, ddof=1) / np.sqrt(x.shape[1])

    mean, spread = over_folds(per_fold)
    gap, gap_se = over_folds(per_fold - per_fold[np.argmin(mean)])
    chosen = named or next(k for k, g, se in zip(usable, gap, gap_se, strict=True) if g <= se)
    behind, behind_se = over_folds(per_fold - (per_fold[usable.index(chosen)] if chosen in usable else np.nan))
    found = {
        k: {
            "aurc": float(mean[i]),
            "aurc_se": float(spread[i]),
            "gap": float(gap[i]),
            "gap_se": float(gap_se[i]),
            "difference": float(behind[i]) if chosen in usable else None,
            "difference_se": float(behind_se[i]) if chosen in usable else None,
        }
        for i, k in enumerate(usable)
    }
    return chosen, found


def folds(n: int, seed: int) -> Ints:
    """The fold of each of n rows, 0 to 9."""
    return np.random.default_rng(seed).permutation(np.arange(n) % FOLDS)


def _rank(name: str) -> tuple[int, str]:
    return (SIMPLICITY.index(name) if name in SIMPLICITY else len(SIMPLICITY), name)


def _told(values: Floats, y: Floats) -> dict[str, Any]:
    """What a signal tells by itself: AUROC, rows, share of nulls."""
    auroc = float("nan") if np.isnan(values).all() else rank_figure("auroc", values, y)
    return {
        "auroc": None if np.isnan(auroc) else auroc,
        "n": len(y),
        "null_rate": float(np.isnan(values).mean()) if len(y) else None,
    }
