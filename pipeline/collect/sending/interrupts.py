"""Interrupts: SIGINT or SIGTERM once ends a run cleanly, twice ends it at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.terminal import say

HANGUP = getattr(signal, "SIGHUP", None)
"""The terminal was closed, or the connection to it broke. Not on every system."""
SIGNALS = tuple(s for s in (signal.SIGINT, signal.SIGTERM, HANGUP) if s is not None)
DRAIN_S = 10.0
"""Time that requests in flight at the first signal get to come back."""


@contextmanager
def caught(loop: asyncio.AbstractEventLoop, first: Callable[[int], str]) -> Iterator[None]:
    """While open, the first signal calls `first(signum)` and prints what it returns; the second one leaves the process.

    Leaving at once is safe: what is committed is on disk. Outside the main thread, signals stay as they are.
    """
    seen = 0

    def on_signal(signum: int) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            say("\nstopped at once; every committed reply is kept", error=True)
            os._exit(128 + signum)
        say(f"\n{first(signum)}", error=True)

    old = {}
    for signum in SIGNALS:
        try:
            before = signal.getsignal(signum)
            if signum == HANGUP and before is signal.SIG_IGN:
                continue  # as under nohup
            loop.add_signal_handler(signum, on_signal, signum)
            old[signum] = before
        except (ValueError, RuntimeError, NotImplementedError):
            continue
    try:
        yield
    finally:
        for signum, before in old.items():
            loop.remove_signal_handler(signum)
            signal.signal(signum, before)
