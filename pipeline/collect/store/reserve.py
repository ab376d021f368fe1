"""Reserve: room on the disk that is set aside while requests are in flight, and freed for their replies when it is full."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.run.atomic import disk_errors, own_name, sweep_up

BYTES = 4_000_000
"""A label's reply with its logprobs takes some hundred bytes compressed, its pages and journal a few thousand."""


class Reserve:
    """A file beside the store, one for each process that sends; a killed process's is swept up by the next."""

    def __init__(self, store: Path) -> None:
        self._store, self._name = store, store.with_name(f"{store.name}-reserve")
        self._held: Path | None = None

    def take(self) -> None:
        """Set the room aside. Raises DiskFull when the disk has none, before anything is paid for."""
        if self._held is not None:
            return
        sweep_up(self._name)
        held = own_name(self._name)
        with disk_errors(self._store):
            try:
                with open(held, "wb") as out:
                    if hasattr(os, "posix_fallocate"):
                        os.posix_fallocate(out.fileno(), 0, BYTES)
                    else:
                        out.write(bytes(BYTES))
            except OSError:
                held.unlink(missing_ok=True)
                raise
        self._held = held

    def free(self) -> bool:
        """Give the room back; whether any was held."""
        if self._held is None:
            return False
        self._held.unlink(missing_ok=True)
        self._held = None
        return True
