"""ThresholdSearch: the candidates, the evidence on each, and the order in which they are tested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.decide.advice.number_text import p_value, percent
from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing import clusters
from pipeline.decide.testing import p_values as evidence
from pipeline.decide.testing.certificate import Candidates, Certificate, candidates
from pipeline.decide.testing.fallback_weights import informed_weights
from pipeline.decide.testing.multiple_testing import fallback, fixed_sequence, start_weights
from pipeline.decide.testing.p_values import Evidence, Floor
from pipeline.decide.thresholds import candidate_levels, levels_at_shares

ACCEPTED_STARTS = {0.45: 0.6, 0.15: 0.4}
"""Accepted shares at which the fallback procedure starts afresh, and the parts of delta that they own."""
SYSTEM_STARTS = {0.0: 0.5, 0.25: 0.25, 0.5: 0.25}
LEARNT_STARTS = {0.5: 0.5, 0.25: 0.25, 0.1: 0.25}
"""Of accepted_accuracy beside a start that other rows chose."""


@dataclass(frozen=True)
class Trial:
    """`weights` (candidates,) are the shares of delta in a fallback sequence; None means one fixed sequence."""

    laid: Candidates
    found: Evidence
    goal: Goal
    weights: Floats | None

    @property
    def surest_first(self) -> Floats:
        """Confidences of the rows that have one, largest first."""
        return self.laid.confidence[self.laid.order]

    def lowest(self, p_values: Floats) -> int | None:
        """Index of the last candidate that passes with these p-values and keeps a row; None when there is none."""
        if self.weights is None:
            index = fixed_sequence(p_values, self.goal.delta) - 1
        else:
            index = int(np.max(np.flatnonzero(fallback(p_values, self.weights, self.goal.delta)), initial=-1))
        return index if index >= 0 and self.laid.n_accepted[index] > 0 else None

    def passed(self) -> list[list[float | None]]:
        """The thresholds that passed, as stretches (above, up to], surest last; None has no end.

        A threshold between two candidates passed where it accepts the very rows of a candidate that did.
        """
        laid, delta = self.laid, self.goal.delta
        if self.weights is None:
            good = np.arange(len(laid.thresholds)) < fixed_sequence(self.found.p_values, delta)
        else:
            good = np.asarray(fallback(self.found.p_values, self.weights, delta), dtype=bool)
        sizes = np.unique(laid.n_accepted[good & (laid.n_accepted > 0)])
        if not len(sizes):
            return []
        surest = self.surest_first
        # a step from one size to the next leaves no confidence between them that did not pass
        ends = np.append(np.flatnonzero(surest[sizes[1:] - 1] != surest[sizes[:-1]]), len(sizes) - 1)
        starts = np.append(0, ends[:-1] + 1)
        return [
            [float(surest[sizes[e]]) if sizes[e] < len(surest) else None, float(surest[sizes[s] - 1])]
            for s, e in zip(starts[::-1], ends[::-1], strict=True)
        ]

    def certificate(self) -> Certificate:
        """What the rows say."""
        laid, found, delta = self.laid, self.found, self.goal.delta
        index = self.lowest(found.p_values)
        usable = np.flatnonzero(laid.n_accepted > 0)
        closeness = np.nan_to_num(found.p_values[usable], nan=np.inf)
        shown = index if index is not None else int(usable[np.argmin(closeness)]) if len(usable) else None
        threshold = None if index is None else laid.threshold(index)
        kept = 0 if index is None else int(laid.n_accepted[index])
        if shown is None:
            reason = "no row has a confidence" if laid.n_confident == 0 else "no candidate keeps a row"
        elif index is not None:
            reason = (
                f"threshold {threshold} keeps {percent(kept / laid.n)} of the rows: {found.describe(index)}; "
                f"{p_value(found.p_values[index])}, allowed {delta:g}"
            )
        else:
            reason = (
                f"no candidate passed; the closest, threshold {laid.threshold(shown)}, would keep {percent(laid.n_accepted[shown] / laid.n)} "
                f"of the rows: {found.describe(shown)}; {p_value(found.p_values[shown])}, allowed {delta:g}"
            )
            if found.p_values[shown] <= delta and self.weights is None:
                reason += ", but candidates are tested from few rows kept to many, and an earlier one failed"
        return Certificate(
            threshold=threshold,
            escalation_rate=(laid.n - kept) / laid.n if laid.n else 1.0,
            statistic=None if shown is None else float(found.statistic[shown]),
            p_value=None if shown is None else float(found.p_values[shown]),
            n=laid.n,
            n_accepted=kept,
            method=f"{found.test}, {'fixed sequence' if self.weights is None else 'weighted fallback sequence'}",
            reason=reason,
            target=self.goal.to_json(),
            delta=delta,
            details=self._details(index, shown),
        )

    def _details(self, index: int | None, shown: int | None) -> dict[str, Any]:
        if index is not None:
            return {"passed": self.passed()}
        missed = None if shown is None or self.found.floor is None else self.found.floor(shown)
        return {} if missed is None else {"floor": missed}


def lay_out(
    confidence: npt.ArrayLike,
    goal: Goal,
    levels: npt.ArrayLike | None,
    level_shares: npt.ArrayLike | None = None,
    starts: Mapping[float, float] | None = None,
) -> tuple[Candidates, Floats | None]:
    """The candidates of a goal over the rows, and the weights of a fallback sequence where the goal takes one.

    starts  thresholds fixed beforehand at which a fallback sequence starts, and the parts of delta that they own; None
            takes the usual shares: of the rows that fixed `levels`, or of these rows
    """
    laid = candidates(confidence, levels)
    if goal.paired:
        return laid, None
    weights = np.zeros(len(laid.thresholds))
    if not len(weights):
        return laid, weights
    if starts is not None:
        for threshold, weight in starts.items():
            if (index := laid.at(threshold)) >= 0:
                weights[index] += weight
        return laid, weights
    usual = ACCEPTED_STARTS if goal.kind == "accepted_accuracy" else SYSTEM_STARTS
    if levels is None:
        for share, weight in usual.items():
            weights[_rank_start(laid, share)] += weight
        return laid, weights
    usual = LEARNT_STARTS if goal.kind == "accepted_accuracy" else SYSTEM_STARTS
    return laid, start_weights(_shares(laid, levels, level_shares), usual)


def _rank_start(laid: Candidates, share: float) -> int:
    """The candidate that keeps the rows strictly above the row of this rank, or the surest block where it reaches that far.

    Given the confidence at the rank, the rows strictly above it are independent draws from those above it in production,
    so the test there is exact although the rank is of these rows. A sequence of such starts keeps the promise exactly
    where the thresholds that break it are those up to some value t0 (accuracy above a threshold crosses the promise
    once): the first false claim it meets is at t0 if the rank lies above t0, which depends on the number of rows above t0
    alone, and given that number errors are binomial; else it is the start itself. So the parts of delta that are at stake
    in the two cases add up to delta at most. For other shapes simulations say so (tests of guarantees).
    """
    rank = max(math.ceil(share * laid.n - 1e-9), 0)
    index = int(np.searchsorted(laid.n_accepted, rank, side="left")) - 1
    surest = min(1, len(laid.thresholds) - 1) if share > 0 else 0
    return max(index, surest)


def _shares(laid: Candidates, levels: npt.ArrayLike, level_shares: npt.ArrayLike | None) -> Floats:
    """Accepted share of each candidate, as known without the certify rows' own confidences."""
    if level_shares is None:
        return np.arange(1, len(laid.thresholds) + 1) / len(laid.thresholds)
    _, first = np.unique(np.asarray(levels, dtype=np.float64), return_index=True)
    return np.asarray(level_shares, dtype=np.float64)[first][::-1]


