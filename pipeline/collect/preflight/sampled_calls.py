"""SampledCalls: how many strong answers a rate of the coin is expected to take, and what it is expected to escalate.

Measured by `scripts/sampled_calls.py` on the population S1 of the tests (see docs/fewer-strong-calls.md), all rows certifying,
within .02 at certainty .9. Other models and targets escalate otherwise: it helps to choose a rate, and promises nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

RATES = (1.0, 0.5, 0.25, 0.1, 0.0)
MEASURED: dict[int, tuple[tuple[float, float], ...]] = {
    1000: ((1.0, 0.242), (0.519, 0.247), (0.279, 0.255), (0.173, 0.281), (0.109, 0.341)),
    2000: ((1.0, 0.212), (0.523, 0.214), (0.283, 0.225), (0.173, 0.242), (0.104, 0.302)),
}
"""By certifying rows, for each of RATES: strong answers bought over rows, and the share escalated."""


@dataclass(frozen=True)
class Expected:
    """Shares of the rows: strong answers bought, and rows escalated."""

    calls: float
    escalation: float


def expected(rows: int, rate: float) -> Expected:
    """What is expected of one of RATES with so many certifying rows: between those measured by their logarithm, flat beyond."""
    sizes, which = sorted(MEASURED), RATES.index(rate)
    above = bisect_right(sizes, rows)
    low, high = sizes[max(above - 1, 0)], sizes[min(above, len(sizes) - 1)]
    part = 0.0 if low == high else math.log(rows / low) / math.log(high / low)
    first, second = MEASURED[low][which], MEASURED[high][which]
    calls, escalation = (a + (b - a) * part for a, b in zip(first, second, strict=True))
    return Expected(calls, escalation)


def every_rate(rows: int, asked: int) -> list[dict[str, float]]:
    """For each rate {rate, calls, escalation_rate}: calls of `asked` rows that may get a strong answer."""
    found = [(rate, expected(rows, rate)) for rate in RATES]
    return [
        {"rate": rate, "calls": round(e.calls * asked), "escalation_rate": round(e.escalation, 3)} for rate, e in found
    ]
