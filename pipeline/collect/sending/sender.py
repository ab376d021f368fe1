"""Send what is missing: a fixed set of workers pulls requests from an iterator, so memory does not grow with the rows.

A request passes: the store (answered already?), the spending cap, the pace of its role, a place among all in flight, a note
that it leaves, the provider, a note of what came back. Its place is free only after that last note is on its way to the
disk before anything later, so a crash repeats at most the requests that were in flight. Both roles are sent at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from cascade_threshold.pricing import Price
from pipeline.collect.providers.provider import Attempt, Provider
from pipeline.collect.request import PROBE_REPEAT, Request
from pipeline.collect.sending import event_loop
from pipeline.collect.sending.interrupts import DRAIN_S, caught
from pipeline.collect.sending.missing import missing
from pipeline.collect.sending.progress import Progress
from pipeline.collect.sending.rate_limit import LONGEST_WAIT_S, Pace, wait_asked
from pipeline.collect.sending.response_class import Action, Outcome, advice, judge
from pipeline.collect.sending.role import DOUBT_S, RoleSending, SendReport, ToSend
from pipeline.collect.sending.spend_cap import Spending, cost, price_key, usd_bound
from pipeline.collect.store.group_commit import GroupCommit, Turnstile
from pipeline.collect.store.response_store import ResponseStore, ending, opening
from pipeline.errors import AccessError, CapReached, CascadeError, Interrupted, TooManyFailures, UsageError

TRIES = 6
"""Tries of one row; waits that the service asks for do not count."""
TRIES_REFUSED = 2
"""Tries of one row that the service refuses with a 403 or 404 while it answers others."""
TRIES_MAYBE_PAID = 2
"""Tries of one row that may have been paid for without a reply."""
DEADLINE_S = 180.0
ALIKE = 10
"""After this many consecutive refusals in the same words the rows are not to blame, and the run stops."""
COMMIT_SHARE = 0.01
"""Share of a reply's latency that a record may wait for others to share its commit."""


def send(
    requests: Iterable[Request],
    provider: Provider,
    store: ResponseStore,
    *,
    task: str,
    price: Price | None = None,
    **options: object,
) -> SendReport:
    """Send the requests of one role; see `send_roles`. What it raises has the report so far as its attribute `report`."""
    try:
        return send_roles({"": ToSend(requests, provider, price)}, store, task=task, **options)[""]  # type: ignore[arg-type]
    except CascadeError as error:
        if (reports := getattr(error, "reports", None)) is not None:
            setattr(error, "report", reports[""])  # noqa: B010
        raise


def send_roles(
    roles: Mapping[str, ToSend],
    store: ResponseStore,
    *,
    task: str,
    concurrency: int = 32,
    max_usd: float | None = None,
    spent: float = 0.0,
    deadline: float = DEADLINE_S,
    progress: bool = True,
    label: str = "",
    resume: str = "",
    start: int | None = None,
    backoff: float = 1.0,
    longest_wait: float = LONGEST_WAIT_S,
) -> dict[str, SendReport]:
    """Send every request that the store does not answer yet, of all roles at once, and close the providers.

    `concurrency` bounds what is in flight in all, `max_usd` what this call may spend beyond the `spent` dollars that count
    against the cap already, `deadline` is the seconds that one attempt may take in all, `resume` the command to name when
    interrupted. `start` overrides the first number in flight (one, until the first reply), `backoff` the seconds of the
    first wait after a failure.
    Raises AccessError (a first 401, 403 or 404, or every row refused), CreditExhausted, CapReached, ProviderDown, DiskFull,
    Interrupted, UsageError (the first replies are no labels) or TooManyFailures (so many rows failed that the other role is
    not paid for), each with the reports so far by role as its attribute `reports`.
    """
    if concurrency < 1:
        raise UsageError(f"--concurrency {concurrency}: at least one request must be in flight")

    def pace(provider: Provider) -> Pace:
        first = start or (None if provider.paid else concurrency)
        return Pace(concurrency, start=first, longest_wait=longest_wait, base=backoff)

    sending = [RoleSending(role, pace(role.provider)) for role in roles.values()]
    totals = [role.total for role in sending]
    total = None if None in totals else sum(t or 0 for t in totals)
    shown = Progress(label or task, total, quiet=not progress)
    spending = Spending(max_usd if any(role.paid for role in sending) else None, spent)
    sender = _Sender(sending, store, task, concurrency, spending, deadline, resume, shown)
    reports = {name: role.report for name, role in zip(roles, sending, strict=True)}
    try:
        event_loop.run(sender.run())
    except CascadeError as error:
        setattr(error, "reports", reports)  # noqa: B010
        raise
    return reports


