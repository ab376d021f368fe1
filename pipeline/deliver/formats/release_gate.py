"""ReleaseGate: whether a policy may go into production, by limits that a release names; each refusal is a sentence with the
figure and the limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cascade_threshold.policy import Policy
from pipeline.errors import NotExportable, UsageError

CERTIFIED = ("certified", "cheap_only")
"""Verdicts with a passed test; strong_only keeps its promise by construction, without a test."""
STRENGTH = {"within": -1, "certainty": 1, "at_least": 1}
"""Parts of a target that make a promise stronger when they are lower (-1) or higher (1)."""
WORSE = (
    ("system_accuracy", "accuracy", -1, "%"),
    ("escalation_rate", "escalation rate", 1, "%"),
    ("usd_per_1000", "cost per 1,000 requests", 1, "$"),
)
"""Figures of `expected` with the direction in which they are worse."""


@dataclass(frozen=True)
class Limits:
    """What a release requires of a policy; None: nothing."""

    require: str | None = None
    """`certified`: a verdict with a passed test."""
    max_escalation: float | None = None
    """Share of requests, 0 to 1."""
    max_usd_per_1000: float | None = None
    against: Policy | None = None
    """The policy in production: the new one may not promise less, nor lie outside its intervals on the worse side."""


def require(policy: Policy, limits: Limits) -> None:
    """Raise NotExportable with every limit that the policy does not keep, UsageError when `against` is of another task."""
    faults = [*_own(policy, limits), *([] if limits.against is None else _against(policy, limits.against))]
    if faults:
        raise NotExportable(f"{policy.where}: not released: {'; '.join(faults)}")


def _own(policy: Policy, limits: Limits) -> Iterator[str]:
    if limits.require == "certified" and policy.verdict not in CERTIFIED:
        yield f"its verdict is {policy.verdict}, and --require certified takes {' and '.join(CERTIFIED)} only"
    if limits.require is not None and policy.edited:
        yield f"it was edited after it was made ({', '.join(policy.edited)})"
    asked = (
        ("escalation_rate", "escalation rate", limits.max_escalation, "--max-escalation", "%"),
        ("usd_per_1000", "cost per 1,000 requests", limits.max_usd_per_1000, "--max-usd-per-1000", "$"),
    )
    for name, words, limit, option, unit in asked:
        if limit is None:
            continue
        value = _value(policy, name)
        if value is None:
            yield f"its {words} is not known, and {option} asks for at most {_text(limit, unit)}"
        elif value > limit:
            yield f"its {words} is {_text(value, unit)}, above the {_text(limit, unit)} of {option}"


def _against(policy: Policy, before: Policy) -> Iterator[str]:
    if before.task != policy.task:
        raise UsageError(f"--against {before.where}: is a policy of task {before.task!r}, not of {policy.task!r}")
    if before.edited:
        raise UsageError(f"--against {before.where}: was edited after it was made ({', '.join(before.edited)})")
    if before.verdict in CERTIFIED and policy.verdict not in CERTIFIED:
        yield f"its verdict is {policy.verdict}, and the previous policy's is {before.verdict}"
    yield from _weaker(policy.document["certificate"]["target"] or {}, before.document["certificate"]["target"] or {})
    for name, words, worse, unit in WORSE:
        value, known = _value(policy, name), before.document["expected"][name]
        end = known["upper" if worse > 0 else "lower"]
        end = _value(before, name) if end is None else end
        if end is None:
            continue
        if value is None:
            yield f"its {words} is not known, and the previous policy's is {_text(known['value'], unit)}"
        elif (value - end) * worse > 0:
            side = "above" if worse > 0 else "below"
            yield f"its {words} is {_text(value, unit)}, {side} {_text(end, unit)}, the end of the previous policy's interval"


def _weaker(target: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """How a target promises less than the previous one."""
    if target.get("kind") != before.get("kind"):
        yield f"its target is {target.get('kind')}, and the previous policy's is {before.get('kind')}"
        return
    for name, stronger in STRENGTH.items():
        new, old = target.get(name), before.get(name)
        if new is not None and old is not None and (new - old) * stronger < 0:
            yield f"its target promises less: {name} {new:g}, and {old:g} in the previous policy"


def _value(policy: Policy, name: str) -> float | None:
    if name == "escalation_rate" and policy.threshold is None:
        return 1.0
    value: float | None = policy.document["expected"][name]["value"]
    return value


def _text(value: float, unit: str) -> str:
    """The figure, exact enough that it is never shown equal to a limit that it breaks."""
    return f"{100 * value:.4g} %" if unit == "%" else f"${value:.5g}"
