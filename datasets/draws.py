"""What the generators of the bundled datasets share: distinct draws, seeds and the file they are written to.

Standard library only. A generator defines ``draw(rng) -> dict`` (one independent draw) and a ``key`` that says which
text must not occur twice; everything about seeds and duplicates is here, so that it is the same for every dataset.
"""

import json
import random
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]

EVALUATION_SEED = 2026
TRAIN_SEED_OFFSET = 1_000_003  # train seeds start far from the evaluation seed, see train_rows


def normalise(text: str) -> str:
    """Text as duplicates are judged: stripped, NFKC, casefolded, runs of white space as one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def distinct(
    draw: Callable[[random.Random], Row],
    key: Callable[[Row], str],
    rng: random.Random,
    exclude: frozenset[str] = frozenset(),
) -> Iterator[Row]:
    """Independent draws without end, skipping every text that was drawn before or is in ``exclude``."""
    seen = set(exclude)
    while True:
        row = draw(rng)
        text = key(row)
        if text not in seen:
            seen.add(text)
            yield row


def write(path: Path, rows: list[Row]) -> None:
    """Write rows as JSON lines: UTF-8, one object a line, keys in the order of the row."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")
