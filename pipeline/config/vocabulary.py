"""Vocabulary: each list of names that the product knows, once. Config, command line, tables and status read them here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, StrictStr

from cascade_threshold.calibrator import KINDS as CALIBRATORS
from cascade_threshold.signals import SIGNALS as MEASURED_SIGNALS

ROLES = ("cheap", "strong")
KINDS = ("classify", "choose", "judge")
SPLITS = ("fit", "certify", "test")
SIGNALS = tuple(MEASURED_SIGNALS)
"""Signals that a reply is measured by, in the order of their columns."""
CALIBRATIONS = ("auto", *CALIBRATORS)
TARGETS: dict[str, tuple[str, ...]] = {
    "match_strong": ("within",),
    "accepted_accuracy": ("at_least",),
    "system_accuracy": ("at_least",),
    "agree_with_strong": ("within",),
    "budget": ("escalation_rate", "usd_per_1000"),
    "total_cost": ("usd_per_error",),
}
"""Kinds of target, and of what each needs exactly one."""
STATUSES = (
    "ok", "out_of_set", "no_logprobs", "no_text", "unaligned", "truncated", "empty", "filtered", "failed",
)  # fmt: skip
"""What a reply can be."""
VERDICTS = ("certified", "cheap_only", "strong_only", "optimized", "uncertified")
FORMATS = ("json", "yaml", "toml", "env", "litellm", "vllm-semantic-router")
"""Formats of a policy."""


def one_of(names: Iterable[str]) -> Any:
    """A field whose value is one of the names, which the message lists."""
    known = tuple(names)

    def check(name: str) -> str:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"must be one of {', '.join(map(repr, known))}{hint}")
        return name

    return AfterValidator(check)


KindName = Annotated[StrictStr, one_of(KINDS)]
SplitName = Annotated[StrictStr, one_of(SPLITS)]
SignalName = Annotated[StrictStr, one_of(("auto", *SIGNALS))]
CalibrationName = Annotated[StrictStr, one_of(CALIBRATIONS)]
TargetName = Annotated[StrictStr, one_of(TARGETS)]
