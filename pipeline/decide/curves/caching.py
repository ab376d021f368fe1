"""Caching: what the cascade and the strong model alone cost at the measured share of cached prompt tokens, and at none.

In a batch of evaluation requests a shared prefix is cached, in sparse production traffic it is not: both ends are reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cascade_threshold.pricing import Price
from pipeline.decide.arrays import Flags, Floats


def caching(
    part: pd.DataFrame,
    *,
    escalated: Flags,
    asks_cheap: bool,
    prices: Mapping[str, Price],
    batch: bool,
    shares: Mapping[str, float | None],
    measured: Mapping[str, float | None],
    weights: Floats | None = None,
) -> dict[str, Any]:
    """Dollars per 1,000 requests at both ends.

    `part`: the graded rows that the figures are read on, with {role}_usd and {role}_cached_tokens; `escalated` (n,) and
    `weights` (n,) belong to them; `asks_cheap`: whether the cascade asks the cheap model at all; `shares`: cached share of
    each role's prompt tokens, None where untold; `measured`: usd_per_1000 and strong_usd_per_1000 as they came.
    Keys: cached_share {role}, and usd_per_1000 and strong_usd_per_1000 -> {measured, uncached}, None where dollars are unknown.
    """
    counts = np.ones(len(part)) if weights is None else weights

    def saved(role: str, among: Flags) -> float:
        """Mean dollars that caching saved on one reply of a role, over rows with known dollars."""
        price = prices.get(role)
        if price is None or f"{role}_cached_tokens" not in part:
            return 0.0
        usd = pd.to_numeric(part[f"{role}_usd"]).to_numpy(np.float64, na_value=np.nan)
        hit = pd.to_numeric(part[f"{role}_cached_tokens"]).to_numpy(np.float64, na_value=0.0)
        known = among & ~np.isnan(usd)
        mass = counts[known].sum()
        return float((counts * price.saved(1, batch=batch) * hit)[known].sum() / mass) if mass else 0.0

    everything = np.ones(len(part), dtype=bool)
    total = counts.sum()
    rate = float(counts[escalated].sum() / total) if total else 0.0
    more = {
        "usd_per_1000": (saved("cheap", everything) if asks_cheap else 0.0) + rate * saved("strong", escalated),
        "strong_usd_per_1000": saved("strong", everything),
    }
    ends = {
        name: {"measured": measured[name], "uncached": None if (m := measured[name]) is None else m + 1000 * extra}
        for name, extra in more.items()
    }
    return {"cached_share": dict(shares), **ends}
