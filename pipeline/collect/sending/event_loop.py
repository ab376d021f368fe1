"""EventLoop: each sending gets its own event loop, even where one is already running, as in a notebook."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

WAKES_S = 0.5
"""A signal that arrives just before a thread blocks is seen when it wakes next, so the caller wakes this often."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Inside a running loop it is awaited in a thread; a KeyboardInterrupt cancels it there."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    runner = asyncio.Runner()
    loop = runner.get_loop()
    task = loop.create_task(work)  # created here, so that there is something to cancel whenever the interrupt arrives

    async def outcome() -> T:
        return await task

    def whole() -> T:
        with runner:
            return runner.run(outcome())

    with ThreadPoolExecutor(1, thread_name_prefix="sending") as pool:
        try:
            # A pool does not wait for a thread that an interrupt met while it started: start it before it has work.
            pool.submit(lambda: None).result()
            sent = pool.submit(whole)
            while not wait([sent], timeout=WAKES_S).done:
                pass
            return sent.result()
        except KeyboardInterrupt:
            with suppress(RuntimeError):  # the loop has ended in the meantime
                loop.call_soon_threadsafe(task.cancel)
            raise
