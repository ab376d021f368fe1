"""Pricing: usage and price -> dollars. The only formula for money, offline and in production alike.

Every token that is billed as output, reasoning included, is in `Usage.output_tokens` once; cached tokens are a part of
the prompt's. A price of 0 is a price. What is unknown is None, never 0.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

MILLION = 1e6


class Usage(NamedTuple):
    """Tokens that a reply is billed for; None is unknown."""

    input_tokens: int | None = None
    """Of the whole prompt, what was cached included."""
    output_tokens: int | None = None
    """Of everything that is billed as output, reasoning included."""
    cached_tokens: int | None = None
    """The part of the prompt that the service had cached; None when the reply does not say, and then none is counted."""
    reasoning_tokens: int | None = None
    """As the reply tells them; they are in `output_tokens` already."""

    @property
    def known(self) -> bool:
        """Both counts are there, and not both zero (a zero usage is a missing one)."""
        return (
            self.input_tokens is not None
            and self.output_tokens is not None
            and self.input_tokens + self.output_tokens > 0
        )


@dataclass(frozen=True)
class Price:
    """What a model costs: by tokens, by request, by the hour, or by several of them, which add up."""

    input: float | None = None
    """Dollars per million tokens of the prompt; None with `output`: tokens are not billed."""
    output: float | None = None
    """Dollars per million tokens of what the model writes."""
    cached_input: float | None = None
    """Dollars per million cached tokens of the prompt; None: they cost what others do."""
    batch_discount: float = 0.0
    """Share that a batch API takes off what tokens cost."""
    request: float = 0.0
    """Dollars per request."""
    hour: float = 0.0
    """Dollars of an hour, shared by the requests of an hour: dollars per request."""
    as_of: dt.date | None = None
    """The oldest day on which a part of it was read."""
    source: str = ""

    @property
    def by_request(self) -> float:
        """Dollars that every request costs, however long it is."""
        return self.request + self.hour

    @property
    def free(self) -> bool:
        """Nothing that is asked costs anything."""
        return not (self.input or self.output or self.cached_input or self.by_request)

    def usd(self, usage: Usage, *, batch: bool = False, cached: bool = True, replies: int = 1) -> float | None:
        """Dollars of one reply; None when tokens cost something and their number is not known.

        `batch`: it came through a batch API. `cached` False: what it would have cost with nothing cached. `replies`: how
        many replies the usage is the sum of.
        """
        by_request = self.by_request * replies
        if self.input is None or self.output is None or not (self.input or self.output or self.cached_input):
            return by_request
        if not usage.known and not self._billed_part_known(usage):
            return None
        prompt, output = usage.input_tokens or 0, usage.output_tokens or 0
        hit = min(usage.cached_tokens or 0, prompt) if cached and self.cached_input is not None else 0
        dollars = (prompt - hit) * self.input + output * self.output
        if hit:
            dollars += hit * (self.cached_input or 0.0)
        dollars /= MILLION
        return (dollars * (1 - self.batch_discount) if batch else dollars) + by_request

    def _billed_part_known(self, usage: Usage) -> bool:
        """Whether the only count that costs something is there: a decision model bills no output and may not count it."""
        if not self.output:
            return bool(usage.input_tokens)
        return not (self.input or self.cached_input) and bool(usage.output_tokens)

    def saved(self, cached_tokens: int, *, batch: bool = False) -> float:
        """Dollars that cached tokens took off a prompt."""
        if self.input is None or self.cached_input is None:
            return 0.0
        full = cached_tokens * (self.input - self.cached_input) / MILLION
        return full * (1 - self.batch_discount) if batch else full

    def at_most(self, input_tokens: int, output_tokens: int, *, batch: bool = False) -> float:
        """Upper bound in dollars of a request with at most so many tokens."""
        dearest = max(self.input or 0.0, self.cached_input or 0.0)
        tokens = (input_tokens * dearest + output_tokens * (self.output or 0.0)) / MILLION
        return (tokens * (1 - self.batch_discount) if batch else tokens) + self.by_request

    def public(self) -> dict[str, Any]:
        """As plain JSON values; `price_of` reads it again."""
        tokens = None
        if self.input is not None:
            tokens = {"input": self.input, "output": self.output, "batch_discount": self.batch_discount}
            tokens |= {} if self.cached_input is None else {"cached_input": self.cached_input}
        hour = {"price": self.hour, "requests_per_hour": 1} if self.hour else None
        return {"usd_per_million_tokens": tokens, "usd_per_request": self.request or None, "usd_per_hour": hour}


def price_of(side: Mapping[str, Any] | None) -> Price | None:
    """The price in a mapping with `usd_per_million_tokens`, `usd_per_request` and `usd_per_hour`, as configs and policies
    hold them; None where none of them stands."""
    side = side or {}
    tokens, request, hour = (side.get(f"usd_per_{unit}") for unit in ("million_tokens", "request", "hour"))
    if tokens is None and request is None and hour is None:
        return None
    tokens, hour = tokens or {}, hour or {}
    days = [day for day in (_day(part.get("as_of")) for part in (tokens, hour)) if day is not None]
    sources = dict.fromkeys(str(part["source"]) for part in (tokens, hour) if part.get("source"))

    def number(value: Any) -> float | None:
        return None if value is None else float(value)

    return Price(
        input=number(tokens.get("input")),
        output=number(tokens.get("output")),
        cached_input=number(tokens.get("cached_input")),
        batch_discount=float(tokens.get("batch_discount") or 0.0),
        request=float(request or 0.0),
        hour=float(hour["price"]) / float(hour["requests_per_hour"]) if hour else 0.0,
        as_of=min(days, default=None),
        source="; ".join(sources),
    )


def _day(value: Any) -> dt.date | None:
    if isinstance(value, dt.date):
        return value
    try:
        return dt.date.fromisoformat(str(value)[:10])
    except ValueError:
        return None


def text_of(price: Price) -> str:
    """The price for people: "$0.17 / $0.25 per million tokens, cached $0.03"."""
    parts = []
    if price.input is not None:
        cached = "" if price.cached_input is None else f", cached ${price.cached_input:g}"
        parts.append(f"${price.input:g} / ${price.output:g} per million tokens{cached}")
    if price.request or (price.input is None and not price.hour):
        parts.append(f"${price.request:g} per request")
    if price.hour:
        parts.append(f"${price.hour:.3g} per request by the hour")
    return " + ".join(parts)
