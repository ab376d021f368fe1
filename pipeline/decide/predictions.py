"""Rows: the evaluated examples as arrays of one length. Unknown numbers are NaN, unknown texts None."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Rows:
    """Examples of one task, one array element each.

    `cheap_correct` and `strong_correct` are 1.0, 0.0, or NaN where it is not known (no reply, no label).
    `confidence` is NaN where the cheap model's reply supports none; such rows always escalate.
    Dollars and seconds are those recorded for the row's own replies; NaN where unknown.
    """

    example_id: Texts
    split: Texts
    group: Texts
    segment: Texts
    label: Texts
    cheap_answer: Texts
    strong_answer: Texts
    confidence: Floats
    cheap_correct: Floats
    strong_correct: Floats
    cheap_usd: Floats
    strong_usd: Floats
    cheap_s: Floats
    strong_s: Floats

    def __len__(self) -> int:
        return len(self.confidence)

    def take(self, which: npt.NDArray[Any]) -> Rows:
        """The rows of a boolean mask or an index array, in that order."""
        return Rows(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def of(self, split: str) -> Rows:
        """The rows of one split; `all` gives every row."""
        return self if split == "all" else self.take(self.split == split)

    @property
    def agree(self) -> Floats:
        """1.0 where both models gave the same answer, 0.0 where not, NaN where either is missing, shape (n,)."""
        known = np.array(
            [a is not None and b is not None for a, b in zip(self.cheap_answer, self.strong_answer, strict=True)],
            dtype=bool,
        )
        return np.where(known, (self.cheap_answer == self.strong_answer).astype(float), np.nan)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Rows:
        """Read a predictions table. Columns that it lacks are unknown throughout."""
        n = len(frame)

        def numbers(name: str) -> Floats:
            if name not in frame:
                return np.full(n, np.nan)
            return np.asarray(
                pd.to_numeric(frame[name], errors="coerce").astype("Float64").to_numpy(np.float64, na_value=np.nan)
            )

        def texts(name: str) -> Texts:
            if name not in frame:
                return np.full(n, None, dtype=object)
            column = frame[name].astype(object)
            return column.where(column.notna(), None).to_numpy(dtype=object)

        numeric = {"confidence", "cheap_correct", "strong_correct", "cheap_usd", "strong_usd", "cheap_s", "strong_s"}
        columns: dict[str, Any] = {f.name: (numbers if f.name in numeric else texts)(f.name) for f in fields(cls)}
        return cls(**columns)
