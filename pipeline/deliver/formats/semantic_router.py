"""vLLM semantic router: what a policy says, as one decision of its configuration."""

from __future__ import annotations

import math
from typing import Any

from cascade_threshold.answers import NO_WHOLE_ANSWER
from cascade_threshold.policy import Policy
from pipeline.config.vocabulary import ROLES
from pipeline.deliver.formats.export_format import ExportFormat, headline
from pipeline.deliver.formats.serialize import to_yaml
from pipeline.errors import NotExportable

PRIORITY = 100
"""Of the decision; the router takes the largest among those whose rules fit, and a config of its form names one."""


def render(policy: Policy, doubts: list[str]) -> str:
    """The configuration under its comment."""
    return to_yaml(*_router_config(policy, headline(policy, doubts)))


def _router_config(policy: Policy, heading: str) -> tuple[dict[str, Any], str]:
    """vLLM semantic-router's `confidence` algorithm for one decision, and the comment above it.

    Its method avg_logprob takes the mean logprob of all tokens of the reply, maps it to clamp((mean + 3) / 3, 0, 1), and
    accepts at or above a threshold in (0, 1], where 0 counts as unset (src/semantic-router/pkg/looper/confidence.go and
    website/docs/tutorials/algorithm/looper/confidence.md of vllm-project/semantic-router). So our threshold t on exp(mean)
    becomes 1 + ln(t) / 3, exactly, as long as our signal is that mean.

    Raises NotExportable, with the reason, where the router would decide otherwise.
    """
    document = policy.document
    cheap, strong = document["cheap"]["model"], document["strong"]["model"]
    if cheap is None or strong is None:
        raise NotExportable(f"{policy.where}: the router needs two models, and this policy does not name both")
    algorithm: dict[str, Any] = {"type": "static"}
    order = [strong]
    notes = []
    if policy.threshold is not None:
        threshold = router_threshold(policy)
        settings = {
            "confidence_method": "avg_logprob",
            "threshold": threshold,
            "escalation_order": "declared",
            "token_filter": "all",
            "on_error": "skip",
        }
        if threshold is None:
            del settings["threshold"]
            notes.append("No threshold: every reply with logprobs is accepted, which is what threshold 0 means here.")
        algorithm, order = {"type": "confidence", "confidence": settings}, [cheap, strong]
        notes.append(
            "The strong model must return logprobs too: the router skips a reply without them and falls back to the cheap one."
        )
        notes.append(f"Requests must carry what was calibrated: {policy.request()!r}.")
    decision = {
        "name": f"{policy.task}_cascade",
        "priority": PRIORITY,
        "modelRefs": [{"model": model} for model in order],
        "algorithm": algorithm,
    }
    config = {
        "version": "v0.3",
        "providers": {"models": [_router_model(document[role]) for role in ROLES]},
        "routing": {"decisions": [decision]},
    }
    lines = [
        heading,
        "Merge into the router's config; add backend_refs to the models, and rules to the decision.",
        *notes,
    ]
    return config, "\n".join(lines)


def _router_model(side: dict[str, Any]) -> dict[str, Any]:
    price = side["usd_per_million_tokens"]
    pricing = (
        {}
        if price is None
        else {"pricing": {"currency": "USD", "prompt_per_1m": price["input"], "completion_per_1m": price["output"]}}
    )
    return {"name": side["model"], "provider_model_id": side["model"], **pricing}


def router_threshold(policy: Policy) -> float | None:
    """The policy's threshold on the router's scale; None when every reply with logprobs is accepted (threshold 0).

    The image is taken of the smallest mean logprob that the policy accepts, computed with the router's own two
    operations, so the boundary itself is on the same side for both.
    """
    check_router(policy)
    t = policy.threshold
    assert t is not None
    if t == 0:
        return None
    mean = _smallest_accepted_mean(t)
    scaled = (mean + 3.0) / 3.0
    if scaled <= 0:
        raise NotExportable(
            f"{policy.where}: threshold {t!r} lies at or below exp(-3) = 0.0498, where the router's scale ends; "
            "it cannot tell such confidences apart"
        )
    return scaled


def _smallest_accepted_mean(threshold: float) -> float:
    """The smallest double x <= 0 with exp(x) >= threshold, by bisection."""
    low, high = math.log(threshold) - 1e-9, 0.0
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return high
        low, high = (low, middle) if math.exp(middle) >= threshold else (middle, high)


def router_doubts(policy: Policy) -> list[str]:
    """What occurred in this policy's calibration and the router cannot see. Raises NotExportable as `check_router` does."""
    check_router(policy)
    rates = policy.document["monitor"]["status_rates"] or {}
    unseen = sum(rates.get(status, 0.0) for status in (*NO_WHOLE_ANSWER, "unaligned"))
    if policy.threshold is None or unseen <= 0:
        return []
    return [
        f"{unseen:.2%} of the calibration replies were no whole answer of the set; the router knows no set and may accept "
        "such replies (constrain the output, and none will come)"
    ]


def check_router(policy: Policy) -> None:
    """Raise NotExportable, with the reason, unless the policy's signal is the router's mean."""
    document = policy.document
    if policy.threshold is None:
        return
    name, params = document["signal"]["name"], document["cheap"]["params"]
    one_token = params.get("max_tokens") == 1 and name in ("first_token", "label_sequence", "mean", "minimum")
    if not one_token and name != "mean":
        raise NotExportable(
            f"{policy.where}: the router takes the mean logprob of the whole reply, this policy the signal {name}; "
            "evaluate with --set signal=mean to get one that carries over"
        )
    if not one_token and not document["signal"].get("whole_output"):
        raise NotExportable(
            f"{policy.where}: the router takes the mean over every token of the reply, and in calibration some replies had "
            "tokens outside the answer (an end token, a quote), or it is not known; allow one token (max_tokens: 1) or "
            "labels only (response_format)"
        )


FORMAT = ExportFormat(render, models_only=True, doubts=router_doubts)
