"""Engines: where the shards of a stage are computed. All give the same bytes.

local          this process, or process pools of the standard library
dask           a Dask cluster of processes on this machine
dask=ADDRESS   a Dask cluster that exists: tcp://host:8786, tls://...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pipeline.engine import dask, local
from pipeline.engine.manifest import Manifest, Spec


def run(
    engine: str, work: Callable[[Spec], Manifest], shards: Iterable[Spec], *, workers: int | None = None
) -> Iterator[Manifest]:
    """Manifests of the shards, in their order. `engine` as on the command line."""
    if engine == "local":
        return local.run(work, shards, workers=workers)
    return dask.run(work, shards, address=engine.partition("=")[2] or None, workers=workers)
