"""Signal: a way to get a confidence from one reply, and what it may look at. Standard library only.

The usual signals share their work and are computed together in `signals`. Another one is a file that defines a
`Signal` with its own `value`, and one line in `signals`; every stage, table and policy then knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cascade_threshold.completion import Token


class AnswerTokens(NamedTuple):
    """The tokens that spell the answer of a usable reply."""

    tokens: tuple[Token, ...]
    """At least one; each has a logprob."""

    @property
    def logprobs(self) -> list[float]:
        """Nats, clipped at 0; one per token."""
        return [min(token.logprob, 0.0) for token in self.tokens if token.logprob is not None]


class Signal(NamedTuple):
    """A way to get a confidence from one reply."""

    name: str
    version: int
    """Raised whenever any reply would get another value: a threshold holds for one version only."""
    formula: str
    needs_alternatives: int
    """How many alternatives (top_logprobs) must be asked for; 0 for none."""
    map: str
    """The increasing function that brings the raw score to [0, 1]."""
    null_when: str
    """When the signal is null although the status is ok."""
    value: Callable[[AnswerTokens], float | None] | None = None
    """Its confidence in [0, 1]; null as `null_when` says. None for those that `signals` computes together."""
