"""Downloads: what the page lets people take away as tables. A cell that a spreadsheet would run as a formula is quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.run.csv_text import encoded


def sweep_csv(sweep: pd.DataFrame) -> bytes:
    """The whole of sweep.parquet: every split, threshold and band."""
    rows = sweep.astype(object).where(sweep.notna(), None).itertuples(index=False, name=None)
    short = ([float(f"{v:.9g}") if isinstance(v, float) else v for v in row] for row in rows)
    return encoded([str(c) for c in sweep.columns], short)


def mistakes_csv(mistakes: Sequence[Mapping[str, Any]]) -> bytes:
    """The most confident mistakes as the page shows them, texts cut as there."""
    columns = ["example_id", "split", "confidence", "label", "cheap_answer", "strong_answer", "strong_correct", "text"]
    return encoded(columns, ([row[c] for c in columns] for row in mistakes))
