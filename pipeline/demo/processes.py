"""Processes: an embedded model in processes of its own, so that every processor of the machine answers.

A process ends when its standard input does, so none outlives the one that started it, however that one ends.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path

from pipeline.demo import weights
from pipeline.demo.model_process import ASKED, REPLIED
from pipeline.demo.replies import Replies

ANSWERED_HERE = 200
"""So many requests are answered before processes are started: for fewer they take longer to start than they save."""

_ROOT = str(Path(__file__).resolve().parents[2])
# The folder of this very code comes first: the current folder may hold another package of the same name.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pipeline.demo.model_process import serve; serve(sys.argv[2])"
)


class Processes:
    """Replies of the model in a weight file: first from this process, then from up to `count` others.

    Where no process can be started, or one ends, this process answers in its place.
    """

    def __init__(self, path: Path, model: weights.Model, *, count: int, answered_here: int = ANSWERED_HERE) -> None:
        self._path, self._here, self._count = path, Replies([model]), count
        self._left, self._processes = answered_here, list[_Process]()
        self._starting: asyncio.Task[None] | None = None

    async def answer(self, raw: bytes) -> tuple[int, bytes]:
        """Status and body of the reply to the body of a chat completion."""
        self._left -= 1
        if self._left < 0 and self._count > 1:
            if self._starting is None:
                self._starting = asyncio.create_task(self._start())
            await asyncio.shield(self._starting)
            alive = [process for process in self._processes if process.alive]
            if alive:
                found = await min(alive, key=lambda process: len(process.waiting)).ask(raw)
                if found is not None:
                    return found
        await asyncio.sleep(0)  # others get their turn between two answers
        return self._here.to_chat(raw)

    async def _start(self) -> None:
        started = await asyncio.gather(
            *(_Process.start(self._path) for _ in range(self._count)), return_exceptions=True
        )
        self._processes = [process for process in started if isinstance(process, _Process)]

    async def aclose(self) -> None:
        """End the processes."""
        if self._starting is not None:
            with suppress(asyncio.CancelledError):
                await self._starting
        await asyncio.gather(*(process.aclose() for process in self._processes))


class _Process:
    """One process, with the replies that are expected from it, oldest first."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process, self.alive = process, True
        self.waiting: deque[asyncio.Future[tuple[int, bytes] | None]] = deque()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, path: Path) -> _Process:
        """A process that has the weights in a file. Raises OSError when none can be started."""
        pipe, ignored = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", _PROGRAM, _ROOT, str(path), stdin=pipe, stdout=pipe, stderr=ignored
            )
        )

    async def ask(self, raw: bytes) -> tuple[int, bytes] | None:
        """Status and body of a reply; None when the process ends before it has replied."""
        assert self._process.stdin is not None
        reply: asyncio.Future[tuple[int, bytes] | None] = asyncio.get_running_loop().create_future()
        self.waiting.append(reply)
        with suppress(OSError):  # a broken pipe: the reader finds it too, and answers for all that wait
            self._process.stdin.write(ASKED.pack(len(raw)) + raw)
            await self._process.stdin.drain()
        return await reply

    async def _read(self) -> None:
        replies = self._process.stdout
        assert replies is not None
        try:
            while True:
                length, status = REPLIED.unpack(await replies.readexactly(REPLIED.size))
                body = await replies.readexactly(length)
                reply = self.waiting.popleft()
                if not reply.done():  # else the one who asked was cancelled
                    reply.set_result((status, body))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.alive = False
            for reply in self.waiting:
                if not reply.done():
                    reply.set_result(None)

    async def aclose(self) -> None:
        """End the process and wait until it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._reading
        await self._process.wait()
