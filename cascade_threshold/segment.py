"""Segment: the name of the part of the requests that one belongs to, read alike in calibration and production. Standard library only."""

from __future__ import annotations

BLANK = "(none)"
"""Segment of the rows whose column is blank."""


def segment_name(value: object) -> str | None:
    """The segment as the rows of a dataset name it: an integer as its digits, a blank text as BLANK; None where none is told."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return None
    return value if value.strip() else BLANK
