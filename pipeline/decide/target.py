"""Goal: what a threshold must keep, as plain numbers. `pipeline.config.task.Target` and anything with its attributes fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.config.target_rules import require_fields, require_range

_FIELDS = (
    "within",
    "at_least",
    "escalation_rate",
    "usd_per_1000",
    "usd_per_error",
    "label_floors",
    "label_groups",
    "segment_floors",
)
ErrorCosts = float | Mapping[str, float | Mapping[str, float]]


PAIRED = ("match_strong", "agree_with_strong")
"""Kinds of target that compare with the strong model row by row."""


class TargetLike(Protocol):
    """What is read of a config's target; its further attributes are those of `Goal`, absent where they do not belong."""

    @property
    def kind(self) -> Any:
        """One of TARGETS."""

    @property
    def delta(self) -> float:
        """Allowed probability that the promise is broken."""


@dataclass(frozen=True)
class Goal:
    """A target. Raises ValueError for what no config may say: see `pipeline.config.target_rules`."""

    kind: str
    delta: float
    within: float | None = None
    at_least: float | None = None
    escalation_rate: float | None = None
    usd_per_1000: float | None = None
    usd_per_error: ErrorCosts | None = None
    label_floors: Mapping[str, float] | None = None
    label_groups: Mapping[str, Sequence[str]] | None = None
    """Names that `label_floors` may use for several labels together: being told for one of them is enough."""
    segment_floors: Mapping[str, float | Mapping[str, float]] | None = None
    """Least share right by segment, or by segment and label the least recall of that label there."""

    def __post_init__(self) -> None:
        require_fields(self.kind, vars(self))
        require_range(vars(self))

    @classmethod
    def of(cls, target: TargetLike) -> Goal:
        """Read a target's attributes; those that it lacks are None."""
        numbers = {name: getattr(target, name, None) for name in _FIELDS}
        return cls(str(target.kind), float(target.delta), **numbers)

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Goal:
        """The target that a policy names, as `to_json` writes it."""
        numbers = {name: said[name] for name in _FIELDS if name in said}
        return cls(str(said["kind"]), round(1 - float(said["certainty"]), 12), **numbers)

    @property
    def limit(self) -> float:
        """The one number of the first four kinds: `within` or `at_least`."""
        number = self.within if self.within is not None else self.at_least
        assert number is not None
        return number

    @property
    def paired(self) -> bool:
        """Whether candidates are tested in one fixed sequence, each per cent of the rows, rather than by fallback."""
        return self.kind in PAIRED

    @property
    def floored(self) -> bool:
        """Whether parts of the rows have floors of their own."""
        return bool(self.label_floors or self.segment_floors)

    @property
    def floors_by_segment(self) -> dict[str, tuple[str, str | None, float]]:
        """Each floor of a segment by the name it is shown under: segment, label (None: all rows of it), least share."""
        found: dict[str, tuple[str, str | None, float]] = {}
        for segment, floor in (self.segment_floors or {}).items():
            if isinstance(floor, Mapping):
                found |= {f"{label} in {segment}": (segment, label, float(least)) for label, least in floor.items()}
            else:
                found[segment] = (segment, None, float(floor))
        return found

    @property
    def promises(self) -> bool:
        """Whether a test backs it: the lowest total cost and a budget in dollars are estimates."""
        return self.kind != "total_cost" and self.usd_per_1000 is None

    def quality_line(self, strong_accuracy: float | None) -> float | None:
        """The accuracy, or the agreement with the strong model, that the cascade is to reach; None where the target asks for neither.

        strong_accuracy  of the same rows; None where it is unknown
        """
        if self.kind == "match_strong":
            return None if strong_accuracy is None else strong_accuracy - self.limit
        if self.kind == "agree_with_strong":
            return 1 - self.limit
        return self.limit if self.kind == "system_accuracy" else None

    def to_json(self) -> dict[str, Any]:
        """The target as a config would say it."""
        shown = {name: getattr(self, name) for name in ("kind", *_FIELDS) if getattr(self, name) is not None}
        shown |= {name: _plain(value) for name, value in shown.items() if isinstance(value, Mapping)}
        return shown | {"certainty": round(1 - self.delta, 12)}


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _plain(entry) if isinstance(entry, Mapping) else list(entry) if isinstance(entry, tuple) else entry
        for key, entry in value.items()
    }
