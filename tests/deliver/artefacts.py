"""Synthetic run directories for the tests of what people read: every verdict, every kind, and what may be unknown."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from deliver.artefact_tables import LEVEL, Scene, answers_of, interval, predictions, reliability, replies, sweep

from pipeline.config.task import TaskConfig
from pipeline.decide.certify import certify
from pipeline.decide.curves.baselines import baselines
from pipeline.decide.predictions import Rows
from pipeline.decide.recommend import recommend
from pipeline.decide.sweep import sweep as real_sweep
from pipeline.decide.thresholds import sweep_levels
from pipeline.run import directory as names
from pipeline.run.directory import Run


def config_of(scene: Scene) -> TaskConfig:
    price = {"input": 0.17, "output": 0.25, "as_of": "2026-11-22", "source": "third-party price list"}
    dear = {"input": 1.32, "output": 3.96, "as_of": "2026-11-22", "source": "third-party price list"}
    dataset: dict[str, Any] = {
        "path": "examples.jsonl",
        "id": "id",
        "segment": "length",
        "split": {"fit": 0.25, "certify": 0.5, "test": 0.25},
    }
    target = dict(scene.target)
    if scene.prevalence:
        dataset["prevalence"] = scene.prevalence
    if scene.gold:
        dataset["label"] = "label"
    else:
        target = {"kind": "agree_with_strong", "within": 0.02, "certainty": 0.9}
    if scene.kind == "choose":
        dataset["options"] = "options"
    if scene.verdict == "optimized":
        target = {"kind": "total_cost", "usd_per_error": 0.05}
    return TaskConfig.model_validate(
        {
            "task": scene.task,
            "kind": scene.kind,
            "description": scene.description,
            "dataset": dataset,
            "labels": list(scene.labels) if scene.kind == "classify" else None,
            "prompt": {"system": "Answer with one label.", "user": "{text}"},
            "provider": scene.provider,
            "cheap": {
                "model": "Qwen/Qwen3.5-9B",
                "usd_per_million_tokens": price,
                "params": {"temperature": 0, "max_tokens": 8},
            },
            "strong": {"human": True, "usd_per_request": 0.4}
            if scene.human
            else {
                "model": "deepseek-ai/DeepSeek-V4-Pro",
                "usd_per_million_tokens": dear,
                "params": {"temperature": 0, "max_tokens": 8},
            },
            "target": target,
            "report": {"examples": scene.examples},
            "seed": 20,
        }
    )


def _number(value: float, lower: float, upper: float, n: int, split: str) -> dict[str, Any]:
    return {"value": value, "lower": lower, "upper": upper, "level": LEVEL, "n": n, "split": split}


def _metrics(shift: float) -> dict[str, Any]:
    values = {
        "accuracy": 0.86,
        "mean_confidence": 0.93 - shift,
        "nll": 0.41 - shift,
        "brier": 0.108 - shift / 5,
        "auroc": 0.802,
        "ece_equal_width_10": 0.0916 - shift,
        "aurc_mean": 0.0559,
        "e_aurc": 0.0428,
        "corp_brier_miscalibration": 0.0129 - shift / 10,
    }
    return {
        split: {
            k: {"value": v, "lower": v * 0.9, "upper": v * 1.1, "level": LEVEL, "n": 200} for k, v in values.items()
        }
        for split in ("fit", "certify", "test")
    }


def calibration(scene: Scene) -> dict[str, Any]:
    return {
        "schema": "cascade-calibration/1",
        "signal": {"name": "first_token", "version": 2, "params": {}},
        "signal_table": [
            {
                "signal": "first_token",
                "aurc": 0.0559,
                "aurc_se": 0.006,
                "auroc": 0.802,
                "n": 200,
                "null_rate": 0.02,
                "chosen": True,
            },
            {
                "signal": "margin",
                "aurc": 0.0541,
                "aurc_se": 0.0061,
                "auroc": 0.811,
                "n": 200,
                "null_rate": 0.02,
                "chosen": False,
            },
            {
                "signal": "entropy",
                "aurc": 0.0612,
                "aurc_se": 0.0070,
                "auroc": 0.781,
                "n": 200,
                "null_rate": 0.03,
                "chosen": False,
            },
        ],
        "calibrator": {"kind": "platt", "slope": 0.55, "intercept": 0.2},
        "selection": [
            {"kind": "platt", "cv_nll": 0.332},
            {"kind": "temperature", "cv_nll": 0.335},
            {"kind": "beta", "cv_nll": 0.334},
        ],
        "metrics": {"before": _metrics(0.0), "after": _metrics(0.07)} if scene.gold else {"before": {}, "after": {}},
        "clipped": 3,
    }


SENTENCES = {
    "certified": (
        "Escalate when confidence is below {t}: about 24 % of requests go to the strong model.",
        "Promise: at most 2 points worse than the strong model, with 90 % certainty, on data like this dataset.",
    ),
    "uncertified": ("No threshold can be promised yet: send everything to the strong model.", None),
    "check_data": (
        "The data must be checked before a threshold means anything: every label of the certify split is the same.",
        None,
    ),
    "cheap_only": (
        "The cheap model is enough: nothing needs to be escalated.",
        "Promise: at most 2 points worse than the strong model, with 90 % certainty.",
    ),
    "strong_only": ("Use the strong model for everything: no threshold both saves money and keeps the target.", None),
    "optimized": (
        "Escalate when confidence is below {t}: that costs least in total. This is the best estimate, not a promise.",
        None,
    ),
}


def recommendation(frame: pd.DataFrame, table: pd.DataFrame, scene: Scene, threshold: float | None) -> dict[str, Any]:
    test = frame[frame["split"] == "test"]
    at = table[(table["split"] == "test") & (table["threshold"] == threshold)]
    expected: dict[str, Any] = {}
    n = len(test)
    if len(at):
        row = at.iloc[0]
        for name in ("coverage", "escalation_rate", "accepted_accuracy", "system_accuracy", "usd_per_1000"):
            expected[name] = _number(row[name], row[f"{name}_lower"], row[f"{name}_upper"], n, "test")
        expected |= {k: _number(row[k], np.nan, np.nan, n, "test") for k in ("latency_p50_s", "latency_p95_s")}
        kept = test[test["confidence"] >= threshold]
        wrong = int(kept["cheap_correct"].eq(False).sum())
        per_1000 = [1000 * float(x) for x in (wrong / n, *interval(wrong, n))] if scene.gold else [np.nan] * 3
        expected["wrong_accepted_per_1000"] = _number(*per_1000, n if scene.gold else 0, "test")
    if scene.gold:
        k = int(test["strong_correct"].sum())
        expected["strong_accuracy"] = _number(k / n, *interval(k, n), n, "test")
    usd = float(test["strong_usd"].mean() * 1000)
    expected["strong_usd_per_1000"] = _number(usd, usd * 0.98, usd * 1.02, n, "test")
    sentence, promise = SENTENCES[scene.verdict]
    certified = scene.verdict in ("certified", "cheap_only")
    rates = np.linspace(0, 1, 11)
    a, b = (
        float(test["cheap_correct"].mean(skipna=True) if scene.gold else np.nan),
        expected.get("strong_accuracy", {}).get("value", np.nan),
    )
    cheap_usd = float(test["cheap_usd"].mean() * 1000)
    baselines = [
        {
            "name": name,
            "split": "test",
            "escalation_rate": float(r),
            "system_accuracy": float(a + (b - a) * (1 - (1 - r) ** power)),
            "usd_per_1000": cheap_usd + usd * r,
        }
        for name, power in (("random", 1), ("oracle", 6), ("router", 1.4))
        for r in rates
    ]
    return {
        "schema": "cascade-recommendation/1",
        "task": scene.task,
        "run_id": scene.run_id,
        "verdict": "uncertified" if scene.verdict == "check_data" else scene.verdict,
        "threshold": threshold,
        "calibrated_threshold": None if threshold is None else 0.8211,
        "sentence": sentence.format(t=threshold),
        "promise": promise,
        "not_said": "This does not say that every label or segment keeps the promise, nor that it holds on other data.",
        "warnings": [
            {"code": "few_test_rows", "gravity": 1, "text": "The test split has 200 rows; its intervals are wide."},
            {
                "code": "stale_prices",
                "gravity": 2,
                "text": "Prices are from 2026-11-22; check them before you rely on the dollars.",
            },
            {
                "code": "out_of_set",
                "gravity": 1,
                "text": "1.2 % of the cheap model's replies were not one of the labels; they escalate.",
            },
            *(
                [{"code": "one_class", "gravity": 3, "text": "Only one label occurs in the certify split."}]
                if scene.verdict == "check_data"
                else []
            ),
        ],
        "certificate": {
            "target": dict(scene.target),
            "delta": 0.1,
            "method": "exact paired score test, fixed sequence",
            "n": int((frame["split"] == "certify").sum()),
            "n_accepted": 300 if certified else 0,
            "statistic": -1.62 if certified else None,
            "p_value": 0.041 if certified else 0.31,
            "look": 1,
            "reason": None if certified else "no level passed its test",
            "escalation_rate": 0.24 if certified else 1.0,
        },
        "expected": expected,
        "labels_needed": None if certified else 640,
        "tightest": {"within": 0.015, "threshold": 0.913, "escalation_rate": 0.31} if certified else None,
        "baselines": baselines if scene.gold else [],
        "optimism": {},
        "ends": {},
    }


def policy(scene: Scene, advice: dict[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    certify = frame[frame["split"] == "certify"]
    body = {
        "schema": "cascade-policy/1",
        "task": scene.task,
        "provider": scene.provider,
        "verdict": advice["verdict"],
        "threshold": advice["threshold"],
        "calibrated_threshold": advice["calibrated_threshold"],
        "comparator": "<",
        "signal": {"name": "first_token", "version": 2, "params": {}},
        "calibrator": {"kind": "platt", "slope": 0.55, "intercept": 0.2},
        "labels": list(answers_of(scene)),
        "kind": scene.kind,
        "cheap": {
            "model": scene.cheap,
            "params": {"temperature": 0, "max_tokens": 8},
            "usd_per_million_tokens": {"input": 0.17, "output": 0.25},
            "response_models_seen": [scene.cheap],
        },
        "strong": {
            "model": scene.strong,
            "params": {"temperature": 0, "max_tokens": 8},
            "usd_per_million_tokens": {"input": 1.32, "output": 3.96},
            "response_models_seen": [scene.strong],
        },
        "prompt_sha256": "a" * 64,
        "dataset_sha256": "b" * 64,
        "expected": advice["expected"],
        "certificate": advice["certificate"],
        "monitor": {
            "confidence_quantiles": [0.41, 0.62, 0.83, 0.93, 0.97, 0.99],
            "n_certify": len(certify),
            "n_escalated": int((~(certify["confidence"] >= (advice["threshold"] or 0))).sum()),
            "out_of_set_rate": 0.012,
            "no_logprobs_rate": 0.006,
            "accepted_error_bound": 0.061,
        },
        "versions": {"cascade-threshold": "0.1.0"},
    }
    return {**body, "digest": hashlib.sha256(json.dumps(names.finite(body), sort_keys=True).encode()).hexdigest()}


def record(scene: Scene, frame: pd.DataFrame, config: TaskConfig) -> dict[str, Any]:
    n = len(frame)
    statuses = {
        role: {k: int(v) for k, v in frame[f"{role}_status"].value_counts().sort_index().items()}
        for role in ("cheap", "strong")
    }
    spending = {
        "sent": n - 5,
        "kept": n - 5,
        "from_store": 5,
        "identical": 0,
        "maybe_paid": 1,
        "usd": 0.1,
        "attempts": n,
    }
    price = {"as_of": "2026-11-22", "source": "third-party price list", "batch_discount": 0.0}
    demo = scene.provider == "embedded"
    return {
        "schema": "cascade-run/1",
        "task": scene.task,
        "run_id": scene.run_id,
        "command": f"python -m pipeline evaluate {scene.task}",
        "provider": scene.provider,
        "config": config.public(),
        "digests": {"config": "c" * 64, "dataset": "b" * 64, "prompt": "a" * 64},
        "versions": {"cascade-threshold": "0.1.0", "python": "3.11.2", "numpy": "2.4.6"},
        "started": scene.started,
        "finished": "2026-11-23T08:00:27Z",
        "stages": {"collect": {"seconds": 18.2}, "measure": {"seconds": 1.1}},
        "counts": {
            "rows": n + 14,
            "used": n,
            "excluded": {"duplicate text": 9, "no label": 5},
            "splits": {k: int(v) for k, v in frame["split"].value_counts().items()},
            "duplicate_texts": 9,
            "conflicting_labels": 1,
            "leaked_between_splits": 0,
            "groups": n,
            "grouped_by": "content",
        },
        "measured": {"statuses": statuses, "exact_zeros": 12, "long_answers": 3, "response_models": {}},
        "spending": {"cheap": spending, "strong": spending},
        "models": {
            "cheap": {
                "name": scene.cheap,
                "stands_in_for": "Qwen/Qwen3.5-9B" if demo else None,
                "usd_per_million_tokens": {"input": 0.17, "output": 0.25, **price},
            },
            "strong": {"name": "people", "human": True, "usd_per_request": 0.4}
            if scene.human
            else {
                "name": scene.strong,
                "stands_in_for": "deepseek-ai/DeepSeek-V4-Pro" if demo else None,
                "usd_per_million_tokens": {"input": 1.32, "output": 3.96, **price},
            },
        },
        "git": {"commit": "935d2ba", "dirty": False},
    }


def threshold_of(scene: Scene, frame: pd.DataFrame) -> float | None:
    if scene.verdict in ("uncertified", "check_data", "strong_only"):
        return None
    if scene.verdict == "cheap_only":
        return 0.0
    known = np.sort(frame["confidence"].dropna().to_numpy())
    levels = sweep_levels(known, None, 1000)
    return float(levels[int(0.22 * len(levels))])


def write_run(runs_dir: Path, scene: Scene | None = None, **changes: Any) -> tuple[Run, TaskConfig]:
    """A whole run directory. Keyword arguments change the scene."""
    scene = replace(scene or Scene(), **changes)
    config, run = config_of(scene), Run(runs_dir, scene.task, scene.run_id)
    frame = predictions(scene)
    threshold = threshold_of(scene, frame)
    table = sweep(frame, scene, threshold)
    advice = recommendation(frame, table, scene, threshold)
    run.write_json(names.RUN, record(scene, frame, config))
    run.write_table(names.PREDICTIONS, pa.Table.from_pandas(frame, preserve_index=False))
    run.write_table(names.REPLIES, pa.Table.from_pandas(replies(frame, scene), preserve_index=False))
    run.write_json(names.CALIBRATION, calibration(scene))
    run.write_table(
        names.RELIABILITY,
        pa.Table.from_pandas(reliability(frame if scene.gold else frame.iloc[:0]), preserve_index=False),
    )
    run.write_table(
        names.SWEEP, pa.Table.from_pandas(table, preserve_index=False), {"band": "pointwise", "level": "0.9"}
    )
    run.write_json(names.RECOMMENDATION, advice)
    run.write_json(names.POLICY, policy(scene, advice, frame))
    return run, config


def decide(run: Run, config: TaskConfig) -> None:
    """Give a run the recommendation, the sweep and the words that its predictions really lead to."""
    rows, target, human = Rows.from_frame(run.read_table(names.PREDICTIONS)), config.target, config.strong.human
    fit, seed = rows.of("fit"), config.seed
    certificate = certify(rows.of("certify"), target, look=1, human=human, fit=fit, seed=seed)
    wanted = None if certificate.threshold is None else np.array([certificate.threshold])
    table = real_sweep(rows, sweep_levels(rows.confidence, wanted), replicates=50, seed=seed)
    found = recommend(rows, target, certificate=certificate, sweep=table, human=human, seed=seed, data=run.task)
    rules = baselines(fit, rows.of("test"), np.linspace(0, 1, 11).tolist(), None, None, seed=seed, split="test")
    told = {"baselines": rules.to_dict("records"), "calibrated_threshold": None}
    run.write_frame(names.SWEEP, table)
    run.write_json(names.RECOMMENDATION, run.read_json(names.RECOMMENDATION) | found.to_json() | told)
    (run.directory / names.POLICY).unlink()


def texts_of(run: Run) -> dict[str, str]:
    """A text for each example."""
    frame = run.read_table(names.PREDICTIONS)
    return {
        i: f"Hello, this is the text of {i}. Could you look at the invoice from last week?" for i in frame["example_id"]
    }
