"""Figures by which a reader judges whether generated texts are varied: how many sentences recur, how many words come once."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

SHORTEST = 3  # words of a sentence that counts


def sentences(text: str) -> set[str]:
    """The distinct sentences of a text, in lower case."""
    parts = (part.strip().casefold() for part in re.split(r"(?<=[.!?])\s+|\n+", text))
    return {part for part in parts if len(part.split()) >= SHORTEST}


def figures(rows: Sequence[dict[str, Any]], fields: Sequence[str]) -> dict[str, float]:
    """`recurring`: share of the rows' sentences that stand in another row too; `words`: distinct words; `once`: their share
    that comes once in all rows.
    """
    found = [sentence for row in rows for sentence in set.union(*(sentences(row[field]) for field in fields))]
    counts = Counter(found)
    words = Counter(word for row in rows for field in fields for word in re.findall(r"[\w']+", row[field].lower()))
    return {
        "recurring": sum(counts[sentence] > 1 for sentence in found) / len(found),
        "words": len(words),
        "once": sum(count == 1 for count in words.values()) / len(words),
    }
