"""GroupCommit: many small writes, few waits for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.collect.store import ResponseStore

AT_MOST = 64
WINDOW_S = 0.005


class GroupCommit:
    """Collects writes for at most WINDOW_S or AT_MOST of them and commits them together.

    Rows are written on the loop's thread (a few microseconds each), only the commit waits in a thread of its own: two
    threads that both run Python would wait for each other far longer than for the disk.
    """

    def __init__(self, store: ResponseStore, busy: Callable[[], bool]) -> None:
        """`busy` tells whether a reply is still to come that could join the group; if not, nobody is waited for."""
        self._store, self._busy = store, busy
        self._pending: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._also: list[Callable[[], Any]] = []
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "commit")
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.error: BaseException | None = None
        self._task = self._loop.create_task(self._run())

    def add(self, operation: Callable[[], Any]) -> None:
        """Run `operation` in the next transaction, whenever that is; `aclose` makes sure there is one."""
        self._also.append(operation)

    async def write(self, operation: Callable[[], Any]) -> Any:
        """Run `operation` in the next transaction; returns its result once that is durable."""
        if self.error is not None:
            raise self.error
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending.append((operation, future))
        if len(self._pending) >= AT_MOST or not self._busy():
            self._wake.set()
        elif self._timer is None:
            self._timer = self._loop.call_later(WINDOW_S, self._wake.set)
        return await future

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            while self._pending and (len(self._pending) >= AT_MOST or not self._timer):
                group, self._pending = self._pending[:AT_MOST], self._pending[AT_MOST:]
                await self._commit(group)
            if self._closed:
                if self._also and self.error is None:
                    await self._commit([])
                return

    async def _commit(self, group: list[tuple[Callable[[], Any], asyncio.Future[Any]]]) -> None:
        try:
            self._store.begin()
            also, self._also = self._also, []
            for extra in also:
                extra()
            results = [operation() for operation, _ in group]
            await self._loop.run_in_executor(self._thread, self._store.commit)
        except BaseException as error:
            self._store.rollback()
            self.error = error
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            for _, future in self._pending:
                if not future.done():
                    future.set_exception(error)
            self._pending.clear()
            return
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)

    async def aclose(self) -> None:
        """Commit what is pending and end."""
        self._closed = True
        self._wake.set()
        await self._task
        self._thread.shutdown(wait=True)
