"""Thresholds that keep to a budget: a certified share of escalations, or approximately a number of dollars."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from pipeline.decide.advice.number_text import counted, limit, p_value, usd
from pipeline.decide.arrays import Floats
from pipeline.decide.testing.binomial import too_few_errors_p
from pipeline.decide.testing.certificate import Certificate, candidates
from pipeline.decide.thresholds import accepted, cuts, levels_at_shares, threshold_at

BLOCKS = 1000
REPLICATES = 2000


def certify_escalation_rate(
    confidence: npt.ArrayLike,
    cheap_correct: npt.ArrayLike,
    strong_correct: npt.ArrayLike,
    *,
    at_most: float,
    delta: float,
) -> Certificate:
    """The best threshold that escalates at most the share `at_most` of production.

    Escalating below the (k+1)-th smallest of n confidences escalates a share that is Beta(k+1, n-k) distributed (at most,
    where there are ties), so the largest k with P(Beta > at_most) <= delta keeps the promise exactly, without labels. Every
    lower threshold keeps it as well, so the choice among them is free: the highest, unless a lower one was more accurate on
    these rows by more than a standard error. A null confidence lies below every threshold. Shapes as in
    `certify.certify_match_strong`; where correctness is unknown throughout the highest is taken.
    """
    values = np.asarray(confidence, dtype=np.float64)
    n = len(values)
    target = {"kind": "budget", "escalation_rate": at_most, "certainty": round(1 - delta, 12)}
    method = "exact Beta law of an order statistic"
    if n == 0:
        return Certificate(None, 1.0, None, None, 0, 0, method, "there are no rows", target, delta)
    # P(Beta(k+1, n-k) > at_most) = P(Binomial(n, at_most) <= k)
    tail = special.betainc(n - np.arange(n), np.arange(n) + 1.0, 1 - at_most)
    affordable = int(np.searchsorted(tail, delta, side="right")) - 1
    distinct, at_or_above = cuts(values)
    below = n - at_or_above
    open_ = np.flatnonzero(below <= affordable)
    if len(open_) == 0:
        nulls = n - (int(at_or_above[0]) if len(at_or_above) else 0)
        reason = f"{nulls:,} of {n:,} rows have no confidence and escalate anyway; at most {max(affordable, 0):,} could be promised"
        p = float(too_few_errors_p(nulls, n, at_most))
        return Certificate(None, 1.0, nulls / n, p, n, 0, method, reason, target, delta)
    index = _most_accurate(values, np.asarray(cheap_correct, float), np.asarray(strong_correct, float), distinct, open_)
    escalated = int(below[index])
    threshold = threshold_at(distinct, index)
    p = float(too_few_errors_p(escalated, n, at_most))
    reason = f"threshold {threshold} escalates {escalated:,} of {counted(n, 'row')}; {p_value(p)}, allowed {delta:g}"
    if index < open_[-1]:
        reason += "; higher thresholds would also keep the budget but were less accurate on these rows"
    return Certificate(threshold, escalated / n, escalated / n, p, n, n - escalated, method, reason, target, delta)


def _most_accurate(values: Floats, cheap: Floats, strong: Floats, distinct: Floats, open_: npt.NDArray[np.intp]) -> int:
    """Index of the distinct value to start accepting at: the last, unless an earlier one gains over a standard error."""
    gain = np.where(np.isnan(values), 0.0, np.nan_to_num(strong - cheap, nan=0.0))
    cell = np.searchsorted(distinct, np.where(np.isnan(values), distinct[0], values))
    # what escalating the cells below each cut changes, against escalating all of them up to the last
    total = np.concatenate([[0.0], np.cumsum(np.bincount(cell, gain, len(distinct)))])[open_]
    square = np.concatenate([[0.0], np.cumsum(np.bincount(cell, gain**2, len(distinct)))])[open_]
    best = int(np.argmax(total))
    better = total[best] - total[-1] > np.sqrt(max(square[-1] - square[best], 0.0))
    return int(open_[best if better else -1])


def within_dollars(
    confidence: npt.ArrayLike,
    cheap_usd: npt.ArrayLike,
    strong_usd: npt.ArrayLike,
    *,
    usd_per_1000: float,
    delta: float,
    levels: npt.ArrayLike | None = None,
    seed: int,
) -> Certificate:
    """The highest threshold whose mean cost stays under the budget by a bootstrap bound: approximate, hence no promise.

    The bound is the 1 - delta quantile of the mean over resampled blocks of rows, at each candidate; cost rises with the
    threshold, so the highest that stays under it is taken. Rows whose dollars are unknown are left out and counted in
    `details`. `delta` of the result is None.
    """
    values, cheap, strong = (np.asarray(x, dtype=np.float64) for x in (confidence, cheap_usd, strong_usd))
    laid = candidates(values, levels_at_shares(values, np.arange(1, 101) / 100) if levels is None else levels)
    target = {"kind": "budget", "usd_per_1000": usd_per_1000, "certainty": round(1 - delta, 12)}
    method = f"bootstrap bound of the mean cost, {REPLICATES:,} replicates, approximate"
    known = ~np.isnan(cheap) & ~np.isnan(strong)
    unknown = int(laid.n - known.sum())
    if not known.any():
        return Certificate(None, 1.0, None, None, laid.n, 0, method, "no row's dollars are known", target, None)
    thresholds = (
        np.append(laid.thresholds, 0.0) if len(laid.thresholds) == 0 or laid.thresholds[-1] > 0 else laid.thresholds
    )
    with np.errstate(invalid="ignore"):
        bounds = _upper_means(values[known], cheap[known], strong[known], thresholds, delta, seed) * 1000
    affordable = np.flatnonzero(bounds <= usd_per_1000)
    shown = int(affordable[0]) if len(affordable) else len(thresholds) - 1
    n_accepted = int(accepted(values, float(thresholds[shown])).sum()) if len(affordable) else 0
    threshold = float(thresholds[shown]) if n_accepted else None
    words = "keeps" if n_accepted else "is the cheapest candidate and has"
    reason = f"threshold {thresholds[shown]} {words} an upper bound of {usd(float(bounds[shown]))} per 1,000 at {limit(1 - delta)}, budget {usd(usd_per_1000)}"
    details = {"rows_with_unknown_dollars": unknown, "usd_per_1000_upper": float(bounds[shown])}
    escalated = (laid.n - n_accepted) / laid.n
    return Certificate(
        threshold,
        escalated,
        float(bounds[shown]),
        None,
        laid.n,
        n_accepted,
        method,
        reason,
        target,
        None,
        details=details,
    )


def _upper_means(values: Floats, cheap: Floats, strong: Floats, thresholds: Floats, delta: float, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    n, blocks = len(values), min(BLOCKS, len(values))
    block = rng.permutation(n) % blocks
    size = np.bincount(block, minlength=blocks).astype(np.float64)
    base = np.bincount(block, cheap, blocks)
    sums = np.column_stack([base + np.bincount(block, np.where(values >= t, 0.0, strong), blocks) for t in thresholds])
    weights = rng.multinomial(blocks, np.full(blocks, 1 / blocks), REPLICATES).astype(np.float64)
    return np.asarray(np.quantile((weights @ sums) / (weights @ size)[:, None], 1 - delta, axis=0), dtype=np.float64)
