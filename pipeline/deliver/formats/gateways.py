"""Gateways: what a policy says, in the configuration of two gateways that others run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from cascade_threshold.policy import Policy, alias
from pipeline.errors import NotExportable

TOGETHER = ("together", "together-batch")


def litellm(policy: Policy, headline: str) -> tuple[dict[str, Any], str]:
    """A LiteLLM `model_list` with both models, their prices, and the threshold in the metadata; and the comment above it.

    LiteLLM itself does not compare confidences. It returns `model_info` from GET /model/info, where the application
    finds the threshold (https://docs.litellm.ai/docs/proxy/configs and /docs/proxy/custom_pricing).
    """
    document = policy.document
    roles = [role for role in ("cheap", "strong") if document[role]["model"] is not None]
    if len(roles) < 2:
        raise NotExportable(
            f"{policy.where}: a model list needs both models, and this policy does not name both; take --format json or env"
        )
    entries = [
        {
            "model_name": alias(policy.task, role),
            "litellm_params": _litellm_params(policy, role),
            "model_info": {"metadata": _litellm_metadata(policy, role)},
        }
        for role in roles
    ]
    comment = (
        f"{headline}\n"
        f"LiteLLM does not decide: ask {policy.task}-cheap, pass its completion to cascade_threshold.policy, and ask\n"
        f"{policy.task}-strong when the decision is to escalate. GET /model/info returns the threshold in model_info.metadata.\n"
        "The proxy answers with these names as `model`; `decide` knows them.\n"
        "Leave litellm_settings.drop_params unset: it would drop the logprobs without a word."
    )
    if any(_litellm_service(document, document[role]) is None for role in roles):
        comment += "\nThe replies came from no known service: put the provider's prefix before each model."
    return {"model_list": entries}, comment


def _litellm_service(document: Mapping[str, Any], side: Mapping[str, Any]) -> tuple[str, dict[str, str]] | None:
    """LiteLLM's prefix for the service that was calibrated, its address and the name of its key; None when it is not known."""
    provider = side.get("provider") or document["provider"]
    address = next((a for a in (side.get("base_url"), side.get("service")) if isinstance(a, str) and "://" in a), None)
    key = {"api_key": f"os.environ/{side.get('api_key_env') or 'OPENAI_API_KEY'}"}
    parts = urlsplit(address or "")
    host = parts.hostname or ""
    if provider in TOGETHER and (address is None or host.endswith(("together.ai", "together.xyz"))):
        return "together_ai/", {"api_key": "os.environ/TOGETHER_API_KEY"}
    if address is not None:
        base = {"api_base": address.rstrip("/") if parts.path.strip("/") else f"{address.rstrip('/')}/v1"}
        loopback = host in ("localhost", "::1") or host.startswith("127.")
        # a loopback server needs no key, and LiteLLM's client one of any text
        return "openai/", base | ({"api_key": "none"} if loopback else key)
    return ("openai/", key) if provider == "openai-compatible" else None


def _litellm_params(policy: Policy, role: str) -> dict[str, Any]:
    side = policy.document[role]
    known = {"temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "seed", "stop", "response_format",
             "frequency_penalty", "presence_penalty", "logit_bias", "tools", "tool_choice", "reasoning_effort"}  # fmt: skip
    params = {name: value for name, value in side["params"].items() if name in known}
    extra = {name: value for name, value in side["params"].items() if name not in known}
    if role == "cheap":
        params |= {"logprobs": True, "top_logprobs": side.get("top_logprobs") or 1}
    prefix, access = _litellm_service(policy.document, side) or ("", {})
    return {
        "model": prefix + side["model"],
        **access,
        **params,
        **({"extra_body": extra} if extra else {}),
        **_per_token(side["usd_per_million_tokens"]),
        **({"input_cost_per_request": side["usd_per_request"]} if side.get("usd_per_request") else {}),
    }


def _per_token(price: dict[str, Any] | None) -> dict[str, float]:
    if price is None:
        return {}
    names = {
        "input": "input_cost_per_token",
        "output": "output_cost_per_token",
        "cached_input": "cache_read_input_token_cost",
    }
    told = {name: price[part] for part, name in names.items() if price.get(part) is not None}
    return {name: float(Decimal(repr(value)).scaleb(-6)) for name, value in told.items()}


def _litellm_metadata(policy: Policy, role: str) -> dict[str, Any]:
    document = policy.document
    about = {"cascade_task": policy.task, "cascade_role": role, "cascade_policy": document["digest"]}
    if role == "cheap":
        about |= {
            "cascade_verdict": policy.verdict, "cascade_threshold": policy.threshold, "cascade_escalate_when": "confidence < threshold, or null",
            "cascade_signal": f"{document['signal']['name']}/{document['signal']['version']}",
        }  # fmt: skip
    return about


def semantic_router(policy: Policy, headline: str) -> tuple[dict[str, Any], str]:
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
        settings = {"confidence_method": "avg_logprob", "threshold": threshold, "escalation_order": "declared",
                    "token_filter": "all", "on_error": "skip"}  # fmt: skip
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
        "modelRefs": [{"model": model} for model in order],
        "algorithm": algorithm,
    }
    config = {
        "providers": {"models": [_router_model(document[role]) for role in ("cheap", "strong")]},
        "routing": {"decisions": [decision]},
    }
    lines = [
        headline,
        "Merge into the router's config; add backend_refs to the models, and priority and rules to the decision.",
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
    """What the router cannot see, and this policy's calibration had."""
    rates = policy.document["monitor"].get("status_rates") or {}
    unseen = sum(rates.get(status, 0.0) for status in ("out_of_set", "truncated", "empty", "filtered", "unaligned"))
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
