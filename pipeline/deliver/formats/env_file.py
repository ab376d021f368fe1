"""Environment file: the threshold and what it belongs to, as variables."""

from __future__ import annotations

from cascade_threshold.policy import Policy
from pipeline.deliver.formats.export_format import ExportFormat, headline
from pipeline.deliver.formats.serialize import to_env

NEVER_ACCEPTS = "2"
"""A .env file has no null, and no confidence is below 0 or above 1: against this threshold every comparison escalates."""


def render(policy: Policy, doubts: list[str]) -> str:
    """Variables named after the task."""
    document, prefix = policy.document, f"CASCADE_{policy.task.upper()}"
    values = {
        "THRESHOLD": NEVER_ACCEPTS if policy.threshold is None else repr(policy.threshold),
        "CHEAP_MODEL": document["cheap"]["model"] or "",
        "STRONG_MODEL": document["strong"]["model"] or "",
        "VERDICT": policy.verdict,
        "SIGNAL": f"{document['signal']['name']}/{document['signal']['version']}",
        "POLICY_DIGEST": document["digest"],
    }
    note = (
        f"\nThe threshold {NEVER_ACCEPTS} escalates everything: no confidence reaches it."
        if policy.threshold is None
        else ""
    )
    if policy.signal == "learned":
        note += (
            "\nThe confidence is a learned signal: only the package cascade_threshold computes it, from policy.json; a threshold alone "
            "decides nothing."
        )
    return to_env({f"{prefix}_{name}": value for name, value in values.items()}, headline(policy, doubts) + note)


FORMAT = ExportFormat(render)
