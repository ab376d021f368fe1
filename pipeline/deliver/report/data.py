"""ReportData: a run's artefacts as one JSON value that holds everything the page shows, report.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.config.task import TaskConfig
from pipeline.decide.advice.volume_cost import change
from pipeline.decide.advice.warnings import speaks_of_data
from pipeline.decide.breakdown import groups, mistakes
from pipeline.decide.breakdown.addressed import with_addressed
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.breakdown.price_parts import price_parts
from pipeline.decide.monitor_facts import MonitorFacts
from pipeline.decide.next_requests import next_requests
from pipeline.decide.target import Goal
from pipeline.decide.thresholds import in_stretch
from pipeline.deliver.report import first_screen, health, provenance, records, tokens, trust
from pipeline.deliver.report import sweep as report_sweep
from pipeline.deliver.report.artefacts import Artefacts
from pipeline.deliver.report.formatting import cut
from pipeline.run.decision import Decision
from pipeline.run.directory import finite

SCHEMA = "cascade-report/1"

TITLES = {
    "certified": "Certified",
    "uncertified": "Not certified",
    "cheap_only": "Cheap model is enough",
    "strong_only": "Use the strong model",
    "optimized": "Optimized, no promise",
    "check_data": "Check data",
}


def build(
    decision: Decision,
    config: TaskConfig,
    found: Artefacts,
    *,
    texts: Mapping[str, str] | None = None,
    previous: records.Report | None = None,
    index_link: str = "../../index.html",
) -> dict[str, Any]:
    """Everything the page shows, ready for JSON: no NaN, no path, no secret.

    `texts` maps example ids to the text of a row, shown with the worst mistakes unless the config forbids it; `previous` is the
    report of the task's run before this one.
    """
    advice, record = found.advice, found.record
    split, threshold = advice.intervals.split, advice.threshold
    provider = config.provider if record.provider is None else record.provider
    models = provenance.models(record, config)
    human = models["strong"]["human"]
    sweep = (
        None
        if found.sweep.empty
        else report_sweep.table(
            found.sweep,
            found.rows,
            split,
            threshold,
            found.sweep_metadata,
            alone=_ends(found, human=human)["strong_only"],
            prevalence=_prevalence(config),
        )
    )
    if sweep is not None:
        report_sweep.adopt(sweep, advice.expected)
    verdict = _verdict(found)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "task": decision.task,
        "run_id": decision.run_id,
        "decision_id": decision.decision_id,
        "index_link": index_link,
        "kind": config.kind,
        "description": config.description,
        "provider": provider,
        "demonstration": provider == "embedded",
        "started": record.started,
        "models": models,
        "verdict": verdict,
        "intervals": advice.intervals.model_dump(),
        "first": None,
        "cards": _cards(found, sweep, human=human),
        "warnings": [w.model_dump() for w in sorted(advice.warnings, key=lambda w: -w.gravity)],
        "decide": _decide(found, config, sweep, split, models),
        "trust": trust.trust(
            found.calibration, found.reliability, found.sweep, found.rows, split, threshold, sweep, advice.optimism
        ),
        "failures": _failures(found, config, split, threshold, texts),
        "tokens": None
        if found.tokens is None or config.report.examples == "none"
        else tokens.strips(found.rows, found.tokens, threshold),
        "health": health.health(record, found.rows, previous),
        "use": _use(found, verdict),
        "provenance": provenance.provenance(record, config, found.replies),
        "previous": _previous(previous),
    }
    report["first"] = first_screen.first_screen(report, config, advice)
    return dict(finite(report))


def _verdict(found: Artefacts) -> dict[str, Any]:
    advice = found.advice
    code, qualified = advice.verdict, advice.outcome is not None and advice.outcome.qualified
    if code == "uncertified" and any(speaks_of_data(w.code, w.gravity) for w in advice.warnings):
        code = "check_data"
    return {
        "code": code,
        "qualified": qualified,
        "title": TITLES[code] + (", with a reservation" if qualified else ""),
        "sentence": advice.sentence,
        "promise": advice.promise,
        "not_said": advice.not_said,
        "threshold": advice.threshold,
        "calibrated_threshold": advice.calibrated_threshold,
        "certificate": advice.certificate.model_dump(exclude={"details"}),
        "reason": advice.certificate.reason,
        "outcome": None if advice.outcome is None else advice.outcome.model_dump(),
        "difference": None if advice.difference is None else advice.difference.to_json(),
        "unreadable": advice.unreadable,
        "labels_needed": advice.labels_needed,
        "tightest": advice.tightest,
        "tighter": advice.tighter,
    }


def _cards(found: Artefacts, sweep: dict[str, Any] | None, *, human: bool) -> list[dict[str, Any]]:
    """The five figures of the first screen, each with interval, n and what it is compared with.

    They are the recommendation's own estimates; where it has none, those of the recommended row of the sweep.
    """
    index = None if sweep is None else sweep["recommended"]
    agreement = sweep is not None and sweep["quality"] == "agreement"
    everything = sweep is not None and index is not None and sweep["columns"]["threshold"][index] is None
    expected: dict[str, dict[str, Any]] = found.advice.expected.model_dump()

    def figure(name: str, *others: str) -> dict[str, Any]:
        if (
            sweep is not None and everything and name in ("escalation_rate", "wrong_per_1000")
        ):  # by construction: no interval
            return report_sweep.at_row(sweep, index, name)
        for other in (name, *others):
            if other in expected and expected[other]["value"] is not None:
                return dict(expected[other])
        return report_sweep.at_row(sweep, index, name) if sweep is not None else {"value": None}

    quality = figure(*(("agreement_with_strong",) if agreement else ()), "system_accuracy")
    ends = _ends(found, human=human)
    cheap = ends["cheap_only"]["accuracy"]
    if agreement and sweep is not None:
        cheap = groups.agreement_of_cheap(found.rows, sweep["split"]).to_json()
    alone = ends["strong_only"]["usd_per_1000"]
    # who is told to use the strong model alone does not pay the cheap one
    cost = alone if found.advice.verdict == "strong_only" else figure("usd_per_1000")
    return [
        {
            "key": "quality",
            "name": "agreement" if agreement else "accuracy",
            "unit": "share",
            "estimate": _by_definition(quality) if human and everything else quality,
            "strong": ends["strong_only"]["accuracy"],
            "cheap": cheap,
        },
        {"key": "escalation", "name": "escalation", "unit": "share", "estimate": figure("escalation_rate")},
        {
            "key": "cost",
            "name": "cost",
            "unit": "usd",
            "estimate": cost,
            "strong": alone,
            "cheap": ends["cheap_only"]["usd_per_1000"],
            "change": None if cost is alone else change(cost["value"], alone["value"]),
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


def _ends(found: Artefacts, *, human: bool) -> dict[str, Any]:
    """Each model alone on the shown split.

    People (`human`) are right by definition, which no row can make less sure.
    """
    told = found.advice.ends.model_dump()
    if human:
        told["strong_only"]["accuracy"] = _by_definition(told["strong_only"]["accuracy"])
    return told


def _by_definition(estimate: Mapping[str, Any]) -> dict[str, Any]:
    """An estimate that is no estimate: its value without an interval."""
    return {**estimate, "lower": None, "upper": None}


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
    baselines = [dict(b) for b in found.advice.baselines if b["split"] == split]
    parts = None
    if sweep is not None:
        prices = {role: side["price"] for role, side in models.items()}
        parts = price_parts(
            found.rows, split, sweep["columns"]["threshold"], found.replies, prices, _prevalence(config)
        )
    target = found.advice.certificate.target
    ends = _ends(found, human=models["strong"]["human"])
    passed = found.advice.certificate.details.get("passed", [])
    if sweep is not None:
        sweep["columns"]["passed"] = [in_stretch(t, passed) for t in sweep["columns"]["threshold"]]
    return {
        "split": split,
        "sweep": sweep,
        "ends": ends,
        "baselines": baselines if _comparable(baselines, ends["cheap_only"]) else [],
        "target": target,
        "target_line": Goal.of_json(target).quality_line(ends["strong_only"]["accuracy"]["value"]),
        "human": models["strong"]["human"],
        "reweighted": _prevalence(config),
        "ranking": found.advice.ranking,
        "usual_rules": [rule.model_dump() for rule in found.advice.usual_rules],
        "passed": passed,
        "prices": None if parts is None else {"split": split, "components": [asdict(part) for part in parts]},
    }


def _comparable(baselines: list[dict[str, Any]], cheap: Mapping[str, Any]) -> bool:
    """Whether the baselines weigh rows as the curve does: escalating nothing at random is the cheap model alone."""
    none = [b for b in baselines if b["name"] == "random" and b["escalation_rate"] == 0]
    pair = (none[0]["system_accuracy"] if none else None, cheap["accuracy"]["value"])
    return None in pair or abs(pair[0] - pair[1]) < 1e-6


def _failures(
    found: Artefacts, config: TaskConfig, split: str, threshold: float | None, texts: Mapping[str, str] | None
) -> dict[str, Any]:
    rows = found.rows
    floors = config.target.label_floors
    margin = config.target.within if config.target.kind == "match_strong" else None
    shown = config.report.examples == "full"
    return {
        "split": split,
        "gold": rows.gold,
        "labels": groups.groups(rows, "label", split, threshold, floors, margin)
        if rows.texts["label"].values
        else None,
        "floors": groups.recall_floors(
            rows,
            split,
            threshold,
            floors or {},
            config.target.label_groups or {},
            Goal.of(config.target).floors_by_segment,
        ),
        "segments": groups.groups(rows, "segment", split, threshold, margin=margin)
        if len(rows.texts["segment"].values) > 1
        else None,
        "addressed": _addressed(rows, config, split, threshold, texts, margin),
        "confusion": _confusion(rows, split, threshold) if config.kind != "choose" else None,
        "mistakes": _mistakes(rows, threshold, texts or {}) if shown else None,
        "rates": list(found.advice.label_rates),
        "examples_shown": shown,
        "label_noise": mistakes.label_noise(rows, split, threshold) if rows.gold else None,
    }


def _addressed(
    rows: CodedRows,
    config: TaskConfig,
    split: str,
    threshold: float | None,
    texts: Mapping[str, str] | None,
    margin: float | None,
) -> dict[str, Any] | None:
    """Results of the rows whose text speaks to the model beside those of the others; None where no such text is known."""
    marked = None if texts is None else with_addressed(rows, texts, config.labels or (), split)
    return None if marked is None else groups.groups(marked, "text", split, threshold, margin=margin)


def _confusion(rows: CodedRows, split: str, threshold: float | None) -> dict[str, Any] | None:
    """No matrix of labels that begin alike for as long as a column's head shows them: they cannot be told apart there."""
    found = mistakes.confusion(rows, split, threshold)
    if (
        found is None
        or found["labels"] is None
        or len({cut(name, 30) for name in found["labels"]}) == len(found["labels"])
    ):
        return found
    return found | {"labels": None, "table": None}


