"""Fixtures `store` and `ask`: the real sending code against the fake API. Name it in `pytest_plugins` to use them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import KEY, PRICE

from pipeline.collect.providers import together
from pipeline.collect.request import Request
from pipeline.collect.sending.role import SendReport
from pipeline.collect.sending.sender import send
from pipeline.collect.store.response_store import ResponseStore


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
        settings: dict[str, Any] = {
            "task": "mail",
            "concurrency": 8,
            "progress": False,
            "backoff": 0.01,
            "price": PRICE,
        } | options
        return send(requests, together.from_environment(concurrency=settings["concurrency"]), store, **settings)

    return run
