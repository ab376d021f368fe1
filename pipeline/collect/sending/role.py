"""RoleSending: state of one role's sending, and what its replies so far imply for the pace, the service and the answers.

The first replies of a role are read before the others are paid for. A refusal of a model that has answered others is the
row's own fault; where that is in doubt, a request that was answered before is asked once more and decides.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import Any

from cascade_threshold.pricing import Price
from pipeline.collect.providers.provider import Provider
from pipeline.collect.request import Request
from pipeline.collect.sending.rate_limit import Pace
from pipeline.collect.sending.response_class import Action, Outcome
from pipeline.errors import UsageError

FIRST = 20
"""Number of replies of a role that are read before more are sent for."""
FIRST_IN_FLIGHT = 4
DOUBT_S = 30.0
"""After it failed to answer a request that it had answered before, a service counts as down for this long without being asked again."""

Reader = Callable[[Request, bytes], tuple[str | None, str]]
"""Reads a reply's body for its row: the label (None if it is not one), and the text to show."""


@dataclass
class SendReport:
    """What one call of `send` did for a role. It counts requests, not rows: rows with the same request share it."""

    sent: int = 0
    """Requests asked at least once."""
    kept: int = 0
    """Requests answered in this call."""
    failed_by_reason: Counter[str] = field(default_factory=Counter)
    """Requests without a reply at the end of this call."""
    from_store: int = 0
    """Requests that need not be sent: answered or permanently refused in an earlier call."""
    identical: int = 0
    """Rows that share the request of another row in this call."""
    maybe_paid: int = 0
    """Attempts that were sent and never answered, including those of an earlier, killed call."""
    usd: float = 0.0
    unknown_usd: float = 0.0
    """Upper bound in dollars of what may have been paid, or came back without usage."""
    damaged: int = 0
    """Kept replies that failed their checksum and were asked for again."""
    attempts: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    """Attempts without a usable reply, by reason."""

    @property
    def failed(self) -> int:
        """How many requests have no reply."""
        return sum(self.failed_by_reason.values())

    def record(self) -> dict[str, Any]:
        """As run.json holds it."""
        # not asdict, which would rebuild a Counter by counting its pairs
        return {k: dict(v) if isinstance(v, dict) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class ToSend:
    """What is to be sent for a role. The provider is closed at the end."""

    requests: Iterable[Request]
    provider: Provider
    price: Price | None = None
    reader: Reader | None = None
    """None: replies are not read while sending."""
    max_unreadable: float = 0.0
    """If at least half of the first replies are not labels, the run stops, unless this share is allowed."""
    max_failed: float | None = None
    """If more requests than this have no reply, nothing can be recommended; None: not checked."""
    failure_rate: float = 0.0
    """`max_failed` as a share of the rows."""


class RoleSending:
    """The state of one role while it is sent."""

    def __init__(self, wanted: ToSend, pace: Pace) -> None:
        self.provider, self.price, self.requests = wanted.provider, wanted.price, wanted.requests
        self.paid = self.provider.paid
        self.max_failed = wanted.max_failed if self.paid else None
        self._enough = 3 / wanted.failure_rate if wanted.failure_rate else float("inf")
        self.pace = pace
        self.report = SendReport()
        self.todo: Iterator[tuple[str, Request, int]] = iter(())
        self.open: set[str] = set()
        self.failed: set[str] = set()
        self._alike: tuple[str, list[int]] = ("", [])
        self.answered: Request | None = None
        """A request that this model has answered, in this call or an earlier one."""
        self.alive_at = float("-inf")
        """When it last answered anything; monotonic seconds."""
        self.doubted_at = float("-inf")
        self.proving = asyncio.Lock()
        self.started, self.read_enough, self.followed, self.sound = (asyncio.Event() for _ in range(4))
        """Whether it is being sent; the first replies are read; the next role may start; not too many rows fail."""
        self.sound.set()
        self.done = False
        self._suspects: set[str] = set()
        self._wanted, self._reader = wanted, wanted.reader if self.paid else None
        self._read = self._asked = 0
        self._no_label: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._waiting: list[object] = []
        if self.paid and self._reader is None:
            self.read_enough.set()
            self._look()

    @property
    def total(self) -> int | None:
        """Requests in all; None when that is not known beforehand."""
        return len(self.requests) if isinstance(self.requests, Sized) else None

    @property
    def reads(self) -> bool:
        """Whether the next reply is one of the first, which are read at once."""
        return self._reader is not None and not self.read_enough.is_set()

    async def may_ask(self, stopping: Callable[[], bool]) -> bool:
        """Wait for a place among the first requests; False if these are over, so no place was taken."""
        turn = object()
        self._waiting.append(turn)  # in the rows' order, so that what a stopped call has asked for is their beginning
        try:
            while self.reads and not stopping():
                if self._waiting[0] is turn and self._asked < FIRST_IN_FLIGHT and self._read + self._asked < FIRST:
                    self._asked += 1
                    return True
                self._changed.clear()
                await self._changed.wait()
            return False
        finally:
            self._waiting.remove(turn)
            self._changed.set()

    def asked(self) -> None:
        """One of the first requests has ended."""
        self._asked -= 1
        self._changed.set()

    def wake(self) -> None:
        """Wake the waiting tasks to check again."""
        for event in (self._changed, self.read_enough, self.started, self.followed, self.sound):
            event.set()

    def end(self) -> None:
        """Everything of this role has been sent."""
        self.done = True
        self.read_enough.set()
        if not self.too_many_failed:
            self.followed.set()
        self._look()

    def read(self, request: Request, body: bytes) -> None:
        """One of the first replies. Raises UsageError when enough are read and at least half of them are no label."""
        if not self.reads or self._reader is None:
            return
        answer, shown = self._reader(request, body)
        self._read += 1
        if answer is None:
            self._no_label[shown] += 1
        if self._read < FIRST:
            return
        bad = self._no_label.total()
        if 2 * bad >= FIRST and bad / FIRST > self._wanted.max_unreadable:
            texts = ", ".join(f"{text} {n} times" for text, n in self._no_label.most_common(3))
            raise UsageError(
                f"{bad} of the first {FIRST} replies of the {request.role} model {request.model} are none of the labels ({texts}); nothing more is "
                "sent, and the replies so far are kept. Make sure that the prompt asks for exactly one label and nothing else, that reasoning is "
                "switched off and that max_tokens suffices; `--set max_unreadable=1` continues anyway"
            )
        self.read_enough.set()
        self._changed.set()
        self._look()

    def succeeded(self, request: Request) -> None:
        """The model answered a request."""
        self.answered, self.alive_at = request, time.monotonic()

    def refused_alike(self, number: int, outcome: Outcome) -> list[int]:
        """The latest attempts refused in the same words, this one included, without a reply in between."""
        # long or filtered rows may well come in a row, but hardly so before any other was ever answered
        suspect = outcome.reason.startswith("http_") or (self.paid and self.report.kept + self.report.from_store == 0)
        if outcome.action is not Action.REJECT or not suspect:
            if outcome.state == "ok":
                self._alike = ("", [])
            return []
        words = re.sub(r"\d+", "#", outcome.message)
        self._alike = (words, [*self._alike[1], number] if words == self._alike[0] else [number])
        return self._alike[1]

    def count_kept(self, request_id: str) -> None:
        """A request has its reply."""
        self.report.kept += 1
        self._suspects.discard(request_id)
        self._look()

    def count_failed(self, request_id: str, reason: str) -> None:
        """A request stays without a reply in this call."""
        self.failed.add(request_id)
        self.report.failed_by_reason[reason] += 1
        self._suspects.discard(request_id)
        self._look()

    def suspect(self, request_id: str) -> None:
        """A request was refused and is tried again: it may be one of those that fail."""
        self._suspects.add(request_id)
        self._look()

    def _look(self) -> None:
        """Whether the next role may start, and go on: not before so many requests are settled that too many failures would
        have shown (three times as many as bring one failure on average), nor while too many are in doubt."""
        if not self.paid:
            return
        limit = self.max_failed
        if limit is not None and self.report.failed + len(self._suspects) > limit:
            self.sound.clear()
            return
        self.sound.set()
        settled = self.report.kept + self.report.from_store
        if self.read_enough.is_set() and (limit is None or settled >= self._enough):
            self.followed.set()

    @property
    def too_many_failed(self) -> bool:
        """So many rows have no reply that nothing can be recommended, whatever follows."""
        return self.max_failed is not None and self.report.failed > self.max_failed

    @property
    def failures(self) -> str:
        """Why the other role is not paid for."""
        told = ", ".join(f"{n:,} {reason}" for reason, n in self.report.failed_by_reason.most_common())
        return (
            f"{self.report.failed:,} requests have no reply ({told}), more than max_failure_rate allows ({self.max_failed:g}): nothing could be "
            "recommended, so the rest of the other role is not paid for. Check those rows, or continue with --set max_failure_rate=X; the replies so far are kept"
        )
