"""HeldOut: the rows that figures are read on, and the level of their intervals.

Figures of a threshold are best read on rows that did not choose it. Where none were set apart, they are read on the rows that
chose it, at 99 %: there plain 90 % intervals fall short by a point or two, and 99 % ones of all rows are still narrower than
90 % ones of a fifth of them.
"""

from __future__ import annotations

from collections.abc import Container

LEVEL, LEVEL_WITHOUT_TEST = 0.9, 0.99
NOT_HELD_OUT = f"No row was held out: figures come from the rows that chose the threshold, with {100 * LEVEL_WITHOUT_TEST:g} % intervals."


def shown_split(splits: Container[str]) -> str:
    """The split that figures are read on, of rows with these splits: test where there is one, else certify."""
    return "test" if "test" in splits else "certify"


def level_of(split: str) -> float:
    """The level of two-sided intervals of figures that are read on a split."""
    return LEVEL if split == "test" else LEVEL_WITHOUT_TEST


def interval_level(splits: Container[str]) -> float:
    """The level of all intervals of a decision whose rows have these splits."""
    return level_of(shown_split(splits))
