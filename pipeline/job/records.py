"""Findings: what the stages concluded, in the form in which the artefacts keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cascade_threshold.calibrator import Calibrator
from cascade_threshold.learned import features, learned_confidence
from cascade_threshold.signals import LONG_ANSWER_TOKENS, SIGNALS
from pipeline.collect.providers.wire_form import WireForm
from pipeline.collect.request import digest
from pipeline.config.task import SIGNAL_NAMES
from pipeline.decide import calibration, metrics
from pipeline.decide.advice.findings import of_ranking, of_usual_rules
from pipeline.decide.advice.holdout_check import LEVEL, LEVEL_WITHOUT_TEST
from pipeline.decide.advice.reply_warnings import ReplyCounts
from pipeline.decide.advice.warnings import gravest_first
from pipeline.decide.curves.at_threshold import mix_weights
from pipeline.decide.curves.baselines import baselines, router_scores
from pipeline.decide.curves.caching import caching
from pipeline.decide.curves.usual_rules import Setting, usual_rules
from pipeline.decide.predictions import Rows
from pipeline.decide.recommend import Recommendation
from pipeline.decide.scores import signal_choice
from pipeline.decide.target import Goal
from pipeline.decide.thresholds import accepted
from pipeline.deliver.formats.policy_document import monitor_facts, policy_document
from pipeline.errors import UsageError
from pipeline.job import tables_of_replies
from pipeline.job.job import Job
from pipeline.run.directory import CALIBRATION, PREDICTIONS, RUN

Floats = npt.NDArray[np.float64]


def signals_of(frame: pd.DataFrame) -> dict[str, Floats]:
    """Every signal that was measured, NaN for null, by name."""
    return {
        n: pd.to_numeric(frame[f"signal_{n}"]).to_numpy(np.float64, na_value=np.nan)
        for n in SIGNAL_NAMES
        if f"signal_{n}" in frame
    }


def chosen_signal(
    job: Job, fit: pd.DataFrame, outcome: Floats, reasons: Mapping[str, int]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The config's signal, or the one with the best risk-coverage curve on the fit rows; and the table it came from.

    `outcome` (n,): 1 right, 0 wrong, NaN unknown; `reasons`: counts of "signal: why it is null" over usable replies, told in
    the table. Raises UsageError when the wanted signal is null on every row, or no row is graded.
    """
    signals, wanted = signals_of(fit), job.config.signal
    usable = [n for n, v in signals.items() if not np.isnan(v).all()]
    if not usable:
        raise UsageError(
            f"{job.config.task}: no reply of the cheap model carries a usable confidence on the fit rows; `doctor` shows what its "
            "replies hold; choose a model that returns logprobs"
        )
    if np.isnan(outcome).all():
        raise UsageError(
            f"{job.config.task}: no fit row tells whether the cheap answer is right, so no signal can be chosen; `status` says which "
            "replies are missing"
        )
    name, table = signal_choice.select_signal(signals, outcome, seed=job.config.seed)
    table = [{**row, "why_null": _why_null(row["signal"], reasons)} for row in table]
    if wanted != "auto":
        if wanted != "learned" and wanted not in usable:
            raise UsageError(
                f"{job.config.task}: signal {wanted} is null on every fit row ({SIGNALS[wanted].null_when}); it needs "
                f"{SIGNALS[wanted].needs_alternatives} alternatives (cheap.top_logprobs); signals that these replies support: {', '.join(usable)}"
            )
        name = wanted
        table = [{**row, "chosen": row["signal"] == name} for row in table]
    params: Mapping[str, Any] = {}
    if name == "learned":
        fitted = signal_choice.fit_learned(signal_choice.learned_features(signals), outcome, seed=job.config.seed)
        if fitted is None:
            raise UsageError(
                f"{job.config.task}: signal learned needs at least 50 fit rows with 10 right and 10 wrong answers; choose another"
            )
        params = fitted
    return {"name": name, "version": SIGNALS[name].version, "params": dict(params)}, table


def _why_null(signal: str, reasons: Mapping[str, int]) -> str | None:
    """The reason for which most usable replies give the signal no value; None where each of them gives one."""
    told = {why: n for reason, n in reasons.items() for name, _, why in [reason.partition(": ")] if name == signal}
    return max(told, key=lambda why: told[why], default=None)


def confidence_of(frame: pd.DataFrame, signal: Mapping[str, Any]) -> Floats:
    """The chosen signal of every row; the learned one by the very function that production evaluates. Adds its column."""
    if signal["name"] == "learned":
        values = []
        signals = {n: v for n, v in signals_of(frame).items() if n != "learned"}
        for i in range(len(frame)):
            row = features({n: None if np.isnan(v[i]) else float(v[i]) for n, v in signals.items()}, 0)
            values.append(learned_confidence(signal["params"], row))
        frame["signal_learned"] = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    return pd.to_numeric(frame[f"signal_{signal['name']}"]).to_numpy(np.float64, na_value=np.nan)


