"""Send what is missing: a fixed set of workers pulls requests from an iterator, so memory does not grow with the rows.

A request passes: the store (answered already?), the spending cap, the pace, a note that it leaves, the provider, a note
of what came back. Its worker is free only after that last note is on disk, so a crash repeats at most the requests that
were in flight.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from functools import partial

from pipeline.collect.commits import GroupCommit
from pipeline.collect.outcome import Action, Outcome, judge
from pipeline.collect.pacing import LONGEST_WAIT_S, Pace, wait_asked
from pipeline.collect.progress import Progress
from pipeline.collect.prompts import Request
from pipeline.collect.provider import Attempt, Provider
from pipeline.collect.spending import Price, Spending, usd_bound
from pipeline.collect.store import ResponseStore, chunks
from pipeline.errors import CascadeError, Interrupted, UsageError

TRIES = 6
DEADLINE_S = 180.0
DRAIN_S = 10.0
ALIKE = 10
"""Refused rows in a row with the same message, and no answered one between them: the fault is not the rows'."""
LOOKAHEAD = 256


@dataclass
class SendReport:
    """What one call of `send` did. Requests, not rows: rows with the same request share it."""

    sent: int = 0
    """Requests asked at least once."""
    kept: int = 0
    """Requests answered in this call."""
    failed_by_reason: Counter[str] = field(default_factory=Counter)
    from_store: int = 0
    """Requests that the store had answered before, or that were refused for good before."""
    identical: int = 0
    """Rows whose request is that of another row of this call."""
    maybe_paid: int = 0
    """Attempts that left and never came back, those of an earlier, killed call included."""
    usd: float = 0.0
    unknown_usd: float = 0.0
    """Upper bound in dollars of what was perhaps paid, or came back without usage."""
    attempts: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    """Every attempt that did not bring a reply to keep, by reason."""

    @property
    def failed(self) -> int:
        """Requests without a reply at the end of this call."""
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
    deadline: float = DEADLINE_S,
    progress: bool = True,
    label: str = "",
    resume: str = "",
    start: int | None = None,
    backoff: float = 1.0,
    longest_wait: float = LONGEST_WAIT_S,
) -> SendReport:
    """Send every request that the store does not answer yet, and close the provider.

    `price` is in dollars per million tokens, `max_usd` caps what this call may spend, `deadline` is the seconds one
    attempt may take in all, `resume` the command to name when interrupted; `start` overrides the first number in flight.
    Raises AccessError (401, 403, 404), CreditExhausted, CapReached, ProviderDown, DiskFull or Interrupted; each carries
    the report so far as attribute `report`.
    """
    if concurrency < 1:
        raise UsageError(f"--concurrency {concurrency}: at least one request must be in flight")
    sender = _Sender(requests, provider, store, task, concurrency, price, max_usd, deadline, progress, label, resume, start, backoff, longest_wait)
    try:
        asyncio.run(sender.run())
    except CascadeError as error:
        setattr(error, "report", sender.report)  # noqa: B010
        raise
    return sender.report


