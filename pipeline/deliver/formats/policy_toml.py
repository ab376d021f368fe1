"""TOML: the policy without its nulls, which TOML does not have."""

from __future__ import annotations

from cascade_threshold.policy import Policy
from pipeline.deliver.formats.export_format import ExportFormat, headline
from pipeline.deliver.formats.serialize import to_toml

NOTE = "TOML has no null: what is unknown is left out. No threshold here means that everything escalates."


def render(policy: Policy, doubts: list[str]) -> str:
    """The document under its headline and a note on nulls."""
    return to_toml(policy.document, f"{headline(policy, doubts)}\n{NOTE}")


FORMAT = ExportFormat(render)
