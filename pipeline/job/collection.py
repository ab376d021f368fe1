"""Sourcing: who answers a job's requests under its provider, and having them asked, one run of a task at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from cascade_threshold.answers import AnswerSet, read_answer
from cascade_threshold.completion import parse
from cascade_threshold.pricing import Price
from pipeline.collect.preflight import doctor as preflight
from pipeline.collect.preflight import estimate as estimates
from pipeline.collect.preflight import probe
from pipeline.collect.providers import services
from pipeline.collect.providers.provider import Provider
from pipeline.collect.request import Request
from pipeline.collect.sending.role import Reader, SendReport, ToSend
from pipeline.collect.sending.sender import send_roles
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
    for role in [role for role in job.roles if job.services[role].batch]:
        try:
            _account(job, {role: _send_batches(job, role, store)})
        except CascadeError as error:
            if isinstance(report := getattr(error, "report", None), SendReport):
                _account(job, {role: report})
            raise
    if roles := [role for role in job.roles if not job.services[role].batch]:
        try:
            _account(job, _send(job, roles, store))
        except CascadeError as error:
            _account(job, getattr(error, "reports", {}))
            raise


def refuse_batched(job: Job, store: ResponseStore) -> None:
    """Raise UsageError where one request after the other would be asked although a batch holds some of them."""
    roles = [role for role, service in job.services.items() if service.costs_money and not service.batch]
    if roles and (waiting := store.in_batches(job.config.task, roles)):
        raise UsageError(
            f"{waiting:,} requests of {job.config.task} lie in a batch that was submitted: fetch them first with --provider together-batch, "
            "or they would be paid twice"
        )


def _account(job: Job, done: Mapping[str, SendReport]) -> None:
    if done:
        job.run.update(spending={role: _record(report) for role, report in done.items()})
    paid = [report for role, report in done.items() if job.services[role].costs_money]
    job.allowance.spent += sum(report.usd + report.unknown_usd for report in paid)


def _common(job: Job, role: str = "") -> dict[str, Any]:
    label = f"{job.config.task} {role}".strip()
    return {"task": job.config.task, "progress": not job.options.quiet, "label": label, "resume": job.options.command}


def _send_batches(job: Job, role: str, store: ResponseStore) -> SendReport:
    from pipeline.collect.sending.batch_sender import send_batches

    one = batch_provider(job, role, store)
    wanted = Requests(job, role)
    return send_batches(wanted, one, store, price=prices(job)[role], max_usd=job.allowance.left, **_common(job, role))


def _send(job: Job, roles: Sequence[str], store: ResponseStore) -> dict[str, SendReport]:
    """The roles at once, within one limit and one cap."""
    rate, read = float(job.config.max_failure_rate), reader(job)
    wanted = {
        role: ToSend(
            Requests(job, role), provider(job, role, store), price, read, float(job.config.max_unreadable), rate * len(job.dataset), rate
        )
        for role, price in prices(job).items() if role in roles
    }  # fmt: skip
    allowance = job.allowance
    return send_roles(
        wanted,
        store,
        concurrency=min(concurrency(job, role) for role in roles),
        max_usd=allowance.cap,
        spent=allowance.spent,
        **_common(job),
    )


def reader(job: Job) -> Reader:
    """How a reply is read for its row: the label, if it is one, and the text to show."""
    fixed = job.answers
    options = {} if fixed is not None else {e.id: len(e.options or ()) for e in job.dataset.examples}

    def read(request: Request, body: bytes) -> tuple[str | None, str]:
        reply = parse(body)
        found = read_answer(reply, fixed or AnswerSet.choose(options[request.example_id]), role="strong")
        return found.answer, f"{reply.text[:80]!r}" if reply.text else found.status

    return read


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
            allowance=job.allowance, read=reader(job), may_be_unreadable=job.config.max_unreadable >= 1, to_send=sum(role["to_send"] for role in estimate(job, store)["roles"].values()),
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
