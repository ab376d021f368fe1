"""StrongAnswers: how many of the strong side's answers are bought, or that people give them."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictStr, field_validator, model_validator

from pipeline.config.limits import MOST_REQUESTS
from pipeline.config.names import SplitName
from pipeline.config.part import Dollars, Number, Part

SAMPLES = (0.5, 0.25, 0.1)
"""Rates of the coin by which strong answers may be bought."""


class StrongAnswers(Part):
    """Which strong answers are bought."""

    sample: StrictStr | Number = "all"
    """all, or the rate of the coin that decides which right cheap answers are looked at for wins: 0.5, 0.25, 0.1, or auto."""
    requests_per_year: Annotated[Number, Field(gt=0, le=MOST_REQUESTS)] | None = None
    """What production sends, for sample: auto; left out: 12 x volume.requests_per_month."""

    @field_validator("sample")
    @classmethod
    def _sample(cls, sample: str | float) -> str | float:
        if sample not in ("all", "auto", *SAMPLES):
            raise ValueError(f"sample is all, auto or a rate of {', '.join(f'{rate:g}' for rate in SAMPLES)}")
        return sample

    @model_validator(mode="after")
    def _year(self) -> Self:
        if self.requests_per_year is not None and self.sample != "auto":
            raise ValueError("requests_per_year belongs to sample: auto; remove it, or write sample: auto")
        return self

    def rate(self, rows: int, requests_per_year: float | None) -> float:
        """The coin's rate for so many certifying rows; 1 buys every answer, 0 only those of wrong cheap answers.

        auto: sqrt(requests a year / (5 rows^1.5)), where a further call costs as much as the escalations that it saves in a
        year: below .05 none is drawn, else the rate nearest to it on a log scale.
        """
        if not isinstance(self.sample, str):
            return float(self.sample)
        if self.sample == "all" or requests_per_year is None:
            return 1.0
        best = math.sqrt(requests_per_year / (5 * max(rows, 1) ** 1.5))
        return 0.0 if best < 0.05 else min((*SAMPLES, 1.0), key=lambda rate: abs(math.log(rate / best)))

    def require(self, target: str, in_dollars: bool, requests_per_year: float | None) -> None:
        """Raise ValueError where a sample cannot keep what the target promises, or auto has nothing to go by."""
        if self.sample == "all":
            return
        if target in ("system_accuracy", "total_cost") or in_dollars:
            what = "a budget in dollars" if in_dollars else f"target {target}"
            raise ValueError(
                f"strong.sample is {self.sample}, and {what} needs every strong answer: write sample: all, or a target that "
                "compares with the strong model (match_strong, agree_with_strong) or needs no strong answer"
            )
        if self.sample == "auto" and requests_per_year is None:
            raise ValueError(
                "strong.sample: auto weighs calls against a year's escalations: give strong.requests_per_year or "
                "volume.requests_per_month, or a rate (0.5, 0.25, 0.1)"
            )


class StrongTable(StrongAnswers):
    """The strong side of a table of predictions, which brings its answers: no model is named."""

    human: Literal[False] = False
    """True: people are the strong side, see Human."""


class Human(Part):
    """People in place of a strong model: their answer is the label."""

    human: Literal[True]
    """People are the strong side."""
    usd_per_request: Dollars
    """What one of their answers costs."""
    splits: tuple[SplitName, ...] | None = None
    """Splits whose rows they answer; left out: those of which an answer is read."""


def strong_side(value: Any) -> str:
    """Which kind of strong side a config says: a model, people, or a table's answers."""
    if isinstance(value, StrongTable) or (
        isinstance(value, dict) and value and set(value) <= {"sample", "requests_per_year"}
    ):
        return "<table>"
    human = value.get("human") if isinstance(value, dict) else getattr(value, "human", False)
    return "<people>" if human is True else "<model>"
