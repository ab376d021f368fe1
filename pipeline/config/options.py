"""Options: what the command line may say about a task beside its config."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What the command line may say about a task beside its config."""

    provider: str | None = None
    max_usd: float | None = None
    yes: bool = False
    limit: int | None = None
    concurrency: int | None = None
    predictions: Path | None = None
    runs_dir: Path = Path("runs")
    reports_dir: Path = Path("reports")
    quiet: bool = False
    allow_insecure: bool = False
    resend_lost: bool = False
    """Ask again what a batch held that the service knows no more."""
    json: bool = False
    set: tuple[str, ...] = ()
    """Keys of the config that were overridden."""
    command: str = ""
    engine: str = "local"
    """Who reads replies: local, dask or dask=ADDRESS."""
    workers: int | None = None
    """Processes that read replies; None: as many as there are processors."""
    shards_dir: str | None = None
    """Where rows and replies are put for those that read them, a path or any fsspec address; None: in the run's folder."""
