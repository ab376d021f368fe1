"""Split: which rows certify, and whether some are set apart to fit or to test."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from pipeline.config.part import Part, Share


class Split(Part):
    """Shares of the three uses of rows; they are placed by a hash of the group. Written `pooled`: all rows certify."""

    fit: Share = 0.3
    """Rows that choose signal and calibrator, and starts of tests."""
    certify: Share = 0.5
    """Rows that carry the promise."""
    test: Share = 0.2
    """Rows that had no say; the figures are read there."""

    @model_validator(mode="before")
    @classmethod
    def _pooled(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value.strip() != "pooled":
                raise ValueError(f"split is pooled (all rows certify) or {{fit, certify, test}}, got {value!r}")
            return {"fit": 0, "certify": 1, "test": 0}
        return value

    @model_validator(mode="after")
    def _sum(self) -> Self:
        if abs(self.fit + self.certify + self.test - 1) > 1e-9:
            raise ValueError(f"fit + certify + test must be 1, got {self.fit + self.certify + self.test:g}")
        if self.certify <= 0:
            raise ValueError("certify must be above 0: a promise needs rows that certify it")
        return self
