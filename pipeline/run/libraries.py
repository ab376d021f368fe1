"""Libraries: loaded while other processes have the work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

LATER = (
    "scipy.fft",
    "scipy.interpolate",
    "scipy.optimize",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
)
"""What the stages after `collect` take a second or two to load."""


@contextmanager
def loading(*names: str) -> Iterator[None]:
    """Load modules in a thread beside what is done within. One that cannot be loaded is told of by whoever needs it."""

    def load() -> None:
        for name in names:
            with suppress(Exception):
                import_module(name)

    thread = threading.Thread(target=load, name="loading")
    thread.start()
    try:
        yield
    finally:
        thread.join()