@dataclass(eq=False)
class _Sender:
    roles: list[RoleSending]
    store: ResponseStore
    task: str
    concurrency: int
    spending: Spending
    deadline: float
    resume: str
    progress: Progress
    error: BaseException | None = None
    """Reason why nothing more is sent."""
    out: int = 0
    """Requests at a provider at this moment."""
    priced: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """State of one call, from the first row to the last commit."""
        loop = asyncio.get_running_loop()
        self.places = asyncio.Semaphore(self.concurrency)
        self.roles[0].report.maybe_paid += self.store.adopt(self.task)
        self.number = self.first = self.store.session(self.task)
        self.commits, self.turnstile = GroupCommit(self.store, busy=lambda: self.out > 0), Turnstile()
        with caught(loop, self._interrupted):
            sending = [loop.create_task(self._send(place)) for place in range(len(self.roles))]
            watch = loop.create_task(self._watch(sending))
            await asyncio.gather(*sending, return_exceptions=True)
            watch.cancel()
            await self.commits.aclose()
            for role in self.roles:
                await role.provider.aclose()
        self._show(last=True)
        self.progress.close()
        error = self.commits.paid_and_lost() or self.commits.error or self.error
        if error is not None:
            raise error

    async def _send(self, place: int) -> None:
        """One role. It starts once what came for the one before shows that it is worth it (see `RoleSending.followed`)."""
        role, before = self.roles[place], self.roles[:place]
        for other in before:
            await other.followed.wait()
        role.started.set()
        if self.error is None:
            role.todo = missing(role, self.store, self.commits, self.task, first=self.first, note=self.progress.note)
            workers = [asyncio.create_task(self._work(role)) for _ in range(self.concurrency)]
            try:
                await asyncio.gather(*workers, return_exceptions=True)
            except asyncio.CancelledError:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        role.end()
        if role.too_many_failed and self.error is None and not all(other.done for other in self.roles):
            self.stop(TooManyFailures(role.failures))

    def stop(self, error: BaseException) -> None:
        """Send nothing more; what is in flight may still come in. The first reason stands."""
        if self.error is None:
            self.error = error
        for role in self.roles:
            role.pace.stop()
            role.wake()
        self.spending.wake()

    def _interrupted(self, signum: int) -> str:
        again = f"resume with: {self.resume}" if self.resume else "the same command resumes"
        self.stop(Interrupted(f"interrupted, nothing is lost; {again}", signum))
        return f"stopping: {self.out} requests in flight get up to {DRAIN_S:.0f} s to come back (the same signal again: stop at once)"

    async def _watch(self, sending: list[asyncio.Task[None]]) -> None:
        """Show the state, and end a drain that takes too long."""
        loop = asyncio.get_running_loop()
        while self.error is None:
            self._show()
            await asyncio.sleep(0.1)
        end = loop.time() + DRAIN_S
        while loop.time() < end:
            self._show()
            await asyncio.sleep(0.1)
        for task in sending:
            task.cancel()

    async def _work(self, role: RoleSending) -> None:
        try:
            while self.error is None and (item := next(role.todo, None)) is not None:
                request_id, request, tried = item
                role.open.add(request_id)
                try:
                    await self._serve(role, request_id, request, tried)
                finally:
                    # until the store can tell that it is answered, or a row with the same request would be asked again
                    self.commits.then(partial(role.open.discard, request_id))
        except BaseException as error:
            self.stop(error)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _wait_for_others(self, role: RoleSending) -> bool:
        """This role waits while the first replies of another are read, or so many of its rows fail that all may be in vain.

        Returns whether this request is one of the role's own first.
        """
        for other in self.roles:
            if other is role or not other.started.is_set():
                continue
            if other.reads:
                await other.read_enough.wait()
            await other.sound.wait()
        return role.reads and await role.may_ask(lambda: self.error is not None)

    async def _serve(self, role: RoleSending, request_id: str, request: Request, tried: int) -> None:
        """One request through all its tries."""
        first = role.paid and await self._wait_for_others(role)
        try:
            await self._through_its_tries(role, request_id, request, tried)
        finally:
            if first:
                role.asked()

    async def _through_its_tries(self, role: RoleSending, request_id: str, request: Request, tried: int) -> None:
        self._note_price(role, request)
        bound = usd_bound(request, role.price) if role.paid else 0.0
        tries, maybe_paid, sent, since = min(tried, TRIES - 1), 0, False, time.monotonic()
        while True:
            await self.spending.reserve(bound, lambda: self.error is not None)
            entered = await role.pace.enter()
            try:
                async with self.places:
                    if self.error is not None:
                        return
                    role.report.sent += not sent
                    sent, begun = True, time.monotonic()
                    attempt, outcome = await self._try(role, request_id, request, bound)
                await self._learn(role, entered, attempt, outcome)
            finally:
                role.pace.leave()
            if outcome.action is Action.KEEP:
                role.count_kept(request_id)
                role.read(request, attempt.body)
                return
            role.report.troubles[outcome.reason] += 1
            if outcome.error is not None and not await self._is_of_its_row(role, outcome, begun):
                raise outcome.error(advice(attempt, outcome, request))
            if outcome.action in (Action.AGAIN, Action.WAIT):
                continue
            tries, maybe_paid = tries + 1, maybe_paid + (outcome.action is Action.RETRY_ONCE)
            most = 1 if not role.paid else TRIES_REFUSED if outcome.error is not None else TRIES
            if outcome.action is Action.REJECT or tries >= most or maybe_paid >= TRIES_MAYBE_PAID:
                # a row that used up its tries in an earlier run gets one more
                await self._give_up(role, request_id, request, attempt, outcome, since if tried >= most else None)
                return
            if outcome.state in ("http_error", "invalid"):
                role.suspect(request_id)
            await role.pace.sleep(role.pace.backoff(tries))

    async def _try(self, role: RoleSending, request_id: str, request: Request, bound: float) -> tuple[Attempt, Outcome]:
        """One attempt, from the record that it is about to leave to the record of its result."""
        self.number += 1
        opened = opening(self.number, self.task, request_id, request)
        if role.paid:
            self.commits.opened(opened)
            await self.commits.durable()
        role.report.attempts += 1
        self.out += 1
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self.deadline):
                attempt = await role.provider.complete(request)
        except TimeoutError:
            attempt = Attempt("unknown", problem="timeout", detail=f"no whole reply within {self.deadline:g} s")
        except asyncio.CancelledError:  # the drain is over
            attempt = Attempt("unknown", problem="interrupted")
        finally:
            self.out -= 1
        if role.paid:
            with suppress(asyncio.CancelledError):  # a reply that has arrived is kept, whatever happens
                await self.turnstile.enter()
        self.commits.window += 0.1 * (COMMIT_SHARE * (time.monotonic() - begun) - self.commits.window)
        outcome = judge(attempt)
        # Not waited for: this place's next request leaves after a later commit, so this one is on disk by then
        self.commits.ended(ending(opened, attempt, outcome))
        if not role.paid:
            await self.commits.durable()
        role.report.maybe_paid += role.paid and outcome.state == "unknown"
        self._settle(role, bound, outcome)
        if outcome.state == "ok":
            role.succeeded(request)
        self._watch_refusals(role, opened[0], attempt, outcome)
        return attempt, outcome

    def _settle(self, role: RoleSending, bound: float, outcome: Outcome) -> None:
        """Turn what was reserved for an attempt into what it cost; what is not told counts at its bound."""
        usd = cost(outcome, role.price)
        role.report.usd += usd or 0.0
        untold = usd is None and role.paid
        role.report.unknown_usd += bound if untold else 0.0
        # what a role that costs nothing would cost is part of its report, and no money
        self.spending.settle(bound, None if untold else usd or 0.0 if role.paid else 0.0)

    def _note_price(self, role: RoleSending, request: Request) -> None:
        """Remember what a model costs, so that `status` can tell dollars without a config."""
        key = price_key(request.service, request.model)
        if role.price is not None and key not in self.priced:
            self.priced.add(key)
            self.commits.also(partial(self.store.note_fact, key, role.price.public()))

    async def _learn(self, role: RoleSending, entered: float, attempt: Attempt, outcome: Outcome) -> None:
        """What an attempt says about the pace. Raises ProviderDown when nothing comes back any more."""
        if outcome.action is Action.WAIT:
            role.pace.overloaded(entered, wait_asked(attempt.headers))
        elif outcome.state in ("ok", "rejected"):
            role.pace.succeeded()
        elif outcome.action in (Action.RETRY, Action.RETRY_ONCE) and role.paid:
            if outcome.state in ("http_error", "invalid") and role.pace.nearly_down and await self._proves(role):
                role.pace.succeeded()
                return
            wait = wait_asked(attempt.headers) if attempt.http_status == 503 else None
            role.pace.failed(
                entered, f"{outcome.reason}: {outcome.message}" if outcome.message else outcome.reason, wait
            )

    async def _is_of_its_row(self, role: RoleSending, outcome: Outcome, begun: float) -> bool:
        """Whether a refusal that would stop the run is the fault of its row: the model answers others."""
        return outcome.error is AccessError and (role.alive_at >= begun or await self._proves(role))

    async def _proves(self, role: RoleSending) -> bool:
        """Whether the model answers, once more, a request that it has answered before. False when it never has."""
        since = time.monotonic()
        async with role.proving:
            if role.alive_at >= since:
                return True
            if role.answered is None or self.error is not None or time.monotonic() - role.doubted_at < DOUBT_S:
                return False
            repeat = PROBE_REPEAT
            while self.store.known([(again := replace(role.answered, repeat=repeat)).request_id])[0]:
                repeat += 1
            bound = usd_bound(again, role.price)
            try:
                await self.spending.reserve(bound, lambda: self.error is not None)
            except CapReached:
                return False
            async with self.places:
                _, outcome = await self._try(role, again.request_id, again, bound)
            if outcome.state != "ok":
                role.doubted_at = time.monotonic()
            return outcome.state == "ok"

    def _watch_refusals(self, role: RoleSending, number: int, attempt: Attempt, outcome: Outcome) -> None:
        """Stops the run if many rows in a row are refused in the same words: the rows are not to blame."""
        refused = role.refused_alike(number, outcome)
        if len(refused) >= ALIKE:
            self.commits.also(partial(self.store.forgive, refused))
            self.stop(
                AccessError(
                    f"{attempt.host} refused {ALIKE} requests in a row with the same message ({attempt.http_status}: {outcome.message}); "
                    "check `params`, `top_logprobs` and the model in the config. They will be sent again"
                )
            )

    async def _give_up(
        self,
        role: RoleSending,
        request_id: str,
        request: Request,
        attempt: Attempt,
        outcome: Outcome,
        since: float | None,
    ) -> None:
        """A request has had its tries of this run; with `since`, the time of the first, those of all runs: then, if the
        model answers others, it is not asked again."""
        if outcome.state == "ok":  # an empty reply is a reply: it is kept with status empty
            role.count_kept(request_id)
            role.read(request, attempt.body)
            return
        role.count_failed(request_id, outcome.reason)
        refused = role.paid and outcome.state in ("http_error", "invalid")
        if refused and since is not None and (role.alive_at >= since or await self._proves(role)):
            self.commits.also(partial(self.store.settle_as_refused, request_id))

    def _show(self, *, last: bool = False) -> None:
        reports = [role.report for role in self.roles]
        failed, kept = sum(r.failed for r in reports), sum(r.kept for r in reports)
        done = kept + sum(r.from_store + r.identical for r in reports)
        usd = self.spending.usd if any(role.paid for role in self.roles) else 0.0
        self.progress.update(done=done, sent=kept + failed, failed=failed, in_flight=self.out, usd=usd, last=last)
