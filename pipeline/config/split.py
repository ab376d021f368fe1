"""Split: which rows certify, and whether some are set apart to fit or to test."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from pipeline.config.part import Part, Share
from pipeline.config.vocabulary import SPLITS


class Split(Part):
    """Shares of the three uses of rows; they are placed by a hash of the group. Written `pooled`: all rows certify."""

    fit: Share = 0.0
    """Rows that choose signal and calibrator, and starts of tests."""
    certify: Share
    """Rows that carry the promise."""
    test: Share = 0.0
    """Rows that had no say; the figures are read there."""

    @model_validator(mode="before")
    @classmethod
    def _pooled(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value.strip() != "pooled":
                raise ValueError(f"split is pooled (all rows certify) or {{fit, certify, test}}, got {value!r}")
            return {"fit": 0.0, "certify": 1.0, "test": 0.0}
        return value

    @model_validator(mode="after")
    def _sum(self) -> Self:
        if abs(self.fit + self.certify + self.test - 1) > 1e-9:
            raise ValueError(f"fit + certify + test must be 1, got {self.fit + self.certify + self.test:g}")
        if self.certify <= 0:
            raise ValueError("certify must be above 0: a promise needs rows that certify it")
        return self


POOLED = Split(certify=1.0)
"""Where nothing is left to fix beforehand: the confidence is named, or the replies' shape names it."""
WITH_FIT = Split(fit=0.3, certify=0.7)
"""Where rows choose or fit the signal: those must not certify it."""
FITTED_SIGNALS = ("auto", "learned")


def layout(stated: Split | None, signal: str | None) -> Split:
    """Which rows certify: as the config says, else all, but for those that a signal is chosen on."""
    return stated or (WITH_FIT if signal in FITTED_SIGNALS else POOLED)


def strong_splits(stated: tuple[str, ...] | None, *, labeled: bool, target: str) -> tuple[str, ...]:
    """Splits whose rows get a strong answer: as the config says, else those of which one is read.

    Of fit rows it is where there are no labels, so that it stands in for them, and where a cascade's own accuracy says at
    which threshold to start.
    """
    if stated is not None:
        return stated
    return ("certify", "test") if labeled and target != "system_accuracy" else SPLITS
