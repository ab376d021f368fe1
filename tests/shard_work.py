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
    begun = Counter((part.folder / "begun").read_text().split())[str(part.number)]
    if begun <= part.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    path = part.folder / f"{part.number}.out"
    path.write_text(f"part {part.number}" * 100)
    return Manifest({str(path): hashlib.sha256(path.read_bytes()).hexdigest()}, 100, {"number": part.number})


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
    """Part 0 never ends in its first try and does not heed SIGTERM; part 1 kills its process once that is so."""
    mark = part.folder / "deaf"
    if part.number == 0 and not mark.exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        mark.touch()
        time.sleep(600)
    while part.number == 1 and not mark.exists():
        time.sleep(0.01)
    if part.number == 1 and not (part.folder / "killed").exists():
        (part.folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return work(part)
