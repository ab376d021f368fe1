"""PolicyDocument: everything from a run that production needs, in one digested JSON object.

Written once, by `recommend`; read by `cascade_threshold.policy`, which never imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from cascade_threshold.calibrator import Calibrator
from cascade_threshold.policy_schema import SCHEMA, checked, digest, part_digests
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.thresholds import accepted
from pipeline.run.directory import finite

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

EXPECTED = (
    "coverage", "escalation_rate", "accepted_accuracy", "system_accuracy", "strong_accuracy",
    "usd_per_1000", "strong_usd_per_1000", "latency_p50_s", "latency_p95_s",
)  # fmt: skip
CERTIFICATE = ("target", "delta", "method", "n", "statistic", "p_value", "look", "reason")
MONITOR = (
    "confidence_quantiles", "n_certify", "n_confidence", "n_escalated", "out_of_set_rate", "no_logprobs_rate",
    "null_rate", "status_rates", "accepted_error_bound", "accepted_disagreement_bound",
)  # fmt: skip
QUANTILES = 200
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
    monitor: Mapping[str, Any] | None,
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
    `expected`, `certificate`, `monitor`: entries by the names in EXPECTED, CERTIFICATE and MONITOR; see `monitor_facts`.

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
        "monitor": dict.fromkeys(MONITOR) | dict(monitor or {}),
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


def monitor_facts(
    *,
    confidence: npt.ArrayLike,
    statuses: Sequence[str] | CodedTexts,
    threshold: float | None,
    cheap_correct: npt.ArrayLike | None = None,
    strong_correct: npt.ArrayLike | None = None,
    agrees: npt.ArrayLike | None = None,
    target: Mapping[str, Any],
    delta: float,
    weights: npt.ArrayLike | None = None,
    drawn: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """What `monitor` holds production against, from the certify rows; all (n,), one entry a row.

    `confidence`: NaN or None where null; `cheap_correct`, `strong_correct`, `agrees` (the cheap answer is the strong
    one's): 1, 0, or NaN or None where unknown, and then counted as 0. See `accepted_bounds` for the two bounds. `weights`:
    how much a row counts where production's label mix is another than that of the rows: production is what is watched.
    Counts are then those of Kish's effective number of rows. `drawn`: the rows by which the strong model is judged, where the
    others' answers were bought because the cheap one was wrong.
    """
    values = np.asarray(confidence, dtype=np.float64)
    counts = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    null = np.isnan(values)
    seen = np.flatnonzero(~null & (counts > 0))
    seen = seen[np.argsort(values[seen]) if weights is None else np.lexsort((counts[seen], values[seen]))]
    total, n = float(counts.sum()), int(_effective(counts))
    kept_rows = accepted(values, threshold)
    errors, disagreements = accepted_bounds(
        kept_rows, cheap_correct, strong_correct, agrees, target, delta, counts, drawn
    )
    told = CodedTexts.of(statuses)
    number = told.factorized()[0]
    mass = dict(zip(told.present, np.bincount(number, counts, minlength=len(told.present)).tolist(), strict=True))

    def share(amount: float) -> float | None:
        return amount / total if total else None

    return {
        "confidence_quantiles": quantiles(values[seen], counts[seen]),
        "n_certify": n,
        "n_confidence": int(_effective(counts[seen])),
        "n_escalated": round((1 - float(counts[kept_rows].sum()) / total) * n) if total else 0,
        "out_of_set_rate": share(mass.get("out_of_set", 0.0)),
        "no_logprobs_rate": share(mass.get("no_logprobs", 0.0) + mass.get("unaligned", 0.0)),
        "null_rate": share(float(counts[null].sum())),
        "status_rates": {status: share(mass[status]) for status in sorted(mass)} if total else None,
        "accepted_error_bound": errors,
        "accepted_disagreement_bound": disagreements,
    }


def accepted_bounds(
    accepted: Flags,
    cheap_correct: npt.ArrayLike | None,
    strong_correct: npt.ArrayLike | None,
    agrees: npt.ArrayLike | None,
    target: Mapping[str, Any],
    delta: float,
    weights: Floats,
    drawn: npt.ArrayLike | None = None,
) -> tuple[float | None, float | None]:
    """The error rate, and the rate of disagreement with the strong model, that accepted answers may have.

    Errors: what the target leaves to accepted answers at the coverage c of the certify rows, and never less than the
    Clopper-Pearson upper bound, at certainty 1 - delta, of what these rows showed (so that keeping the promise, or staying
    as in calibration, raises no alarm):

        accepted_accuracy   1 - at_least, alone: it is the promise
        match_strong        the strong model's own errors among accepted rows (upper bound) + within / c
        system_accuracy     (1 - at_least - errors of the strong model among escalated rows / n) / c
        others              nothing more

    Disagreement: likewise, with within / c for match_strong and agree_with_strong, which no smaller rate can break.
    With `drawn` the strong model's errors and the disagreement are those of these rows alone.
    With `weights` rows count by them, and bounds are those of the effective number of rows.
    None where nothing is accepted or the answers are unknown.
    """
    n, m = float(weights.sum()), float(weights[accepted].sum())
    if m == 0:
        return None, None
    kind, share = target.get("kind"), m / n
    compared = accepted if drawn is None else accepted & np.asarray(drawn, dtype=np.bool_)
    shown, differs = _upper(accepted, cheap_correct, delta, weights), _upper(compared, agrees, delta, weights)
    allowed = 0.0
    if kind == "accepted_accuracy":
        return 1 - float(target["at_least"]), differs
    if kind == "match_strong" and (theirs := _upper(compared, strong_correct, delta, weights)) is not None:
        allowed = theirs + float(target["within"]) / share
    if kind == "system_accuracy" and strong_correct is not None:
        lost = float(weights[~accepted & (np.asarray(strong_correct, dtype=np.float64) == 0)].sum()) / n
        allowed = (1 - float(target["at_least"]) - lost) / share
    if kind in ("match_strong", "agree_with_strong") and differs is not None:
        differs = min(1.0, max(differs, float(target["within"]) / share))
    return None if shown is None else min(1.0, max(shown, allowed)), differs


def quantiles(ordered: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> list[float] | None:
    """Observed values at the shares 0, 1/200, ... 1 of an ascending sequence: the smallest value with at least that
    share at or below it. None when there are no values."""
    values = np.asarray(ordered, dtype=np.float64)
    if not len(values):
        return None
    below = np.cumsum(np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64))
    # the cumulative sum may end slightly below the total
    shares = np.arange(QUANTILES + 1) * below[-1] / QUANTILES * (1 - 1e-12)
    found: list[float] = values[np.minimum(np.searchsorted(below, shares), len(values) - 1)].tolist()
    return found


def _effective(weights: Floats) -> float:
    """Kish's effective number of rows: their number where all count alike."""
    squares = float((weights * weights).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def _upper(accepted: Flags, good: npt.ArrayLike | None, delta: float, weights: Floats) -> float | None:
    """Clopper-Pearson upper bound, at certainty 1 - delta, of the share that is not good among the accepted."""
    if good is None:
        return None
    kept, counts = np.asarray(good, dtype=np.float64)[accepted], weights[accepted]
    if np.isnan(kept).all():
        return None
    total, bad, m = float(counts.sum()), float(counts[kept != 1].sum()), _effective(counts)
    k = bad * (m / total)
    return 1.0 if bad >= total else float(betaincinv(k + 1, m - k, 1 - delta))
