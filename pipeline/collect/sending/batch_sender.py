"""BatchSender: sends what is missing to a batch API as files and fetches the replies hours later, even after a crash.

A file's requests are written down as open before it is uploaded, the file's id before a batch is made of it, and the
batch's id before it is asked about: at every moment a second run can tell what was submitted and goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from cascade_threshold.completion import parse
from cascade_threshold.pricing import Price
from pipeline.collect.providers.together_batch import LOST, Batch, TogetherBatch, Unsure, unless_lost
from pipeline.collect.request import Request
from pipeline.collect.sending import batch_record, event_loop, result_files
from pipeline.collect.sending.interrupts import caught
from pipeline.collect.sending.progress import Progress
from pipeline.collect.sending.response_class import Action, Outcome
from pipeline.collect.sending.role import SendReport
from pipeline.collect.sending.spend_cap import cost, usd_bound
from pipeline.collect.store.batch_ledger import BatchLedger, Noted
from pipeline.collect.store.response_store import ResponseStore, chunks, opening
from pipeline.errors import AccessError, CapReached, CascadeError, Interrupted, ProviderDown, UsageError
from pipeline.run.atomic import disk_errors, scratch

MOST_REQUESTS, MOST_BYTES = 50_000, 100_000_000
CANARY = 5
POLL_S = 45.0
LOOKS_S = (0.0, 5.0, 10.0, 20.0, 25.0)
"""Waits before each look for a batch whose id was never received: a new batch may be listed late."""
SURELY_LISTED_S = 3600.0
"""If no batch is listed this long after its file was uploaded, none was created."""
ROUNDS = 3
"""How many more batches a request without a reply may be put into."""


def send_batches(
    requests: Iterable[Request],
    provider: TogetherBatch,
    store: ResponseStore,
    *,
    task: str,
    price: Price | None = None,
    max_usd: float | None = None,
    progress: bool = True,
    label: str = "",
    resume: str = "",
    poll: float = POLL_S,
    looks: Sequence[float] = LOOKS_S,
    most_requests: int = MOST_REQUESTS,
    most_bytes: int = MOST_BYTES,
    resend_lost: bool = False,
) -> SendReport:
    """Send every request that the store does not answer yet in batches, wait for them, and close the provider.

    `poll` is the seconds between two looks at a batch, `looks` those before each look for one whose id never came. Batches
    of an earlier run are fetched first; what one held that the service has lost is asked again with `resend_lost`.
    Raises AccessError, CreditExhausted, CapReached, ProviderDown or Interrupted (each with the report so far as `report`), and
    UsageError when a canary of five requests comes back without logprobs.
    """
    wanted: Sequence[Request] | Iterable[Request] = requests if not hasattr(requests, "__next__") else list(requests)
    shown = Progress(label or task, None, quiet=not progress)
    ledger = BatchLedger(store, task, price)
    sender = _Batches(
        provider,
        store,
        ledger,
        task,
        price,
        max_usd,
        resume,
        poll,
        looks,
        most_requests,
        most_bytes,
        shown,
        resend_lost,
    )
    try:
        event_loop.run(sender.run(wanted))
    except CascadeError as error:
        setattr(error, "report", sender.report)  # noqa: B010
        raise
    return sender.report


@dataclass(eq=False)
class _Batches:
    provider: TogetherBatch
    store: ResponseStore
    ledger: BatchLedger
    task: str
    price: Price | None
    max_usd: float | None
    resume: str
    poll: float
    looks: Sequence[float]
    most_requests: int
    most_bytes: int
    progress: Progress
    resend_lost: bool
    report: SendReport = field(default_factory=SendReport)
    tries: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a request has no reply yet."""
    bounds: dict[str, float] = field(default_factory=dict)
    """Upper bounds in dollars of the requests that are out."""
    reserved: float = 0.0
    """Their sum."""
    fetched: set[str] = field(default_factory=set)
    capped: bool = False
    error: BaseException | None = None

    async def run(self, requests: Iterable[Request]) -> None:
        """Fetch what is out, then rounds of sending and fetching until nothing is missing."""
        self.stopped = asyncio.Event()
        self.report.maybe_paid += self.store.adopt(self.task)
        self.first = self.number = self.store.session(self.task)
        try:
            with (
                caught(asyncio.get_running_loop(), self._interrupted),
                scratch(self.store.path.with_name("batch")) as self.folder,
            ):
                await self._reattach()
                await self._fetch_all()
                first = True
                while await self._round(requests, first=first):
                    first = False
                self.report.failed_by_reason.update(self.reasons.values())
                if self.capped:
                    raise CapReached(
                        f"stopped before the cap: ${self.report.usd + self.report.unknown_usd:.4f} of ${self.max_usd:g} spent; "
                        "the same command with a larger --max-usd resumes from here"
                    )
        finally:
            await self.provider.aclose()

    # Sending

    async def _round(self, requests: Iterable[Request], *, first: bool) -> bool:
        """Send everything that is missing, a file at a time, and fetch it; whether anything was sent."""
        sent = False
        self.capped = False
        part: list[tuple[str, Request]] = []
        size = 0
        queued: set[str] = set()
        for chunk in chunks(requests, 400):
            named = [(request.request_id, request) for request in chunk]
            self.store.durably(partial(self.store.note_uses, [(self.task, r.role, r.example_id, i) for i, r in named]))
            known, damaged = self.store.known([request_id for request_id, _ in named])
            self.store.durably(partial(self.store.set_aside, damaged))
            self.report.damaged += len(damaged)
            for request_id, request in named:
                if request_id in queued or request_id in known or self.tries[request_id] >= ROUNDS:
                    if first:
                        self._count_skipped(request_id, known, repeated=request_id in queued)
                    continue
                if not self._affordable(request):
                    self.capped = True
                    continue
                queued.add(request_id)
                bytes_of = len(self.provider.line(request_id, request))
                if part and (len(part) >= self._most(request) or size + bytes_of > self.most_bytes):
                    await self._submit(part)
                    part, size, sent = [], 0, True
                part.append((request_id, request))
                size += bytes_of
        if part:
            await self._submit(part)
            sent = True
        await self._fetch_all()
        return sent

    def _count_skipped(self, request_id: str, known: dict[str, tuple[str, int]], *, repeated: bool) -> None:
        if repeated:
            self.report.identical += 1
        elif request_id in known and request_id not in self.fetched:
            self.report.from_store += 1
            if known[request_id][0] == "rejected":
                failure = self.store.failure(request_id)
                self.report.failed_by_reason[failure.reason if failure else "rejected"] += 1

    def _most(self, request: Request) -> int:
        return self.most_requests if self.store.fact(_canary_key(request)) else CANARY

    def _affordable(self, request: Request) -> bool:
        bound = usd_bound(request, self.price, batch=True)
        counted = self.report.usd + self.report.unknown_usd + (self.reserved if self.bounds else 0.0)
        if self.max_usd is not None and counted + bound > self.max_usd:
            return False
        self.reserved += bound - self.bounds.get(request.request_id, 0.0)
        self.bounds[request.request_id] = bound
        return True

    async def _submit(self, part: list[tuple[str, Request]]) -> None:
        """Record, upload, record, create a batch, record. A canary batch is waited for."""
        self._stop_if_asked()
        request = part[0][1]
        canary = not self.store.fact(_canary_key(request))
        path = self.folder / f"requests-{self.number}.jsonl"
        with disk_errors(path):
            path.write_bytes(b"".join(self.provider.line(request_id, one) for request_id, one in part))
        batch = self._prepare(part, request, "canary" if canary else "part")
        file_id = await self.provider.upload(path)
        path.unlink()
        self.ledger.note(batch, state="creating", file_id=file_id, created_at=time.time())
        try:
            made = await self.provider.create(file_id)
        except CascadeError as error:
            if not isinstance(error, Unsure):  # refused: there is no batch to look for
                self.ledger.drop(batch)
            raise
        self.ledger.note(batch, state="submitted", batch_id=made.id, status=made.status)
        self.report.sent += sum(self.tries[request_id] == 0 for request_id, _ in part)
        self.report.attempts += len(part)
        for request_id, _ in part:
            self.tries[request_id] += 1
        if canary:
            await self._fetch_all()
            self._judge_canary([request_id for request_id, _ in part], request)

    def _prepare(self, part: list[tuple[str, Request]], request: Request, kind: str) -> int:
        rows = []
        for request_id, one in part:
            rows.append(opening(self._next_number(), self.task, request_id, one))
        return self.ledger.prepare(rows, request, kind)

    def _judge_canary(self, request_ids: list[str], request: Request) -> None:
        replies = list(self.store.replies(request_ids))
        if not replies and all(self.reasons.get(request_id) == "other_form" for request_id in request_ids):
            return  # the next canary asks in the form that the service wants
        if not replies:
            reason = self.reasons.get(request_ids[0], "no reply")
            raise AccessError(
                f"none of {len(request_ids)} canary requests of the batch API came back ({reason}); use --provider together, or see the account"
            )
        if request.top_logprobs is not None and not any(parse(reply.body).tokens for reply in replies):
            raise UsageError(
                f"the batch API returns no logprobs for {request.model}, so there is no confidence; use --provider together"
            )
        self.store.remember(_canary_key(request), True)

    # Fetching

    async def _reattach(self) -> None:
        """Bring every batch of an earlier run to "submitted", or drop it if it certainly was not."""
        ours = self.ledger.ids()
        for noted in self.ledger.noted("prepared", "creating"):
            found = await self._look_for(noted.file_id, noted, ours) if noted.file_id else None
            if found is not None:
                self.ledger.note(noted.number, state="submitted", batch_id=found.id)
                ours.add(found.id)
            else:
                self.ledger.drop(noted.number)

    async def _look_for(self, file_id: str, noted: Noted, ours: set[str]) -> Batch | None:
        """The batch created from a file whose batch id was never received; None if there is none. Raises ProviderDown if there may be one."""
        young = time.time() - noted.begun < SURELY_LISTED_S
        for wait in self.looks if young else (0.0,):
            self.progress.text(f"looking for the batch of file {file_id}")
            await self._pause(wait)
            found = [batch for batch in await self.provider.find(file_id) if batch.id not in ours]
            if found:
                return found[0]
        if not young:
            return None
        raise ProviderDown(
            f"{noted.requests:,} requests, in file {file_id}, may have been submitted, and {self.provider.host} lists no batch of that file "
            "yet; they are not submitted again, since they could be paid twice. Run the same command again in some minutes: it fetches the "
            f"batch once it is listed, and submits the file anew if there is none after {SURELY_LISTED_S / 60:.0f} minutes"
        )

    async def _fetch_all(self) -> None:
        """Wait until every batch has ended and its results are kept."""
        while out := self.ledger.noted("submitted"):
            going = []
            for noted in out:
                assert noted.batch_id is not None
                asked = self.provider.status(noted.batch_id)
                found = await unless_lost(asked, noted.batch_id, noted.requests, resend=self._may_resend(noted))
                batch = found or Batch(noted.batch_id, LOST)
                if batch.ended:
                    await self._keep(noted, batch)
                else:
                    going.append(
                        f"{noted.batch_id} {batch.status}"
                        + ("" if batch.progress is None else f" {batch.progress:.0f} %")
                        + f" of {noted.requests:,}"
                    )
            if going:
                self.progress.text(f"{self.report.kept:,} kept; waiting for " + ", ".join(going))
                await self._pause(self.poll)

    def _may_resend(self, noted: Noted) -> bool:
        """Whether the user's word is about this batch: it was given before those of this run were there."""
        return self.resend_lost and noted.number <= self.first

    async def _keep(self, noted: Noted, batch: Batch) -> None:
        """Keep all results of a batch that ended, in one transaction: output file, error file, and what is in neither."""
        rows = self.ledger.rows(noted.number)
        with disk_errors(self.folder):
            files = await result_files.fetch(
                self.provider,
                batch,
                rows.keys(),
                self.folder,
                pause=partial(self._pause, self.poll),
                resend=self._may_resend(noted),
            )
        found = batch_record.write(self.store, self.provider, noted.number, rows, files, self._next_number)
        self.report.troubles.update(found.troubles)
        self.report.maybe_paid += found.maybe_paid
        for request_id, outcome in found.outcomes:
            self._learn(request_id, outcome)

    def _next_number(self) -> int:
        self.number += 1
        return self.number

    def _learn(self, request_id: str, outcome: Outcome) -> None:
        bound = self.bounds.pop(request_id, 0.0)
        self.reserved -= bound
        usd = cost(outcome, self.price, batch=True)
        self.report.usd += usd or 0.0
        self.report.unknown_usd += bound if usd is None else 0.0
        if outcome.state == "ok":
            self.report.kept += 1
            self.fetched.add(request_id)
            self.reasons.pop(request_id, None)
            return
        self.report.troubles[outcome.reason] += 1
        self.reasons[request_id] = outcome.reason
        if outcome.action is Action.REJECT:
            self.tries[request_id] = ROUNDS

    # Stopping

    def _interrupted(self, signum: int) -> str:
        again = f"fetch them with: {self.resume}" if self.resume else "the same command fetches them"
        self.error = Interrupted(
            f"interrupted, nothing is lost; submitted batches go on at the service, {again}", signum
        )
        self.stopped.set()
        return "stopping; submitted batches go on at the service (the same signal again: stop at once)"

    async def _pause(self, seconds: float) -> None:
        """Wait; a signal ends it."""
        self._stop_if_asked()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopped.wait(), seconds)
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.error is not None:
            raise self.error


def _canary_key(request: Request) -> str:
    return f"canary:{request.service}:{request.model}:{request.top_logprobs}"
