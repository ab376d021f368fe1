"""YAML: the policy, with what to do in the comment above it."""

from __future__ import annotations

from cascade_threshold.policy import Policy
from pipeline.deliver.formats.export_format import ExportFormat, headline
from pipeline.deliver.formats.serialize import to_yaml


def render(policy: Policy, doubts: list[str]) -> str:
    """The document under its headline."""
    return to_yaml(policy.document, headline(policy, doubts))


FORMAT = ExportFormat(render)
