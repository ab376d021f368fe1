"""Latency: exact quantiles of the cascade's answer time at every threshold."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipeline.decide.arrays import Floats


def cascade_quantiles(
    segment: npt.NDArray[np.integer], cheap_s: Floats, strong_s: Floats, levels: int, shares: tuple[float, ...]
) -> Floats:
    """Seconds within which each share of rows is answered, at each level, shape (len(shares), levels).

    `segment` (n,): the row is escalated from that level on. Kept rows take cheap_s, escalated ones cheap_s + strong_s;
    a row whose time is unknown (NaN) at a level is left out there; NaN where no row is known. The quantile is the smallest
    observed time that covers the share. Both times of all rows are sorted once; then each level moves only the rows that
    become escalated, in a presence table whose block sums find the quantile.
    """
    both = cheap_s + strong_s
    kept_known, escalated_known = ~np.isnan(cheap_s), ~np.isnan(both)
    times = np.concatenate([cheap_s[kept_known], both[escalated_known]])
    out = np.full((len(shares), levels), np.nan)
    if len(times) == 0:
        return out
    order = np.argsort(times, kind="stable")
    times = times[order]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    kept_place, escalated_place = np.full(len(cheap_s), -1), np.full(len(cheap_s), -1)
    kept_place[kept_known] = place[: kept_known.sum()]
    escalated_place[escalated_known] = place[kept_known.sum() :]

    width = max(16, math.isqrt(len(times)))
    present = np.zeros((len(times) + width - 1) // width * width, dtype=np.int32)
    present[kept_place[kept_known]] = 1
    blocks = present.reshape(-1, width).sum(axis=1)
    by_segment = np.argsort(segment, kind="stable")
    bounds = np.searchsorted(segment[by_segment], np.arange(levels + 1))
    for j in range(levels):
        moved = by_segment[bounds[j] : bounds[j + 1]]
        for places, change in ((kept_place[moved], -1), (escalated_place[moved], 1)):
            places = places[places >= 0]
            present[places] += change
            blocks += change * np.bincount(places // width, minlength=len(blocks))
        cumulative = np.cumsum(blocks)
        total = int(cumulative[-1])
        for i, share in enumerate(shares if total else ()):
            wanted = max(1, math.ceil(share * total - 1e-9))
            block = int(np.searchsorted(cumulative, wanted))
            before = int(cumulative[block - 1]) if block else 0
            inside = np.cumsum(present[block * width : (block + 1) * width])
            out[i, j] = times[block * width + int(np.searchsorted(inside, wanted - before))]
    return out
