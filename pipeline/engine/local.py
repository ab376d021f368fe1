"""Engine `local`: the same function over the shards of a stage, in this process or in the standard library's process pool.

The plan fixes the shards, never the number of workers, so results are the same whoever computes them. A process that dies
(killed, out of memory) costs the shards that were being computed at that moment; they are computed again.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter, deque
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
    yield from _Pool(work, chain(first, rest), len(first)).manifests()


class _Pool(Generic[Spec]):
    """Shards on a process pool, which is replaced when one of its processes dies."""

    def __init__(self, work: Callable[[Spec], Manifest], shards: Iterable[Spec], count: int) -> None:
        self.work, self.shards, self.count = work, enumerate(shards), count
        self.flying: dict[Future[Manifest | Failure], tuple[int, Spec]] = {}
        self.suspects: deque[tuple[int, Spec]] = deque()
        """Shards that were being computed when a process died. They are retried one at a time, to show which one is to blame."""
        self.deaths: Counter[int] = Counter()
        self.executor = self._executor()

    def _executor(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.count, context, initializer=_leave_interrupts)

    def manifests(self) -> Iterator[Manifest]:
        """All manifests, in order."""
        found: dict[int, Manifest | Failure] = {}
        following = 0
        try:
            while self._submit():
                done, _ = wait(self.flying, return_when=FIRST_COMPLETED)
                for future in done:
                    self._collect(future, found)
                while following in found:
                    yield manifest(found.pop(following))
                    following += 1
        finally:
            self.executor.shutdown(cancel_futures=True)

    def _submit(self) -> bool:
        """Keep every process busy; whether any is."""
        while len(self.flying) < (1 if self.suspects else self.count):
            shard = self.suspects.popleft() if self.suspects else next(self.shards, None)
            if shard is None:
                break
            try:
                future = self.executor.submit(computed, self.work, shard[1])
            except BrokenProcessPool:  # a process died while idle
                self._replace()
                future = self.executor.submit(computed, self.work, shard[1])
            self.flying[future] = shard
            if self.deaths[shard[0]]:
                break
        return bool(self.flying)

    def _collect(self, future: Future[Manifest | Failure], found: dict[int, Manifest | Failure]) -> None:
        """Take what a shard's work returned, or note that its process died."""
        if (shard := self.flying.pop(future, None)) is None:
            return
        try:
            found[shard[0]] = future.result()
        except BrokenProcessPool:
            lost = [shard]
            for (
                other,
                one,
            ) in self.flying.items():  # the whole pool is lost, except for results that have already arrived
                if other.exception() is None:
                    found[one[0]] = other.result()
                else:
                    lost.append(one)
            self.flying.clear()
            self._replace()
            for one in sorted(lost, key=lambda pair: pair[0]):
                self._suspect(one)

    def _replace(self) -> None:
        # CPython asks the others to end and waits for them; one that is started at that very moment is not asked, nor does
        # every process heed it, and the wait would never end.
        for process in list((self.executor._processes or {}).values()):
            process.kill()
        self.executor.shutdown(cancel_futures=True)
        self.executor = self._executor()

    def _suspect(self, shard: tuple[int, Spec]) -> None:
        self.deaths[shard[0]] += 1
        if self.deaths[shard[0]] >= TRIES:
            raise Stopped(
                f"a working process died {TRIES} times on the same part: is memory short? The same command tries again, "
                "and --workers 1 computes one part at a time"
            )
        self.suspects.append(shard)


def _leave_interrupts() -> None:
    """Ctrl-C reaches all processes; only the parent handles it, and ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