def calibration_record(
    job: Job, rows: Rows, calibrator: Calibrator, signal: Mapping[str, Any], table: list[dict[str, Any]]
) -> dict[str, Any]:
    """calibration.json: the calibrator as numbers, what it was chosen from, and the metrics before and after it."""
    calibrated = calibration.apply(calibrator, rows.confidence)
    measured: dict[str, dict[str, Any]] = {"before": {}, "after": {}}
    for split in ("fit", "certify", "test"):
        part = rows.split == split
        for stage, values in (("before", rows.confidence), ("after", calibrated)):
            measured[stage][split] = metrics.with_intervals(
                values[part], rows.cheap_correct[part], seed=job.config.seed, group=rows.group[part]
            )
    return {
        "schema": "cascade-calibration/1", "task": job.config.task, "run_id": job.run_id, "signal": dict(signal), "signal_table": table,
        "calibrator": calibrator.to_numbers(), "selection": list(calibrator.selection), "reason": calibrator.reason, "metrics": measured,
        "clipped": calibration.clipped(rows.confidence),
    }  # fmt: skip


def contents(job: Job, held: Rows) -> list[str]:
    """What tells these rows from others, whatever they are called: their texts; of a table, their ids within the task."""
    if job.options.predictions is not None:
        return [f"{job.config.task}\x1f{example_id}" for example_id in held.example_id]
    texts = {e.id: "\x1f".join(e.texts) for e in job.dataset.examples}
    return [texts[example_id] for example_id in held.example_id]


def question(job: Job) -> str:
    """What is asked of the certify rows: another target, signal, prompt or model is another look at them."""
    signal = job.run.read_json(CALIBRATION)["signal"]
    return digest([job.config.target.model_dump(mode="json"), job.run_id, signal["name"], signal["version"]])


def reply_counts(job: Job) -> ReplyCounts | None:
    """What was counted over the replies; None with a table of predictions."""
    if job.options.predictions is not None:
        return None
    measured = job.run.read_json(RUN).get("measured", {})
    seen = measured.get("response_models", {})
    return ReplyCounts(
        measured.get("statuses", {}).get("cheap", {}), measured.get("long_answers"), LONG_ANSWER_TOKENS, measured.get("exact_zeros"),
        measured.get("few_alternatives"), job.settings("cheap").top_logprobs,
        {role: service.model for role, service in job.services.items()}, {role: tuple(seen.get(role, ())) for role in job.roles},
        strong_unreadable=tuple((text, n) for text, n in measured.get("unreadable_texts", {}).get("strong", ())),
        constrained=job.settings("cheap").constrain is not None,
    )  # fmt: skip


def data_name(job: Job) -> str:
    """How the promise names the data."""
    given = job.options.predictions
    return given.name if given is not None else f"the rows of {job.config.task}"


def recommendation_record(job: Job, rows: Rows, found: Recommendation) -> dict[str, Any]:
    """recommendation.json: the recommendation, its calibrated reading, and the baselines at the same escalation."""
    calibrator = Calibrator.from_numbers(job.run.read_json(CALIBRATION)["calibrator"])
    threshold = None if found.threshold is None else float(found.threshold)
    ranked, rules = tables_of_replies.ranking(job, threshold, calibrator), _usual_rules(job, rows, found)
    told = replace(found, warnings=gravest_first(found.warnings, of_ranking(ranked), of_usual_rules(rules)))
    return {
        "schema": "cascade-recommendation/1", "task": job.config.task, "run_id": job.run_id, **told.to_json(),
        "calibrated_threshold": calibrator(threshold), "baselines": _baselines(job, rows, found),
        "caching": _caching(job, rows, found), "ranking": ranked, "usual_rules": rules,
    }  # fmt: skip


def _caching(job: Job, rows: Rows, found: Recommendation) -> dict[str, Any] | None:
    """What both cost with the prompts cached as measured, and with none cached; None with a table of predictions."""
    if job.options.predictions is not None:
        return None
    told = {name: found.expected[name] for name in ("usd_per_1000", "strong_usd_per_1000")}
    split = told["usd_per_1000"].split or "certify"
    frame, part = job.run.read_table(PREDICTIONS), rows.of(split)
    return caching(
        frame[frame["split"] == split], escalated=~accepted(part.confidence, found.threshold), asks_cheap=found.threshold is not None,
        prices={role: job.settings(role).price for role in job.roles}, batch=job.provider == "together-batch",
        shares=job.run.read_json(RUN).get("measured", {}).get("cached_share", {}), measured={name: e.value for name, e in told.items()},
        weights=None if job.prevalence is None else mix_weights(part.label, job.prevalence),
    )  # fmt: skip


