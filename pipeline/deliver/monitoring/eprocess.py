"""EProcess: anytime-valid evidence that kept answers are worse than the promise allows, from any point on.

Betting on H0 "the mean of x is at most m", x in [-1, 1] or [0, 1]: each factor 1 + lambda (x - m) has expectation at most 1
under H0 (Waudby-Smith and Ramdas 2024, arXiv 2010.09686). A product over the whole log remembers a good past, and must first
lose it. So bets start anew at every value (e-detectors, Shin, Ramdas and Rinaldo 2022, arXiv 2203.03532), in the form of
Shiryaev and Roberts with a head start r:

    R_t = (1 + lambda (x_t - m)) (R_{t-1} + 1),  R_0 = r,    E_t = mean over lambda of R_t / (r + N)

Under H0 R_t - t is a supermartingale, so E[R_N] <= r + N, and by Doob's inequality E ever reaches 1/level within N values with
probability at most `level`, however often one looks. N is LENGTH: of a longer log the newest N values count. The head start
keeps a fresh log quick: r / (r + N) of all the weight lies on bets that start with the log. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.05
"""At most this share of logs raises a false alarm, over all kinds of evidence that a log has together."""
LENGTH = 20_000
"""Most values of one kind for which that rate is proved; of a longer log the newest are read."""
HEAD_START = 0.1
"""r, as a share of N."""
BETS = 12
_LARGEST = 1e300


@dataclass(frozen=True)
class Evidence:
    """What a sequence of values says against a mean of at most `bound`."""

    bound: float
    labels: int
    errors: float
    """Their sum: wrong answers, or what the strong model had right more often than the cheap one."""
    value: float
    """E after the last value."""
    largest: float
    """The largest E on the way."""
    alarm_at: int | None
    """Number of the value at which E first reached 1/level; None when it never did. Later values do not undo it."""


def lambdas(bound: float, lowest: float = 0.0) -> list[float]:
    """The bets, geometric. On errors (lowest 0): from 0.015/bound to 0.6/bound (0.3 to 12 at a bound of .05), so that no factor
    falls below 0.4. On differences (lowest -1): from 0.03 to 0.6 over 1 + bound, for the same reason."""
    width = bound - lowest
    low, high = (0.015 / width, 0.6 / width) if lowest == 0 else (0.03 / width, 0.6 / width)
    return [low * (high / low) ** (i / (BETS - 1)) for i in range(BETS)]


def e_values(values: Sequence[float], bound: float, *, lowest: float = 0.0, length: int = LENGTH) -> list[float]:
    """E after each value. Raises ValueError unless lowest < bound < 1 (and a bound on errors is above 0)."""
    if not lowest < bound < 1:
        raise ValueError(f"the bound must lie between {lowest:g} and 1, got {bound!r}")
    bets, start = lambdas(bound, lowest), HEAD_START * length
    wealth = [start] * BETS
    scale = 1 / (BETS * (start + length))
    found = []
    for x in values:
        wealth = [min(_LARGEST, (1 + bet * (x - bound)) * (r + 1)) for bet, r in zip(bets, wealth, strict=True)]
        found.append(sum(wealth) * scale)
    return found


def watch(
    values: Sequence[float], bound: float, *, level: float = LEVEL, lowest: float = 0.0, length: int = LENGTH
) -> Evidence:
    """Go through values in their order, looking after each; of more than `length` the newest. Raises ValueError as `e_values`."""
    newest = values[-length:] if len(values) > length else values
    path = e_values(newest, bound, lowest=lowest, length=length)
    skipped = len(values) - len(newest)
    at = next((i for i, e in enumerate(path) if e >= 1 / level), None)
    start = HEAD_START / (HEAD_START + 1)
    return Evidence(
        bound,
        len(values),
        float(sum(values)),
        path[-1] if path else start,
        max([start, *path]),
        None if at is None else skipped + at + 1,
    )
