"""CostComparison: what a row costs by the cascade, and by the strong model alone."""

from __future__ import annotations

import numpy as np

from pipeline.decide.predictions import Rows
from pipeline.decide.thresholds import accepted


def cost_against_strong(held: Rows, threshold: float) -> tuple[float, float] | None:
    """Mean dollars of a row by the cascade and by the strong model alone, over rows where both are known.

    Where strong answers were sampled, kept and escalated rows each count for as many as there are: of the kept ones perhaps
    none but wrong ones were asked about.
    """
    known = ~np.isnan(held.cheap_usd) & ~np.isnan(held.strong_usd) & (held.strong_weight > 0)
    if not known.any():
        return None
    all_kept = accepted(held.confidence, threshold)
    stands = np.where(known, held.strong_weight, 0.0)
    for part in (all_kept, ~all_kept) if held.sampled else ():
        if stands[part].any():
            stands[part] *= part.sum() / stands[part].sum()
    kept, strong = all_kept[known], held.strong_usd[known]
    cascade = held.cheap_usd[known] + np.where(kept, 0.0, strong)
    return float(np.average(cascade, weights=stands[known])), float(np.average(strong, weights=stands[known]))
