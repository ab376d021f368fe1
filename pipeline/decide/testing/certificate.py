"""Certificate: what a test found out about candidate thresholds, and the counts that such tests start from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.decide.arrays import Flags, Floats, Ints
from pipeline.decide.thresholds import shortest_decimal


@dataclass(frozen=True)
class Certificate:
    """The lowest threshold that passed, or None where none did.

    `threshold` None: nothing is certified, everything escalates. 0.0: every row that has a confidence is kept by the
    cheap model (rows whose confidence is null still escalate). `escalation_rate` is observed on the certify rows.
    `statistic` and `p_value` belong to the threshold that passed, else to the candidate that came closest; None where no
    candidate was tested. `n` counts every row (or every group, where `unit` says so), whatever is missing in it.
    `delta` bounds the probability that the promise is broken; None where there is no promise (target total_cost).
    """

    threshold: float | None
    escalation_rate: float
    statistic: float | None
    p_value: float | None
    n: int
    n_accepted: int
    method: str
    reason: str
    target: Mapping[str, Any] = field(default_factory=dict)
    delta: float | None = None
    look: int = 1
    looks_delta: float | None = None
    """What all looks at these rows up to this one may break together; None where none was counted."""
    looks_planned: int | None = None
    """Among how many looks the certainty was shared beforehand; None where none were planned."""
    unit: str = "rows"
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def certified(self) -> bool:
        """Whether a promise stands behind the threshold."""
        return self.threshold is not None and self.delta is not None

    def to_json(self) -> dict[str, Any]:
        """Plain values, numbers that are not finite as None."""
        return {
            "target": dict(self.target),
            "delta": self.delta,
            "method": self.method,
            "n": self.n,
            "n_accepted": self.n_accepted,
            "unit": self.unit,
            "statistic": finite(self.statistic),
            "p_value": finite(self.p_value),
            "look": self.look,
            "looks_delta": finite(self.looks_delta),
            "looks_planned": self.looks_planned,
            "reason": self.reason,
            "escalation_rate": finite(self.escalation_rate),
            "details": {
                name: finite(value) if isinstance(value, float) else value for name, value in self.details.items()
            },
        }


def finite(value: float | None) -> float | None:
    """The number as a plain float, or None where it is unknown or not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True)
class Candidates:
    """Candidate thresholds in descending order (few rows accepted to many) and where their rows begin.

    `order` sorts the rows that have a confidence, surest first; candidate i accepts the first `n_accepted[i]` of them.
    `distinct`: the candidates are the confidences of the rows themselves, the empty set (infinity) before them.
    """

    thresholds: Floats
    n_accepted: Ints
    order: npt.NDArray[np.intp]
    n: int
    confidence: Floats
    distinct: bool = False

    def cumulative(self, indicator: Flags) -> Ints:
        """How many accepted rows have the property, for each candidate. `indicator` shape (n,) -> (candidates,)."""
        sums = np.concatenate([[0], np.cumsum(indicator[self.order], dtype=np.int64)])
        return np.asarray(sums[self.n_accepted], dtype=np.int64)

    @property
    def n_confident(self) -> int:
        """Rows that have a confidence at all, the most that any threshold can accept."""
        return len(self.order)

    def threshold(self, index: int) -> float:
        """The candidate as it is promised: 0.0 where it keeps every row that has a confidence.

        Candidate 0.0 would be judged by the very same rows, so it passes whenever this one does. Between two confidences
        of the rows it is the shortest decimal, which keeps the same rows as the upper one.
        """
        if self.n_accepted[index] == self.n_confident:
            return 0.0
        if not self.distinct:
            return float(self.thresholds[index])
        return shortest_decimal(float(self.thresholds[index + 1]), float(self.thresholds[index]))

    def at(self, threshold: float) -> int:
        """Index of the candidate that accepts the very rows that `threshold` does, the nearest that accepts fewer otherwise.

        -1 where every candidate accepts more. With distinct confidences it is the smallest of them from `threshold` on.
        """
        return int(np.searchsorted(-self.thresholds, -threshold, side="right")) - 1


def candidates(confidence: npt.ArrayLike, levels: npt.ArrayLike | None) -> Candidates:
    """Lay out the candidates over the rows. `levels` None takes every distinct confidence of these rows.

    `confidence` shape (n,),
    NaN where null; no rows have no candidates. Raises ValueError when a level is NaN or the shape is not (n,).
    """
    values = np.asarray(confidence, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"confidence must be a one-dimensional array, got shape {values.shape}")
    order = np.argsort(-values, kind="stable")[: int(np.count_nonzero(~np.isnan(values)))]
    if len(values) == 0:
        thresholds = np.zeros(0)
    elif levels is None:
        surest_first = values[order]
        new = np.diff(surest_first, prepend=np.inf) != 0
        thresholds = np.concatenate([[np.inf], surest_first[new]])
    else:
        thresholds = np.unique(np.asarray(levels, dtype=np.float64))[::-1]
        if np.isnan(thresholds).any():
            raise ValueError("levels must not contain NaN")
    n_accepted = np.searchsorted(-values[order], -thresholds, side="right").astype(np.int64)
    return Candidates(thresholds, n_accepted, order, len(values), values, distinct=levels is None)