def _mistakes(rows: CodedRows, threshold: float | None, texts: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        entry | {"text": cut(texts[entry["example_id"]]) if entry["example_id"] in texts else None}
        for entry in mistakes.mistakes(rows, threshold)
    ]


def _use(found: Artefacts, verdict: Mapping[str, Any]) -> dict[str, Any]:
    policy = found.policy
    return {
        "policy": policy,
        "policy_json": _policy_text(found),
        "policy_sha256": hashlib.sha256(found.policy_bytes).hexdigest(),
        "threshold": verdict["threshold"],
        "watch": next_requests(MonitorFacts(**policy["monitor"])).to_json(),
        "labels_needed": verdict["labels_needed"],
        "tightest": verdict["tightest"],
        "tighter": verdict["tighter"],
    }


def _policy_text(found: Artefacts) -> str:
    """policy.json as the file holds it; escaped where it is not ASCII, so that what is copied is what was meant."""
    return found.policy_bytes.decode() if found.policy_bytes.isascii() else json.dumps(found.policy, indent=1)


def _previous(previous: records.Report | None) -> dict[str, Any] | None:
    """What is compared with the task's run before this one."""
    if previous is None:
        return None
    return {
        "run_id": previous.run_id,
        "started": previous.started,
        "verdict": previous.verdict.code,
        "threshold": previous.verdict.threshold,
        "quality": previous.card("quality").estimate,
        "cost": previous.card("cost").estimate,
        "dataset": previous.provenance.digests.dataset,
    }
