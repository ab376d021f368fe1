"""ReportData: a run's artefacts as one JSON value that holds everything the page shows, report.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline.config.task import TaskConfig
from pipeline.decide.advice.warnings import CHECK_DATA
from pipeline.deliver.report import health, prices, provenance, trust
from pipeline.deliver.report import rows as report_rows
from pipeline.deliver.report import sweep as report_sweep
from pipeline.deliver.report.rows import COLUMNS, ReportRows
from pipeline.run import directory as artefacts
from pipeline.run.decision import Decision
from pipeline.run.directory import Run, dump_json, finite

SCHEMA = "cascade-report/1"

TITLES = {
    "certified": "Certified",
    "uncertified": "Not certified",
    "cheap_only": "Cheap model is enough",
    "strong_only": "Use the strong model",
    "optimized": "Optimized, no promise",
    "check_data": "Check data",
}


@dataclass(frozen=True)
class Artefacts:
    """What is there of a run; None for what is not."""

    record: dict[str, Any]
    advice: dict[str, Any]
    calibration: dict[str, Any] | None
    policy: dict[str, Any] | None
    policy_bytes: bytes | None
    sweep: pd.DataFrame | None
    sweep_metadata: dict[str, str]
    reliability: pd.DataFrame | None
    rows: ReportRows | None
    replies: pa.Table | None

    @classmethod
    def of_values(
        cls,
        record: dict[str, Any],
        advice: dict[str, Any],
        calibration: dict[str, Any],
        policy: dict[str, Any],
        sweep: pd.DataFrame,
        reliability: pd.DataFrame,
        predictions: pa.Table,
        replies: pa.Table | None,
    ) -> Artefacts:
        """What the stages of this process found, as it would be read."""
        policy_bytes = dump_json(policy)
        metadata = {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in sweep.attrs.items()}
        rows = ReportRows.of_table(predictions)
        found, told, fitted = (dict(finite(value)) for value in (record, advice, calibration))
        return cls(
            found, told, fitted, json.loads(policy_bytes), policy_bytes, sweep, metadata, reliability, rows, replies
        )

    @classmethod
    def of(cls, run: Run | Decision) -> Artefacts:
        """Read the artefacts. Only the recommendation must be there."""

        def table(name: str) -> pd.DataFrame | None:
            return run.read_table(name) if run.has(name) else None

        def value(name: str) -> dict[str, Any] | None:
            return run.read_json(name) if run.has(name) else None

        curves = table(artefacts.SWEEP)
        predictions = run.read_arrow(artefacts.PREDICTIONS, COLUMNS) if run.has(artefacts.PREDICTIONS) else None
        record = value(artefacts.RUN) or {}
        if isinstance(run, Decision):
            record = record | {"config": run.record()["config"]}  # run.json speaks of the run's latest decision
        return cls(
            record,
            run.read_json(artefacts.RECOMMENDATION),
            value(artefacts.CALIBRATION),
            value(artefacts.POLICY),
            run.path(artefacts.POLICY).read_bytes() if run.has(artefacts.POLICY) else None,
            curves,
            {} if curves is None else {str(k): str(v) for k, v in curves.attrs.items()},
            table(artefacts.RELIABILITY),
            None if predictions is None else ReportRows.of_table(predictions),
            run.read_arrow(artefacts.REPLIES, provenance.COUNTED) if run.has(artefacts.REPLIES) else None,
        )


def build(
    run: Run | Decision,
    config: TaskConfig,
    *,
    found: Artefacts | None = None,
    texts: Mapping[str, str] | None = None,
    previous: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything the page shows, ready for JSON: no NaN, no path, no secret.

    `found`: the run's artefacts where they are at hand; else they are read. `texts` maps example ids to the text of a row, shown with the worst mistakes unless the config forbids it;
    `previous` is the report.json of the task's run before this one. Raises UsageError without a recommendation.
    """
    found = found or Artefacts.of(run)
    advice = found.advice
    expected: dict[str, Any] = advice.get("expected") or {}
    split = report_sweep.shown_split(found.sweep, expected)
    threshold = advice.get("threshold")
    models = provenance.models(found.record, found.policy, config)
    sweep = (
        None
        if found.sweep is None or found.sweep.empty
        else report_sweep.table(
            found.sweep,
            found.rows,
            split,
            threshold,
            found.sweep_metadata,
            alone=_ends(found, split, human=models["strong"]["human"])["strong_only"],
            prevalence=_prevalence(config),
        )
    )
    if sweep is not None:
        report_sweep.adopt(sweep, expected)
    verdict = _verdict(found)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "task": run.task,
        "run_id": run.run_id,
        "decision_id": getattr(run, "decision_id", None),
        "kind": config.kind,
        "description": config.description,
        "provider": found.record.get("provider") or config.provider,
        "demonstration": _demonstration(found, config),
        "started": found.record.get("started"),
        "models": models,
        "verdict": verdict,
        "cards": _cards(found, sweep, split, expected, human=models["strong"]["human"]),
        "warnings": _warnings(advice),
        "decide": _decide(found, config, sweep, split, models),
        "trust": trust.trust(found.calibration, found.reliability, found.sweep, found.rows, split, threshold, sweep),
        "failures": _failures(found, config, split, threshold, texts),
        "health": health.health(found.record, found.rows, split, threshold, previous),
        "use": _use(found, verdict),
        "provenance": provenance.provenance(found.record, config, found.replies),
        "previous": _previous(previous),
    }
    return dict(finite(report))


