"""Synthetic tables of a run: predictions drawn from a population with a known truth, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import beta
from sklearn.isotonic import IsotonicRegression

from pipeline.decide.thresholds import sweep_levels

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
    prevalence: dict[str, float] | None = None
    human: bool = False
    """People in place of the strong model."""
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


def answers_of(scene: Scene) -> tuple[str, ...]:
    return {"classify": scene.labels, "choose": ("A", "B", "C", "D", "E"), "judge": ("yes", "no")}[scene.kind]


def predictions(scene: Scene) -> pd.DataFrame:
    """Rows drawn from a population with a known truth; about one in fifty cheap replies is no answer."""
    rng = np.random.default_rng(scene.seed)
    n, answers = scene.rows, np.array(answers_of(scene), dtype=object)
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
    if scene.human:
        frame["strong_answer"], frame["strong_correct"], frame["strong_usd"] = label, pd.array([True] * n), 0.4
    if not scene.gold:
        frame["label"] = None
        frame["cheap_correct"] = frame["strong_correct"] = pd.array([pd.NA] * n, dtype="boolean")
    if not scene.prices:
        frame["cheap_usd"] = frame["strong_usd"] = np.nan
    return frame


def interval(k: Any, n: Any) -> tuple[Any, Any]:
    """Clopper-Pearson by scipy; arrays in, arrays out."""
    k, n, a = np.asarray(k, dtype=float), np.asarray(n, dtype=float), (1 - LEVEL) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(k == 0, 0.0, beta.ppf(a, k, n - k + 1))
        high = np.where(k == n, 1.0, beta.ppf(1 - a, k + 1, n - k))
    return low[()], high[()]


def sweep(frame: pd.DataFrame, scene: Scene, threshold: float | None) -> pd.DataFrame:
    """Counts at every level by comparing all rows with all levels."""
    wanted = np.array([] if threshold is None else [threshold])
    levels = sweep_levels(frame["confidence"].to_numpy(), wanted, scene.levels)
    out = []
    for split in ("certify", "test", "all"):
        rows = frame if split == "all" else frame[frame["split"] == split]
        kept = rows["confidence"].to_numpy() >= levels[:, None]
        cheap, strong = (
            rows[c].astype("Float64").to_numpy(float, na_value=0.0) for c in ("cheap_correct", "strong_correct")
        )
        n, k = len(rows), kept.sum(axis=1)
        right_kept = kept @ cheap
        table: dict[str, Any] = {"split": split, "threshold": levels, "n": n, "n_accepted": k}
        for name, hits, of in (
            ("coverage", k, n),
            ("escalation_rate", n - k, n),
            ("accepted_accuracy", right_kept, k),
            ("selective_risk", k - right_kept, k),
            ("system_accuracy", right_kept + ~kept @ strong, n),
        ):
            known = (np.broadcast_to(of, k.shape) > 0) & (scene.gold or name in ("coverage", "escalation_rate"))
            low, high = interval(hits, of)
            with np.errstate(invalid="ignore"):
                table[name] = np.where(known, hits / np.maximum(of, 1), np.nan)
            table[f"{name}_lower"], table[f"{name}_upper"] = np.where(known, low, np.nan), np.where(known, high, np.nan)
        for end, sign in (("lower", -1), ("upper", 1)):  # no band of any theory: only wider than the pointwise one
            table[f"system_accuracy_sim_{end}"] = table[f"system_accuracy_{end}"] + 0.01 * sign
        usd = rows["cheap_usd"].to_numpy() + ~kept * rows["strong_usd"].to_numpy()
        mean, half = usd.mean(axis=1) * 1000, 1645 * usd.std(axis=1) / np.sqrt(n)
        table |= {"usd_per_1000": mean, "usd_per_1000_lower": mean - half, "usd_per_1000_upper": mean + half}
        table["latency_p50_s"] = np.where(k > n / 2, 0.42, 1.61) if scene.latency else np.nan
        table["latency_p95_s"] = 1.9 + 1.2 * (1 - k / n) if scene.latency else np.nan
        out.append(pd.DataFrame(table))
    return pd.concat(out, ignore_index=True)


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
