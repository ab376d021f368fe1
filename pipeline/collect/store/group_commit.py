"""GroupCommit: many small notes, few waits for the disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.collect.store.response_store import ResponseStore, Row
from pipeline.errors import DiskFull

AT_MOST = 64
"""Replies in one group."""
LONGEST_S, SHORTEST_S = 0.05, 0.002


class GroupCommit:
    """Collects notes for a short while and commits them together, in the order in which they came.

    Rows are written on the loop's thread (a few microseconds each), only the commit waits in a thread of its own: two
    threads that both run Python would wait for each other far longer than for the disk.
    """

    def __init__(self, store: ResponseStore, busy: Callable[[], bool]) -> None:
        """`busy` tells whether a reply is still to come that could join the group; otherwise commit immediately."""
        self._store, self._busy = store, busy
        self._opened: list[Row] = []
        self._ended: list[Row] = []
        self._also: list[Callable[[], None]] = []
        self._then: list[Callable[[], None]] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "commit")
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.window = SHORTEST_S
        """Seconds that a note waits for others to join it; the sender sets it to a small part of a reply's time."""
        self.error: BaseException | None = None
        """Why nothing more may leave; on a full disk, replies that come back are kept as long as they fit."""
        self.lost: list[Row] = []
        """How attempts ended whose note found no room on the disk."""
        self._task = self._loop.create_task(self._run())

    def opened(self, row: Row) -> None:
        """An attempt is about to leave; it may once `durable` has returned."""
        self._opened.append(row)

    def ended(self, row: Row) -> None:
        """An attempt has ended. It is committed before anything noted later."""
        self._ended.append(row)
        self._schedule()

    def also(self, operation: Callable[[], None]) -> None:
        """Run `operation` in the next transaction, whenever that is; `aclose` makes sure there is one."""
        self._also.append(operation)

    def then(self, operation: Callable[[], None]) -> None:
        """Run `operation` once everything noted so far is on disk, whenever that is."""
        self._then.append(operation)

    async def durable(self) -> None:
        """Return once everything noted so far is on disk. Raises what a commit raised."""
        if self.error is not None:
            raise self.error
        future = self._loop.create_future()
        self._waiting.append(future)
        self._schedule()
        await future

    def _schedule(self) -> None:
        if len(self._ended) >= AT_MOST or not self._busy():
            self._wake.set()
        elif self._timer is None:
            self._timer = self._loop.call_later(min(max(self.window, SHORTEST_S), LONGEST_S), self._wake.set)

    async def _run(self) -> None:
        while not self._closed or self._opened or self._ended or self._also or self._waiting:
            await self._wake.wait()
            if not self._closed:
                self._wake.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            await self._commit()

    async def _commit(self) -> None:
        opened, ended, also, then, waiting = self._opened, self._ended, self._also, self._then, self._waiting
        self._opened, self._ended, self._also, self._then, self._waiting = [], [], [], [], []
        try:
            if self.error is None:
                await self._write(opened, ended, also)
            elif isinstance(self.error, DiskFull):
                await self._keep(ended, also)
            for operation in then:
                operation()
        except DiskFull as error:
            self.error = error
            self._store.full = error
            await self._keep(ended, also)
        except BaseException as error:
            self.error = error
        for future in waiting:
            if future.done():  # its worker was cancelled
                continue
            if self.error is None:
                future.set_result(None)
            else:
                future.set_exception(self.error)

    async def _write(self, opened: Sequence[Row], ended: Sequence[Row], also: Sequence[Callable[[], None]]) -> None:
        try:
            self._store.begin()
            self._store.note(opened, ended)
            for operation in also:
                operation()
            await self._loop.run_in_executor(self._thread, self._store.commit)
        except BaseException:
            self._store.rollback()
            raise

    async def _keep(self, ended: Sequence[Row], also: Sequence[Callable[[], None]]) -> None:
        """On a full disk: keep replies in the room that was set aside, together where they fit, else one by one."""
        self._store.reserve.free()
        for group, with_them in ((ended, also), *(([row], ()) for row in ended)):
            try:
                await self._write((), group, with_them)
            except DiskFull:
                self.lost += group if group is not ended else ()
            else:
                if group is ended:
                    return

    def paid_and_lost(self) -> DiskFull | None:
        """What to raise where replies came back and found no room: they are paid for, and named."""
        if not self.lost:
            return None
        ids = ", ".join(str(row[3]) for row in self.lost[:5]) + (" ..." if len(self.lost) > 5 else "")
        return DiskFull(
            f"{self.error}. {len(self.lost):,} replies that came back could not be kept there: they are paid for and lost, and asked "
            f"again by the next run (rows {ids})"
        )

    async def aclose(self) -> None:
        """Commit what is noted and end."""
        self._closed = True
        self._wake.set()
        await self._task
        self._thread.shutdown(wait=True)


class Turnstile:
    """Lets a few replies through per turn of the event loop.

    Replies that arrive together would otherwise be finished together, committed together and sent together, for ever:
    each would wait for the last of the crowd. This way a commit can leave while the crowd is still being finished.
    """

    def __init__(self, per_turn: int = 2) -> None:
        self._per_turn = self._left = per_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False
        self._loop = asyncio.get_running_loop()

    async def enter(self) -> None:
        """Return when it is this reply's turn, first come, first served."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        place = self._loop.create_future()
        self._waiting.append(place)
        await place

    def _turn(self) -> None:
        self._left = self._per_turn
        while self._waiting and self._left > 0:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                self._left -= 1
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            self._loop.call_soon(self._turn)