def _verdict(found: Artefacts) -> dict[str, Any]:
    advice = found.advice
    code = str(advice.get("verdict") or "uncertified")
    reason = (advice.get("certificate") or {}).get("reason")
    if code == "uncertified" and (
        any(w.get("code") in CHECK_DATA and (w.get("gravity") or 0) >= 3 for w in advice.get("warnings") or [])
    ):
        code = "check_data"
    return {
        "code": code,
        "title": TITLES.get(code, code),
        "sentence": advice.get("sentence"),
        "promise": advice.get("promise"),
        "not_said": advice.get("not_said"),
        "threshold": advice.get("threshold"),
        "calibrated_threshold": advice.get("calibrated_threshold"),
        "certificate": advice.get("certificate"),
        "reason": reason,
        "labels_needed": advice.get("labels_needed"),
        "tightest": advice.get("tightest"),
        "tighter": advice.get("tighter"),
    }


def _demonstration(found: Artefacts, config: TaskConfig) -> bool:
    return (found.record.get("provider") or config.provider) == "embedded"


def _cards(
    found: Artefacts, sweep: dict[str, Any] | None, split: str, expected: Mapping[str, Any], *, human: bool
) -> list[dict[str, Any]]:
    """The five figures of the first screen, each with interval, n and what it is compared with.

    They are the recommendation's own estimates; where it has none, those of the recommended row of the sweep.
    """
    index = None if sweep is None else sweep["recommended"]
    agreement = sweep is not None and sweep["quality"] == "agreement"

    everything = sweep is not None and index is not None and sweep["columns"]["threshold"][index] is None

    def figure(name: str, *others: str) -> dict[str, Any]:
        if everything and name in ("escalation_rate", "wrong_per_1000"):  # so by construction: no interval
            return report_sweep.at_row(sweep or {}, index, name)
        for other in (name, *others):
            if (expected.get(other) or {}).get("value") is not None:
                return dict(expected[other])
        return report_sweep.at_row(sweep, index, name) if sweep is not None else {"value": None}

    quality = figure(
        *(("agreement_with_strong",) if agreement and expected.get("agreement_with_strong") else ()), "system_accuracy"
    )
    ends = _ends(found, split, human=human)
    alone = ends["strong_only"]["usd_per_1000"]
    # who is told to use the strong model alone does not pay the cheap one
    cost = alone if found.advice.get("verdict") == "strong_only" else figure("usd_per_1000")
    return [
        {
            "key": "quality",
            "name": "agreement" if agreement else "accuracy",
            "unit": "share",
            "estimate": _by_definition(quality) if human and everything else quality,
            "strong": ends["strong_only"]["accuracy"],
            "cheap": ends["cheap_only"]["accuracy"],
        },
        {"key": "escalation", "name": "escalation", "unit": "share", "estimate": figure("escalation_rate")},
        {
            "key": "cost",
            "name": "cost",
            "unit": "usd",
            "estimate": cost,
            "strong": alone,
            "cheap": ends["cheap_only"]["usd_per_1000"],
            "change": None if cost is alone else _relative(cost["value"], alone["value"]),
        },
        {
            "key": "wrong",
            "name": "wrong",
            "unit": "per_1000",
            "estimate": figure("wrong_per_1000", "wrong_accepted_per_1000"),
            "accepted_accuracy": figure("accepted_accuracy"),
        },
        {
            "key": "latency",
            "name": "latency",
            "unit": "seconds",
            "estimate": figure("latency_p50_s"),
            "p95": figure("latency_p95_s"),
        },
    ]


