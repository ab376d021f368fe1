"""Send what is missing: a fixed set of workers pulls requests from an iterator, so memory does not grow with the rows.

A request passes: the store (answered already?), the spending cap, the pace, a note that it leaves, the provider, a note
of what came back. Its worker is free only after that last note is on disk, so a crash repeats at most the requests that
were in flight.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from cascade_threshold.pricing import Price
from pipeline.collect.providers.provider import Attempt, Provider
from pipeline.collect.request import Request
from pipeline.collect.sending.interrupts import caught
from pipeline.collect.sending.progress import Progress
from pipeline.collect.sending.rate_limit import LONGEST_WAIT_S, Pace, wait_asked
from pipeline.collect.sending.response_class import Action, Outcome, advice, judge
from pipeline.collect.sending.spend_cap import Spending, price_key, usd_bound
from pipeline.collect.store.group_commit import GroupCommit, Turnstile
from pipeline.collect.store.response_store import ResponseStore, chunks, ending, opening
from pipeline.errors import AccessError, CascadeError, Interrupted, UsageError

TRIES = 6
"""Tries of one row; waits that the service asks for do not count."""
TRIES_MAYBE_PAID = 2
"""Tries of one row that were perhaps paid without a reply to show for it."""
DEADLINE_S = 180.0
DRAIN_S = 10.0
ALIKE = 10
"""So many rows refused one after the other with the same words: the fault is not theirs, and the run stops."""
LOOKAHEAD = 256
COMMIT_SHARE = 0.01
"""Part of a reply's time that a note may wait for others to share its commit."""


@dataclass
class SendReport:
    """What one call of `send` did. It counts requests, not rows: rows with the same request share it."""

    sent: int = 0
    """Requests asked at least once."""
    kept: int = 0
    """Requests answered in this call."""
    failed_by_reason: Counter[str] = field(default_factory=Counter)
    """Requests without a reply at the end of this call."""
    from_store: int = 0
    """Requests that need no sending: answered, or refused for good, by an earlier call."""
    identical: int = 0
    """Rows whose request is that of another row of this call."""
    maybe_paid: int = 0
    """Attempts that left and never came back, those of an earlier, killed call included."""
    usd: float = 0.0
    unknown_usd: float = 0.0
    """Upper bound in dollars of what was perhaps paid, or came back without usage."""
    damaged: int = 0
    """Kept replies that failed their checksum and were asked for again."""
    attempts: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    """Attempts that brought no reply to keep, by reason."""

    @property
    def failed(self) -> int:
        """How many requests have no reply."""
        return sum(self.failed_by_reason.values())


def send(
    requests: Iterable[Request],
    provider: Provider,
    store: ResponseStore,
    *,
    task: str,
    concurrency: int = 32,
    price: Price | None = None,
    max_usd: float | None = None,
    spent: float = 0.0,
    deadline: float = DEADLINE_S,
    progress: bool = True,
    label: str = "",
    resume: str = "",
    start: int | None = None,
    backoff: float = 1.0,
    longest_wait: float = LONGEST_WAIT_S,
) -> SendReport:
    """Send every request that the store does not answer yet, and close the provider.

    `max_usd` caps what this call may spend beyond the `spent`
    dollars that count against the cap already, `deadline` is the seconds that one
    attempt may take in all, `resume` the command to name when interrupted. `start` overrides the first number in flight
    (one, until the first reply), `backoff` the seconds of the first wait after a failure.
    Raises AccessError (401, 403, 404, or every row refused), CreditExhausted, CapReached, ProviderDown, DiskFull or
    Interrupted, each with the report so far as its attribute `report`.
    """
    if concurrency < 1:
        raise UsageError(f"--concurrency {concurrency}: at least one request must be in flight")
    shown = Progress(label or task, len(requests) if isinstance(requests, Sized) else None, quiet=not progress)
    sender = _Sender(
        provider, store, task, concurrency, price, max_usd, spent, deadline, resume, start, backoff, longest_wait, shown
    )
    try:
        asyncio.run(sender.run(requests))
    except CascadeError as error:
        setattr(error, "report", sender.report)  # noqa: B010
        raise
    return sender.report


