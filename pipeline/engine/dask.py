"""Engine `dask`: the same function over the shards of a stage, on a Dask cluster (`distributed`, extra `dask`)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from pipeline.engine.manifest import Manifest, Spec, computed, manifest
from pipeline.errors import Stopped, UsageError
from pipeline.run.processors import processors

INSTALL = "pip install 'cascade-threshold[dask]'"
CONNECT_S = 30
AHEAD = 2
"""Shards per worker that are handed over before the first is awaited."""


def run(
    work: Callable[[Spec], Manifest], shards: Iterable[Spec], *, address: str | None = None, workers: int | None = None
) -> Iterator[Manifest]:
    """Manifests in the order of the shards, computed by the cluster at `address`, or by one on this machine.

    `workers` is the number of processes of a cluster on this machine; a cluster at an address has its own. Dask computes a
    shard again when its worker dies. Raises UsageError without the library or where no scheduler answers, Stopped when
    workers keep dying on a shard or the cluster is lost.
    """
    try:
        import distributed
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError
    except ModuleNotFoundError:
        raise UsageError(
            f"--engine dask needs the library `distributed`, which is not installed: {INSTALL}; or leave --engine out"
        ) from None
    with ExitStack() as stack:
        client = _client(distributed, stack, address, workers)
        known = max(1, len(client.scheduler_info(n_workers=-1)["workers"]), workers or 1)
        waiting: deque[Any] = deque()
        try:
            for shard in shards:
                waiting.append(client.submit(computed, work, shard, pure=False))
                if len(waiting) >= AHEAD * known:
                    yield manifest(waiting.popleft().result())
            while waiting:
                yield manifest(waiting.popleft().result())
        except distributed.KilledWorker as error:
            raise Stopped(
                f"workers of the cluster keep dying on the same part ({str(error).splitlines()[0]}): is memory short? The same command tries again"
            ) from None
        except (CommClosedError, FutureCancelledError) as error:
            raise Stopped(f"the cluster was lost ({error}); the same command tries again") from None


def _client(distributed: Any, stack: ExitStack, address: str | None, workers: int | None) -> Any:
    """A client of the cluster at the address, or of one made for this command; closed by the stack."""
    if address is None:
        cluster = distributed.LocalCluster(
            n_workers=workers or processors(),
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.ERROR,
        )
        stack.enter_context(cluster)
        return stack.enter_context(distributed.Client(cluster))
    try:
        return stack.enter_context(distributed.Client(address, timeout=CONNECT_S))
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise UsageError(
            f"--engine dask={address}: no Dask scheduler answers there ({error}); start one with `dask scheduler`, or leave the address out"
        ) from None
