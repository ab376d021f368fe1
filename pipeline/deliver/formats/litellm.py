"""LiteLLM: what a policy says, as a model list for its Router or proxy."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from cascade_threshold.policy import Policy, alias
from pipeline.config.vocabulary import ROLES
from pipeline.deliver.formats.export_format import ExportFormat, headline
from pipeline.deliver.formats.serialize import to_yaml
from pipeline.errors import NotExportable

TOGETHER = ("together", "together-batch")


def render(policy: Policy, doubts: list[str]) -> str:
    """The configuration under its comment."""
    return to_yaml(*_model_list(policy, headline(policy, doubts)))


def _model_list(policy: Policy, heading: str) -> tuple[dict[str, Any], str]:
    """A LiteLLM `model_list` with both models, their prices, and the threshold in the metadata; and the comment above it.

    LiteLLM itself does not compare confidences. It returns `model_info` from GET /model/info, where the application
    finds the threshold (https://docs.litellm.ai/docs/proxy/configs and /docs/proxy/custom_pricing).
    """
    document = policy.document
    roles = [role for role in ROLES if document[role]["model"] is not None]
    if len(roles) < 2:
        raise NotExportable(
            f"{policy.where}: a model list needs both models, and this policy does not name both; take --format json or env"
        )
    entries = [
        {
            "model_name": alias(policy.task, role),
            "litellm_params": _params(policy, role),
            "model_info": {"metadata": _metadata(policy, role)},
        }
        for role in roles
    ]
    comment = (
        f"{heading}\n"
        f"LiteLLM does not decide: ask {policy.task}-cheap, pass its completion to cascade_threshold.policy, and ask\n"
        f"{policy.task}-strong when the decision is to escalate. GET /model/info returns the threshold in model_info.metadata.\n"
        "The proxy answers with these names as `model`; `decide` knows them.\n"
        "Leave litellm_settings.drop_params unset: it would drop the logprobs without a word."
    )
    if any(_service(document, document[role]) is None for role in roles):
        comment += "\nThe replies came from no known service: put the provider's prefix before each model."
    return {"model_list": entries}, comment


def _service(document: Mapping[str, Any], side: Mapping[str, Any]) -> tuple[str, dict[str, str]] | None:
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
        # a loopback server needs no key, but LiteLLM's client requires some text
        return "openai/", base | ({"api_key": "none"} if loopback else key)
    return ("openai/", key) if provider == "openai-compatible" else None


def _params(policy: Policy, role: str) -> dict[str, Any]:
    side = policy.document[role]
    known = {
        "temperature",
        "max_tokens",
        "max_completion_tokens",
        "top_p",
        "top_k",
        "seed",
        "stop",
        "response_format",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "tools",
        "tool_choice",
        "reasoning_effort",
    }
    params = {name: value for name, value in side["params"].items() if name in known}
    extra = {name: value for name, value in side["params"].items() if name not in known}
    if role == "cheap":
        params |= {"logprobs": True, "top_logprobs": side.get("top_logprobs") or 1}
    prefix, access = _service(policy.document, side) or ("", {})
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


def _metadata(policy: Policy, role: str) -> dict[str, Any]:
    document = policy.document
    about = {"cascade_task": policy.task, "cascade_role": role, "cascade_policy": document["digest"]}
    if role == "cheap":
        about |= {
            "cascade_verdict": policy.verdict,
            "cascade_threshold": policy.threshold,
            "cascade_escalate_when": "confidence < threshold, or null",
            "cascade_signal": f"{document['signal']['name']}/{document['signal']['version']}",
        }
    return about


FORMAT = ExportFormat(render, models_only=True)
