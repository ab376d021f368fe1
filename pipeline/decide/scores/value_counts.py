"""ValueCounts: graded confidences as counts per distinct value, which is all that the metrics and fits depend on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.decide.arrays import Floats, Ints


@dataclass(frozen=True)
class Cells:
    """Distinct confidences in ascending order with how many rows have each, and how many of those are right.

    `value`, `n` and `right` have shape (k,). Counts are floats so that they can also be bootstrap weights. `upper` (k,) is
    the largest confidence of a cell: its value, unless neighbours were merged.
    """

    value: Floats
    n: Floats
    right: Floats
    upper: Floats

    def __len__(self) -> int:
        return len(self.value)

    @property
    def total(self) -> float:
        """All rows."""
        return float(self.n.sum())

    @property
    def wrong(self) -> Floats:
        """Wrong rows per confidence, shape (k,)."""
        return self.n - self.right

    @classmethod
    def of(cls, confidence: npt.ArrayLike, correct: npt.ArrayLike) -> Cells:
        """Count rows, shape (n,) each; rows with an unknown confidence or correctness (NaN) are left out.

        Raises ValueError on unequal lengths, a confidence outside [0, 1] or a correctness other than 0 and 1.
        """
        p, y = known(confidence, correct)
        if len(p) == 0:
            return cls(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0))
        cell, value = pd.factorize(p)
        order = np.argsort(value)
        n, right = np.bincount(cell)[order].astype(np.float64), np.bincount(cell, y)[order].astype(np.float64)
        return cls(value[order], n, right, value[order])

    def rows(self) -> tuple[Floats, Floats]:
        """The rows that were counted, confidence and correctness in ascending order, shape (total,) each."""
        wrong_and_right = np.column_stack([self.wrong, self.right]).astype(np.int64)
        correct = np.repeat(np.tile([0.0, 1.0], len(self)), wrong_and_right.ravel())
        return np.repeat(self.value, self.n.astype(np.int64)), correct

    def index_of(self, confidence: Floats) -> Ints:
        """The cell of each confidence that was counted, shape (n,)."""
        return np.searchsorted(self.upper, confidence, side="left").astype(np.int64)

    def merged(self, at_most: int) -> Cells:
        """At most `at_most` cells: neighbours joined by rank, at their mean value. Unchanged where there are few."""
        if len(self) <= at_most:
            return self
        middle = np.cumsum(self.n) - self.n / 2
        target = np.minimum((middle / self.total * at_most).astype(np.int64), at_most - 1)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(target)) + 1])
        n = np.add.reduceat(self.n, starts)
        upper = self.upper[np.append(starts[1:], len(self)) - 1]
        return Cells(np.add.reduceat(self.value * self.n, starts) / n, n, np.add.reduceat(self.right, starts), upper)


def known(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The rows where both are known, as floats. Raises ValueError on lengths or values that cannot be."""
    p, y = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape:
        raise ValueError(f"confidence has shape {p.shape} and correct {y.shape}: two arrays of one length are needed")
    both = ~(np.isnan(p) | np.isnan(y))
    if not both.all():
        p, y = p[both], y[both]
    if len(p) and not (p.min() >= 0 and p.max() <= 1):
        raise ValueError(f"confidences lie in [0, 1], found {p.min():g} to {p.max():g}")
    if not np.all((y == 0) | (y == 1)):
        raise ValueError("correctness is 0, 1 or NaN")
    return p, y
