"""Synthetic run directories for the tests of what people read: every verdict, every kind, and what may be unknown."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import expit
from scipy.stats import beta
from sklearn.isotonic import IsotonicRegression

from pipeline import run as names
from pipeline.config import TaskConfig
from pipeline.decide.levels import sweep_levels
from pipeline.run import Run

LEVEL = 0.9


@dataclass(frozen=True)
class Scene:
    """What the synthetic run looks like."""

    verdict: str = "certified"
    """certified | uncertified | check_data | cheap_only | strong_only | optimized"""
    kind: str = "classify"
    rows: int = 800
    prices: bool = True
    latency: bool = True
    gold: bool = True
    provider: str = "embedded"
    examples: str = "full"
    labels: tuple[str, ...] = ("work", "personal", "spam", "other")
    segments: tuple[str, ...] = ("short", "long")
    cheap: str = "embedded/tiny-triage@3f9c2a"
    strong: str = "embedded/small-triage@88d01e"
    task: str = "email_triage"
    run_id: str = "0123456789ab"
    started: str = "2026-11-23T08:00:00Z"
    description: str = "Sort an email into one of four folders."
    target: dict[str, Any] = field(default_factory=lambda: {"kind": "match_strong", "within": 0.02, "certainty": 0.9})
    levels: int = 1000
    seed: int = 7


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
            "strong": {
                "model": "deepseek-ai/DeepSeek-V4-Pro",
                "usd_per_million_tokens": dear,
                "params": {"temperature": 0, "max_tokens": 8},
            },
            "target": target,
            "report": {"examples": scene.examples},
            "seed": 20,
        }
    )


def _answers(scene: Scene) -> tuple[str, ...]:
    return {"classify": scene.labels, "choose": ("A", "B", "C", "D", "E"), "judge": ("yes", "no")}[scene.kind]


def predictions(scene: Scene) -> pd.DataFrame:
    """Rows drawn from a population with a known truth; about one in fifty cheap replies is no answer."""
    rng = np.random.default_rng(scene.seed)
    n, answers = scene.rows, np.array(_answers(scene), dtype=object)
    logit = np.where(rng.random(n) < 0.7, rng.normal(5, 1.6, n), rng.normal(1.0, 1.2, n))
    logit = np.where(logit < -1, -2 - logit, logit)
    confidence = np.round(expit(logit), 6)
    boost = 3.0 if scene.verdict == "cheap_only" else 0.2
    right = rng.random(n) < expit(boost + 0.55 * logit)
    strong_right = rng.random(n) < np.where(right, 0.985, 0.65)
    label = answers[rng.integers(0, len(answers), n)]
    other = answers[(np.searchsorted(np.sort(answers.astype(str)), label.astype(str)) + 1) % len(answers)]
    wrong = np.where(other == label, answers[0], other)
    wrong = np.where(wrong == label, answers[1], wrong)
    status = np.full(n, "ok", dtype=object)
    odd = rng.random(n)
    status[odd < 0.012] = "out_of_set"
    status[(odd >= 0.012) & (odd < 0.018)] = "no_logprobs"
    status[(odd >= 0.018) & (odd < 0.02)] = "failed"
    usable = status == "ok"
    cheap_answer = np.where(right, label, wrong)
    cheap_answer[np.isin(status, ["out_of_set", "failed"])] = None
    cheap_correct = pd.array(right & (status != "out_of_set"), dtype="boolean")
    cheap_correct[status == "failed"] = pd.NA
    strong_correct = pd.array(strong_right, dtype="boolean")
    strong_answer = np.where(strong_right, label, wrong)
    split = rng.choice(np.array(["fit", "certify", "test"], dtype=object), n, p=[0.25, 0.5, 0.25])
    frame = pd.DataFrame(
        {
            "example_id": [f"row-{i:05d}" for i in range(n)],
            "split": split,
            "group": [f"g{i}" for i in range(n)],
            "segment": np.array(scene.segments, dtype=object)[rng.integers(0, len(scene.segments), n)],
            "label": label,
            "cheap_answer": cheap_answer,
            "cheap_status": status,
            "cheap_correct": cheap_correct,
            "strong_answer": strong_answer,
            "strong_status": "ok",
            "strong_correct": strong_correct,
            "cheap_usd": rng.normal(21e-6, 2e-6, n),
            "strong_usd": rng.normal(165e-6, 12e-6, n),
            "confidence": np.where(usable, confidence, np.nan),
        }
    )
    frame["signal_first_token"] = frame["confidence"]
    frame["signal_margin"] = frame["confidence"] ** 1.2
    if not scene.gold:
        frame["label"] = None
        frame["cheap_correct"] = frame["strong_correct"] = pd.array([pd.NA] * n, dtype="boolean")
    if not scene.prices:
        frame["cheap_usd"] = frame["strong_usd"] = np.nan
    return frame


def interval(k: float, n: float) -> tuple[float, float]:
    a = (1 - LEVEL) / 2
    return (
        0.0 if k == 0 else float(beta.ppf(a, k, n - k + 1)),
        1.0 if k == n else float(beta.ppf(1 - a, k + 1, n - k)),
    )


def _number(value: float, lower: float, upper: float, n: int, split: str) -> dict[str, Any]:
    return {"value": value, "lower": lower, "upper": upper, "level": LEVEL, "n": n, "split": split}


def sweep(frame: pd.DataFrame, scene: Scene, threshold: float | None) -> pd.DataFrame:
    levels = sweep_levels(
        frame["confidence"].to_numpy(), np.array([] if threshold is None else [threshold]), scene.levels
    )
    out = []
    for split in ("certify", "test", "all"):
        rows = frame if split == "all" else frame[frame["split"] == split]
        confidence = rows["confidence"].to_numpy()
        cheap = rows["cheap_correct"].astype("Float64").to_numpy(float, na_value=0.0)
        strong = rows["strong_correct"].astype("Float64").to_numpy(float, na_value=0.0)
        cheap_usd, strong_usd, n = rows["cheap_usd"].to_numpy(), rows["strong_usd"].to_numpy(), len(rows)
        for t in levels:
            kept = confidence >= t
            k, m = kept.sum(), max(1, kept.sum())
            right = np.where(kept, cheap, strong).sum()
            record: dict[str, Any] = {"split": split, "threshold": float(t), "n": n, "n_accepted": int(k)}
            accepted_right = cheap[kept].sum()
            for name, hits, of in (
                ("coverage", k, n),
                ("escalation_rate", n - k, n),
                ("accepted_accuracy", accepted_right, m if k else 0),
                ("selective_risk", k - accepted_right, m if k else 0),
                ("system_accuracy", right, n),
            ):
                known = of > 0 and (scene.gold or name in ("coverage", "escalation_rate"))
                lo, hi = interval(hits, of) if known else (np.nan, np.nan)
                record |= {name: hits / of if known else np.nan, f"{name}_lower": lo, f"{name}_upper": hi}
            usd = cheap_usd + np.where(kept, 0, strong_usd)
            mean, se = usd.mean() * 1000, usd.std() * 1000 / np.sqrt(n)
            record |= {
                "usd_per_1000": mean,
                "usd_per_1000_lower": mean - 1.645 * se,
                "usd_per_1000_upper": mean + 1.645 * se,
            }
            record["latency_p50_s"] = 0.42 if k > n / 2 else 1.61
            record["latency_p95_s"] = 1.9 + 1.2 * (1 - k / n)
            if not scene.latency:
                record["latency_p50_s"] = record["latency_p95_s"] = np.nan
            out.append(record)
    return pd.DataFrame(out)


def reliability(frame: pd.DataFrame) -> pd.DataFrame:
    records: list[dict[str, Any]] = []
    for split in ("certify", "test"):
        rows = frame[(frame["split"] == split) & frame["confidence"].notna() & frame["cheap_correct"].notna()]
        y = rows["cheap_correct"].astype(float).to_numpy()
        for stage in ("before", "after"):
            raw = rows["confidence"].to_numpy()
            p = raw if stage == "before" else expit(0.2 + 0.55 * np.log(raw / (1 - raw + 1e-9)))
            for lo, hi in zip(np.linspace(0, 0.9, 10), np.linspace(0.1, 1, 10), strict=True):
                inside = (p >= lo) & (p < hi if hi < 1 else p <= 1)
                k, m = y[inside].sum(), int(inside.sum())
                low, high = interval(k, m) if m else (np.nan, np.nan)
                records.append(
                    {
                        "split": split,
                        "stage": stage,
                        "kind": "bin",
                        "lower_edge": lo,
                        "upper_edge": hi,
                        "mean_confidence": p[inside].mean() if m else np.nan,
                        "accuracy": k / m if m else np.nan,
                        "n": m,
                        "n_correct": int(k),
                        "accuracy_lower": low,
                        "accuracy_upper": high,
                        "band_lower": np.nan,
                        "band_upper": np.nan,
                    }
                )
            fitted = IsotonicRegression(y_min=0, y_max=1).fit(p, y).predict(p) if len(y) else p
            for value in np.unique(fitted):
                block = fitted == value
                x, m = float(p[block].mean()), int(block.sum())
                half = 1.645 * np.sqrt(x * (1 - x) / m)
                records.append(
                    {
                        "split": split,
                        "stage": stage,
                        "kind": "corp",
                        "lower_edge": p[block].min(),
                        "upper_edge": p[block].max(),
                        "mean_confidence": x,
                        "accuracy": value,
                        "n": m,
                        "n_correct": int(y[block].sum()),
                        "accuracy_lower": np.nan,
                        "accuracy_upper": np.nan,
                        "band_lower": max(0, x - half),
                        "band_upper": min(1, x + half),
                    }
                )
    columns = [
        "split",
        "stage",
        "kind",
        "lower_edge",
        "upper_edge",
        "mean_confidence",
        "accuracy",
        "n",
        "n_correct",
        "accuracy_lower",
        "accuracy_upper",
        "band_lower",
        "band_upper",
    ]
    return pd.DataFrame(records, columns=columns)


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
        "signal": {"name": "first_token", "version": 1, "params": {}},
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
    body = {
        "schema": "cascade-policy/1",
        "task": scene.task,
        "provider": scene.provider,
        "verdict": advice["verdict"],
        "threshold": advice["threshold"],
        "calibrated_threshold": advice["calibrated_threshold"],
        "comparator": "<",
        "signal": {"name": "first_token", "version": 1, "params": {}},
        "calibrator": {"kind": "platt", "slope": 0.55, "intercept": 0.2},
        "labels": list(_answers(scene)),
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
            "n_certify": int((frame["split"] == "certify").sum()),
            "n_escalated": 97,
            "out_of_set_rate": 0.012,
            "no_logprobs_rate": 0.006,
            "accepted_error_bound": 0.061,
        },
        "versions": {"cascade-threshold": "0.1.0"},
    }
    return {**body, "digest": hashlib.sha256(json.dumps(names.finite(body), sort_keys=True).encode()).hexdigest()}


def replies(frame: pd.DataFrame, scene: Scene) -> pd.DataFrame:
    rng = np.random.default_rng(scene.seed + 1)
    parts = []
    for role, pin, pout in (("cheap", 0.17, 0.25), ("strong", 1.32, 3.96)):
        usd = frame[f"{role}_usd"].to_numpy()
        tokens_in = np.where(np.isnan(usd), 120, (usd * 1e6 - 2 * pout) / pin)
        parts.append(
            pd.DataFrame(
                {
                    "request_id": [f"{role}-{i}" for i in range(len(frame))],
                    "example_id": frame["example_id"],
                    "role": role,
                    "provider": scene.provider,
                    "model": role,
                    "response_model": role,
                    "state": "ok",
                    "http_status": 200,
                    "finish_reason": "stop",
                    "shape": "content",
                    "text": frame[f"{role}_answer"],
                    "input_tokens": tokens_in,
                    "output_tokens": 2.0,
                    "reasoning_tokens": np.nan,
                    "usd": usd,
                    "seconds": rng.gamma(4, 0.1, len(frame)) if scene.latency else np.nan,
                    "attempts": 1,
                    "received_at": "2026-11-23T08:00:05Z",
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


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
            "strong": {
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


def texts_of(run: Run) -> dict[str, str]:
    """A text for each example."""
    frame = run.read_table(names.PREDICTIONS)
    return {
        i: f"Hello, this is the text of {i}. Could you look at the invoice from last week?" for i in frame["example_id"]
    }
