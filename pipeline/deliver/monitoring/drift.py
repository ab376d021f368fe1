"""Drift: tests, without labels, that production replies still look like those of calibration. Standard library only.

Each test is made at level 1 % on one window of replies. None of them can see that accuracy falls while confidences stay
as they were; that takes labels, or strong answers (see `eprocess`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.01
FEWEST = 50
"""Below this many replies nothing is tested: almost any sample would pass."""


@dataclass(frozen=True)
class Check:
    """One test: what was observed, what calibration leads to expect, and whether they disagree."""

    name: str
    observed: float | None
    expected: float | None
    lower: float | None
    """Lower end of the 99 % range for `observed`; None for a one-sided test."""
    upper: float | None
    p_value: float | None
    alarm: bool
    text: str


def confidence_check(confidences: Sequence[float], quantiles: Sequence[float] | None, n: int | None) -> Check:
    """Two-sample Kolmogorov-Smirnov test against the calibration confidences, known by their quantiles.

    `quantiles`: observed values at the shares 0, 1/K, ... 1 of `n` confidences. They pin the distribution function to a
    band 1/K wide, and the distance is taken to the band, so neither they nor ties ever cause an alarm.
    """
    name, m = "confidence distribution", len(confidences)
    if not quantiles or not n or m < FEWEST:
        return _untested(name, m, "confidences", quantiles is None or not n)
    distance = ks_distance(sorted(confidences), quantiles)
    p_value = kolmogorov_tail(math.sqrt(n * m / (n + m)) * distance)
    limit = kolmogorov_limit(LEVEL) / math.sqrt(n * m / (n + m))
    alarm = p_value < LEVEL
    text = (
        f"Confidences are {'not ' if alarm else ''}distributed as in calibration: Kolmogorov-Smirnov distance {distance:.3f} "
        f"over {m} replies, {limit:.3f} is the limit at 1 %."
    )
    return Check(name, distance, 0.0, None, limit, p_value, alarm, text)


def ks_distance(ordered: Sequence[float], quantiles: Sequence[float]) -> float:
    """Largest distance between an empirical distribution and the band that the quantiles leave, at least 0.

    Both step only at observed values, so checking these is enough.
    """
    m, k = len(ordered), len(quantiles) - 1
    i = j = 0
    largest = 0.0
    for x in sorted({*ordered, *quantiles}):
        while i < m and ordered[i] <= x:
            i += 1
        while j <= k and quantiles[j] <= x:
            j += 1
        ours, low, high = i / m, max(0, j - 1) / k, 0.0 if j == 0 else min(j, k) / k
        largest = max(largest, ours - high, low - ours)
    return largest


def kolmogorov_tail(x: float) -> float:
    """P(K > x) of Kolmogorov's limit law."""
    if x < 0.2:
        return 1.0
    total = sum((2.0 if j % 2 else -2.0) * math.exp(-2 * j * j * x * x) for j in range(1, 101))
    return min(1.0, max(0.0, total))


def kolmogorov_limit(level: float) -> float:
    """The x at which P(K > x) is `level`, for levels up to a half."""
    low, high = 0.5, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kolmogorov_tail(middle) > level else (low, middle)
    return high


def share_check(
    name: str, k: int, m: int, expected: float | None, n: int | None, *, what: str, two_sided: bool
) -> Check:
    """k of m production replies against a share of n calibration replies, by the beta-binomial predictive law.

    The law of k given the calibration count K is beta-binomial(m, K + 1/2, n - K + 1/2). One-sided tests look for too many.
    """
    if expected is None or not n or m < FEWEST:
        return _untested(name, m, "replies", expected is None or not n)
    count = expected * n
    law = beta_binomial(m, count + 0.5, n - count + 0.5)
    tail = LEVEL / 2 if two_sided else LEVEL
    above = sum(law[k:])
    p_value = min(1.0, 2 * min(above, sum(law[: k + 1]))) if two_sided else min(1.0, above)
    lower = _quantile(law, tail) / m if two_sided else None
    upper = (m - _quantile(law[::-1], tail)) / m
    alarm = k / m > upper or (lower is not None and k / m < lower)
    span = f"{lower:.1%} to {upper:.1%}" if lower is not None else f"at most {upper:.1%}"
    text = f"{what}: {k / m:.1%} of {m} replies, calibration had {expected:.1%}; {span} is the 99 % range{', so this has changed' if alarm else ''}."
    return Check(name, k / m, expected, lower, upper, p_value, alarm, text)


def beta_binomial(m: int, a: float, b: float) -> list[float]:
    """P(X = 0), ... P(X = m) of the beta-binomial law."""
    base = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) - math.lgamma(a + b + m) + math.lgamma(m + 1)
    return [
        math.exp(base + math.lgamma(x + a) + math.lgamma(m - x + b) - math.lgamma(x + 1) - math.lgamma(m - x + 1))
        for x in range(m + 1)
    ]


def _quantile(law: Sequence[float], tail: float) -> int:
    """The first count with more than `tail` at or below it."""
    total = 0.0
    for x, p in enumerate(law):
        total += p
        if total > tail:
            return x
    return len(law) - 1


def _untested(name: str, m: int, things: str, unknown: bool) -> Check:
    why = (
        "the policy does not say what calibration had" if unknown else f"{m} {things} are too few, {FEWEST} are needed"
    )
    return Check(name, None, None, None, None, None, False, f"{name[0].upper()}{name[1:]}: not tested, {why}.")
