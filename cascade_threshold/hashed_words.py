"""Hashed words: a text as weights of the buckets its words fall into, identical on every machine. Standard library only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import log, sqrt
from zlib import crc32

BUCKETS = 1024
_WORD = re.compile(r"\w+")  # single letters count as words


def hashed_words(text: str) -> dict[int, float]:
    """Weight per bucket, 1 + ln(count) scaled to length 1; empty for a text without words."""
    counts = Counter(crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS for word in _WORD.findall(text.casefold()))
    weights = {bucket: 1.0 + log(count) for bucket, count in sorted(counts.items())}
    length = sqrt(sum(weight * weight for weight in weights.values()))
    return {bucket: weight / length for bucket, weight in weights.items()}


def score(text: str, weights: Sequence[float]) -> float:
    """The sum of the text's weights times those of their buckets."""
    return sum(weight * weights[bucket] for bucket, weight in hashed_words(text).items())
