"""MonitorText: the monitor's findings in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.deliver.monitoring.drift import FEWEST
from pipeline.deliver.monitoring.eprocess import LENGTH, LEVEL, Evidence

BLIND_SPOT = (
    "No check without labels can see that answers get worse while confidences stay as they were. Only the audit of accepted "
    "answers sees that: have people label a random sample of them, or ask the strong model about 1 % of them too (shadow)."
)
_DATA = {
    "labels": "accepted answers with a label",
    "shadow": "accepted answers that the strong model also answered",
    "paired": "accepted answers with both a label and a strong answer",
}
_BROKEN = {
    "labels": "too many accepted answers are wrong",
    "shadow": "too many accepted answers differ from the strong model's",
    "paired": "the strong model is right more often on accepted requests than the promise allows",
}


class Found(NamedTuple):
    """What the first and the last sentence are about."""

    task: str
    verdict: str
    tested: bool
    lost: str
    """Labels that did not count, and why; empty when all did."""
    readable: float | None
    read: int
    judged: int
    stray: bool
    changed: list[str]
    alarms: list[str]


def verdict(found: Found) -> str:
    """The verdict in one sentence, with the share of lines that could be read where it is not all of them."""
    share = "" if found.readable in (None, 1.0) else f" ({found.readable:.2%} of {found.read} lines could be read)"
    return f"{found.task}: {_verdict(found)}{share}."


def _verdict(found: Found) -> str:
    if found.verdict == "broken":
        reasons = (["another model answers"] if found.stray else []) + [_BROKEN[kind] for kind in found.alarms]
        return (
            f"the promise no longer holds: {' and '.join(reasons)}. Send everything to the strong model until a new policy "
            "is certified"
        )
    if found.verdict == "untested":
        if found.lost:
            return f"untested: {found.lost}, so what the others say is not enough to go on"
        if not found.judged:
            return "untested: nothing could be judged, no line of the log is a decision or a reply under this policy"
        return "untested: no accepted answer has a label or a strong answer; nothing else has changed since calibration"
    if found.verdict == "drift":
        return (
            f"production has changed since calibration ({'; '.join(found.changed)}). The promise may still hold; label some "
            "accepted answers, or calibrate again"
        )
    enough = found.judged >= FEWEST
    return "no sign that the promise is broken" + ("" if enough else f", but {found.judged} lines are too few to tell")


def nothing_tested(found: Found) -> str:
    """The last line of a report that tested nothing, prominent enough to be seen in a log."""
    why = (
        "the log holds no readable line"
        if not found.judged
        else found.lost
        if found.lost
        else "no accepted answer in it has a label or a strong answer"
    )
    return f"NOTHING TESTED THE PROMISE: {why}. With --require-labels this ends with exit code 7."


def lost(unread: int, misplaced: int, example: str | None) -> str:
    """Which labels did not count: `unread` of them could not be read, `misplaced` ones have no request in the log."""
    parts = []
    if unread:
        carry = "a line carries" if unread == 1 else f"{unread} lines carry"
        parts.append(f"{carry} a label and could not be read")
    if misplaced:
        are = "a label is for a request" if misplaced == 1 else f"{misplaced} labels are for requests"
        parts.append(
            f"{are} that this log does not hold once, for example id {example!r} (compare it with the ids in the log, "
            "and give the logs of earlier days as well)"
        )
    return " and ".join(parts)


def others(models: Counter[str], seen: Sequence[str], stray: bool) -> str:
    """Models that answered and were never calibrated."""
    names = ", ".join(f"{name!r} ({n})" for name, n in models.most_common(5))
    told = "Calibrate again." if stray else "They escalated and do no harm; find out why they came."
    return f"{sum(models.values())} replies came from models that calibration never saw: {names}; it saw {', '.join(seen)}. {told}"


def untestable(kind: str, labels: int) -> str:
    """Why a kind of evidence was not tested."""
    if not labels:
        return f"There are no {_DATA[kind]}."
    return f"{labels} {_DATA[kind]} cannot be judged: the policy states no bound for them."


def evidence(kind: str, found: Evidence, level: float, day: str | None) -> str:
    """What one kind of evidence says."""
    n, rate = found.labels, found.errors / found.labels
    shown = {
        "labels": f"{found.errors:.0f} of {n} labeled accepted answers are wrong ({rate:.1%}; the policy allows {found.bound:.1%})",
        "shadow": f"{found.errors:.0f} of {n} accepted answers are not the strong model’s ({rate:.1%}; the policy allows {found.bound:.1%})",
        "paired": f"On {n} accepted requests the strong model was right {found.errors:+.0f} times more often ({rate:+.1%}; the promise "
        f"allows {found.bound:.1%})",
    }[kind]
    if found.alarm_at is None:
        return f"{shown}: no alarm, the evidence reached {found.largest:.2g} of the {1 / level:g} it takes."
    at = f"number {found.alarm_at}" + ("" if day is None else f" ({day})")
    return (
        f"{shown}: ALARM at {at}. The evidence against the promise reached {found.largest:.3g}; by chance alone it reaches "
        f"{1 / level:g}, with all kinds of evidence together, in at most {LEVEL:.0%} of logs of up to {LENGTH:,} labels, however "
        "often one looks."
    )
