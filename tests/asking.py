"""Asking the fake API through the real sending code: requests, prices and the fixtures `store` and `ask`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.collect.prompts import Request
from pipeline.collect.providers import together
from pipeline.collect.send import SendReport, send
from pipeline.collect.store import ResponseStore

PRICE = SimpleNamespace(input=1.0, output=2.0)
KEY = "tgp_v1_canary-KEY-0123456789"


def request(text: str, *, role: str = "cheap", example_id: str | None = None, **changes: Any) -> Request:
    values: dict[str, Any] = {
        "example_id": example_id or text, "role": role, "service": "together", "model": f"{role}-model",
        "messages": ({"role": "user", "content": text},), "params": {"temperature": 0, "max_tokens": 8}, "top_logprobs": 3,
    }  # fmt: skip
    return Request(**(values | changes))


def rows(count: int) -> list[Request]:
    return [request(f"row {i}.") for i in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResponseStore]:
    with ResponseStore(tmp_path / "responses.sqlite") as opened:
        yield opened


@pytest.fixture
def ask(store: ResponseStore, monkeypatch: pytest.MonkeyPatch) -> Any:
    """ask(api or address, requests, **options of send) -> SendReport."""

    def run(api: Any, requests: list[Request], **options: Any) -> SendReport:
        monkeypatch.setenv("TOGETHER_API_KEY", KEY)
        monkeypatch.setenv("TOGETHER_BASE_URL", api if isinstance(api, str) else api.url)
        settings: dict[str, Any] = {"task": "mail", "concurrency": 8, "progress": False, "backoff": 0.01, "price": PRICE} | options
        return send(requests, together.from_environment(concurrency=settings["concurrency"]), store, **settings)

    return run
