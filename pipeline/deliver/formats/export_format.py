"""Export format: how a policy is written for one kind of reader. Each format is a file here and a line in `vocabulary.FORMATS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cascade_threshold.policy import Policy


def no_doubts(policy: Policy) -> list[str]:
    """For a format whose reader uses the package, or makes its own decisions."""
    return []


class ExportFormat(NamedTuple):
    """What the file of a format defines as FORMAT."""

    render: Callable[[Policy, list[str]], str]
    """The text, from the policy and why it promises nothing (empty when it does).
    Raises NotExportable where the format cannot make the same decisions."""
    models_only: bool = False
    """Whether it sends requests to models, so that people cannot be the strong side."""
    doubts: Callable[[Policy], list[str]] = no_doubts
    """Why decisions made from this format might differ from those calibrated.
    Raises NotExportable where they certainly would."""


def headline(policy: Policy, doubts: list[str]) -> str:
    """The comment above an export: what to do, the verdict, the digest, and every reason not to trust it."""
    document = policy.document
    where = (
        "every request goes to the strong model"
        if policy.threshold is None
        else f"escalate when confidence < {policy.threshold!r}, or when it is null"
    )
    lines = [
        f"Cascade policy of task {policy.task}: {where}.",
        f"Verdict {policy.verdict}; digest {document['digest']}.",
    ]
    reads = [name for name, read in (("text", policy.reads_text), ("segment", policy.reads_segment)) if read]
    if reads:
        given = ", ".join(f"{name}=..." for name in reads)
        lines.append(
            f"The confidence reads the request's {' and '.join(reads)}: decide(completion, {given}); without, it is null."
        )
    lines += [f"NO PROMISE: {doubt}." for doubt in doubts]
    if document["provider"] == "embedded":
        lines.append("DEMONSTRATION MODELS: not for use with the models that they stand in for.")
    return "\n".join(lines)
