"""Export: a policy in the format that a service reads. Replaying an export gives the same decisions."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from cascade_threshold.policy import Policy, load
from pipeline.config.vocabulary import FORMATS
from pipeline.deliver.formats.export_format import ExportFormat
from pipeline.errors import NotExportable, UsageError

PROMISES = ("certified", "cheap_only", "strong_only")
CARRIES_THE_PROMISE = (
    "task",
    "kind",
    "verdict",
    "threshold",
    "comparator",
    "signal",
    "labels",
    "cheap",
    "strong",
    "prompt_sha256",
    "dataset_sha256",
    "certificate",
    "something",
)


def export(
    policy: str | Path | Mapping[str, Any] | Policy,
    format: str,
    *,
    allow_uncertified: bool = False,
    allow_demo: bool = False,
) -> str:
    """The policy (a file, its document, or a loaded Policy) as text in one of FORMATS.

    Raises NotExportable when the policy holds no promise and `allow_uncertified` is not given (verdicts uncertified and
    optimized, or a file edited where the promise rests), when its models are for demonstration and `allow_demo` is not
    given, or when the format cannot make the same decisions. Raises UsageError on an unknown format.
    """
    if format not in FORMATS:
        raise UsageError(f"format {format!r} is unknown; there are {', '.join(FORMATS)}")
    if not isinstance(policy, Policy):
        policy = Policy(policy) if isinstance(policy, Mapping) else load(policy)
    if policy.document["provider"] == "embedded" and not allow_demo:
        stands_in = policy.document["cheap"].get("stands_in_for") or "a model of the API"
        raise NotExportable(
            f"{policy.where}: its models are for demonstration ({policy.document['cheap']['model']} stands in for {stands_in}), "
            "so its threshold means nothing for them; evaluate with --provider together, or pass --allow-demo"
        )
    doubts = _doubts(policy)
    _refuse(policy, [] if allow_uncertified else doubts)
    chosen = export_format(format)
    if chosen.models_only and policy.document["strong"].get("human"):
        raise NotExportable(
            f"{policy.where}: people are the strong side, and {format} sends requests to models only; take --format json or env"
        )
    doubts += chosen.doubts(policy)
    _refuse(policy, [] if allow_uncertified else doubts)
    return chosen.render(policy, doubts)


def export_format(name: str) -> ExportFormat:
    """What the file of a format defines. Raises KeyError for a name that is not in FORMATS."""
    found = import_module(f"{__package__}.{FORMATS[name]}").FORMAT
    assert isinstance(found, ExportFormat)
    return found


def _refuse(policy: Policy, doubts: list[str]) -> None:
    if doubts:
        raise NotExportable(f"{policy.where}: {'; '.join(doubts)}; pass --allow-uncertified to export it anyway")


def _doubts(policy: Policy) -> list[str]:
    """Why no promise comes with this policy; empty when one does."""
    doubts = []
    if policy.verdict not in PROMISES:
        reason = policy.document["certificate"]["reason"]
        doubts.append(f"its verdict is {policy.verdict}, so it promises nothing" + (f" ({reason})" if reason else ""))
    touched = [name for name in policy.edited if name.split(".")[0] in CARRIES_THE_PROMISE]
    if touched:
        doubts.append(f"it was edited after it was certified ({', '.join(touched)})")
    return doubts
