"""PolicyDocument: everything from a run that production needs, in one digested JSON object.

Written once, by `recommend`; read by `cascade_threshold.policy`, which never imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cascade_threshold.calibrator import Calibrator
from cascade_threshold.policy_schema import SCHEMA, checked, digest, part_digests
from pipeline.decide.monitor_facts import MonitorFacts
from pipeline.run.directory import finite

EXPECTED = (
    "coverage",
    "escalation_rate",
    "accepted_accuracy",
    "system_accuracy",
    "strong_accuracy",
    "usd_per_1000",
    "strong_usd_per_1000",
    "latency_p50_s",
    "latency_p95_s",
)
CERTIFICATE = ("target", "delta", "method", "n", "statistic", "p_value", "look", "reason")
_ESTIMATE = {"value": None, "lower": None, "upper": None, "level": None, "n": None, "split": None}


def policy_document(
    *,
    task: str,
    kind: str,
    provider: str | None,
    verdict: str,
    threshold: float | None,
    signal: Mapping[str, Any],
    calibrator: Mapping[str, Any] | None,
    labels: Sequence[str] | None,
    cheap: Mapping[str, Any] | None,
    strong: Mapping[str, Any] | None,
    prompt_sha256: str | None,
    dataset_sha256: str | None,
    expected: Mapping[str, Mapping[str, Any]] | None,
    certificate: Mapping[str, Any] | None,
    monitor: MonitorFacts | None,
    versions: Mapping[str, str],
    decision_id: str | None = None,
    review_by: str | None = None,
    label_rates: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The content of policy.json, with its digest. What is unknown is null; numpy scalars become Python's.

    `signal`: name, version (None when the confidences came from a table), params, and whole_output where known.
    `calibrator`: `Calibrator.to_numbers()`; None means the confidence itself.
    `cheap`, `strong`: model, params, usd_per_million_tokens, response_models_seen; for cheap also top_logprobs,
    fewest_alternatives and logprobs_form; for demonstration models stands_in_for; for people in place of a model human and usd_per_request.
    `label_rates`: precision, recall and flag rate of the cascade by label and by group of labels, as `label_rates` gives them.
    `expected`, `certificate`: entries by the names in EXPECTED and CERTIFICATE; `monitor`: see `monitor_facts`.

    A verdict without a promise to keep carries no threshold: for uncertified and strong_only it is None, for cheap_only
    0.0. Raises DataError when the result would not be a valid policy.
    """
    if (threshold is None) != (verdict in ("uncertified", "strong_only")):
        raise ValueError(f"verdict {verdict} does not go with threshold {threshold!r}")
    threshold = None if threshold is None else float(threshold)
    numbers = dict(calibrator or {"kind": "none"})
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "task": task,
        "kind": kind,
        "provider": provider,
        "verdict": verdict,
        "threshold": threshold,
        "calibrated_threshold": Calibrator.from_numbers(numbers)(threshold),
        "comparator": "<",
        "signal": {
            "name": signal["name"],
            "version": signal.get("version"),
            "params": dict(signal["params"]),
            "whole_output": signal.get("whole_output"),
        },
        "calibrator": numbers,
        "labels": None if labels is None else list(labels),
        "cheap": _side(cheap),
        "strong": _side(strong),
        "prompt_sha256": prompt_sha256,
        "dataset_sha256": dataset_sha256,
        "expected": {name: _ESTIMATE | dict({} if expected is None else expected[name]) for name in EXPECTED},
        "certificate": dict.fromkeys(CERTIFICATE) | dict(certificate or {}),
        "label_rates": [dict(entry) for entry in label_rates],
        "monitor": asdict(MonitorFacts() if monitor is None else monitor),
        "versions": dict(versions),
        "decision_id": decision_id,
        "review_by": review_by,
    }
    document = finite(document)
    document["digests"] = part_digests(document)
    document["digest"] = digest(document)
    return checked(document, "the new policy")


def _side(side: Mapping[str, Any] | None) -> dict[str, Any]:
    base: dict[str, Any] = {"model": None, "params": {}, "usd_per_million_tokens": None, "response_models_seen": []}
    return base | {key: value for key, value in (side or {}).items() if value is not None}