def _relative(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base - 1


def _ends(found: Artefacts, split: str, *, human: bool) -> dict[str, Any]:
    """Each model alone on the shown split: the recommendation's estimates, else counted here.

    People (`human`) are right by definition, which no row can make less sure.
    """
    nothing = {"value": None, "lower": None, "upper": None, "level": report_rows.LEVEL, "n": 0, "split": split}
    out: dict[str, Any] = {}
    for role in ("cheap", "strong"):
        told = (found.advice.get("ends") or {}).get(f"{role}_only") or {}
        end = {name: dict(told.get(name) or nothing) for name in ("accuracy", "usd_per_1000")}
        if not told and found.rows is not None:
            inside = found.rows.of(split)
            end["accuracy"] = report_rows.mean_rate(found.rows.numbers[f"{role}_correct"][inside], split)
            end["usd_per_1000"] = report_sweep.mean_usd(found.rows.numbers[f"{role}_usd"][inside], split)
        if role == "strong" and human:
            end["accuracy"] = _by_definition(end["accuracy"])
        out[f"{role}_only"] = end
    return out


def _by_definition(estimate: Mapping[str, Any]) -> dict[str, Any]:
    """An estimate that is no estimate: its value without an interval."""
    return {**estimate, "lower": None, "upper": None}


def _warnings(advice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Gravest first (3 is the gravest), in the order given among equals."""
    found = [
        {"code": w.get("code"), "gravity": w.get("gravity") or 1, "text": w.get("text") or w.get("code")}
        for w in advice.get("warnings") or []
    ]
    return sorted(found, key=lambda w: -int(w["gravity"]))


def _prevalence(config: TaskConfig) -> dict[str, float] | None:
    """Production's label mix, where the labeled set has another."""
    return None if config.dataset is None or config.dataset.prevalence is None else dict(config.dataset.prevalence)


def _decide(
    found: Artefacts,
    config: TaskConfig,
    sweep: dict[str, Any] | None,
    split: str,
    models: Mapping[str, Any],
) -> dict[str, Any]:
    baselines = [dict(b) for b in found.advice.get("baselines") or [] if b.get("split") in (split, None)]
    priced = None
    if sweep is not None and found.rows is not None:
        priced = prices.prices(sweep, found.rows, found.replies, models, _prevalence(config))
    target = dict(
        (found.advice.get("certificate") or {}).get("target")
        or config.target.model_dump(mode="json", exclude_none=True)
    )
    ends = _ends(found, split, human=models["strong"]["human"])
    return {
        "split": split,
        "sweep": sweep,
        "ends": ends,
        "baselines": baselines if _comparable(baselines, ends["cheap_only"]) else [],
        "target": target,
        "target_line": _target_line(target, ends),
        "human": models["strong"]["human"],
        "reweighted": _prevalence(config),
        "ranking": found.advice.get("ranking"),
        "prices": priced,
    }


def _comparable(baselines: list[dict[str, Any]], cheap: Mapping[str, Any]) -> bool:
    """Whether the baselines weigh rows as the curve does: escalating nothing at random is the cheap model alone."""
    none = [b for b in baselines if b.get("name") == "random" and b.get("escalation_rate") == 0]
    pair = (none[0].get("system_accuracy") if none else None, cheap["accuracy"]["value"])
    return None in pair or abs(pair[0] - pair[1]) < 1e-6


def _target_line(target: Mapping[str, Any], ends: Mapping[str, Any]) -> float | None:
    """The accuracy that the target asks for on the shown split, where it asks for one."""
    if target.get("kind") == "match_strong" and ends["strong_only"]["accuracy"]["value"] is not None:
        return float(ends["strong_only"]["accuracy"]["value"]) - float(target["within"])
    if target.get("kind") == "agree_with_strong":
        return 1 - float(target["within"])
    return float(target["at_least"]) if target.get("kind") == "system_accuracy" else None


def _failures(
    found: Artefacts, config: TaskConfig, split: str, threshold: float | None, texts: Mapping[str, str] | None
) -> dict[str, Any] | None:
    rows = found.rows
    if rows is None:
        return None
    floors = config.target.label_floors
    shown = config.report.examples == "full"
    return {
        "split": split,
        "gold": rows.gold,
        "labels": report_rows.groups(rows, "label", split, threshold, floors) if rows.texts["label"].values else None,
        "floors": report_rows.recall_floors(rows, split, threshold, floors or {}, config.target.label_groups or {}),
        "segments": report_rows.groups(rows, "segment", split, threshold)
        if len(rows.texts["segment"].values) > 1
        else None,
        "confusion": report_rows.confusion(rows, split, threshold) if config.kind != "choose" else None,
        "mistakes": report_rows.mistakes(rows, threshold, texts) if shown else None,
        "examples_shown": shown,
        "label_noise": report_rows.label_noise(rows, split, threshold) if rows.gold else None,
    }


def _use(found: Artefacts, verdict: Mapping[str, Any]) -> dict[str, Any]:
    policy = found.policy
    return {
        "policy": policy,
        "policy_json": _policy_text(found),
        "policy_sha256": None if found.policy_bytes is None else hashlib.sha256(found.policy_bytes).hexdigest(),
        "threshold": verdict["threshold"],
        "watch": None if policy is None else health.watch(policy.get("monitor") or {}),
        "labels_needed": verdict["labels_needed"],
        "tightest": verdict["tightest"],
        "tighter": verdict["tighter"],
    }


def _policy_text(found: Artefacts) -> str | None:
    """policy.json as the file holds it; escaped where it is not ASCII, so that what is copied is what was meant."""
    if found.policy_bytes is None:
        return None
    return found.policy_bytes.decode() if found.policy_bytes.isascii() else json.dumps(found.policy, indent=1)


def _previous(previous: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What is compared with the task's run before this one."""
    if previous is None:
        return None
    cards = {c["key"]: c["estimate"] for c in previous.get("cards") or []}
    return {
        "run_id": previous.get("run_id"),
        "started": previous.get("started"),
        "verdict": (previous.get("verdict") or {}).get("code"),
        "threshold": (previous.get("verdict") or {}).get("threshold"),
        "quality": cards.get("quality"),
        "cost": cards.get("cost"),
        "dataset": ((previous.get("provenance") or {}).get("digests") or {}).get("dataset"),
    }
