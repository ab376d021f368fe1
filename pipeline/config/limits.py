"""Limits: the bounds of a number, and the rule in words that a number outside them breaks."""

from __future__ import annotations

from annotated_types import Interval

MOST_DOLLARS = 1_000_000_000
"""Of a price, or of what an error costs. Sums of more, and their squares, leave the range of numbers."""
MOST_SECONDS = 1_000_000_000
"""Of a reply."""
MOST_REQUESTS = 1_000_000_000_000_000
"""Requests in a month or a year, and in an hour."""


def holds(value: float, limits: Interval) -> bool:
    """Whether a number lies within its bounds."""
    return (
        (limits.gt is None or value > limits.gt)  # type: ignore[operator]
        and (limits.ge is None or value >= limits.ge)  # type: ignore[operator]
        and (limits.lt is None or value < limits.lt)  # type: ignore[operator]
        and (limits.le is None or value <= limits.le)  # type: ignore[operator]
    )


def in_words(limits: Interval) -> str:
    """The bounds in words; empty where there are none."""
    low = limits.ge if limits.gt is None else limits.gt
    high = limits.le if limits.lt is None else limits.lt
    if low is not None and high is not None:
        out = [_shown(bound) for bound in (limits.gt, limits.lt) if bound is not None]
        return f"between {_shown(low)} and {_shown(high)}" + (f" ({' and '.join(out)} excluded)" if out else "")
    if low is not None:
        return f"{'at least' if limits.gt is None else 'above'} {_shown(low)}"
    return "" if high is None else f"{'at most' if limits.lt is None else 'below'} {_shown(high)}"


def _shown(bound: object) -> str:
    """A bound as people write it: 0.000001, 1,000,000."""
    return f"{bound:,.6f}".rstrip("0").removesuffix(".") if isinstance(bound, int | float) else str(bound)


def out_of_range(value: object, limits: Interval) -> str:
    """What is wrong with a number outside its bounds."""
    return f"{value} is out of range; it must be {in_words(limits)}"
