"""Work on shards for tests of the engine; in a module of its own, so that another process imports it quickly."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.manifest import Manifest
from pipeline.errors import DataError


@dataclass(frozen=True)
class Part:
    number: int
    folder: Path
    deaths: int = 0
    """How often the process is killed before it gets through."""


def work(part: Part) -> Manifest:
    with (part.folder / "begun").open("a") as log:
        log.write(f"{part.number}\n")
    if _begun(part)[str(part.number)] <= part.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    path = part.folder / f"{part.number}.out"
    path.write_text(f"part {part.number}" * 100)
    return Manifest({str(path): hashlib.sha256(path.read_bytes()).hexdigest()}, 100, {"number": part.number})


def _begun(part: Part) -> Counter[str]:
    log = part.folder / "begun"
    return Counter(log.read_text().split() if log.exists() else ())


def refuse(part: Part) -> Manifest:
    raise DataError(f"part {part.number} is odd")


class Unpicklable(Exception):
    """Holds what no other process can be given."""

    def __init__(self, message: str, held: object) -> None:
        super().__init__(message, held)

    def __str__(self) -> str:
        return str(self.args[0])


def break_oddly(part: Part) -> Manifest:
    raise Unpicklable(f"part {part.number}", lambda: None)


def outlast(part: Part) -> Manifest:
    """Part 0 ends only after part 4 has been computed by another process."""
    while part.number == 0 and "4" not in _begun(part):
        time.sleep(0.01)
    return work(part)


def wait_for_reader(part: Part) -> Manifest:
    """Parts 2 and up end only after the first two have been read."""
    while part.number >= 2 and not (part.folder / "read").exists():
        time.sleep(0.01)
    return work(part)
