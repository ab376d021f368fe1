"""Sourcing: who answers a job's requests under its provider, and having them asked, one run of a task at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from cascade_threshold.pricing import Price
from pipeline.collect.preflight import doctor as preflight
from pipeline.collect.preflight import estimate as estimates
from pipeline.collect.preflight import probe
from pipeline.collect.providers import services
from pipeline.collect.providers.provider import Provider
from pipeline.collect.request import Request
from pipeline.collect.sending.sender import SendReport, send
from pipeline.collect.store.response_store import ResponseStore
from pipeline.errors import CascadeError, RunLocked, UsageError
from pipeline.job.job import Job
from pipeline.run.directory import disk_errors

if TYPE_CHECKING:  # the SDK takes a second to load, which commands that send nothing need not spend
    from pipeline.collect.providers.together_batch import TogetherBatch

CONCURRENCY = 32


def provider(job: Job, role: str, store: ResponseStore | None = None) -> Provider:
    """Who answers one role's requests; made anew for each use, since whoever uses it closes it."""
    found = services.connect(
        job.services[role], concurrency=concurrency(job, role), allow_insecure=job.options.allow_insecure
    )
    return found if store is None else _knowing(found, store)


def _knowing(found: Any, store: ResponseStore) -> Any:
    """A connection that asks in the forms which the models there were found to understand."""
    if hasattr(found, "forms"):
        found.forms.update(probe.forms(store, found.host))
    return found


def batch_provider(job: Job, role: str, store: ResponseStore) -> TogetherBatch:
    """The batch API that answers a role."""
    one = services.connect_batch(job.services[role], allow_insecure=job.options.allow_insecure)
    asked: TogetherBatch = _knowing(one, store)
    return asked


def concurrency(job: Job, role: str) -> int:
    """Requests in flight: what was asked for; in process as many as share one commit to the disk."""
    return job.options.concurrency or (CONCURRENCY if job.services[role].costs_money else 64)


def collect(job: Job, store: ResponseStore) -> None:
    """Send what the store does not hold, role by role; run.json says what that took, also when it is stopped.

    Where requests cost money: a dear run is confirmed first, and a cheap model without usable logprobs is refused first.
    """
    refuse_batched(job, store)
    if job.costs_money:
        expected = estimate(job, store)
        for line in estimates.estimate_lines(expected):
            job.say(line)
        if not job.allowance.confirmed:
            estimates.confirm(expected, max_usd=job.options.max_usd, yes=job.options.yes)
        # a batch proves by a canary of its own that logprobs arrive
        asked = [role for role, service in job.services.items() if service.costs_money and not service.batch]
        if any(expected["roles"][role]["to_send"] for role in asked):
            first = first_requests(job, store)
            found = preflight.ready(
                {role: first[role] for role in asked if role in first},
                prices(job),
                lambda role: provider(job, role),
                store,
                task=job.config.task,
                allowance=job.allowance,
            )
            job.run.update(probes=found)
    for role in job.roles:
        try:
            done = _send(job, role, store)
        except CascadeError as error:
            if isinstance(report := getattr(error, "report", None), SendReport):
                _account(job, role, report)
            raise
        _account(job, role, done)


def refuse_batched(job: Job, store: ResponseStore) -> None:
    """Raise UsageError where one request after the other would be asked although a batch holds some of them."""
    roles = [role for role, service in job.services.items() if service.costs_money and not service.batch]
    if roles and (waiting := store.in_batches(job.config.task, roles)):
        raise UsageError(
            f"{waiting:,} requests of {job.config.task} lie in a batch that was submitted: fetch them first with --provider together-batch, "
            "or they would be paid twice"
        )


def _account(job: Job, role: str, done: SendReport) -> None:
    job.run.update(spending={role: _record(done)})
    if job.services[role].costs_money:
        job.allowance.spent += done.usd + done.unknown_usd


def _send(job: Job, role: str, store: ResponseStore) -> SendReport:
    price, allowance = prices(job)[role], job.allowance
    common: dict[str, Any] = {
        "task": job.config.task, "price": price,
        "progress": not job.options.quiet, "label": f"{job.config.task} {role}", "resume": job.options.command,
    }  # fmt: skip
    if job.services[role].batch:
        from pipeline.collect.sending.batch_sender import send_batches

        one = batch_provider(job, role, store)
        return send_batches(Requests(job, role), one, store, max_usd=allowance.left, **common)
    asked = provider(job, role, store)
    return send(
        Requests(job, role),
        asked,
        store,
        concurrency=concurrency(job, role),
        max_usd=allowance.cap,
        spent=allowance.spent,
        **common,
    )


def prices(job: Job) -> dict[str, Price]:
    """The config's price of each role's model."""
    return {role: job.settings(role).price for role in job.roles}


def first_requests(job: Job, store: ResponseStore) -> dict[str, list[Request]]:
    """What each role's model is tried with: the first of its rows, and the next few in its place."""
    return {role: rows for role in job.roles if (rows := probe.candidates(job.requests(role), store))}


def estimate(job: Job, store: ResponseStore) -> dict[str, Any]:
    """What a run would send and cost; sends nothing."""
    return estimates.estimate(
        {role: Requests(job, role) for role in job.roles},
        prices(job),
        store,
        task=job.config.task,
        rows=len(job.dataset),
        paid=job.costs_money,
        batch=[role for role, service in job.services.items() if service.batch],
        answer_bytes=_answer_bytes(job),
    )


def _answer_bytes(job: Job) -> float:
    """Length of a right answer, on average over the labels: of kind choose, of one letter."""
    labels = job.config.answers or ("A",)
    return sum(len(label.encode()) for label in labels) / len(labels)


def doctor(job: Job, store: ResponseStore) -> dict[str, Any]:
    """Config, data, key and address, prices, disk; then one call per model, which proves what its replies hold."""
    refuse_batched(job, store)
    with locked(job):
        return preflight.doctor(
            first_requests(job, store), prices(job), lambda role: provider(job, role), store, task=job.config.task, paid=job.costs_money,
            allowance=job.allowance, to_send=sum(role["to_send"] for role in estimate(job, store)["roles"].values()),
        )  # fmt: skip


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
            raise RunLocked(
                f"task {job.config.task!r} is being worked on by {holder}; wait for it, or stop it"
            ) from None
        try:
            note.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
            yield
        finally:
            note.unlink(missing_ok=True)
            lock.release()
