"""Prices as a config states them, each with its day and its source."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictStr

from pipeline.config.limits import MOST_REQUESTS
from pipeline.config.part import Day, Dollars, Number, Part


class TokenPrice(Part):
    """Dollars per million tokens as of a day. 0 is a price."""

    input: Dollars
    """Of the prompt's tokens."""
    output: Dollars
    """Of the reply's tokens, reasoning included."""
    cached_input: Dollars | None = None
    """Of the part of a prompt that the service had cached; left out: what other input costs."""
    as_of: Day
    """Day on which the price was read."""
    source: StrictStr = Field(min_length=1)
    """Where it was read."""
    batch_discount: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share taken off by the batch API; 0 unless the price list says otherwise."""


class HourPrice(Part):
    """Dedicated hardware: dollars of an hour, and how many requests share it."""

    price: Dollars
    """Dollars of an hour."""
    requests_per_hour: Annotated[Number, Field(ge=0.001, le=MOST_REQUESTS)]
    """Requests answered in an hour of production."""
    as_of: Day
    """Day on which the price was read."""
    source: StrictStr = Field(min_length=1)
    """Where it was read."""
