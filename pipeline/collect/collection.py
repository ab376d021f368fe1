"""Collection: connects to a task's services, estimates, checks beforehand and sends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cascade_threshold.answers import AnswerSet, read_answer
from cascade_threshold.completion import parse
from cascade_threshold.pricing import Price
from pipeline.collect.preflight import doctor as preflight
from pipeline.collect.preflight import estimate as estimates
from pipeline.collect.preflight import probe, sampled_calls
from pipeline.collect.preflight.questions import Advice, advice
from pipeline.collect.providers import services
from pipeline.collect.providers.provider import Provider
from pipeline.collect.providers.recorded import Recorded
from pipeline.collect.request import Request
from pipeline.collect.sending.role import Reader, SendReport, ToSend
from pipeline.collect.sending.sender import send_roles
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.store import old_keys
from pipeline.collect.store.response_store import ResponseStore
from pipeline.collect.task_input import TaskInput
from pipeline.config.strong_answers import StrongAnswers
from pipeline.errors import CascadeError, DiskFull, TooManyFailures, UsageError
from pipeline.run.lock import locked

if TYPE_CHECKING:  # the SDK takes a second to load, which commands that send nothing need not spend
    from pipeline.collect.providers.together_batch import TogetherBatch

CONCURRENCY = 32
Note = Callable[..., object]
"""Receives, by keyword, what run.json keeps of the sending."""


def provider(task: TaskInput, role: str, store: ResponseStore | None = None) -> Provider:
    """Who answers one role's requests; made anew for each use, since whoever uses it closes it."""
    found = services.connect(
        task.services[role], concurrency=concurrency(task, role), allow_insecure=task.options.allow_insecure
    )
    return found if store is None else _knowing(found, store)


def _knowing(found: Any, store: ResponseStore) -> Any:
    """A connection that asks in the forms which the models there were found to understand."""
    if hasattr(found, "forms"):
        found.forms.update(probe.forms(store, found.host))
    return found


def batch_provider(task: TaskInput, role: str, store: ResponseStore) -> TogetherBatch:
    """The batch API that answers a role."""
    one = services.connect_batch(task.services[role], allow_insecure=task.options.allow_insecure)
    asked: TogetherBatch = _knowing(one, store)
    return asked


def concurrency(task: TaskInput, role: str) -> int:
    """Requests in flight: what was asked for; in process as many as share one commit to the disk."""
    return task.options.concurrency or (CONCURRENCY if task.services[role].costs_money else 64)


def collect(task: TaskInput, store: ResponseStore, allowance: Allowance, note: Note) -> None:
    """Send what the store does not hold; `note` is told what that took, also when it is stopped. Where nothing is paid,
    recorded replies are read from their file, without the store.
    """
    prepare(task, store, allowance, note)
    send(task, store, allowance, note, {role: task.requests(role) for role in task.roles})


def prepare(task: TaskInput, store: ResponseStore, allowance: Allowance, note: Note) -> None:
    """Checks before anything is sent; `note` receives what they found.

    Where requests cost money: a dear run is confirmed first, and a cheap model without usable logprobs is refused first.
    """
    refuse_batched(task, store)
    _adopt(task, store)
    if task.costs_money:
        for noticed in questions(task):
            task.say(f"warning: {noticed.line}")
        expected = estimate(task, store)
        for line in estimates.estimate_lines(expected):
            task.say(line)
        if not allowance.confirmed:
            estimates.confirm(expected, max_usd=task.options.max_usd, yes=task.options.yes)
        # a batch proves by a canary of its own that logprobs arrive
        asked = [role for role, service in task.services.items() if service.costs_money and not service.batch]
        if any(expected["roles"][role]["to_send"] for role in asked):
            first = first_requests(task, store)
            found = preflight.ready(
                {role: first[role] for role in asked if role in first},
                prices(task),
                lambda role: provider(task, role),
                store,
                task=task.config.task,
                allowance=allowance,
            )
            note(probes=found)


