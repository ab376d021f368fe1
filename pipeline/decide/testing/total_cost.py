"""The threshold with the smallest total of calls and errors. It is an estimate: there is no promise behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.decide.advice.number_text import usd
from pipeline.decide.arrays import Floats
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.predictions import Rows
from pipeline.decide.target import ErrorCosts
from pipeline.decide.testing.certificate import Certificate
from pipeline.decide.thresholds import accepted, cuts, threshold_at

Texts = CodedTexts | npt.NDArray[np.object_]

BAGS = 25
FOLDS = 5


def error_usd(usd_per_error: ErrorCosts, label: Texts, answer: Texts, correct: Floats) -> Floats:
    """Dollars that each row's answer costs by being wrong, shape (n,); 0 where right, NaN where that or, with
    costs by label, the label is not known.

    `usd_per_error`: one number, or by true label a number or numbers by the wrong answer; an answer that is not listed
    there (or none) costs the most that is listed for its label. Raises ValueError for a label without a cost.
    """
    if not isinstance(usd_per_error, Mapping):
        cost = np.full(len(label), float(usd_per_error))
    else:
        cost = np.array([_one_error(usd_per_error, y, a) for y, a in zip(label, answer, strict=True)], dtype=np.float64)
    # a row whose error would cost nobody knows what is unknown also where it is right, or only right rows would be left of such
    return np.where(np.isnan(correct) | np.isnan(cost), np.nan, np.where(correct == 1, 0.0, cost))


def _one_error(costs: Mapping[str, float | Mapping[str, float]], label: str | None, answer: str | None) -> float:
    if label is None:
        return float("nan")
    if label not in costs:
        raise ValueError(f"usd_per_error has no cost for label {label!r}")
    entry = costs[label]
    if not isinstance(entry, Mapping):
        return float(entry)
    wrong = {a: float(c) for a, c in entry.items() if a != label}
    if not wrong:
        raise ValueError(f"usd_per_error lists no wrong answer for label {label!r}")
    return wrong.get(answer, max(wrong.values())) if answer is not None else max(wrong.values())


def optimize(
    rows: Rows, usd_per_error: ErrorCosts, *, human: bool = False, weights: Floats | None = None, seed: int
) -> Certificate:
    """Bagged empirical risk minimisation over all cuts of the confidence (STATISTICS: regret below 1 % from 1,000 rows on).

    Each of 25 Poisson bootstraps finds its cheapest coverage; their mean is the coverage of the result. `details` carries
    usd_per_1000 as it looks on these rows, the cross-fitted figure and their difference, the optimism. Where the cheap
    model alone costs no more than that, nothing needs choosing and it is taken. `weights` (n,): how much each row counts
    where the labels' mix is not production's; every figure of `details` is then production's. Rows with an unknown
    cost on either side are left out and counted. Threshold None: escalating everything is cheapest.
    People (`human`) make no errors.
    """
    kept, alone = costs(rows, usd_per_error, human=human)
    escalated = rows.cheap_usd + alone
    null = np.isnan(rows.confidence)
    usable = ~np.isnan(escalated) & (null | ~np.isnan(kept))
    n, unknown = int(usable.sum()), int((~usable).sum())
    target = {"kind": "total_cost"}
    method = f"bagged empirical risk, {BAGS} Poisson bootstraps, mean coverage"
    confidence = rows.confidence[usable]
    kept, escalated = np.where(null, 0.0, kept)[usable], escalated[usable]
    weight = np.ones(n) if weights is None else weights[usable]
    if n == 0 or np.isnan(confidence).all() or weight.sum() <= 0:
        reason = "no row has a confidence and known costs on both sides"
        return Certificate(None, 1.0, None, None, len(rows), 0, method, reason, target, None)
    threshold = _cheapest(confidence, weight * (escalated - kept), seed)
    honest = _cross_fitted(confidence, kept, escalated, weight, seed)
    cheap_alone = _mean_cost(confidence, kept, escalated, weight, 0.0)
    if cheap_alone <= honest:
        threshold, honest = 0.0, cheap_alone
    seen = _mean_cost(confidence, kept, escalated, weight, threshold)
    n_accepted = int(accepted(rows.confidence, threshold).sum())
    details = {
        "usd_per_1000": 1000 * seen,
        "usd_per_1000_cross_fitted": 1000 * honest,
        "optimism_usd_per_1000": 1000 * (honest - seen),
        "cheap_only_usd_per_1000": 1000 * cheap_alone,
        "strong_only_usd_per_1000": 1000 * float(weight @ alone[usable] / weight.sum()),
        "rows_with_unknown_cost": unknown,
    }
    where = "escalating everything" if threshold is None else f"threshold {threshold}"
    reason = (
        f"{where} has the lowest mean of calls and errors: {usd(details['usd_per_1000'])} per 1,000 on these rows, "
        f"{usd(details['usd_per_1000_cross_fitted'])} when chosen on other rows than measured"
    )
    rate = (len(rows) - n_accepted) / len(rows)
    return Certificate(
        threshold, rate, 1000 * seen, None, len(rows), n_accepted, method, reason, target, None, details=details
    )


def _cheapest(confidence: Floats, saved: Floats, seed: int) -> float | None:
    """The threshold at the mean over bootstraps of the cheapest coverage. `saved` (n,): dollars saved by keeping a row."""
    rng = np.random.default_rng(seed)
    has = ~np.isnan(confidence)
    values, at_or_above = cuts(confidence)
    cell = np.searchsorted(values, confidence[has])
    coverage = []
    for _ in range(BAGS):
        weights = rng.poisson(1.0, int(has.sum())).astype(np.float64)
        gain = np.bincount(cell, weights * saved[has], len(values))
        # gain of accepting values[i:], and of accepting nothing
        total = np.append(np.cumsum(gain[::-1])[::-1], 0.0)
        coverage.append(np.append(at_or_above, 0)[int(np.argmax(total))])
    wanted = float(np.mean(coverage))
    sizes = np.append(at_or_above, 0)
    index = int(np.argmin(np.abs(sizes - wanted)))
    return None if index == len(values) else threshold_at(values, index)


def _mean_cost(confidence: Floats, kept: Floats, escalated: Floats, weight: Floats, threshold: float | None) -> float:
    return float(weight @ np.where(accepted(confidence, threshold), kept, escalated) / weight.sum())


def _cross_fitted(confidence: Floats, kept: Floats, escalated: Floats, weight: Floats, seed: int) -> float:
    """Mean cost of rows under the threshold that the other folds chose."""
    fold = np.random.default_rng([seed, 1]).permutation(len(confidence)) % FOLDS
    total = 0.0
    for k in range(FOLDS):
        out, rest = fold == k, fold != k
        if weight[out].sum() <= 0:
            continue
        threshold = (
            None
            if np.isnan(confidence[rest]).all()
            else _cheapest(confidence[rest], (weight * (escalated - kept))[rest], seed)
        )
        total += _mean_cost(confidence[out], kept[out], escalated[out], weight[out], threshold) * weight[out].sum()
    return float(total / weight.sum())


def costs(rows: Rows, usd_per_error: ErrorCosts, *, human: bool) -> tuple[Floats, Floats]:
    """Dollars of each row's call and error, (n,) each: kept by the cheap model, and by the strong model alone."""
    kept = rows.cheap_usd + error_usd(usd_per_error, rows.label, rows.cheap_answer, rows.cheap_correct)
    if human:
        return kept, rows.strong_usd
    return kept, rows.strong_usd + error_usd(usd_per_error, rows.label, rows.strong_answer, rows.strong_correct)
