"""SpendCap: what the run has cost, the upper bound of what is in flight, and the cap."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cascade_threshold.pricing import Price
from pipeline.collect.request import Request
from pipeline.collect.sending.response_class import Outcome
from pipeline.config.params import LENGTHS
from pipeline.errors import CapReached

PROMPT_OVERHEAD_TOKENS = 200
"""Chat template and special tokens around the messages; more than any template in use adds to two messages."""

UNPROMPTED = frozenset({"stop", "reasoning"})
"""Parameters that no chat template writes into the prompt."""


def price_key(service: str, model: str) -> str:
    """Key under which the last price of a model is remembered."""
    return f"price:{service}:{model}"


def usd_bound(request: Request, price: Price | None, *, batch: bool = False) -> float:
    """Upper bound in dollars of one request: its bytes are never fewer than its tokens. 0 without a price."""
    if price is None:
        return 0.0
    prompt = request.prompt_bytes + PROMPT_OVERHEAD_TOKENS + _prompted_bytes(request.params)
    return price.at_most(prompt, most_output(request.params), batch=batch)


def cost(outcome: Outcome, price: Price | None, *, batch: bool = False) -> float | None:
    """Dollars of an attempt; 0 where nothing came of it that costs, None where that is not told."""
    if outcome.state not in ("ok", "invalid", "unknown"):
        return 0.0
    return None if price is None else price.usd(outcome.usage, batch=batch)


def most_output(params: Mapping[str, Any]) -> int:
    """The most tokens that a reply may have; 0 where nothing bounds it."""
    return max(int(params.get(name) or 0) for name in LENGTHS)


def _prompted_bytes(params: Mapping[str, Any]) -> int:
    """Bytes of the parameters that a chat template may write into the prompt: tools, a response_format, any text.

    As JSON in its longest form, since templates indent it and escape what is not ASCII.
    """
    written = {
        name: value
        for name, value in params.items()
        if not isinstance(value, int | float)
        and isinstance(value, str | list | tuple | Mapping)
        and name not in UNPROMPTED
    }
    return len(json.dumps(written, indent=4)) if written else 0


@dataclass
class Allowance:
    """The budget of one command, over all its tasks, roles and trial calls."""

    cap: float | None = None
    """--max-usd; None: no cap."""
    spent: float = 0.0
    """In dollars; an unreported cost counts at its upper bound."""
    confirmed: bool = False
    """Whether the total was confirmed, so that its parts need no question."""

    @property
    def left(self) -> float | None:
        """What may still be spent; None without a cap."""
        return None if self.cap is None else self.cap - self.spent


@dataclass
class Spending:
    """The money of one run. With a cap, a request starts only when even its upper bound stays below it."""

    cap: float | None = None
    before: float = 0.0
    """What counts against the cap already."""
    usd: float = 0.0
    """Known dollars of replies that came back."""
    unknown_usd: float = 0.0
    """Upper bound of requests that were perhaps paid or came without usage; counted against the cap."""
    reserved: float = 0.0
    pending: int = 0
    """Reservations that are open."""

    def __post_init__(self) -> None:
        self._freed = asyncio.Event()

    async def reserve(self, bound: float, stopping: Callable[[], bool]) -> None:
        """Set `bound` aside; waits while requests in flight may turn out cheaper. Raises CapReached."""
        while self.cap is not None and self.before + self.usd + self.unknown_usd + self.reserved + bound > self.cap:
            if not self.pending:
                raise CapReached(
                    f"stopped before the cap: ${self.before + self.usd + self.unknown_usd:.4f} of ${self.cap:g} spent, and the next request could cost "
                    f"up to ${bound:.4f}; the same command with a larger --max-usd resumes from here"
                )
            if stopping():
                return
            self._freed.clear()
            await self._freed.wait()
        self.reserved += bound
        self.pending += 1

    def settle(self, bound: float, usd: float | None) -> None:
        """Turn a reservation into what the request really cost; None is unknown, and counts at its bound."""
        self.pending -= 1
        self.reserved = max(0.0, self.reserved - bound) if self.pending else 0.0  # so that rounding does not accumulate
        if usd is not None:
            self.usd += usd
        else:
            self.unknown_usd += bound
        self.wake()

    def wake(self) -> None:
        """Wake the waiting tasks to check again."""
        self._freed.set()
