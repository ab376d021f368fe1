"""Difference of two models where strong answers were sampled by the coin: exact intervals of losses and of gains, joined."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.decide.arrays import Flags
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.curves.at_threshold import Estimate
from pipeline.decide.predictions import Rows
from pipeline.decide.testing.intervals import clopper_pearson
from pipeline.decide.testing.paired_interval import mean_of_groups


def sampled_difference(
    rows: Rows, kept: Flags, *, level: float, split: str, group: CodedTexts | npt.NDArray[np.object_] | None = None
) -> Estimate:
    """Accuracy of the cascade that keeps the rows `kept` (n,), minus that of the strong model, over all rows.

    Losses are counted on all rows where every wrong kept answer was asked about, else on those that the coin drew; gains on
    those that it drew. Each has an exact interval at (1 + level) / 2, so both hold together at `level`. Unknown where the coin
    drew nothing. With `group`, groups are what varies (Student).
    """
    n, drawn = len(rows), rows.drawn == 1
    strong, proxy = rows.strong_correct, np.nan_to_num(rows.cheap_correct, nan=0.0)
    if n == 0 or not drawn.any():
        return Estimate(None, None, None, level, n, split)
    terms = np.where(kept, proxy - rows.stood_in(strong, proxy, kept), 0.0)
    known = ~np.isnan(terms)
    if not known.any():
        return Estimate(None, None, None, level, 0, split)
    if group is not None:
        return mean_of_groups(terms[known], group[known], level=level, split=split)
    wrong, used = kept & ~(rows.cheap_correct == 1), rows.strong_weight > 0
    every = bool(used[wrong].all())
    of_losses = np.ones(n, dtype=bool) if every else drawn
    missing = used & np.isnan(strong)
    losses, maybe = (int((wrong & of_losses & which).sum()) for which in (strong == 1, missing))
    gains, perhaps = (int((kept & drawn & ~wrong & which).sum()) for which in (strong == 0, missing))
    each = (1 + level) / 2
    lost, won = int(of_losses.sum()), int(drawn.sum())
    least_lost, most_lost = clopper_pearson(losses, lost, each)[0], clopper_pearson(losses + maybe, lost, each)[1]
    least_won, most_won = clopper_pearson(gains, won, each)[0], clopper_pearson(gains + perhaps, won, each)[1]
    value = float(terms[known].mean())
    low, high = float(least_won - most_lost), float(most_won - least_lost)
    return Estimate(value, min(low, value), max(high, value), level, n, split)
