"""Engine `local`: the same function over the shards of a stage, in this process or in process pools of the standard library.

The plan fixes the shards, never the number of workers, so results are the same whoever computes them. A process that dies
(killed, out of memory) costs the shard it was computing, which is computed again.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Generic

from pipeline.engine.manifest import Failure, Manifest, Spec, computed, manifest
from pipeline.errors import Stopped
from pipeline.run.processors import processors

TRIES = 3
"""How often a shard is started if its process dies."""


def run(work: Callable[[Spec], Manifest], shards: Iterable[Spec], *, workers: int | None = None) -> Iterator[Manifest]:
    """Manifests in the order of the shards. `workers` None: as many as there are processors.

    `work` and its shards must be known by name to another process. `shards` is drawn from as workers become free. An error
    of ours that `work` raises is raised here. Raises Stopped when a process dies on the same shard three times.
    """
    count, rest = workers or processors(), iter(shards)
    first = list(islice(rest, count))
    if len(first) <= 1 or count == 1:
        yield from map(work, chain(first, rest))
        return
    yield from _in_processes(work, chain(first, rest), len(first))


def _in_processes(work: Callable[[Spec], Manifest], shards: Iterator[Spec], count: int) -> Iterator[Manifest]:
    workers = [_Worker(work) for _ in range(count)]
    numbered = enumerate(shards)
    found: dict[int, Manifest | Failure] = {}
    following = 0
    try:
        for worker, (number, shard) in zip(workers, islice(numbered, count), strict=True):
            worker.give(number, shard)
        while busy := {worker.future: worker for worker in workers if worker.future}:
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                worker = busy[future]
                if (result := worker.result()) is not None:
                    found[worker.number] = result
                    for number, shard in islice(numbered, 1):
                        worker.give(number, shard)
            while following in found:
                yield manifest(found.pop(following))
                following += 1
    finally:
        for worker in workers:
            worker.end()


class _Worker(Generic[Spec]):
    """One process: a pool of its own.

    A pool of several loses all of them when one dies, and may wait for ever: it does not watch a process that it starts
    while it waits for others.
    """

    future: Future[Manifest | Failure] | None = None
    """The shard that is being computed."""
    number: int
    shard: Spec

    def __init__(self, work: Callable[[Spec], Manifest]) -> None:
        self.work = work
        self._start()

    def _start(self) -> None:
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_leave_interrupts)

    def give(self, number: int, shard: Spec) -> None:
        """Let the process compute a shard."""
        self.number, self.shard, self.deaths = number, shard, 0
        self._submit()

    def _submit(self) -> None:
        try:
            self.future = self.pool.submit(computed, self.work, self.shard)
        except BrokenProcessPool:  # the process died while idle
            self._start()
            self.future = self.pool.submit(computed, self.work, self.shard)

    def result(self) -> Manifest | Failure | None:
        """What the shard's work returned, once its future is done; None: the process died, and another tries again."""
        assert self.future is not None
        future, self.future = self.future, None
        try:
            return future.result()
        except BrokenProcessPool:
            self.deaths += 1
            if self.deaths >= TRIES:
                raise Stopped(
                    f"a worker process died {TRIES} times on the same part: is memory short? The same command tries "
                    "again, and --workers 1 computes one part at a time"
                ) from None
            self._start()
            self._submit()
            return None

    def end(self) -> None:
        """Let the process end, after the shard it may be computing."""
        self.pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C reaches all processes; only the parent handles it, and ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
