"""E-process: evidence, readable after every label, that accepted answers are wrong more often than promised.

Betting on H0 "error rate <= alpha": E = mean over lambda of the product over labels of (1 + lambda (x - alpha)), with x = 1
for a wrong answer. Under H0 each factor has expectation at most 1, so E is a nonnegative supermartingale, and by Ville's
inequality it ever reaches 1/level with probability at most `level`, however often one looks (Waudby-Smith and Ramdas 2024,
arXiv 2010.09686). Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

LEVEL = 0.05
BETS = 12


@dataclass(frozen=True)
class Evidence:
    """What a sequence of labels says against an error rate of at most `bound`."""

    bound: float
    labels: int
    errors: int
    value: float
    """E after the last label."""
    largest: float
    """The largest E on the way."""
    alarm_at: int | None
    """Number of the label at which E first reached 1/level; None when it never did. Later labels do not undo it."""


def lambdas(alpha: float) -> list[float]:
    """The bets: geometric from 0.015/alpha to 0.6/alpha (0.3 to 12 at alpha = .05), so no factor falls below 0.4."""
    low, high = 0.015 / alpha, 0.6 / alpha
    return [low * (high / low) ** (i / (BETS - 1)) for i in range(BETS)]


def e_value(errors: int, labels: int, alpha: float) -> float:
    """E after `labels` labels of which `errors` were wrong, 0 < alpha < 1. Their order does not matter."""
    return _e_value(errors, labels, [_logs(bet, alpha) for bet in lambdas(alpha)])


def watch(wrong: Iterable[bool], alpha: float, *, level: float = LEVEL) -> Evidence:
    """Go through labels in their order, looking after each. Raises ValueError unless 0 < alpha < 1."""
    if not 0 < alpha < 1:
        raise ValueError(f"the bound on errors must lie between 0 and 1, got {alpha!r}")
    logs = [_logs(bet, alpha) for bet in lambdas(alpha)]
    labels = errors = 0
    value = largest = 1.0
    alarm_at = None
    for x in wrong:
        labels += 1
        if not x:
            continue
        errors += 1  # E grows with a wrong answer only, so only there can it reach a new largest value
        value = _e_value(errors, labels, logs)
        largest = max(largest, value)
        if alarm_at is None and value >= 1 / level:
            alarm_at = labels
    return Evidence(alpha, labels, errors, _e_value(errors, labels, logs), largest, alarm_at)


def _logs(bet: float, alpha: float) -> tuple[float, float]:
    return math.log1p(bet * (1 - alpha)), math.log1p(-bet * alpha)


def _e_value(errors: int, labels: int, logs: list[tuple[float, float]]) -> float:
    total = 0.0
    for wrong, right in logs:
        exponent = errors * wrong + (labels - errors) * right
        total += math.exp(min(exponent, 700.0))  # e^700 is alarm enough
    return total / len(logs)
