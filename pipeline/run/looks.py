"""Looks: how often certify rows have been used for a certificate. Every further question costs certainty."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cascade_threshold import json_text
from pipeline.errors import UsageError
from pipeline.run.atomic import write_bytes
from pipeline.run.directory import LOOKS

SKETCH = 4096
"""Hashes kept of a set; a larger one is known by its smallest."""
AT_ONCE = 1 << 16
RELATED = 0.1
"""Share of the smaller set's rows from which on two sets are the same rows, looked at again."""
UNKNOWN_DELTA = 0.1
"""delta assumed for looks recorded before deltas were."""


@dataclass(frozen=True)
class Look:
    """`number`: 1 is the first; `delta`: what all looks at these rows may break together, at most 1."""

    number: int
    delta: float


def sketch(contents: Iterable[str]) -> list[str]:
    """The smallest hashes of the rows' contents, which tell how much two sets share."""
    return sketch_of(hashlib.sha256(c.encode("utf-8", "surrogatepass")).hexdigest() for c in contents)


def sketch_of(digests: Iterable[str]) -> list[str]:
    """`sketch` of contents whose sha256 are known, in hex. What is not small is let go at once."""
    found: list[str] = []
    rest = iter(digests)
    while piece := {digest[:16] for digest in islice(rest, AT_ONCE)}:
        found = sorted(piece.union(found))[:SKETCH]
    return found


def look(runs_dir: Path, rows: list[str], question: str, delta: float) -> Look:
    """This look at these rows, written down beside the runs.

    The identical question about the very same rows is not a new look. Rows of which less than a tenth were seen before start
    afresh; adding rows to a set does not (at a population just over the boundary a 90 % promise breaks in .09 of cases after
    one look, .13 after two, .26 after eight). Raises UsageError when the ledger is damaged.
    """
    path = runs_dir / LOOKS
    past = _read(path)
    related = [entry for entry in past if _shared(rows, entry["rows"]) >= RELATED]
    asked = {"rows": rows, "question": question, "delta": delta}
    for number, entry in enumerate(related, 1):
        if entry["question"] == question and entry["rows"] == rows:
            return Look(number, _together(related[:number]))
    lines = "".join(json.dumps(e, separators=(",", ":")) + "\n" for e in (*past, asked))
    write_bytes(path, lines.encode())
    return Look(len(related) + 1, _together([*related, asked]))


def _together(entries: Iterable[dict[str, Any]]) -> float:
    return min(1.0, sum(float(entry.get("delta", UNKNOWN_DELTA)) for entry in entries))


def _shared(mine: list[str], theirs: list[str]) -> float:
    """Share of the smaller set that both hold, of two sorted sketches: over the hashes that both would have kept."""
    ends = [s[-1] for s in (mine, theirs) if len(s) >= SKETCH]
    end = min(ends, default="g")  # sorts after every hexadecimal digit
    a, b = ({h for h in s if h <= end} for s in (mine, theirs))
    return len(a & b) / min(len(a), len(b)) if a and b else 0.0


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    entries = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            entry = json_text.parse(line)
        except ValueError:
            entry = None
        delta = entry.get("delta", UNKNOWN_DELTA) if isinstance(entry, dict) else None
        known = isinstance(delta, int | float) and 0 <= delta <= 1
        if not (known and isinstance(entry.get("rows"), list) and isinstance(entry.get("question"), str)):
            raise UsageError(
                f"{path}, line {number}: is damaged, so it is unknown how often these rows were looked at; restore the file from "
                "a copy, or remove the line, which forgets that look"
            )
        entries.append(entry | {"rows": sorted(map(str, entry["rows"]))})
    return entries
