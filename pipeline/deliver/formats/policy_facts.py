"""PolicyFacts: what the policy says, gathered from what the stages found."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from pipeline.config.task import Model, TaskConfig
from pipeline.decide.monitor_facts import MonitorFacts
from pipeline.deliver.formats.policy_document import policy_document
from pipeline.run.record import Digests, Measured, Side


def policy(
    config: TaskConfig,
    *,
    provider: str | None,
    models: Mapping[str, Side],
    digests: Digests,
    measured: Measured | None,
    fitted: Mapping[str, Any],
    advice: Mapping[str, Any],
    monitor: MonitorFacts,
    forms: Mapping[str, Any],
    decision_id: str,
    decided_on: str,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """policy.json: what production needs to decide as calibration did, and to notice when it no longer holds.

    `measured`: what was counted over the replies, None of a table of predictions; `fitted`, `advice`: calibration.json and recommendation.json;
    `forms`: how each role's model was asked (logprobs, length, constraint); `decided_on`: the day of the first decision, from
    which the review is due where no reply tells its day.
    """
    newest_reply = None if measured is None else measured.newest_reply
    newest = dt.date.fromisoformat((newest_reply or decided_on)[:10])
    return policy_document(
        task=config.task,
        kind=config.kind,
        provider=provider,
        verdict=advice["verdict"],
        threshold=advice["threshold"],
        signal=fitted["signal"] | {"whole_output": None if measured is None else measured.whole_output},
        calibrator=fitted["calibrator"],
        labels=config.answers,
        cheap=_side(config, models, measured, forms, "cheap"),
        strong=_side(config, models, measured, forms, "strong"),
        prompt_sha256=digests.prompt,
        dataset_sha256=digests.dataset,
        expected=advice["expected"],
        certificate=advice["certificate"],
        label_rates=advice["label_rates"],
        monitor=monitor,
        versions=versions,
        decision_id=decision_id,
        review_by=(newest + dt.timedelta(days=config.review_after_days)).isoformat(),
    )


def _side(
    config: TaskConfig, models: Mapping[str, Side], measured: Measured | None, forms: Mapping[str, Any], role: str
) -> dict[str, Any] | None:
    if measured is None:
        return None
    model = models[role]
    side = model.model_dump(exclude={"name", "service", "human"}) | {"model": model.name}
    if model.human:
        return {"human": True, "usd_per_request": model.usd_per_request, "model": model.name}
    form = forms[role]
    side |= {
        "response_models_seen": list(measured.response_models[role]),
        "cached_share": measured.cached_share[role],
        "service": model.service,
        "length_form": form.length,
        "constrain": form.constraint if model.constrain else None,
    }
    if role == "cheap":
        assert isinstance(config.cheap, Model)
        side |= {
            "top_logprobs": config.cheap.top_logprobs,
            "logprobs_form": form.logprobs if measured.forms["cheap"] else None,
            "fewest_alternatives": measured.fewest_alternatives,
        }
    return side
