"""Exact tests that a threshold keeps its promise.

The promises hold with probability at least 1 - delta over the draw of the rows, for any relation between confidence and
correctness, when rows are independent draws from what production sees. With `levels=None` every distinct confidence of the
given rows is a candidate, tested from few rows accepted to many, the empty set first. That is exact for one fixed sequence
(match_strong, agreement): the loss at a threshold is left-continuous in it, so there is a largest threshold t* that breaks the
promise, a fixed number; an answer at or below t* means that the smallest confidence from t* on was passed, whose counts are
those of t* itself. A fallback sequence (accepted_accuracy, system_accuracy) is exact from starts fixed beforehand; from shares
of the same rows see `threshold_search`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade_threshold.errors import UsageError
from pipeline.decide.advice import unreadable
from pipeline.decide.advice.number_text import limit
from pipeline.decide.advice.unreadable import Unreadable
from pipeline.decide.arrays import Floats
from pipeline.decide.curves.at_threshold import mix_weights
from pipeline.decide.predictions import Rows
from pipeline.decide.sampling import Sampling, counts
from pipeline.decide.target import Goal, TargetLike
from pipeline.decide.testing import budget, p_values, parts, threshold_search, total_cost
from pipeline.decide.testing.certificate import Certificate
from pipeline.decide.testing.threshold_search import Trial, lay_out


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

    Exact paired score test in fixed sequence, from few rows accepted to many; the certificate's statistic is Tango's z.

    confidence      (n,) in [0, 1]; NaN is never accepted
    cheap_correct   (n,) 1, 0 or NaN (unknown); an accepted NaN counts as wrong
    strong_correct  (n,) 1, 0 or NaN; a NaN counts as right where the cheap answer is wrong, and never as a win
    levels          thresholds fixed beforehand, any order; None takes every distinct confidence of these rows

    The threshold is None when nothing is certified and 0.0 when every row that has a confidence is accepted (rows without
    one still escalate). Raises ValueError for arrays of unequal length or a `within` or `delta` outside (0, 1).
    """
    goal = Goal("match_strong", delta, within=within)
    cheap, strong = _checked(confidence, cheap_correct, strong_correct)
    laid, weights = lay_out(confidence, goal, levels)
    return Trial(laid, p_values.against_strong(laid, cheap, strong, within, delta), goal, weights).certificate()


