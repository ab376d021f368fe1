"""RateLimit: how many requests to one model may be in flight, and when all of them must wait.

Additive increase, multiplicative decrease (Chiu and Jain 1989), as TCP does it: the limit doubles per clean window until
the service first objects, then grows by one; it is halved on 429 and cut to three quarters on 5xx, once per window.
The first request goes alone, so that a wrong key or model costs one POST.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections import deque
from collections.abc import Callable, Mapping

from pipeline.errors import ProviderDown

START = 16
ROUNDS = 8
"""Consecutive waits without a success after which the service counts as down."""
BASE_S, MOST_S = 1.0, 60.0
LONGEST_WAIT_S = 300.0
"""A service that asks for a longer wait ends the run; the same command resumes it."""


FOREVER_S = 1e9


class Pace:
    """Gate through which every request passes. Times are seconds of a monotonic clock."""

    def __init__(
        self,
        most: int,
        *,
        start: int | None = None,
        longest_wait: float = LONGEST_WAIT_S,
        base: float = BASE_S,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        """`start` None: the first request goes alone, then START at once."""
        self.most, self.longest_wait, self.base = most, longest_wait, base
        self.limit = 1 if start is None else min(start, most)
        self.in_flight = 0
        self.rounds = 0
        """Waits since the last success."""
        self.cuts = 0
        self.stopped = False
        self._alone = start is None
        self._threshold = float(most)
        self._clean = 0
        self._failures = 0
        self._cut_at = clock()
        self._resume_at = 0.0
        self._clock, self._random = clock, random.Random(seed)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._stop = asyncio.Event()

    async def enter(self) -> float:
        """Wait for a place; returns the time of entry. Returns at once when stopped (see `stopped`)."""
        while not self.stopped:
            pause = self.waits
            if pause > 0:
                await self.sleep(pause + self._random.uniform(0, min(1.0, 0.1 * pause)))
            elif self.in_flight < self.limit:
                break
            else:
                place = asyncio.get_running_loop().create_future()
                self._waiting.append(place)
                await place
        self.in_flight += 1
        return self._clock()

    def leave(self) -> None:
        """Release the place."""
        self.in_flight -= 1
        self._admit()

    def _admit(self) -> None:
        free = self.limit - self.in_flight
        while self._waiting and (free > 0 or self.stopped):
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1

    def stop(self) -> None:
        """Let everyone through: the run is ending and nothing will be sent."""
        self.stopped = True
        self._stop.set()
        self._admit()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not past a stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass

    def succeeded(self) -> None:
        """A reply arrived (a refused row counts: the service works)."""
        self.rounds = self._failures = 0
        if self._alone:
            self._alone, self.limit = False, min(START, self.most)
            self._admit()
            return
        self._clean += 1
        if self._clean >= self.limit and self.limit < self.most:
            doubled = min(self.limit * 2, int(self._threshold))
            self.limit = min(self.most, max(doubled, self.limit + 1))
            self._clean = 0
            self._admit()

    def overloaded(self, entered: float, wait: float | None) -> None:
        """429: slower, and nobody sends before `wait` seconds have passed (None: not said). Raises ProviderDown."""
        fresh = self._cut(entered, 0.5)
        self._pause(wait, round_of="it keeps answering 429 (too many requests)" if fresh else None)

    def failed(self, entered: float, what: str, wait: float | None = None) -> None:
        """No connection, no reply or 5xx: one costs little; when nothing else comes back, all wait. Raises ProviderDown."""
        self._failures += 1
        outage = self._failures >= max(8, self.limit)
        fresh = self._cut(entered, 0.25 if outage else 0.75)
        if outage or wait is not None:
            self._pause(wait, round_of=what if outage and fresh else None)

    @property
    def nearly_down(self) -> bool:
        """Whether one more failure without a reply between would make everybody wait."""
        return self._failures + 1 >= max(8, self.limit)

    def _cut(self, entered: float, factor: float) -> bool:
        """Lower the limit, once for all requests that were in flight at the last cut."""
        self._clean = 0
        if entered < self._cut_at:
            return False
        self._threshold = max(1.0, self.limit * max(factor, 0.5))
        self.limit = max(1, int(self.limit * factor))
        self._cut_at = self._clock()
        self.cuts += 1
        return True

    def _pause(self, wait: float | None, round_of: str | None) -> None:
        """Everyone waits: as long as the service asks, or with exponential backoff."""
        if wait is not None and wait > self.longest_wait:
            raise ProviderDown(
                f"the service asks to wait {wait:.0f} s, longer than the {self.longest_wait:.0f} s we wait; run the same command again later, nothing is lost"
            )
        until = 0.0 if wait is None else wait
        if round_of is not None:
            self.rounds += 1
            if self.rounds > ROUNDS:
                raise ProviderDown(
                    f"the service does not answer ({round_of}); run the same command again later, nothing is lost and nothing is paid twice"
                )
            if (
                wait is None or self.rounds > 3
            ):  # full jitter: aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter
                until = max(until, self._random.uniform(0, min(MOST_S, self.base * 2**self.rounds)))
        self._resume_at = max(self._resume_at, self._clock() + until)

    @property
    def waits(self) -> float:
        """Seconds until the next request may leave."""
        return max(0.0, self._resume_at - self._clock())

    def backoff(self, tries: int) -> float:
        """Seconds before a row is tried again after its own failure number `tries`."""
        return self._random.uniform(0, min(MOST_S, self.base * 2 ** (tries - 1)))


def wait_asked(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a 429 or 503 asks us to wait: retry-after-ms, Retry-After (seconds or date), x-ratelimit-reset.

    None when it does not say. `now` is the wall clock, which only dates need.
    """
    now = time.time() if now is None else now
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after")
    seconds = _number(after)
    if seconds is not None:
        return seconds
    if after:
        date = email.utils.parsedate_tz(after)
        if date is not None:
            try:
                return max(0.0, email.utils.mktime_tz(date) - now)
            except (ValueError, OverflowError):  # a year beyond datetime's range
                return FOREVER_S
    reset = _number((headers.get("x-ratelimit-reset") or "").removesuffix("s"))
    if reset is not None:  # seconds, or for some servers the time itself
        return max(0.0, reset - now) if reset > 1e9 else reset
    return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
