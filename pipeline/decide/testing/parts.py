"""Parts: whether the splits of a set can carry a promise at all, told before anything is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pipeline.decide.advice.number_text import counted
from pipeline.decide.target import Goal
from pipeline.decide.testing.sample_size import fewest_rows


def fault(
    split: Sequence[str], group: Sequence[str | None], shares: Mapping[str, float], goal: Goal, *, human: bool
) -> str | None:
    """Why no promise can come of rows with these splits and groups, with the remedy; None where one can.

    `shares`: of each split, as the config wants them. A split that is wanted must have rows; where groups have several rows
    they are what a promise counts, so the certify split must have as many as a flawless set would need.
    """
    rows = Counter(split)
    groups = {
        name: len({g if g is not None else i for i, (g, s) in enumerate(zip(group, split, strict=True)) if s == name})
        for name in shares
    }
    several = sum(groups.values()) < len(split)
    for name, share in shares.items():
        if share > 0 and not rows[name]:
            held = f"{counted(len(split), 'row')} in {counted(sum(groups.values()), 'group')}"
            why = (
                "rows of one group stay in one split: leave dataset.group out if rows are independent, or "
                if several
                else ""
            )
            return f"split {name} is empty ({held}, share {share:g}); {why}label more {'groups' if several else 'rows'}"
    if rows["certify"] == 1:
        return "the certify split has one row, of which nothing can be promised; label more rows"
    needed = fewest_rows(goal, human=human)
    if needed is not None and groups["certify"] < rows["certify"] and groups["certify"] < needed:
        return (
            f"the certify split has {counted(groups['certify'], 'group')} ({counted(rows['certify'], 'row')}), and target {goal.kind} "
            f"needs at least {needed:,} groups even without a single error: a promise counts groups where they have several rows; "
            "label more groups, ask for less, or leave dataset.group out if rows are independent"
        )
    return None


def absent_segment(segment: Sequence[str | None], split: Sequence[str], goal: Goal) -> str | None:
    """A segment with a floor that no certify row has, with those there are; None where there is none."""
    there = {s for s, part in zip(segment, split, strict=True) if part == "certify" and s is not None}
    absent = sorted({name for name, _, _ in goal.floors_by_segment.values()} - there)
    if not absent:
        return None
    known = ", ".join(sorted(there)[:10]) or "none"
    return f"target.segment_floors names {absent[0]!r}, which no certify row has; segments there: {known}"
