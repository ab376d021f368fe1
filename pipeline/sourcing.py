"""Sourcing: who answers a job's requests under its provider, and having them asked, one run of a task at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from filelock import FileLock, Timeout

from pipeline.collect.provider import Provider
from pipeline.collect.send import SendReport, send
from pipeline.collect.store import ResponseStore
from pipeline.errors import RunLocked
from pipeline.job import Job
from pipeline.run import disk_errors

CONCURRENCY = 32


def provider(job: Job, role: str) -> Provider:
    """Who answers one role's requests."""
    service = job.services[role]
    if job.provider == "recorded":
        return service.source  # type: ignore[no-any-return]
    if job.provider == "embedded":
        from pipeline.collect.providers.embedded import client
        from pipeline.collect.providers.together import Together

        return Together(client([service.source]), service=service.name, paid=False, timed=False)
    from pipeline.collect.providers.together import from_environment

    return from_environment(concurrency=concurrency(job), allow_insecure=job.options.allow_insecure)


def concurrency(job: Job) -> int:
    """Requests in flight: what was asked for; in process one at a time is quickest."""
    return job.options.concurrency or (CONCURRENCY if job.costs_money else 4)


def collect(job: Job, store: ResponseStore) -> dict[str, Any]:
    """Send what the store does not hold, role by role; return what run.json says of it."""
    spent: dict[str, Any] = {}
    with locked(job):
        for role in job.roles:
            price = job.settings(role).usd_per_million_tokens
            left = None if job.options.max_usd is None else job.options.max_usd - sum(s["usd"] for s in spent.values())
            done = send(
                Requests(job, role), provider(job, role), store, task=job.config.task, concurrency=concurrency(job),
                price=price, max_usd=left if job.costs_money else None,
                progress=not job.options.quiet, label=f"{job.config.task} {role}", resume=job.options.command,
            )  # fmt: skip
            spent[role] = _record(done)
    return spent


def _record(done: SendReport) -> dict[str, Any]:
    return {k: dict(v) if isinstance(v, dict) else v for k, v in asdict(done).items()}


class Requests:
    """The requests of a role, with how many there are, so that progress can say what is left."""

    def __init__(self, job: Job, role: str) -> None:
        self.job, self.role = job, role

    def __len__(self) -> int:
        return sum(1 for _ in self.job.wanted(self.role))

    def __iter__(self) -> Iterator[Any]:
        return self.job.requests(self.role)


@contextmanager
def locked(job: Job) -> Iterator[None]:
    """Only one process works on a task. Raises RunLocked naming who holds it; a dead holder's lock is void."""
    path = job.options.runs_dir / f".{job.config.task}.lock"
    note = path.with_suffix(".holder")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = note.read_text("utf-8").strip() if note.is_file() else "another process"
            raise RunLocked(f"task {job.config.task!r} is being worked on by {holder}; wait for it, or stop it") from None
        try:
            note.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
            yield
        finally:
            note.unlink(missing_ok=True)
            lock.release()