def certify_agreement(
    confidence: npt.ArrayLike, agree: npt.ArrayLike, *, within: float, delta: float, levels: npt.ArrayLike | None = None
) -> Certificate:
    """The lowest threshold at which the cascade's answer differs from the strong model's in less than `within` of all rows.

    Needs no gold labels, and bounds the loss of accuracy against the strong model whatever they are. Exact binomial test in
    fixed sequence. `agree` (n,): 1 same answer, 0 not, NaN unknown (counts as different). Otherwise as
    `certify_match_strong`.
    """
    goal = Goal("agree_with_strong", delta, within=within)
    (same,) = _checked(confidence, agree)
    laid, weights = lay_out(confidence, goal, levels)
    found = p_values.among_all(laid, ~(same == 1), within, "not the strong model's")
    return Trial(laid, found, goal, weights).certificate()


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

    Exact binomial tests in a weighted fallback sequence that starts at accepted shares 0.1, 0.25 and 0.5 of `levels`. `level_shares`
    says which share each of `levels` accepts on the rows that fixed them; None assumes that they are evenly spread. With
    `levels=None` it starts at accepted shares 0.15 and 0.45 of these rows. Otherwise as `certify_match_strong`.
    """
    goal = Goal("accepted_accuracy", delta, at_least=at_least)
    (cheap,) = _checked(confidence, cheap_correct)
    laid, weights = lay_out(confidence, goal, levels, level_shares)
    return Trial(laid, p_values.among_accepted(laid, cheap, at_least), goal, weights).certificate()


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
    goal = Goal("system_accuracy", delta, at_least=at_least)
    cheap, strong = _checked(confidence, cheap_correct, strong_correct)
    laid, weights = lay_out(confidence, goal, levels, level_shares)
    return Trial(laid, p_values.of_system(laid, cheap, strong, at_least), goal, weights).certificate()


def certify(
    rows: Rows,
    target: TargetLike,
    *,
    levels: npt.ArrayLike | None = None,
    human: bool = False,
    fit: Rows | None = None,
    max_unreadable: float = unreadable.LIMIT,
    unread: Unreadable | None = None,
    prevalence: Mapping[str, float] | None = None,
    sampling: Sampling | None = None,
    seed: int,
) -> Certificate:
    """The certificate of any target on the rows of the certify split.

    levels          candidates fixed beforehand, 0.0 beside them; None takes every distinct confidence of the rows
    human           people stand in for the strong model and are right by definition
    fit             rows that do not certify: a fallback sequence starts where they promise to keep most, and they tell how
                    alike the rows of a group are; None or no rows: it starts at shares of the rows themselves
    max_unreadable  share of the strong replies that may be unreadable before no target that compares with the strong model is
                    certified; `unread` counts them over all rows, None over these
    prevalence      production's share of each label: what total_cost minimises; a promise is about the rows' own mix
    sampling        the rates at which strong answers were bought, for rows whose `drawn` says which; None: all were
    seed            of the bootstraps of total_cost and of a budget in dollars; a promise depends on no seed

    Where groups have several rows the promise is about groups: see `pipeline.decide.testing.clusters`; `method` says which way was
    taken and `unit` is "groups". Without any row nothing is certified.
    """
    goal = Goal.of(target)
    if len(rows) and (fault := parts.absent_segment(list(rows.segment), ["certify"] * len(rows), goal)) is not None:
        raise UsageError(fault)
    if len(rows) == 0:
        return _untested(goal, 0, "there are no rows to certify with")
    if goal.paired and not human:
        seen = Unreadable.of(rows) if unread is None else unread
        if seen.beyond(max_unreadable):
            reason = f"{seen.words()}; max_unreadable allows {limit(max_unreadable)}"
            return _untested(goal, len(rows), reason, unreadable=seen.to_json())
        if goal.kind == "agree_with_strong" and np.isnan(rows.agree).all():
            raise UsageError(
                "target agree_with_strong compares the two models' answers, and no certify row has both: a table of predictions "
                "needs the columns cheap_answer and strong_answer"
            )
    if goal.kind == "total_cost":
        assert goal.usd_per_error is not None
        weights = None if prevalence is None else mix_weights(rows.label, prevalence)
        return replace(
            total_cost.optimize(rows, goal.usd_per_error, human=human, weights=weights, seed=seed),
            target=goal.to_json(),
        )
    drawn = threshold_search.sample(rows, goal, fit=fit, human=human)
    if goal.kind == "budget":
        found = _budget(drawn.rows, goal, levels, drawn.strong_correct, seed)
    else:
        weight = None if sampling is None or sampling.q == 0 else 1 / sampling.q
        found = threshold_search.of_sample(drawn, goal, levels=levels, fit=fit, weight=weight).certificate()
    if goal.paired and found.threshold is not None and found.n_accepted <= goal.limit * found.n:
        reason = (
            f"what passed keeps {found.n_accepted:,} of {found.n:,} rows, no more than the {limit(goal.limit)} that may be lost: "
            "all of these might be wrong, so it says nothing"
        )
        found = replace(
            found,
            threshold=None,
            escalation_rate=1.0,
            n_accepted=0,
            p_value=None,
            statistic=None,
            details={},
            reason=reason,
        )
    if sampling is not None and rows.sampled:
        found = replace(found, details={**found.details, **counts(drawn.rows, found.threshold, sampling, goal)})
    if drawn.plan.way is not None:
        found = replace(found, n=drawn.plan.n, unit="groups", method=f"{found.method}, {drawn.plan.way}")
    return found


def _untested(goal: Goal, n: int, reason: str, **details: Any) -> Certificate:
    """No threshold, as nothing was tested."""
    return Certificate(None, 1.0, None, None, n, 0, "none", reason, goal.to_json(), goal.delta, details=details)


def _budget(rows: Rows, goal: Goal, levels: npt.ArrayLike | None, strong: Floats, seed: int) -> Certificate:
    if goal.escalation_rate is not None:
        return budget.certify_escalation_rate(
            rows.confidence, rows.cheap_correct, strong, at_most=goal.escalation_rate, delta=goal.delta
        )
    assert goal.usd_per_1000 is not None
    dollars = (rows.confidence, rows.cheap_usd, rows.strong_usd)
    return budget.within_dollars(*dollars, usd_per_1000=goal.usd_per_1000, delta=goal.delta, levels=levels, seed=seed)


def _checked(confidence: npt.ArrayLike, *correct: npt.ArrayLike) -> list[Floats]:
    shape = np.shape(confidence)
    arrays = [np.asarray(c, dtype=np.float64) for c in correct]
    for array in arrays:
        if array.shape != shape:
            raise ValueError(f"all arrays must have one length, got shapes {shape} and {array.shape}")
        if not np.isin(array[~np.isnan(array)], (0.0, 1.0)).all():
            raise ValueError("correctness must be 1, 0 or NaN")
    return arrays