def _usual_rules(job: Job, rows: Rows, found: Recommendation) -> list[dict[str, Any]]:
    """What people usually do, on the rows that the figures are of."""
    split = "test" if len(rows.of("test")) else "certify"
    fit, part, router = rows.of("fit"), rows.of(split), None
    if job.options.predictions is None:
        texts = {e.id: "\n".join(e.texts) for e in job.dataset.examples}
        wrong = 1 - (fit.cheap_correct if job.labeled else fit.agree)
        router = router_scores(
            [texts[i] for i in fit.example_id], wrong, [texts[i] for i in part.example_id], seed=job.config.seed
        )
    setting = Setting(
        part, Goal.of(job.config.target), split, LEVEL if split == "test" else LEVEL_WITHOUT_TEST, job.human is not None,
        found.certificate.unit == "groups",
    )  # fmt: skip
    return usual_rules(setting, rows.of("certify"), found.threshold, router=router)


def _baselines(job: Job, rows: Rows, found: Recommendation) -> list[dict[str, Any]]:
    """Random escalation, the oracle and a router that reads the text only, along all rates and at the recommended one."""
    split = "test" if len(rows.of("test")) else "certify"
    fit, held = rows.of("fit"), rows.of(split)
    rate = found.expected["escalation_rate"].value
    rates = sorted({*np.linspace(0, 1, 21).tolist(), *([] if rate is None else [float(rate)])})
    texts: dict[str, list[str] | None] = {"fit": None, split: None}
    if job.options.predictions is None:
        by_id = {e.id: "\n".join(e.texts) for e in job.dataset.examples}
        texts = {"fit": [by_id[i] for i in fit.example_id], split: [by_id[i] for i in held.example_id]}
    weights = None if job.prevalence is None else mix_weights(held.label, job.prevalence)
    table = baselines(fit, held, rates, texts["fit"], texts[split], weights=weights, seed=job.config.seed, split=split)
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def policy(job: Job, rows: Rows, advice: Mapping[str, Any]) -> dict[str, Any]:
    """policy.json: what production needs to decide as calibration did, and to notice when it no longer holds."""
    run, fitted = job.provenance, job.run.read_json(CALIBRATION)
    measured = job.run.read_json(RUN).get("measured", {})
    digests, models = run["digests"], run["models"]
    held = rows.of("certify")
    statuses = job.run.read_table("predictions.parquet")
    facts = monitor_facts(
        confidence=held.confidence, statuses=statuses.loc[statuses["split"] == "certify", "cheap_status"].fillna("ok"), threshold=advice["threshold"],
        cheap_correct=held.cheap_correct, strong_correct=held.strong_correct, agrees=held.agree, target=job.config.target.model_dump(mode="json"), delta=job.config.target.delta,
        weights=None if job.prevalence is None else mix_weights(held.label, job.prevalence),
    )  # fmt: skip
    return policy_document(
        task=job.config.task, kind=job.config.kind, provider=None if run["provider"] == "given" else run["provider"], verdict=advice["verdict"], threshold=advice["threshold"],
        signal=fitted["signal"] | {"whole_output": measured.get("whole_output")}, calibrator=fitted["calibrator"], labels=job.config.answers,
        cheap=_side(job, models, measured, "cheap"), strong=_side(job, models, measured, "strong"), prompt_sha256=digests.get("prompt"), dataset_sha256=digests.get("dataset"),
        expected=advice["expected"], certificate=advice["certificate"], monitor=facts, versions=run["versions"],
    )  # fmt: skip


def _side(job: Job, models: Mapping[str, Any], measured: Mapping[str, Any], role: str) -> dict[str, Any] | None:
    model, seen = models.get(role), measured.get("response_models", {})
    if model is None:
        return None
    side = {k: v for k, v in model.items() if k not in ("name", "service")} | {"model": model["name"]}
    if not model.get("human"):
        side["response_models_seen"] = list(seen.get(role, ()))
        side["cached_share"] = measured.get("cached_share", {}).get(role)
        side["service"] = model.get("service")
        form = WireForm.parse(seen.get(f"{role}_form"))
        side["length_form"], side["constrain"] = form.length, form.constraint if model["constrain"] else None
        if role == "cheap":
            side["top_logprobs"] = job.settings("cheap").top_logprobs
            side["logprobs_form"] = form.logprobs if seen.get("cheap_form") else None
            side["fewest_alternatives"] = measured.get("fewest_alternatives")
    return side
