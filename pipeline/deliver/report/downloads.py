"""Downloads: what the page lets people take away as tables. A cell that a spreadsheet would run as a formula is quoted."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def sweep_csv(sweep: pd.DataFrame) -> bytes:
    """The whole of sweep.parquet: every split, threshold and band."""
    rows = sweep.astype(object).where(sweep.notna(), None).itertuples(index=False, name=None)
    short = ([float(f"{v:.9g}") if isinstance(v, float) else v for v in row] for row in rows)
    return _csv([str(c) for c in sweep.columns], short)


def mistakes_csv(mistakes: Sequence[Mapping[str, Any]]) -> bytes:
    """The most confident mistakes as the page shows them, texts cut as there."""
    columns = ["example_id", "split", "confidence", "label", "cheap_answer", "strong_answer", "strong_correct", "text"]
    return _csv(columns, ([row[c] for c in columns] for row in mistakes))


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([guarded(v) for v in row] for row in rows)
    return out.getvalue().encode("utf-8", "replace")


def guarded(value: Any) -> Any:
    """Foreign text that a spreadsheet would take for a formula gets an apostrophe in front; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
