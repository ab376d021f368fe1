"""TargetRules: what the numbers of a target may be and which of them a kind takes, for configs, policies and calls alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from annotated_types import Interval

from pipeline.config.limits import MOST_DOLLARS, holds, out_of_range
from pipeline.config.vocabulary import TARGETS

FINEST = 0.000001
"""No number of rows that anybody has can tell a smaller share from none."""
_SHARE = Interval(ge=FINEST, le=1 - FINEST)
_PRICE = Interval(gt=0, le=MOST_DOLLARS)
ERROR_COST = Interval(ge=-MOST_DOLLARS, le=MOST_DOLLARS)
"""Of one kind of error among several: some may even be welcome."""
LIMITS = {
    "within": _SHARE,
    "at_least": _SHARE,
    "escalation_rate": _SHARE,
    "usd_per_1000": _PRICE,
    "usd_per_error": _PRICE,
    "label_floors": _SHARE,
    "segment_floors": _SHARE,
    "delta": Interval(gt=0, lt=1),
    "certainty": Interval(ge=0.5, le=1 - FINEST),
}
"""Bounds of a target's numbers; of a mapping, those of each of its numbers. Costs of single errors have `ERROR_COST`."""
NUMBERS = tuple(dict.fromkeys(name for needed in TARGETS.values() for name in needed))
"""Numbers of which a kind takes exactly one of its own."""
FLOORED = ("match_strong", "accepted_accuracy", "system_accuracy")
"""Kinds that floors may be combined with."""


def require_fields(kind: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError unless the kind is given one of its numbers, and nothing that belongs to another kind."""
    if kind not in TARGETS:
        raise ValueError(f"unknown target {kind!r}; known are {', '.join(TARGETS)}")
    mine = TARGETS[kind]
    for name in NUMBERS:
        if name not in mine and given[name] is not None:
            raise ValueError(f"{name} does not belong to target {kind}, which takes {' or '.join(mine)}")
    if sum(given[name] is not None for name in mine) != 1:
        raise ValueError(f"target {kind} needs {' or '.join(mine)}")
    for name in ("label_floors", "segment_floors"):
        if given[name] and kind not in FLOORED:
            raise ValueError(f"{name} cannot be combined with target {kind}")
    if given["usd_per_error"] is not None:
        require_error_costs(given["usd_per_error"], ())


def require_range(given: Mapping[str, Any]) -> None:
    """Raise ValueError for the first number that lies outside its bounds."""
    for name, limits in LIMITS.items():
        for place, value in _numbers(name, given.get(name)):
            bounds = ERROR_COST if "." in place and name == "usd_per_error" else limits
            if not holds(value, bounds):
                raise ValueError(f"{place}: {out_of_range(value, bounds)}")


def require_error_costs(costs: float | Mapping[str, Any], occurring: Iterable[str]) -> None:
    """Raise ValueError where costs of errors by true label lack one of the labels that rows have, or any wrong answer of one."""
    if not isinstance(costs, Mapping):
        return
    for label, entry in costs.items():
        if isinstance(entry, Mapping) and not set(entry) - {label}:
            raise ValueError(
                f"target usd_per_error lists no wrong answer for label {label!r}; give it one number, or a number for each answer that is wrong"
            )
    for label in occurring:
        if label not in costs:
            raise ValueError(
                f"usd_per_error has no cost for label {label!r}, which rows have; add it: usd_per_error: {{{label}: ...}}"
            )


def named_labels(costs: float | Mapping[str, Any] | None) -> set[str]:
    """Labels, and answers given instead, that costs of errors name."""
    if not isinstance(costs, Mapping):
        return set()
    return set(costs).union(*(entry for entry in costs.values() if isinstance(entry, Mapping)))


def _numbers(place: str, value: Any) -> Iterator[tuple[str, float]]:
    """The numbers that have bounds, each with where it stands."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(f"{place}.{key}", part)
    elif value is not None:
        yield place, value
