"""Requests and prices for tests that ask the fake API."""

from __future__ import annotations

from typing import Any

from cascade_threshold.pricing import Price
from pipeline.collect.request import Request

PRICE = Price(input=1.0, output=2.0)
KEY = "tgp_v1_canary-KEY-0123456789"


def request(text: str, *, role: str = "cheap", example_id: str | None = None, **changes: Any) -> Request:
    values: dict[str, Any] = {
        "example_id": example_id or text,
        "role": role,
        "service": "together",
        "model": f"{role}-model",
        "messages": ({"role": "user", "content": text},),
        "params": {"temperature": 0, "max_tokens": 8},
        "top_logprobs": 3,
    }
    return Request(**(values | changes))


def rows(count: int) -> list[Request]:
    return [request(f"row {i}.") for i in range(count)]
