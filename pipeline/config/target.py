"""Target: what the threshold must keep, as a task's YAML file says it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import StrictStr, model_validator

from pipeline.config.names import TargetName
from pipeline.config.part import Number, Part
from pipeline.config.target_rules import ERROR_COST, LIMITS, require_fields

Floor = Annotated[Number, LIMITS["label_floors"]]
_ErrorCost = Annotated[Number, ERROR_COST]


class Target(Part):
    """What the threshold must keep, and with what certainty."""

    kind: TargetName = "match_strong"
    """What is promised; see choosing a target."""
    within: Annotated[Number, LIMITS["within"]] | None = None
    """match_strong, agree_with_strong: most that may be lost; 0.02 is two points."""
    at_least: Annotated[Number, LIMITS["at_least"]] | None = None
    """accepted_accuracy, system_accuracy: the least accuracy."""
    escalation_rate: Annotated[Number, LIMITS["escalation_rate"]] | None = None
    """budget: largest share of escalated requests."""
    usd_per_1000: Annotated[Number, LIMITS["usd_per_1000"]] | None = None
    """budget: most dollars for 1,000 requests."""
    usd_per_error: (
        Annotated[Number, LIMITS["usd_per_error"]] | dict[StrictStr, _ErrorCost | dict[StrictStr, _ErrorCost]] | None
    ) = None
    """total_cost: what an error costs; one number, or by true label, or by true label and answer given."""
    certainty: Annotated[Number, LIMITS["certainty"]] = 0.9
    """Probability with which a certified promise holds."""
    label_floors: dict[StrictStr, Floor] | None = None
    """Least recall of the cascade, by label or by a name of label_groups."""
    label_groups: dict[StrictStr, tuple[StrictStr, ...]] | None = None
    """Several labels under one name for label_floors: being told for any of them is enough."""
    segment_floors: dict[StrictStr, Floor | dict[StrictStr, Floor]] | None = None
    """Least share of a segment's rows that the cascade answers right; with labels below it, their recall in that segment:
    {threat: {yes: 0.9}} where a yes/no table's category is the segment."""

    @model_validator(mode="after")
    def _fields(self) -> Self:
        require_fields(self.kind, vars(self))
        return self

    @property
    def delta(self) -> float:
        """Allowed probability that the promise is broken: 1 - certainty, free of binary noise."""
        return round(1 - float(self.certainty), 12)