def send(
    task: TaskInput, store: ResponseStore, allowance: Allowance, note: Note, requests: Mapping[str, Sequence[Request]]
) -> None:
    """Send those of the requests, by role, that the store does not answer; `note` is told what that took."""
    for role in [role for role in requests if task.services[role].batch]:
        try:
            _account(task, {role: _send_batches(task, role, store, allowance, requests[role])}, allowance, note)
        except CascadeError as error:
            if isinstance(report := getattr(error, "report", None), SendReport):
                with suppress(DiskFull):  # the reason for stopping matters more than a run.json that cannot be written
                    _account(task, {role: report}, allowance, note)
            raise
    one_by_one = [role for role in requests if not (task.services[role].batch or task.is_read_from_file(role))]
    if plain := {role: requests[role] for role in one_by_one}:
        try:
            _account(task, _send(task, plain, store, allowance), allowance, note)
        except CascadeError as error:
            with suppress(DiskFull):
                _account(task, getattr(error, "reports", {}), allowance, note)
            raise


def refuse_batched(task: TaskInput, store: ResponseStore) -> None:
    """Raise UsageError where one request after the other would be asked although a batch holds some of them."""
    roles = [role for role, service in task.services.items() if service.costs_money and not service.batch]
    if roles and (waiting := store.in_batches(task.config.task, roles)):
        raise UsageError(
            f"{waiting:,} requests of {task.config.task} lie in a batch that was submitted: fetch them first with --provider together-batch, "
            "or they would be paid twice"
        )


def _account(task: TaskInput, done: Mapping[str, SendReport], allowance: Allowance, note: Note) -> None:
    if done:
        note(spending={role: report.record() for role, report in done.items()})
    paid = [report for role, report in done.items() if task.services[role].costs_money]
    allowance.spent += sum(report.usd + report.unknown_usd for report in paid)


def _common(task: TaskInput, role: str = "") -> dict[str, Any]:
    label = f"{task.config.task} {role}".strip()
    return {
        "task": task.config.task,
        "progress": not task.options.quiet,
        "label": label,
        "resume": task.options.command,
    }


def _send_batches(
    task: TaskInput, role: str, store: ResponseStore, allowance: Allowance, wanted: Sequence[Request]
) -> SendReport:
    from pipeline.collect.sending.batch_sender import send_batches

    one = batch_provider(task, role, store)
    return send_batches(
        wanted,
        one,
        store,
        price=prices(task)[role],
        max_usd=allowance.left,
        resend_lost=task.options.resend_lost,
        **_common(task, role),
    )


def _send(
    task: TaskInput, requests: Mapping[str, Sequence[Request]], store: ResponseStore, allowance: Allowance
) -> dict[str, SendReport]:
    """The roles at once, within one limit and one cap."""
    rate, read = float(task.config.max_failure_rate), reader(task)
    bounds = (float(task.config.max_unreadable), rate * len(task.dataset), rate)
    wanted = {
        role: ToSend(requests[role], provider(task, role, store), price, read, *bounds)
        for role, price in prices(task).items()
        if role in requests
    }
    for role, sent in wanted.items():
        if isinstance(sent.provider, Recorded):  # beside a role that is paid for
            sent.provider.require_match((request.example_id for request in requests[role]), role)
            _require_enough(task, role, sent.provider, [request.example_id for request in requests[role]])
            for note in sent.provider.notes():
                task.say(note)
    return send_roles(
        wanted,
        store,
        concurrency=min(concurrency(task, role) for role in requests),
        max_usd=allowance.cap,
        spent=allowance.spent,
        **_common(task),
    )


