"""JSON: the policy as it is kept."""

from __future__ import annotations

import json

from cascade_threshold.policy import Policy
from pipeline.deliver.formats.export_format import ExportFormat


def render(policy: Policy, doubts: list[str]) -> str:
    """The document itself."""
    return json.dumps(policy.document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMAT = ExportFormat(render)