@dataclass(frozen=True)
class Sample:
    """Rows to test with. `group` (n,) numbers their groups where group means are tested; None: rows are independent."""

    rows: Rows
    strong_correct: Floats
    human: bool
    plan: clusters.Plan

    @property
    def group(self) -> Ints | None:
        """Numbers of the groups whose means are tested, None where rows are."""
        return self.plan.group if self.plan.way == clusters.MEANS else None


def sample(rows: Rows, goal: Goal, *, fit: Rows | None, human: bool) -> Sample:
    """The rows that a promise counts: all of them, or one row of each group. People (`human`) are always right."""
    plan = clusters.plan(rows, goal, fit)
    if plan.way == clusters.ONE_ROW:
        rows = rows.take(clusters.one_row_each(plan.group, rows.example_id))
    return Sample(rows, np.ones(len(rows)) if human else rows.strong_read, human, plan)


def of_sample(
    drawn: Sample,
    goal: Goal,
    *,
    levels: npt.ArrayLike | None = None,
    fit: Rows | None = None,
    weight: float | None = None,
) -> Trial:
    """The trial of any of the first four goals over every distinct confidence, or over `levels` fixed beforehand and 0.0.

    `weight`: rows that a win of a sampled row stands for, where group means are tested; None takes the share drawn.
    `fit`: rows that do not certify; a fallback sequence starts where they promise most, without them at the usual shares.
    """
    rows, strong, human = drawn.rows, drawn.strong_correct, drawn.human
    at = None if levels is None or not np.size(levels) else np.append(np.asarray(levels, dtype=np.float64), 0.0)
    starts = _starts_of(rows, goal, fit, human)
    laid, weights = lay_out(rows.confidence, goal, at, None, starts)
    if drawn.group is not None and len(laid.thresholds) > clusters.MOST_CANDIDATES:
        shares = candidates(rows.confidence, scale := clusters.fixed_scale()).n_accepted / len(rows)
        laid, weights = lay_out(rows.confidence, goal, scale, shares[::-1], starts)
    if drawn.group is not None:
        agree = rows.cheap_correct if human else rows.agree
        found = clusters.evidence(
            laid, rows, strong, agree, goal, drawn.group, in_sequence=weights is None and laid.distinct, weight=weight
        )
    else:
        found = _evidence(laid, rows, strong, goal, human)
    return Trial(laid, found, goal, weights)