def _require_enough(task: TaskInput, role: str, file: Recorded, wanted: Sequence[str]) -> None:
    """Raise TooManyFailures where a file lacks so many rows that nothing can be recommended, before the other role is paid for."""
    missing, allowed = file.missing(wanted), float(task.config.max_failure_rate)
    if len(missing) > allowed * len(task.dataset):
        raise TooManyFailures(
            f"{file.path}: lacks {len(missing):,} of {len(task.dataset):,} rows (such as {missing[0]!r}), more than max_failure_rate {allowed:g} allows: "
            f"nothing could be recommended, so the other role is not paid for. Complete the file that {role}.replies names, or continue with "
            "--set max_failure_rate=X"
        )


def reader(task: TaskInput) -> Reader:
    """How a reply is read for its row: the label, if it is one, and the text to show."""
    fixed = task.answers
    options = {} if fixed is not None else {e.id: e.options or () for e in task.dataset.examples}

    def read(request: Request, body: bytes) -> tuple[str | None, str]:
        reply = parse(body)
        found = read_answer(reply, fixed or AnswerSet.choose(options[request.example_id]), role="strong")
        return found.answer, f"{reply.text[:80]!r}" if reply.text else found.status

    return read


def _adopt(task: TaskInput, store: ResponseStore) -> None:
    """In a store of the old format, find this task's replies by today's keys."""
    for role in task.roles:
        if found := old_keys.adopt(store, task.requests(role)):
            task.say(f"{role}: {found:,} replies of an older version's store are reused, nothing is paid twice")


def prices(task: TaskInput) -> dict[str, Price]:
    """The config's price of each role's model."""
    return {role: task.settings(role).price for role in task.roles}


def first_requests(task: TaskInput, store: ResponseStore) -> dict[str, list[Request]]:
    """What each role's model is tried with: the first of its rows, and the next few in its place."""
    return {role: rows for role in task.roles if (rows := probe.candidates(task.requests(role), store))}


def estimate(task: TaskInput, store: ResponseStore) -> dict[str, Any]:
    """What a run would send and cost; sends nothing."""
    _adopt(task, store)
    found = estimates.estimate(
        {role: task.requests(role) for role in task.roles},
        prices(task),
        store,
        task=task.config.task,
        rows=len(task.dataset),
        paid=task.costs_money,
        batch=[role for role, service in task.services.items() if service.batch],
        free=[role for role, service in task.services.items() if task.costs_money and not service.costs_money],
        answer_bytes=_answer_bytes(task),
    )
    said, certify = task.config.strong, task.dataset.examples.split_counts["certify"]
    if not isinstance(said, StrongAnswers) or task.config.target.kind in ("system_accuracy", "total_cost"):
        return found
    rate = said.rate(certify, task.config.requests_per_year)
    asked = len(task.dataset) - task.dataset.examples.split_counts["fit"]
    return estimates.sampled(found, sampled_calls.every_rate(certify, asked), rate)


def questions(task: TaskInput) -> list[Advice]:
    """What in config and rows will make answers tell less than they could."""
    return advice(task.config, task.dataset)


def _answer_bytes(task: TaskInput) -> float:
    """Length of a right answer, on average over the rows, or over the labels where rows have none: of kind choose, of one letter."""
    counts = Counter() if task.config.kind == "choose" else task.dataset.examples.label_counts
    told = {label: n for label, n in counts.items() if label is not None}
    told = told or dict.fromkeys(task.config.answers or ("A",), 1)
    return sum(n * len(label.encode()) for label, n in told.items()) / sum(told.values())


def doctor(task: TaskInput, store: ResponseStore, allowance: Allowance) -> dict[str, Any]:
    """Config, data, key and address, prices, disk; then one call per model, which proves what its replies hold."""
    refuse_batched(task, store)
    _adopt(task, store)
    with locked(task.options.runs_dir, task.config.task):
        return preflight.doctor(
            first_requests(task, store),
            prices(task),
            lambda role: provider(task, role),
            store,
            task=task.config.task,
            paid=task.costs_money,
            allowance=allowance,
            read=reader(task),
            may_be_unreadable=task.config.max_unreadable >= 1,
            questions=questions(task),
            to_send=sum(role["to_send"] for role in estimate(task, store)["roles"].values()),
        )
