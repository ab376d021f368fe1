"""Engine: the same function over the shards of a stage, in this process or in several.

The plan fixes the shards, never the number of workers, so results are the same whoever computes them. A process that dies
(killed, out of memory) costs the shard that it was computing, which is computed again, and no other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from typing import Any, TypeVar

from pipeline.errors import Stopped

Spec = TypeVar("Spec")
TRIES = 3
"""How often a shard is begun whose process dies."""


@dataclass(frozen=True)
class Manifest:
    """What a shard's work left: nothing else travels between processes."""

    sha256: dict[str, str]
    """Digest of each file that was written, by its path."""
    rows: int
    facts: dict[str, Any] = field(default_factory=dict)
    """Sufficient statistics: what can be added up over shards."""


def run(work: Callable[[Spec], Manifest], shards: Sequence[Spec], *, workers: int | None = None) -> Iterator[Manifest]:
    """Manifests in the order of the shards. `workers` None: as many as there are processors.

    `work` and its shards must be known by name to another process. What `work` raises is raised here. Raises Stopped when
    a process dies on the same shard three times.
    """
    count = min(len(shards), workers or processors())
    if count <= 1:
        yield from map(work, shards)
        return
    idle: SimpleQueue[_Worker] = SimpleQueue()
    team = [_Worker() for _ in range(count)]
    for worker in team:
        idle.put(worker)
    with ThreadPoolExecutor(count, "shard") as threads:  # each waits for one process at a time
        try:
            yield from threads.map(partial(_elsewhere, idle, work), shards)
        finally:
            threads.shutdown(cancel_futures=True)
            for worker in team:
                worker.end()


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """A process that computes shards, one after the other; started when it is first asked, and anew when it has died."""

    process: SpawnProcess | None = None

    def ask(self, work: Callable[[Spec], Manifest], shard: Spec) -> Manifest | BaseException:
        """What the process makes of a shard. Raises EOFError or OSError when it dies."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_compute, args=(theirs,), daemon=True)
            self.process.start()
            theirs.close()
        self.pipe.send((work, shard))
        found: Manifest | BaseException = self.pipe.recv()
        return found

    def end(self) -> int | None:
        """Let the process end, or note that it has; its exit code."""
        if self.process is None:
            return None
        self.pipe.close()
        self.process.join()
        code, self.process = self.process.exitcode, None
        return code


def _elsewhere(idle: SimpleQueue[_Worker], work: Callable[[Spec], Manifest], shard: Spec) -> Manifest:
    """The work on one shard in another process, begun again when that process dies."""
    worker, code = idle.get(), None
    try:
        for _ in range(TRIES):
            try:
                found = worker.ask(work, shard)
            except (EOFError, OSError):
                code = worker.end()
                continue
            if isinstance(found, BaseException):
                raise found
            return found
    finally:
        idle.put(worker)
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    raise Stopped(
        f"a working process died {TRIES} times on the same part ({how}): is memory short? The same command tries again"
    )


def _compute(pipe: Connection) -> None:
    """What a working process does: shards in, manifests out, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends its children
    while True:
        try:
            work, shard = pipe.recv()
        except EOFError:
            return
        try:
            found: Manifest | BaseException = work(shard)
        except BaseException as error:
            found = error
        try:
            pipe.send(found)
        except OSError:  # the parent stopped for another reason
            return
