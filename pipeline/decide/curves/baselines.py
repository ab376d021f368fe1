"""Baselines: what a cascade must beat, and its upper bound, at the same share of escalated rows.

random   any rows; every row pays the cheap call, so at equal share it costs what an average cascade costs
oracle   first the rows where only the strong model is right, last those where only the cheap one is; pays both calls
router   reads the text alone, predicts where the cheap model errs, and pays no cheap call for what it sends up
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.decide.arrays import Floats
from pipeline.decide.predictions import Rows

COLUMNS = ["name", "split", "escalation_rate", "system_accuracy", "usd_per_1000", "n"]


def baselines(
    rows: Rows,
    rates: npt.ArrayLike,
    router: npt.ArrayLike | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    split: str = "test",
) -> pd.DataFrame:
    """Expected accuracy and cost of each baseline on `rows` at each escalation rate in [0, 1].

    Evaluated on the rows where both models' correctness is known (n of them); NaN without any. Unknown dollars count as
    the mean of the known ones, NaN where none is known. Rows of equal score are sent up in random order, in expectation.
    `router` (n,): the scores of a router that reads the text alone (see `text_router`); absent with None.
    `weights` (n,): how much each row counts, in its share of the escalated too; None counts all alike.
    Where strong answers were sampled the gain of a row is estimated, so there is no oracle, which would have to know it.
    """
    share = np.asarray(rates, dtype=np.float64)
    graded = ~np.isnan(rows.cheap_correct) & ~np.isnan(rows.strong_estimate)
    weight = (np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64))[graded]
    routed = None if router is None else np.asarray(router, dtype=np.float64)[graded]
    rows = rows.take(graded)
    gain = rows.strong_estimate - rows.cheap_correct
    scores = {"random": np.zeros(len(rows))} | ({} if rows.sampled else {"oracle": gain})
    if routed is not None:
        scores["router"] = routed
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
