"""How the generators of the bundled datasets write: text banks with slots, and typing errors. Standard library only.

A bank is a TOML file whose entries are blocks of alternatives, one a line; ``{slot}`` is filled with a value that stays
the same within a row.
"""

import random
import re
import tomllib
from pathlib import Path
from typing import Any

SLOT = re.compile(r"\{\w+\}")


def read_bank(path: Path) -> dict[str, Any]:
    """A TOML bank file as nested dicts and strings."""
    with path.open("rb") as handle:
        return tomllib.load(handle)


def lines(block: str) -> list[str]:
    """The alternatives of a bank entry: one a line, or separated by bars on a single line."""
    return [line.strip() for line in (block.splitlines() if "\n" in block else block.split("|")) if line.strip()]


def fitting(block: str, opening: int) -> list[str]:
    """The lines that go with an opening (counted from 0): "@13 text" goes with the first and third, "text" with all."""
    found = []
    for line in lines(block):
        tags, _, text = line[1:].partition(" ") if line.startswith("@") else ("", "", line)
        if not tags or str(opening + 1) in tags:
            found.append("~ " + text if tags.endswith("~") else text)
    return found


def bare(line: str) -> str:
    """A bank line without its marks."""
    return re.sub(r"^(@\d*)?~? ?", "", line)


def typed(rng: random.Random, text: str, rate: float) -> str:
    """Typing errors: with ``rate`` one or two slips, a letter lost, doubled or swapped inside a word."""
    if rng.random() >= rate:
        return text
    for _ in range(rng.choice((1, 1, 2))):
        spots = [i for i in range(1, len(text) - 2) if text[i - 1 : i + 2].isalpha()]
        if not spots:
            return text
        i = rng.choice(spots)
        lost, doubled = text[:i] + text[i + 1 :], text[: i + 1] + text[i:]
        swapped = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
        text = rng.choice((lost, doubled, swapped))
    return text


class Writer:
    """One row being written: a random source and the slot values that stay the same within the row."""

    def __init__(self, rng: random.Random, slots: dict[str, Any] | None = None) -> None:
        self.rng = rng
        self.slots: dict[str, Any] = dict(slots or {})

    def pick(self, block: str) -> str:
        """One of a block's lines, filled in."""
        return self.fill(self.rng.choice(lines(block)))

    def fill(self, text: str) -> str:
        """Slots filled in; a value that opens the line gets a capital, what the author wrote small stays small."""
        capital = text.startswith("{")
        for _ in range(2):  # a slot's value may hold a slot
            text = text.format(**self.slots)
        return text[:1].upper() + text[1:] if capital else text
