"""Garbage: when memory that is no longer needed is searched for, and given back."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def no_garbage_search() -> Iterator[None]:
    """Make very many objects that stay, none of which refer to each other: searching them again and again for some that do takes
    as long as making them."""
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()


RARELY = (50_000, 20, 20)
"""New objects between two searches, and how many of them until one that goes further back."""


@contextmanager
def searched_rarely() -> Iterator[None]:
    """Search new objects for garbage after every fifty thousand, not every few hundred, and the others next to never.

    Nearly all that a command makes is freed as soon as it is out of use, without any search; searching took a tenth of the
    time of sending and a thirtieth of that of everything else, and held up all requests at once for a tenth of a second.
    """
    before = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def trim() -> None:
    """Give the system what the C library keeps of freed memory, where the library can."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def give_back() -> None:
    """Let Arrow give memory back as soon as it is free, where it is not loaded yet; working processes too. Its own pools keep it: at
    100,000 rows they kept a tenth of the peak."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
