"""An event loop of its own for each sending, also where one runs already, as in a notebook's cell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Inside a running loop it is awaited in a thread; a KeyboardInterrupt cancels it there."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    cancels: list[Callable[[], object]] = []

    async def whole() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        cancels.append(lambda: loop.call_soon_threadsafe(task.cancel))
        return await work

    with ThreadPoolExecutor(1, thread_name_prefix="sending") as pool:
        future = pool.submit(lambda: asyncio.run(whole()))
        try:
            return future.result()
        except KeyboardInterrupt:
            for cancel in cancels:
                with suppress(RuntimeError):  # the loop has ended by itself meanwhile
                    cancel()
            raise
