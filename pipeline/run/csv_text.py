"""CsvText: tables for spreadsheets, in which no foreign text runs as a formula, and the way back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of what a spreadsheet takes for a formula, the full-width forms among them (OWASP, CSV injection)."""


def encoded(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A table as UTF-8, every cell guarded, None blank."""
    out = _Lines()
    writer = csv.writer(out, lineterminator=_ENDS)
    writer.writerow([guarded(c) for c in columns])
    writer.writerows([guarded(v) for v in row] for row in rows)
    return out.getvalue().encode("utf-8", "replace")


_ENDS = "\r\n"
"""csv quotes only the line ends that it is told to write; a lone carriage return, unquoted, begins a row, and a formula, elsewhere."""


class _Lines(io.StringIO):
    """Rows that end in a line feed."""

    def write(self, row: str) -> int:
        """Append a row, whole as csv hands it over."""
        return super().write(row.removesuffix(_ENDS) + "\n")


def guarded(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.lstrip("'").startswith(FORMULA) else value


def unguarded(value: Any) -> Any:
    """What `guarded` was given."""
    is_guarded = isinstance(value, str) and value.startswith("'") and value.lstrip("'").startswith(FORMULA)
    return value[1:] if is_guarded else value
