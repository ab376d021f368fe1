"""Summary: a decision in Markdown, as a comment on a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.decide.advice.number_text import bare_usd

MARKER = "<!-- cascade-threshold -->"
"""First line, by which a later run finds and replaces the comment."""
WIDTH = 20
"""Characters of a bar."""
BARS = (("cheap alone", "cheap"), ("cascade", "system"), ("strong alone", "strong"))


def document(tasks: Sequence[Sequence[str]]) -> str:
    """One comment for all tasks of a command."""
    return "\n\n".join([MARKER, *("\n".join(lines) for lines in tasks)]) + "\n"


def section(advice: Mapping[str, Any], *, report: str, policy: str) -> list[str]:
    """Verdict, promise, three bars and two paths of one decision (the content of recommendation.json)."""
    promise = advice.get("promise")
    return [
        f"### {text(advice['task'])}: {advice['verdict'].replace('_', ' ')}",
        "",
        text(advice["sentence"]),
        *(["", text(promise)] if promise else []),
        "",
        "```text",
        *bars(advice["expected"]),
        "```",
        *(f"- Warning: {text(warning['text'])}" for warning in advice["warnings"][:3]),
        *([f"- {text(advice['intervals']['note'])}"] if advice["intervals"]["note"] else []),
        f"- Report: `{report}`",
        f"- Policy: `{policy}`",
        f"- Decision: `{advice['run_id']}/{advice['decision_id']}`",
    ]


def failed(name: str, error: str) -> list[str]:
    """The section of a task that came to no decision."""
    return [f"### {text(name)}: no decision", "", text(error)]


def bars(expected: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Accuracy of the cheap model, the cascade and the strong model, with what 1,000 requests cost."""
    out = []
    for words, name in BARS:
        accuracy = expected[f"{name}_accuracy"]
        usd = expected["usd_per_1000" if name == "system" else f"{name}_usd_per_1000"]["value"]
        out.append(f"{words:<13}{bar(accuracy['value'])}  {share(accuracy):<24}{cost(usd)}".rstrip())
    return out


def bar(value: float | None) -> str:
    """A share as a bar; dots if it is unknown."""
    full = 0 if value is None else round(WIDTH * value)
    return "·" * WIDTH if value is None else "█" * full + "░" * (WIDTH - full)


def share(of: Mapping[str, Any]) -> str:
    """A share in per cent, with its interval where there is one."""
    if of["value"] is None:
        return "not known"
    interval = "" if of["lower"] is None else f" [{100 * of['lower']:.1f}, {100 * of['upper']:.1f}]"
    return f"{100 * of['value']:.1f} %{interval}"


def cost(usd: float | None) -> str:
    """Dollars per 1,000 requests; empty where they are not known."""
    return "" if usd is None else f"${bare_usd(usd)} per 1,000"


def text(said: str) -> str:
    """Text on one line, escaped so that Markdown neither hides it nor reads tags, code spans or mentions."""
    line = " ".join(said.split()).replace("&", "&amp;").replace("<", "&lt;").replace("`", "&#96;")
    return line.replace("@", "&#64;").replace("|", "&#124;")
