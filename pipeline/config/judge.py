"""Judge: which label of kind judge means yes, and what graded labels are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, StrictStr, field_validator

from cascade_threshold.answer_set import AnswerSet
from cascade_threshold.label_text import label_text
from pipeline.config.part import Number, Part


class Judge(Part):
    """Kind judge: its answers are yes and no unless this, or `labels`, says otherwise."""

    positive: StrictStr | None = None
    """The label that means yes; known without it: yes, true, relevant, 1."""
    negative: StrictStr | None = None
    """The other label; needed beside `positive` where `labels` is left out."""
    grades: dict[StrictStr, Annotated[Number, Field(ge=0, le=1_000_000)]] | None = None
    """Gain of every label where relevance is graded; the largest means yes unless `positive` says otherwise."""

    @field_validator("positive", "negative", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return label_text(value) if isinstance(value, bool | int) else value

    @field_validator("grades", mode="before")
    @classmethod
    def _keys(cls, grades: Any) -> Any:
        return {label_text(k): v for k, v in grades.items()} if isinstance(grades, dict) else grades

    def answers(self, labels: Sequence[str] | None) -> tuple[str, ...]:
        """The closed set, the label that means yes first. Raises ValueError when that is not known, or names do not fit."""
        if labels is None and self.grades is not None:
            labels = tuple(self.grades)
        if labels is None and self.positive is not None:
            if self.negative is None:
                raise ValueError("judge.positive without `labels` needs judge.negative, the other answer")
            labels = (self.positive, self.negative)
        labels = ("yes", "no") if labels is None else tuple(labels)
        if self.negative is not None and self.negative not in labels:
            raise ValueError(f"judge.negative names {self.negative!r}, which is none of the labels {list(labels)}")
        positive = self.positive
        if self.grades is not None:
            ungraded = set(labels) ^ set(self.grades)
            if ungraded:
                raise ValueError(f"judge.grades and labels differ in {sorted(ungraded)}: give every label its gain")
            if not any(self.grades.values()):
                raise ValueError(
                    "judge.grades: every gain is 0, so nothing could be ranked; give the relevant labels a gain above 0"
                )
            positive = positive or max(self.grades.items(), key=lambda pair: pair[1])[0]
        found = AnswerSet.judge(labels, positive)
        assert found.positive is not None
        yes = labels[found.positive]
        return (yes, *(label for label in labels if label != yes))
