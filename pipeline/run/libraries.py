"""Libraries: loaded while other processes have the work."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
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


SWITCHES_S = 0.0005
"""After so long the loading lets others go on; ten times as long and the models would wait for their next request."""


@contextmanager
def loading(*names: str, then: Callable[[], object] | None = None) -> Iterator[None]:
    """Load modules in a thread beside what is done within, then prepare what else is needed later.

    What cannot be loaded is told of by whoever needs it.
    """

    def load() -> None:
        for name in names:
            with suppress(Exception):
                import_module(name)
        if then is not None:
            with suppress(Exception):
                then()

    thread, interval = threading.Thread(target=load, name="loading"), sys.getswitchinterval()
    sys.setswitchinterval(SWITCHES_S)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        sys.setswitchinterval(interval)
