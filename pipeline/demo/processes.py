"""Processes: embedded models in processes of their own, so that every processor of the machine answers.

A process ends when its standard input does, so none outlives the one that started it, however that one ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

from pipeline.demo import weights
from pipeline.demo.model_process import ASKED, REPLIED
from pipeline.demo.replies import Replies

ANSWERED_HERE = 200
"""So many requests are answered before processes are started: for fewer they take longer to start than they save."""

_ROOT = str(Path(__file__).resolve().parents[2])
# The folder of this very code comes first: the current folder may hold another package of the same name.
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from pipeline.demo.model_process import serve; serve()"


class Processes:
    """Replies of the model in a weight file: first from this process, then from up to `count` others.

    They answer for all models that one event loop asks. Where none can be started, or one ends, this process answers in its
    place.
    """

    def __init__(self, path: Path, model: weights.Model, *, count: int, answered_here: int = ANSWERED_HERE) -> None:
        self._path, self._here, self._count = path, Replies([model]), count
        self._left = answered_here
        self._group: _Group | None = None

    async def answer(self, raw: bytes) -> tuple[int, bytes]:
        """Status and body of the reply to the body of a chat completion."""
        self._left -= 1
        if self._group is None and self._count > 1 and (self._left < 0 or asyncio.get_running_loop() in _GROUPS):
            self._group = _Group.joined(self._count)
        if self._group is not None:
            found = await self._group.ask(self._path, raw)
            if found is not None:
                return found
        await asyncio.sleep(0)  # others get their turn between two answers
        return self._here.to_chat(raw)

    async def aclose(self) -> None:
        """End the processes, once no other model needs them."""
        if self._group is not None:
            await self._group.leave()


class _Group:
    """The processes of one event loop."""

    def __init__(self, count: int) -> None:
        self.processes, self._members = list[_Process](), 0
        self._starting = asyncio.create_task(self._start(count))

    @classmethod
    def joined(cls, count: int) -> _Group:
        """The running loop's group, with one member more."""
        loop = asyncio.get_running_loop()
        group = _GROUPS[loop] = _GROUPS.get(loop) or cls(count)
        group._members += 1
        return group

    async def _start(self, count: int) -> None:
        started = await asyncio.gather(*(_Process.start() for _ in range(count)), return_exceptions=True)
        self.processes = [process for process in started if isinstance(process, _Process)]

    async def ask(self, path: Path, raw: bytes) -> tuple[int, bytes] | None:
        """Status and body of a reply of the model in a file; None where no process replies."""
        await asyncio.shield(self._starting)
        alive = [process for process in self.processes if process.alive]
        return await min(alive, key=lambda process: len(process.waiting)).ask(path, raw) if alive else None

    async def leave(self) -> None:
        """One member less; with the last the processes end."""
        self._members -= 1
        if self._members:
            return
        del _GROUPS[asyncio.get_running_loop()]
        with suppress(asyncio.CancelledError):
            await self._starting
        await asyncio.gather(*(process.aclose() for process in self.processes))


_GROUPS: WeakKeyDictionary[asyncio.AbstractEventLoop, _Group] = WeakKeyDictionary()


class _Process:
    """One process, with the replies that are expected from it, oldest first."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process, self.alive = process, True
        self.waiting: deque[asyncio.Future[tuple[int, bytes] | None]] = deque()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls) -> _Process:
        """A new process. Raises OSError when none can be started."""
        pipe, ignored = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", _PROGRAM, _ROOT, stdin=pipe, stdout=pipe, stderr=ignored
            )
        )

    async def ask(self, path: Path, raw: bytes) -> tuple[int, bytes] | None:
        """Status and body of a reply of the model in a file; None when the process ends before it has replied."""
        assert self._process.stdin is not None
        reply: asyncio.Future[tuple[int, bytes] | None] = asyncio.get_running_loop().create_future()
        self.waiting.append(reply)
        with suppress(OSError):  # a broken pipe: the reader finds it too, and answers for all that wait
            name = os.fsencode(path)
            self._process.stdin.write(ASKED.pack(len(name), len(raw)) + name + raw)
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