def to_plan_with(drawn: Sample, goal: Goal, *, fit: Rows | None) -> Trial:
    """The trial at every per cent of the rows, closer where a certificate begins to say something, and at its starts."""
    rows = drawn.rows
    few = goal.limit * np.arange(1, 7) / 4 if goal.paired else np.zeros(0)
    shares = np.unique(np.concatenate([few[few <= 1], np.arange(1, 101) / 100]))
    levels = np.append(levels_at_shares(rows.confidence, shares), 0.0)
    if drawn.group is not None:
        return of_sample(drawn, goal, levels=levels, fit=fit)
    every, parts = lay_out(rows.confidence, goal, None, None, _starts_of(rows, goal, fit, drawn.human))
    starts = np.zeros(0, dtype=np.int64) if parts is None else np.flatnonzero(parts)
    laid = candidates(rows.confidence, np.append(levels, every.thresholds[starts]))
    found = _evidence(laid, rows, drawn.strong_correct, goal, drawn.human)
    if parts is None:
        return Trial(laid, found, goal, None)
    weights = np.zeros(len(laid.thresholds))
    np.add.at(weights, [laid.at(float(every.thresholds[i])) for i in starts], parts[starts])
    return Trial(laid, found, goal, weights)


def _starts_of(rows: Rows, goal: Goal, fit: Rows | None, human: bool) -> dict[float, float] | None:
    if goal.paired or fit is None or np.isnan(fit.confidence).all():
        return None
    return _starts(fit, goal, len(rows) / len(fit), human)


