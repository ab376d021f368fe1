"""VolumeCost: what so many requests cost with the cascade and with the strong model alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def change(cost: float | None, base: float | None) -> float | None:
    """Relative change of a cost against another; None where either is unknown, or the other is 0."""
    return None if cost is None or not base else cost / base - 1


def volume_cost(
    requests: float, cascade: float, cheap: float | None, strong: float, caching: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Dollars of `requests` requests, from dollars per 1,000 (cheap: None is unknown).

    break_even    the escalation rate at which the cascade costs as much as the strong model alone
    uncached      the same without what the service had cached, as far as `curves.caching` knows; None: no difference is known
    """
    many = requests / 1000
    share = None if caching is None else caching["cached_share"]
    full = [] if caching is None else [caching[name]["uncached"] for name in ("usd_per_1000", "strong_usd_per_1000")]
    told = share is not None and any(share.values()) and None not in full
    return {
        "cascade": many * cascade,
        "strong": many * strong,
        "saved": many * (strong - cascade),
        "change": change(cascade, strong),
        "per_1000": {"cascade": cascade, "strong": strong},
        "break_even": None if cheap is None or not strong else max(0.0, 1 - cheap / strong),
        "cached_share": share,
        "uncached": {"cascade": many * full[0], "strong": many * full[1]} if told else None,
    }