@dataclass(eq=False)
class _Sender:
    provider: Provider
    store: ResponseStore
    task: str
    concurrency: int
    price: Price | None
    max_usd: float | None
    spent: float
    deadline: float
    resume: str
    start: int | None
    backoff: float
    longest_wait: float
    progress: Progress
    report: SendReport = field(default_factory=SendReport)
    error: BaseException | None = None
    """Why nothing more is sent."""
    out: int = 0
    """Requests at the provider at this moment."""

    async def run(self, requests: Iterable[Request]) -> None:
        """Everything between the first row and the last commit."""
        loop = asyncio.get_running_loop()
        paid = self.provider.paid
        self.pace = Pace(
            self.concurrency,
            start=self.start or (None if paid else self.concurrency),
            longest_wait=self.longest_wait,
            base=self.backoff,
        )
        self.spending = Spending(self.price, self.max_usd if paid else None, self.spent)
        self.report.maybe_paid += self.store.adopt(self.task)
        self.priced: set[str] = set()
        self.number = self.first = self.store.session(self.task)
        self.open: set[str] = set()
        self.failed: set[str] = set()
        self.alike: tuple[str, list[int]] = ("", [])
        self.commits, self.turnstile = GroupCommit(self.store, busy=lambda: self.out > 0), Turnstile()
        self.todo = self._missing(requests)
        with caught(loop, self._interrupted):
            workers = [loop.create_task(self._work()) for _ in range(self.concurrency)]
            watch = loop.create_task(self._watch(workers))
            await asyncio.gather(*workers, return_exceptions=True)
            watch.cancel()
            await self.commits.aclose()
            await self.provider.aclose()
        self.report.usd, self.report.unknown_usd = self.spending.usd, self.spending.unknown_usd
        self._show(last=True)
        self.progress.close()
        error = self.commits.error or self.error
        if error is not None:
            raise error

    def _missing(self, requests: Iterable[Request]) -> Iterator[tuple[str, Request]]:
        """Requests to send, each once. Notes which row uses which request."""
        for chunk in chunks(requests, LOOKAHEAD):
            named = [(request.request_id, request) for request in chunk]
            known, damaged = self.store.known([request_id for request_id, _ in named])
            if damaged:
                self.report.damaged += len(damaged)
                self.commits.also(partial(self.store.set_aside, damaged))
                self.progress.note(
                    f"warning: {len(damaged)} kept replies in {self.store.path} are damaged; they are set aside and asked for again"
                )
            uses = [(self.task, request.role, request.example_id, request_id) for request_id, request in named]
            self.commits.also(partial(self.store.note_uses, uses))
            mine: set[str] = set()
            for request_id, request in named:
                if request_id in mine or request_id in self.open or request_id in self.failed:
                    self.report.identical += 1
                elif request_id in known:
                    self._count_known(request_id, *known[request_id])
                else:
                    mine.add(request_id)
                    yield request_id, request

    def _count_known(self, request_id: str, state: str, number: int) -> None:
        if number > self.first:  # answered since this call began
            self.report.identical += 1
            return
        self.report.from_store += 1
        if state == "rejected":
            failure = self.store.failure(request_id)
            self.report.failed_by_reason[failure.reason if failure else state] += 1

    def stop(self, error: BaseException) -> None:
        """Send nothing more; what is in flight may still come in. The first reason stands."""
        if self.error is None:
            self.error = error
        self.pace.stop()
        self.spending.wake()

    def _interrupted(self, signum: int) -> str:
        again = f"resume with: {self.resume}" if self.resume else "the same command resumes"
        self.stop(Interrupted(f"interrupted, nothing is lost; {again}", signum))
        return f"stopping: {self.out} requests in flight get up to {DRAIN_S:.0f} s to come back (the same signal again: stop at once)"

    async def _watch(self, workers: list[asyncio.Task[None]]) -> None:
        """Show the state, and end a drain that takes too long."""
        loop = asyncio.get_running_loop()
        while self.error is None:
            self._show()
            await asyncio.sleep(0.1)
        end = loop.time() + DRAIN_S
        while loop.time() < end:
            self._show()
            await asyncio.sleep(0.1)
        for worker in workers:
            worker.cancel()

    async def _work(self) -> None:
        try:
            while self.error is None and (item := next(self.todo, None)) is not None:
                request_id, request = item
                self.open.add(request_id)
                try:
                    await self._serve(request_id, request)
                finally:
                    # until the store can tell that it is answered, or a row with the same request would be asked again
                    self.commits.then(partial(self.open.discard, request_id))
        except BaseException as error:
            self.stop(error)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _serve(self, request_id: str, request: Request) -> None:
        """One request through all its tries."""
        self._note_price(request)
        bound = usd_bound(request, self.price) if self.provider.paid else 0.0
        most = TRIES if self.provider.paid else 1
        tries = maybe_paid = 0
        first = True
        while True:
            await self.spending.reserve(bound, lambda: self.error is not None)
            entered = await self.pace.enter()
            try:
                if self.error is not None:
                    return
                self.report.sent += first
                first = False
                attempt, outcome = await self._try(request_id, request, bound)
                self._learn(entered, attempt, outcome)
            finally:
                self.pace.leave()
            if outcome.action is Action.KEEP:
                self.report.kept += 1
                return
            self.report.troubles[outcome.reason] += 1
            if outcome.error is not None:
                raise outcome.error(advice(attempt, outcome, request))
            if outcome.action in (Action.AGAIN, Action.WAIT):
                continue
            tries, maybe_paid = tries + 1, maybe_paid + (outcome.action is Action.RETRY_ONCE)
            if outcome.action is Action.REJECT or tries >= most or maybe_paid >= TRIES_MAYBE_PAID:
                self._give_up(request_id, outcome)
                return
            await self.pace.sleep(self.pace.backoff(tries))

    async def _try(self, request_id: str, request: Request, bound: float) -> tuple[Attempt, Outcome]:
        """One attempt, from the note that it leaves to the note of what came back."""
        self.number += 1
        opened = opening(self.number, self.task, request_id, request)
        if self.provider.paid:
            self.commits.opened(opened)
            await self.commits.durable()
        self.report.attempts += 1
        self.out += 1
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self.deadline):
                attempt = await self.provider.complete(request)
        except TimeoutError:
            attempt = Attempt("unknown", problem="timeout", detail=f"no whole reply within {self.deadline:g} s")
        except asyncio.CancelledError:  # the drain is over
            attempt = Attempt("unknown", problem="interrupted")
        finally:
            self.out -= 1
        if self.provider.paid:
            with suppress(asyncio.CancelledError):  # a reply that is here is kept, whatever happens
                await self.turnstile.enter()
        self.commits.window += 0.1 * (COMMIT_SHARE * (time.monotonic() - begun) - self.commits.window)
        outcome = judge(attempt)
        # Not waited for: this worker's next request leaves after a later commit, so this one is on disk by then
        self.commits.ended(ending(opened, attempt, outcome))
        if not self.provider.paid:
            await self.commits.durable()
        perhaps = self.provider.paid and outcome.state in ("unknown", "ok", "invalid")
        self.report.maybe_paid += self.provider.paid and outcome.state == "unknown"
        self.spending.settle(bound, outcome.usage, perhaps_paid=perhaps)
        self._watch_refusals(opened[0], attempt, outcome)
        return attempt, outcome

    def _note_price(self, request: Request) -> None:
        """Remember what a model costs, so that `status` can tell dollars without a config."""
        key = price_key(request.service, request.model)
        if self.price is not None and key not in self.priced:
            self.priced.add(key)
            self.commits.also(partial(self.store.note_fact, key, self.price.public()))

    def _learn(self, entered: float, attempt: Attempt, outcome: Outcome) -> None:
        """What an attempt says about the pace. Raises ProviderDown when nothing comes back any more."""
        if outcome.action is Action.WAIT:
            self.pace.overloaded(entered, wait_asked(attempt.headers))
        elif outcome.state in ("ok", "rejected"):
            self.pace.succeeded()
        elif outcome.action in (Action.RETRY, Action.RETRY_ONCE) and self.provider.paid:
            wait = wait_asked(attempt.headers) if attempt.http_status == 503 else None
            self.pace.failed(
                entered, f"{outcome.reason}: {outcome.message}" if outcome.message else outcome.reason, wait
            )

    def _watch_refusals(self, number: int, attempt: Attempt, outcome: Outcome) -> None:
        """Many rows refused in the same words, and none answered between them, are no fault of the rows."""
        # long or filtered rows may well come in a row, but hardly so before any other was ever answered
        suspect = outcome.reason.startswith("http_") or (
            self.provider.paid and self.report.kept + self.report.from_store == 0
        )
        if outcome.action is not Action.REJECT or not suspect:
            if outcome.state == "ok":
                self.alike = ("", [])
            return
        words = re.sub(r"\d+", "#", outcome.message)
        self.alike = (words, [*self.alike[1], number] if words == self.alike[0] else [number])
        if len(self.alike[1]) >= ALIKE:
            self.commits.also(partial(self.store.forgive, self.alike[1]))
            self.stop(
                AccessError(
                    f"{attempt.host} refused {ALIKE} requests in a row with the same words ({attempt.http_status}: {outcome.message}); "
                    "check `params`, `top_logprobs` and the model in the config. They will be asked again"
                )
            )

    def _give_up(self, request_id: str, outcome: Outcome) -> None:
        if outcome.state == "ok":  # an empty reply is a reply: it is kept, and its status will say empty
            self.report.kept += 1
        else:
            self.failed.add(request_id)
            self.report.failed_by_reason[outcome.reason] += 1

    def _show(self, *, last: bool = False) -> None:
        report = self.report
        self.progress.update(
            done=report.kept + report.from_store + report.identical, sent=report.kept + report.failed, failed=report.failed,
            in_flight=self.out, usd=self.spending.usd if self.provider.paid else 0.0, last=last,
        )  # fmt: skip
