"""Policies and completion bodies made for the tests of production."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.decide.monitor_facts import MonitorFacts, monitor_facts
from pipeline.deliver.formats.policy_document import EXPECTED, policy_document

CHEAP = "Qwen/Qwen3.5-9B"
STRONG = "deepseek-ai/DeepSeek-V4-Pro-0813"
PROMPT = "ab" * 32
LABELS = ["work", "personal", "spam", "other"]


def body(
    text: str = "spam",
    tokens: Sequence[tuple[str, float | None]] | None = None,
    *,
    model: str | None = CHEAP,
    logprobs: bool = True,
    usage: tuple[int, int] | None = (100, 1),
    others: Sequence[tuple[str, float]] = (("zzz", -6.5),),
) -> dict[str, Any]:
    """A chat completion; `tokens` are (text, logprob), by default one token with logprob -0.05; `others` could have stood
    in the place of each."""
    rows = [("spam", -0.05)] if tokens is None and text == "spam" else tokens or [(text, -0.05)]
    content = [
        {
            "token": t,
            "bytes": list(t.encode()),
            "logprob": lp,
            "top_logprobs": [{"token": o, "bytes": list(o.encode()), "logprob": olp} for o, olp in [(t, lp), *others]],
        }
        for t, lp in rows
    ]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
        "logprobs": {"content": content} if logprobs else None,
    }
    out: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 1, "choices": [choice]}
    if model is not None:
        out["model"] = model
    if usage is not None:
        out["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return out


def one_token(confidence: float, text: str = "spam", **more: Any) -> dict[str, Any]:
    """A reply whose single token has this probability."""
    return body(text, [(text, math.log(confidence))], **more)


def document(**changes: Any) -> dict[str, Any]:
    """A certified policy of a four-label task on the first token's probability, threshold 0.9."""
    fields: dict[str, Any] = {
        "task": "email_triage",
        "kind": "classify",
        "provider": "together",
        "verdict": "certified",
        "threshold": 0.9,
        "signal": {"name": "first_token", "version": 2, "params": {}, "whole_output": True},
        "calibrator": {"kind": "platt", "slope": 0.7, "intercept": 0.1},
        "labels": LABELS,
        "cheap": {
            "model": CHEAP,
            "params": {"temperature": 0, "max_tokens": 8, "reasoning": {"enabled": False}},
            "usd_per_million_tokens": {"input": 0.17, "output": 0.25, "as_of": "2026-11-22", "source": "list"},
            "response_models_seen": [CHEAP],
            "top_logprobs": 5,
        },
        "strong": {
            "model": STRONG,
            "params": {"temperature": 0, "max_tokens": 8},
            "usd_per_million_tokens": {"input": 1.32, "output": 3.96, "as_of": "2026-11-22", "source": "list"},
            "response_models_seen": [STRONG],
        },
        "prompt_sha256": PROMPT,
        "dataset_sha256": "cd" * 32,
        "expected": {
            **{name: dict.fromkeys(("value", "lower", "upper", "level", "n", "split")) for name in EXPECTED},
            "coverage": {"value": 0.6, "lower": 0.57, "upper": 0.63, "level": 0.9, "n": 400, "split": "test"},
        },
        "certificate": {
            "target": {"kind": "match_strong", "within": 0.02},
            "delta": 0.1,
            "method": "exact paired score test",
            "n": 1000,
            "statistic": -2.1,
            "p_value": 0.03,
            "look": 1,
            "reason": None,
        },
        "monitor": facts(),
        "versions": {"cascade-threshold": "0.1.0", "python": "3.11"},
    }
    return policy_document(**{**fields, **changes})


def facts(confidence: Sequence[float | None] | None = None, threshold: float | None = 0.9, **more: Any) -> MonitorFacts:
    """Monitor facts of certify rows; by default 1,000 evenly spread confidences in [0.5, 1)."""
    values = [0.5 + i / 2000 for i in range(1000)] if confidence is None else list(confidence)
    fields: dict[str, Any] = {
        "confidence": values,
        "statuses": ["ok" if v is not None else "out_of_set" for v in values],
        "threshold": threshold,
        "target": {"kind": "accepted_accuracy", "at_least": 0.95},
        "delta": 0.1,
    }
    return monitor_facts(**{**fields, **more})


def write(path: Path, content: Mapping[str, Any]) -> Path:
    """The document as a file."""
    path.write_text(json.dumps(content, indent=1), "utf-8")
    return path


def population(rng: np.random.Generator, n: int, *, easy: float = 0.7, sharper: float = 1.0) -> np.ndarray[Any, Any]:
    """Confidences whose log-odds are a mixture of an easy and a hard part."""
    odds = np.where(rng.random(n) < easy, rng.normal(6, 1.6, n), rng.normal(1.2, 1.2, n))
    return np.asarray(1 / (1 + np.exp(-sharper * np.where(odds < -1, -2 - odds, odds))))
