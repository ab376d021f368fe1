"""RankFigure: a measure of the order of a signal's values, nulls ranked last."""

from __future__ import annotations

import numpy as np

from pipeline.decide.arrays import Floats
from pipeline.decide.scores.formulas import estimates
from pipeline.decide.scores.value_counts import Cells


def rank_figure(name: str, values: Floats, y: Floats) -> float:
    """`aurc_mean` or `auroc` of values (n,), NaN for null, against y (n,), 1 or 0; NaN without rows."""
    if len(y) == 0:
        return float("nan")
    ranks = np.unique(np.where(np.isnan(values), -1.0, values), return_inverse=True)[1]
    cells = Cells.of(np.asarray(ranks / max(1, ranks.max(initial=0)), dtype=np.float64), y)
    return float(estimates(cells.value, cells.n[None], cells.right[None], {})[name][0])