class _Sender:
    def __init__(
        self, requests: Iterable[Request], provider: Provider, store: ResponseStore, task: str, concurrency: int, price: Price | None,
        max_usd: float | None, deadline: float, progress: bool, label: str, resume: str, start: int | None, backoff: float, longest_wait: float,
    ) -> None:  # fmt: skip
        self.provider, self.store, self.task, self.concurrency = provider, store, task, concurrency
        self.price, self.max_usd, self.deadline, self.resume = price, max_usd, deadline, resume
        self.start, self.base, self.longest_wait = start, backoff, longest_wait
        self.report = SendReport()
        self.total = len(requests) if isinstance(requests, Sized) else None
        self.progress = Progress(label or task, self.total, quiet=not progress, cap=max_usd)
        self.todo = self._missing(requests)
        self.open: set[str] = set()
        self.failed: set[str] = set()
        self.out = 0
        self.error: BaseException | None = None

    # What is to be sent

    def _missing(self, requests: Iterable[Request]) -> Iterator[tuple[str, Request]]:
        for chunk in chunks(requests, LOOKAHEAD):
            named = [(request.request_id, request) for request in chunk]
            known = self.store.known([request_id for request_id, _ in named])
            uses = [(self.task, request.role, request.example_id, request_id) for request_id, request in named]
            self.commits.add(partial(self.store.note_uses, uses))
            mine: set[str] = set()
            for request_id, request in named:
                if request_id in mine or request_id in self.open or request_id in self.failed:
                    self.report.identical += 1
                elif request_id in known:
                    self._count_known(request_id, known[request_id])
                else:
                    mine.add(request_id)
                    yield request_id, request

    def _count_known(self, request_id: str, state: str) -> None:
        self.report.from_store += 1
        if state == "rejected":
            failure = self.store.failure(request_id)
            self.report.failed_by_reason[failure.reason if failure else "rejected"] += 1

    # The run

    async def run(self) -> None:
        self.pace = Pace(
            self.concurrency, start=self.start or (16 if self.provider.paid else self.concurrency), alone_first=self.provider.paid and self.start is None,
            longest_wait=self.longest_wait, base=self.base,
        )  # fmt: skip
        self.spending = Spending(self.price, self.max_usd if self.provider.paid else None)
        self.commits = GroupCommit(self.store, busy=lambda: self.out > 0)
        self.report.maybe_paid += sum(self.store.adopt(self.task, role) for role in ("cheap", "strong"))
        loop = asyncio.get_running_loop()
        restore = self._catch_signals(loop)
        workers = [loop.create_task(self._work()) for _ in range(self.concurrency)]
        watch = loop.create_task(self._watch(workers))
        try:
            await asyncio.gather(*workers, return_exceptions=True)
        finally:
            watch.cancel()
            await self.commits.aclose()
            restore()
            await self.provider.aclose()
            self.report.usd, self.report.unknown_usd = self.spending.usd, self.spending.unknown_usd
            self._show(last=True)
            self.progress.close()
        if self.error is not None:
            raise self.error
        if self.commits.error is not None:
            raise self.commits.error

    def stop(self, error: BaseException) -> None:
        """Send nothing more; what is in flight may still come in. The first reason stands."""
        if self.error is None:
            self.error = error
        self.pace.stop()
        self.spending.wake()

    async def _watch(self, workers: list[asyncio.Task[None]]) -> None:
        """Show the state, and end a drain that takes too long."""
        stopped: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0.1)
            self._show()
            if self.error is not None:
                stopped = stopped or loop.time()
                if loop.time() - stopped > DRAIN_S:
                    for worker in workers:
                        worker.cancel()

    async def _work(self) -> None:
        try:
            while self.error is None:
                item = next(self.todo, None)
                if item is None:
                    return
                request_id, request = item
                self.open.add(request_id)
                try:
                    await self._serve(request_id, request)
                finally:
                    self.open.discard(request_id)
        except BaseException as error:
            self.stop(error)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _serve(self, request_id: str, request: Request) -> None:
        """One request through all its tries."""
        bound = usd_bound(request, self.price) if self.provider.paid else 0.0
        asked = tries = once = 0
        while True:
            await self.spending.reserve(bound, lambda: self.error is not None)
            entered = await self.pace.enter()
            if self.error is not None:
                self.pace.leave()
                return None
            attempt, outcome = await self._try(request_id, request, bound, asked)
            asked += 1
            try:
                self._learn(entered, attempt, outcome)
            finally:
                self.pace.leave()
            if outcome.action is Action.KEEP:
                self.report.kept += 1
                return None
            self.report.troubles[outcome.reason] += 1
            if outcome.action is Action.STOP:
                assert outcome.error is not None
                raise outcome.error(_advice(attempt, outcome, request))
            if outcome.action in (Action.AGAIN, Action.WAIT):
                continue
            tries, once = tries + 1, once + (outcome.action is Action.RETRY_ONCE)
            if outcome.action is Action.REJECT or tries >= TRIES or once > 1:
                return self._give_up(request_id, outcome)
            await self.pace.sleep(self.pace.backoff(tries))

    async def _try(self, request_id: str, request: Request, bound: float, asked: int) -> tuple[Attempt, Outcome]:
        first = partial(self.store.note_sent, self.task, request_id, request)
        number = await self.commits.write(first) if self.provider.paid else None
        self.report.attempts += 1
        self.report.sent += asked == 0
        self.out += 1
        try:
            async with asyncio.timeout(self.deadline):
                attempt = await self.provider.complete(request)
        except TimeoutError:
            attempt = Attempt("unknown", problem="timeout", detail=f"no whole reply within {self.deadline:g} s")
        except asyncio.CancelledError:
            attempt = Attempt("unknown", problem="interrupted")
        finally:
            self.out -= 1
        outcome = judge(attempt)
        await self.commits.write(lambda: self.store.note_end(first() if number is None else number, attempt, outcome))
        if self.provider.paid:
            perhaps = outcome.state in ("unknown", "ok", "invalid")
            self.report.maybe_paid += outcome.state == "unknown"
            self.spending.settle(bound, outcome.usage, perhaps_paid=perhaps)
        else:
            self.spending.settle(bound, outcome.usage, perhaps_paid=False)
        return attempt, outcome

    def _learn(self, entered: float, attempt: Attempt, outcome: Outcome) -> None:
        if outcome.action is Action.WAIT:
            self.pace.overloaded(entered, wait_asked(attempt.headers))
        elif outcome.state in ("ok", "rejected"):
            self.pace.succeeded()
        elif outcome.action is Action.RETRY and self.provider.paid:
            self.pace.failed(entered, outcome.message or outcome.reason)

    def _give_up(self, request_id: str, outcome: Outcome) -> None:
        if outcome.state == "ok":  # an empty reply is a reply: it is kept, and its status will say empty
            self.report.kept += 1
            return
        self.failed.add(request_id)
        self.report.failed_by_reason[outcome.reason] += 1

    def _show(self, *, last: bool = False) -> None:
        report = self.report
        self.progress.update(
            done=report.kept + report.from_store + report.identical, sent=report.kept + report.failed, failed=report.failed,
            in_flight=self.out, usd=self.spending.usd, last=last,
        )  # fmt: skip

    def _catch_signals(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """SIGINT or SIGTERM once: drain and resume later. Twice: leave at once; what is committed is safe."""

        def caught(signum: int) -> None:
            if isinstance(self.error, Interrupted):
                sys.stderr.write("\nstopped at once; everything committed is kept\n")
                sys.stderr.flush()
                os._exit(128 + signum)
            again = f"; resume with: {self.resume}" if self.resume else "; the same command resumes"
            sys.stderr.write(f"\nstopping: waiting up to {DRAIN_S:.0f} s for {self.out} requests in flight (once more: stop at once)\n")
            self.stop(Interrupted(f"interrupted, nothing is lost{again}", signum))

        handled = []
        for signum in (signal.SIGINT, signal.SIGTERM):
            try:
                old = signal.getsignal(signum)
                loop.add_signal_handler(signum, caught, signum)
                handled.append((signum, old))
            except (ValueError, RuntimeError, NotImplementedError):  # not the main thread, or no such signals here
                pass

        def restore() -> None:
            for signum, old in handled:
                loop.remove_signal_handler(signum)
                signal.signal(signum, old)

        return restore


def _advice(attempt: Attempt, outcome: Outcome, request: Request) -> str:
    status = attempt.http_status or 0
    says = f" ({outcome.message})" if outcome.message else ""
    where = attempt.host
    if status == 401:
        return f"{where} refuses the key{says}: check TOGETHER_API_KEY"
    if outcome.reason == "credit":
        return f"{where} says that the account's credit or spending limit is used up{says}; add credit and run the same command again"
    if status == 404:
        return f"{where} knows no model {request.model!r} (or the address is wrong){says}: check `{request.role}.model` in the config, and TOGETHER_BASE_URL"
    if status == 403:
        return f"{where} gives this key no access to {request.model!r}{says}: ask for access, or choose another model in the config"
    return f"{where} answers with a redirect ({status}){says}: check TOGETHER_BASE_URL"
