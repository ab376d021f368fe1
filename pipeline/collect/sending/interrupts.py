"""Interrupts: SIGINT or SIGTERM once ends a run cleanly, twice ends it at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.terminal import shown

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
            sys.stderr.write("\nstopped at once; every committed reply is kept\n")
            sys.stderr.flush()
            os._exit(128 + signum)
        sys.stderr.write(f"\n{shown(first(signum))}\n")
        sys.stderr.flush()

    old = {}
    for signum in (signal.SIGINT, signal.SIGTERM):
        try:
            before = signal.getsignal(signum)
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
