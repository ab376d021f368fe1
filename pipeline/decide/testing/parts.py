"""Parts: whether the splits of a set can carry a promise at all, told before anything is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.decide.advice.number_text import counted
from pipeline.decide.arrays import Ints
from pipeline.decide.target import Goal
from pipeline.decide.testing.sample_size import fewest_rows


def fault(
    split: Sequence[str],
    group: npt.ArrayLike,
    shares: Mapping[str, float],
    goal: Goal,
    *,
    human: bool,
    paid: bool = False,
    rate: float = 1.0,
    named: bool = True,
) -> str | None:
    """Why no promise can come of rows with these splits and groups, with the remedy; None where one can.

    `group` (n,): name or number of each row's, None where it is one by itself; `shares`: of each split, as the config wants them. A split that is wanted must have rows; where groups have several rows
    they are what a promise counts, so the certify split must have as many as a flawless set would need. Where answers are
    `paid` for, that holds of single rows too; what costs nothing is evaluated, and says what is missing. `rate`: share of the
    rows whose strong answers are bought. `named`: the groups are the user's; otherwise rows of the same text are one.
    """
    rows, part = Counter(split), np.asarray(split, dtype=object)
    number = pd.factorize(np.asarray(group))[0]
    groups = {name: _distinct(number[part == name]) for name in shares}
    several = sum(groups.values()) < len(split)
    for name, share in shares.items():
        if share > 0 and not rows[name]:
            held = f"{counted(len(split), 'row')} in {counted(sum(groups.values()), 'group')}"
            why = "rows of one group stay in one split: leave dataset.group out if rows are independent, or "
            why = "rows with the same text are one group and stay in one split: " if several and not named else why
            return f"split {name} is empty ({held}, share {share:g}); {why * several}label more {'groups' if several else 'rows'}"
    if rows["certify"] == 1:
        return "the certify split has one row, of which nothing can be promised; label more rows"
    needed = fewest_rows(goal, human=human)
    if needed is not None and goal.kind == "agree_with_strong":
        needed = ceil(needed / rate - 1e-9)  # agreement is told by the rows drawn alone
    if needed is None or groups["certify"] >= needed:
        return None
    sampled = (
        f", of which {rate:.0%} are asked of the strong model" if goal.kind == "agree_with_strong" and rate < 1 else ""
    )
    if groups["certify"] < rows["certify"] and not named:
        return (
            f"the certify split has {counted(rows['certify'], 'row')} of {counted(groups['certify'], 'different text')}, and target "
            f"{goal.kind} needs at least {needed:,} different ones{sampled} even without a single error: rows with the same text count "
            "as one; check the columns that the prompt names, label rows with other texts, or ask for less"
        )
    if groups["certify"] < rows["certify"]:
        return (
            f"the certify split has {counted(groups['certify'], 'group')} ({counted(rows['certify'], 'row')}), and target {goal.kind} "
            f"needs at least {needed:,} groups{sampled} even without a single error: a promise counts groups where they have several "
            "rows; label more groups, ask for less, or leave dataset.group out if rows are independent"
        )
    if not paid:
        return None
    return (
        f"the certify split has {counted(rows['certify'], 'row')}, and target {goal.kind} needs at least {needed:,}{sampled} even "
        "without a single error: label more rows, ask for less, or try the models without a promise by --limit "
        f"{rows['certify']}"
    )


def _distinct(number: Ints) -> int:
    """Groups of rows with these numbers; each -1 is one by itself."""
    return len(np.unique(number[number >= 0])) + int((number < 0).sum())


def rare_floor(
    label: Sequence[str | None], segment: Sequence[str | None], split: Sequence[str], goal: Goal
) -> str | None:
    """A floor that too few certify rows could ever show, with how many it needs; None where there is none."""
    there = [(name, part) for name, part, s in zip(label, segment, split, strict=True) if s == "certify"]
    groups = goal.label_groups or {}
    floors: list[tuple[str, str | None, str | None, float]]
    floors = [(name, None, name, least) for name, least in (goal.label_floors or {}).items()]
    floors += [(name, part, of, least) for name, (part, of, least) in goal.floors_by_segment.items()]
    for name, part, of, least in floors:
        members = None if of is None else set(groups.get(of, (of,)))
        n = sum((members is None or at in members) and (part is None or within == part) for at, within in there)
        needed = fewest_rows(Goal("accepted_accuracy", goal.delta, at_least=least))
        if needed is not None and 0 < n < needed:
            return (
                f"the floor of {least:g} for {name} needs at least {needed:,} certify rows of it even without a single error, and there "
                f"are {n:,}: label more of these, lower the floor, or try the models without a promise by --limit {len(there)}"
            )
    return None


def absent_segment(segment: Sequence[str | None], split: Sequence[str], goal: Goal) -> str | None:
    """A segment with a floor that no certify row has, with those there are; None where there is none."""
    if not goal.floors_by_segment:
        return None
    there = {s for s, part in zip(segment, split, strict=True) if part == "certify" and s is not None}
    absent = sorted({name for name, _, _ in goal.floors_by_segment.values()} - there)
    if not absent:
        return None
    known = ", ".join(sorted(there)[:10]) or "none"
    return f"target.segment_floors names {absent[0]!r}, which no certify row has; segments there: {known}"
