"""ReportComparison: two decisions side by side as one self-contained page, in the report's style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.deliver.report.data import TITLES
from pipeline.deliver.report.templating import environment, our_own, read_template, script_digest

FIGURES = (
    ("accuracy", "Accuracy", "share"),
    ("escalation_rate", "Escalated", "share"),
    ("usd_per_1000", "Cost per 1,000 requests", "usd"),
)
"""Name in the comparison, in words, and unit."""


def render(result: Mapping[str, Any]) -> str:
    """The page of a comparison, cascade-comparison/1. Everything on it comes from `result`."""
    script = read_template("tables.js")
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            result=result,
            titles=TITLES,
            figures=[
                {"name": name, "words": words, "unit": unit, **result["figures"][name]} for name, words, unit in FIGURES
            ],
            style=our_own(read_template("style.css")),
            script=our_own(script),
            script_sha256=script_digest(script),
        )
    )
