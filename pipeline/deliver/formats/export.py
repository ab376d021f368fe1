"""Export: a policy in the format that a service reads. Whoever replays an export makes the same decisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cascade_threshold.policy import Policy, load
from pipeline.deliver.formats.gateways import check_router, litellm, router_doubts, semantic_router
from pipeline.deliver.formats.serialize import to_env, to_toml, to_yaml
from pipeline.errors import NotExportable, UsageError

NEVER_ACCEPTS = "2"
"""A .env file has no null, and no confidence is below 0 or above 1: against this threshold every comparison escalates."""
PROMISES = ("certified", "cheap_only", "strong_only")
CARRIES_THE_PROMISE = ("task", "kind", "verdict", "threshold", "comparator", "signal", "labels", "cheap", "strong",
                       "prompt_sha256", "dataset_sha256", "certificate", "something")  # fmt: skip


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
    if format in ("litellm", "vllm-semantic-router") and policy.document["strong"].get("human"):
        raise NotExportable(
            f"{policy.where}: people are the strong side, and {format} sends requests to models only; take --format json or env"
        )
    if format == "vllm-semantic-router":
        check_router(policy)
        doubts += router_doubts(policy)
        _refuse(policy, [] if allow_uncertified else doubts)
    return FORMATS[format](policy, doubts)


def _refuse(policy: Policy, doubts: list[str]) -> None:
    if doubts:
        raise NotExportable(f"{policy.where}: {'; '.join(doubts)}; pass --allow-uncertified to export it all the same")


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


def _headline(policy: Policy, doubts: list[str]) -> str:
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
    lines += [f"NO PROMISE: {doubt}." for doubt in doubts]
    if document["provider"] == "embedded":
        lines.append("DEMONSTRATION MODELS: not for use with the models that they stand in for.")
    return "\n".join(lines)


def _json(policy: Policy, doubts: list[str]) -> str:
    return json.dumps(policy.document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _yaml(policy: Policy, doubts: list[str]) -> str:
    return to_yaml(policy.document, _headline(policy, doubts))


def _toml(policy: Policy, doubts: list[str]) -> str:
    note = "TOML has no null: what is unknown is left out. No threshold here means that everything escalates."
    return to_toml(policy.document, f"{_headline(policy, doubts)}\n{note}")


def _env(policy: Policy, doubts: list[str]) -> str:
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
    return to_env({f"{prefix}_{name}": value for name, value in values.items()}, _headline(policy, doubts) + note)


def _litellm(policy: Policy, doubts: list[str]) -> str:
    return to_yaml(*litellm(policy, _headline(policy, doubts)))


def _semantic_router(policy: Policy, doubts: list[str]) -> str:
    return to_yaml(*semantic_router(policy, _headline(policy, doubts)))


FORMATS: dict[str, Callable[[Policy, list[str]], str]] = {
    "json": _json, "yaml": _yaml, "toml": _toml, "env": _env,
    "litellm": _litellm, "vllm-semantic-router": _semantic_router,
}  # fmt: skip
