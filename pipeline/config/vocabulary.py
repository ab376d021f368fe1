"""Vocabulary: each list of names that the product knows, once. Config, command line, tables and status read them here.

Imported before it is known whether the evaluation's libraries are installed, so it needs none.
"""

from __future__ import annotations

from cascade_threshold.calibrator import KINDS as CALIBRATORS
from cascade_threshold.policy_schema import ROLES as SIDES
from cascade_threshold.signals import SIGNALS as MEASURED_SIGNALS

ROLES = SIDES
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
VERDICTS = ("certified", "cheap_only", "strong_only", "optimized", "uncertified")
FORMATS = {
    "json": "policy_json",
    "yaml": "policy_yaml",
    "toml": "policy_toml",
    "env": "env_file",
    "litellm": "litellm",
    "vllm-semantic-router": "semantic_router",
}
"""Formats of a policy, and the file under pipeline/deliver/formats that writes each."""

LENGTHS = ("cheap_answer_tokens", "cheap_reply_tokens")
"""Columns of graded rows: tokens that spell the cheap answer, and tokens of the whole reply; null unless its status is ok."""
