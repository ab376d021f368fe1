"""Exact tests that a threshold keeps its promise.

The promises hold with probability at least 1 - delta over the draw of the rows, for any relation between confidence and
correctness, when rows are independent draws from what production sees and the candidate levels were fixed without them.
With `levels=None` the candidates are ranks of the given rows, which is supported by simulation only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.decide import evidence
from pipeline.decide.certificate import Candidates, Certificate, candidates
from pipeline.decide.evidence import Evidence
from pipeline.decide.sequences import fallback, fixed_sequence, start_weights

Floats = npt.NDArray[np.float64]

ACCEPTED_STARTS = {0.5: 0.5, 0.25: 0.25, 0.1: 0.25}
"""Accepted shares at which the fallback procedure starts afresh, and the parts of delta that they own."""
SYSTEM_STARTS = {0.0: 0.5, 0.25: 0.25, 0.5: 0.25}


def certify_match_strong(
    confidence: npt.ArrayLike,
    cheap_correct: npt.ArrayLike,
    strong_correct: npt.ArrayLike,
    *,
    within: float,
    delta: float,
    levels: npt.ArrayLike | None = None,
) -> Certificate:
    """The lowest threshold at which the cascade is less than `within` less accurate than the strong model alone.

    Exact paired score test in fixed sequence, from few rows accepted to many; the p-value's statistic is Tango's z.

    confidence      (n,) in [0, 1]; NaN is never accepted
    cheap_correct   (n,) 1, 0 or NaN (unknown); an accepted NaN counts as wrong
    strong_correct  (n,) 1, 0 or NaN; a NaN counts as right where the cheap answer is wrong, and never as a win
    levels          thresholds fixed beforehand, any order; None takes every per cent of the ranks of these rows

    The threshold is None when nothing is certified and 0.0 when every row that has a confidence is accepted (rows without
    one still escalate). Raises ValueError for arrays of unequal length or a `within` or `delta` outside (0, 1).
    """
    cheap, strong = _checked(confidence, delta, cheap_correct, strong_correct)
    laid = candidates(confidence, levels, 0.01)
    found = evidence.against_strong(laid, cheap, strong, within)
    return in_fixed_sequence(laid, found, _target("match_strong", delta, within=within), delta)


def certify_agreement(
    confidence: npt.ArrayLike, agree: npt.ArrayLike, *, within: float, delta: float, levels: npt.ArrayLike | None = None
) -> Certificate:
    """The lowest threshold at which the cascade's answer differs from the strong model's in less than `within` of all rows.

    Needs no gold labels, and bounds the loss of accuracy against the strong model whatever they are. Exact binomial test in
    fixed sequence. `agree` (n,): 1 same answer, 0 not, NaN unknown (counts as different). Otherwise as above.
    """
    (same,) = _checked(confidence, delta, agree)
    laid = candidates(confidence, levels, 0.01)
    found = evidence.among_all(laid, ~(same == 1), within, "where the two models differ")
    return in_fixed_sequence(laid, found, _target("agree_with_strong", delta, within=within), delta)


def certify_accepted_accuracy(
    confidence: npt.ArrayLike,
    cheap_correct: npt.ArrayLike,
    *,
    at_least: float,
    delta: float,
    levels: npt.ArrayLike | None = None,
    level_shares: npt.ArrayLike | None = None,
) -> Certificate:
    """The lowest threshold at which the accepted answers are more than `at_least` accurate.

    Exact binomial tests in a weighted fallback sequence that starts at accepted shares 0.1, 0.25 and 0.5. `level_shares`
    says which share each of `levels` accepts on the rows that fixed them; None assumes that they are evenly spread.
    Otherwise as `certify_match_strong`; `levels=None` takes every second per cent of the ranks.
    """
    (cheap,) = _checked(confidence, delta, cheap_correct)
    laid = candidates(confidence, levels, 0.02)
    found = evidence.among_accepted(laid, cheap, at_least)
    shares = _shares(laid, levels, level_shares)
    return in_fallback(
        laid,
        found,
        _target("accepted_accuracy", delta, at_least=at_least),
        delta,
        start_weights(shares, ACCEPTED_STARTS),
    )


def certify_system_accuracy(
    confidence: npt.ArrayLike,
    cheap_correct: npt.ArrayLike,
    strong_correct: npt.ArrayLike,
    *,
    at_least: float,
    delta: float,
    levels: npt.ArrayLike | None = None,
    level_shares: npt.ArrayLike | None = None,
) -> Certificate:
    """The lowest threshold at which the cascade is more than `at_least` accurate.

    Exact binomial tests on the cascade's errors in a weighted fallback sequence that starts at accepted shares 0, 0.25 and
    0.5. An unknown strong correctness counts as an error where the row escalates. Otherwise as
    `certify_accepted_accuracy`.
    """
    cheap, strong = _checked(confidence, delta, cheap_correct, strong_correct)
    laid = candidates(confidence, levels, 0.02)
    found = evidence.of_system(laid, cheap, strong, at_least)
    shares = _shares(laid, levels, level_shares)
    return in_fallback(
        laid, found, _target("system_accuracy", delta, at_least=at_least), delta, start_weights(shares, SYSTEM_STARTS)
    )


def in_fixed_sequence(laid: Candidates, found: Evidence, target: Mapping[str, Any], delta: float) -> Certificate:
    """Test each candidate at the full delta, stopping at the first that fails."""
    passed = fixed_sequence(found.p_values, delta)
    return _conclude(laid, found, target, delta, passed - 1 if passed else None, "fixed sequence")


def in_fallback(
    laid: Candidates, found: Evidence, target: Mapping[str, Any], delta: float, weights: Floats
) -> Certificate:
    """Test each candidate at what it owns of delta and inherits from rejected neighbours."""
    passed = np.flatnonzero(fallback(found.p_values, weights, delta))
    return _conclude(laid, found, target, delta, int(passed[-1]) if len(passed) else None, "weighted fallback sequence")


def _conclude(
    laid: Candidates, found: Evidence, target: Mapping[str, Any], delta: float, index: int | None, procedure: str
) -> Certificate:
    # a candidate that keeps no row is no cascade
    if index is not None and laid.n_accepted[index] == 0:
        index = None
    usable = np.flatnonzero(laid.n_accepted > 0)
    shown = index if index is not None else (int(usable[np.argmin(found.p_values[usable])]) if len(usable) else None)
    threshold = None if index is None else laid.threshold(index)
    accepted = 0 if index is None else int(laid.n_accepted[index])
    if shown is None:
        reason = "no row has a confidence, so there is nothing to accept"
    elif index is not None:
        reason = f"threshold {threshold} keeps {accepted / laid.n:.1%} of the rows: {found.describe(index)}; p = {found.p_values[index]:.3g} <= {delta:g}"
    else:
        reason = (
            f"no candidate passed; the closest, threshold {laid.threshold(shown)}, would keep {laid.n_accepted[shown] / laid.n:.1%} of the rows: "
            f"{found.describe(shown)}; p = {found.p_values[shown]:.3g}"
        )
    return Certificate(
        threshold=threshold,
        escalation_rate=(laid.n - accepted) / laid.n,
        statistic=None if shown is None else float(found.statistic[shown]),
        p_value=None if shown is None else float(found.p_values[shown]),
        n=laid.n,
        n_accepted=accepted,
        method=f"{found.test}, {procedure}",
        reason=reason,
        target=dict(target),
        delta=delta,
    )


def _target(kind: str, delta: float, **limit: float) -> dict[str, Any]:
    return {"kind": kind, **limit, "certainty": round(1 - delta, 12)}


def _checked(confidence: npt.ArrayLike, delta: float, *correct: npt.ArrayLike) -> list[Floats]:
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    shape = np.shape(confidence)
    arrays = [np.asarray(c, dtype=np.float64) for c in correct]
    for array in arrays:
        if array.shape != shape:
            raise ValueError(f"all arrays must have one length, got shapes {shape} and {array.shape}")
        if not np.isin(array[~np.isnan(array)], (0.0, 1.0)).all():
            raise ValueError("correctness must be 1, 0 or NaN")
    return arrays


def _shares(laid: Candidates, levels: npt.ArrayLike | None, level_shares: npt.ArrayLike | None) -> Floats:
    """Accepted share of each candidate, as known without the certify rows' own confidences where levels were given."""
    if levels is None:
        return laid.n_accepted / laid.n
    if level_shares is None:
        return np.arange(1, len(laid.thresholds) + 1) / len(laid.thresholds)
    _, first = np.unique(np.asarray(levels, dtype=np.float64), return_index=True)
    return np.asarray(level_shares, dtype=np.float64)[first][::-1]
