"""Unreadable: strong replies that are not a whole answer, as figures, certificate and warnings count them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.decide.advice.number_text import counted, percent, shortened
from pipeline.decide.predictions import Rows

LIMIT = 0.05
TEXTS = 3
"""Texts that are shown."""
_CAUSES = {
    "out_of_set": "none of the labels",
    "truncated": "cut by max_tokens before a whole label",
    "empty": "empty",
    "filtered": "held back by the service's filter",
}


@dataclass(frozen=True)
class Unreadable:
    """`n` of `replies` strong replies, by status; `texts` are the commonest of them with their counts, most first."""

    replies: int
    statuses: Mapping[str, int]
    texts: Sequence[tuple[str, int]] = field(default=())

    @classmethod
    def of(cls, rows: Rows, texts: Sequence[tuple[str, int]] = ()) -> Unreadable:
        """Count the strong replies of these rows; a row that was not asked about, or got no reply, is none."""
        unreadable = rows.strong_unreadable
        replied = unreadable | ~np.isnan(rows.strong_correct) | rows.strong_answer.known
        return cls(int(replied.sum()), dict(Counter(rows.strong_status[unreadable]).most_common()), tuple(texts))

    @property
    def n(self) -> int:
        """How many."""
        return sum(self.statuses.values())

    @property
    def share(self) -> float:
        """Of the replies."""
        return self.n / self.replies if self.replies else 0.0

    def beyond(self, limit: float) -> bool:
        """Whether more of the replies than `limit` are unreadable."""
        return self.n > limit * self.replies

    def words(self) -> str:
        """How many there are, why, and what stands in the commonest, without a full stop."""
        text = f"{percent(self.share)} of the strong model's replies ({self.n:,} of {self.replies:,}) are no readable answer"
        causes = [f"{count:,} {_CAUSES.get(status, status)}" for status, count in self.statuses.items()]
        seen = [f"{_inline(t)} {counted(count, 'time')}" for t, count in self.texts[:TEXTS] if t.strip()]
        return f"{text}: {', '.join(causes)}" + (f"; the commonest: {', '.join(seen)}" if seen else "")

    def remedy(self) -> str:
        """What would make them readable, in whole sentences."""
        parts = []
        if self.statuses.get("truncated") or self.statuses.get("empty"):
            parts.append(
                "A model that reasons first may spend max_tokens on its thoughts: raise strong.params.max_tokens, or switch "
                "reasoning off (reasoning: {enabled: false})."
            )
        if self.statuses.get("out_of_set"):
            parts.append("Ask in the prompt for exactly one of the labels and nothing else.")
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "n": self.n,
            "replies": self.replies,
            "share": self.share,
            "statuses": dict(self.statuses),
            "texts": [{"text": text, "n": count} for text, count in self.texts],
        }


def _inline(text: str) -> str:
    return shortened(" ".join(text.split()))