def _starts(fit: Rows, goal: Goal, share: float, human: bool) -> dict[float, float]:
    """Start thresholds and their parts of delta, from rows that do not certify: most goes where these promise most."""
    seen = candidates(fit.confidence, np.append(candidate_levels(fit.confidence), 0.0))
    usual = LEARNT_STARTS if goal.kind == "accepted_accuracy" else SYSTEM_STARTS
    weights = start_weights(seen.n_accepted / len(fit), usual)
    weights = _informed(seen, fit, goal, share, weights, human)
    return {float(t): float(w) for t, w in zip(seen.thresholds, weights, strict=True) if w > 0}


def _informed(seen: Candidates, fit: Rows, goal: Goal, share: float, usual: Floats, human: bool) -> Floats:
    if goal.kind == "accepted_accuracy":
        errors, trials = seen.cumulative(~(fit.cheap_correct == 1)), seen.n_accepted
    elif human or not np.isnan(fit.strong_correct).all():
        strong = np.ones(len(fit)) if human else fit.strong_correct
        errors, trials = evidence.cascade_errors(seen, fit.cheap_correct, strong), np.full(len(usual), len(fit))
    else:
        return usual
    return informed_weights(errors, trials, seen.n_accepted, share, 1 - goal.limit, goal.delta, usual)


def _evidence(laid: Candidates, rows: Rows, strong: Floats, goal: Goal, human: bool) -> Evidence:
    cheap = rows.cheap_correct
    if goal.kind == "match_strong" and human:
        # people are right by definition, so no row can be won and losses alone are counted
        found = evidence.among_all(laid, ~(cheap == 1), goal.limit, "wrong")
    elif goal.kind == "match_strong" and rows.sampled:
        found = evidence.against_sampled_strong(laid, cheap, strong, rows.drawn == 1, goal.limit, goal.delta)
    elif goal.kind == "match_strong":
        found = evidence.against_strong(laid, cheap, strong, goal.limit, goal.delta)
    elif goal.kind == "agree_with_strong" and rows.sampled and not human:
        among = rows.drawn == 1
        found = evidence.among_all(laid, ~(rows.agree == 1), goal.limit, "not the strong model's", among)
    elif goal.kind == "agree_with_strong":
        found = evidence.among_all(laid, ~((cheap if human else rows.agree) == 1), goal.limit, "not the strong model's")
    elif goal.kind == "accepted_accuracy":
        found = evidence.among_accepted(laid, cheap, goal.limit)
    else:
        found = evidence.of_system(laid, cheap, strong, goal.limit)
    if not goal.floored:
        return found
    groups_ = goal.label_groups or {}
    floors = {
        name: _floor_of_group(rows, cheap, strong, groups_[name], at_least, human)
        if name in groups_
        else Floor(np.asarray(rows.label == name, dtype=bool), cheap, strong, at_least)
        for name, at_least in (goal.label_floors or {}).items()
    }
    for name, (segment, label, at_least) in goal.floors_by_segment.items():
        mine = np.asarray(rows.segment == segment, dtype=bool)
        part = mine if label is None else mine & np.asarray(rows.label == label, dtype=bool)
        floors[name] = Floor(part, cheap, strong, at_least)
    return evidence.with_floors(found, laid, floors, goal.delta)


def _floor_of_group(
    rows: Rows, cheap: Floats, strong: Floats, members: Sequence[str], at_least: float, human: bool
) -> Floor:
    """Recall of several labels together: an answer that is any of them recognises a row that carries any of them."""

    def recognised(answer: CodedTexts, correct: Floats) -> Floats:
        return np.where(np.isnan(correct), np.nan, answer.isin(members).astype(float))

    told = strong if human else recognised(rows.strong_answer, strong)
    return Floor(rows.label.isin(members), recognised(rows.cheap_answer, cheap), told, at_least)
