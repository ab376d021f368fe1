"""Recommendation: turns a certificate and the estimates into one of five verdicts, or the reason there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.vocabulary import ROLES
from pipeline.decide.advice import unreadable, verdict_text
from pipeline.decide.advice.findings import findings
from pipeline.decide.advice.holdout_check import Outcome, outcome
from pipeline.decide.advice.number_text import counted, limit, usd
from pipeline.decide.advice.reply_warnings import ReplyCounts, reply_warnings
from pipeline.decide.advice.unreadable import Unreadable
from pipeline.decide.advice.verdict_text import Story
from pipeline.decide.advice.warnings import (
    ResultWarning,
    gravest_first,
    of_larger_rates,
    of_the_outcome,
    of_unreadable,
    row_warnings,
    speaks_of_data,
)
from pipeline.decide.arrays import Floats
from pipeline.decide.curves.at_threshold import Estimate, Expectation, mix_weights, waiting
from pipeline.decide.curves.bootstrap import blocks_of
from pipeline.decide.curves.cost_comparison import cost_against_strong
from pipeline.decide.curves.label_rates import label_rates
from pipeline.decide.held_out import NOT_HELD_OUT, level_of, shown_split
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal, TargetLike
from pipeline.decide.testing import sample_size, total_cost
from pipeline.decide.testing.binomial import too_few_errors_p
from pipeline.decide.testing.certificate import Certificate, finite
from pipeline.decide.testing.outlook import Outlook, outlook
from pipeline.decide.testing.paired_interval import paired_difference
from pipeline.decide.testing.sampled_interval import sampled_difference
from pipeline.decide.thresholds import accepted

SCHEMA = "cascade-recommendation/1"


@dataclass(frozen=True)
class Recommendation:
    """What to do and why. `threshold` None: escalate everything; 0.0: keep everything that has a confidence.

    `expected` are estimates on the split that they name (test, where there is one), for the threshold recommended.
    `ends` are the two models alone on the same rows. `optimism` sets the certify split's figures beside the test split's, None
    without test rows.
    """

    verdict: str
    threshold: float | None
    sentence: str
    promise: str
    not_said: str
    warnings: tuple[ResultWarning, ...]
    certificate: Certificate
    expected: Mapping[str, Estimate]
    ends: Mapping[str, Mapping[str, Estimate]]
    optimism: Mapping[str, Any] | None
    intervals: Mapping[str, Any]
    """Of every figure: `split` it is read on, `level`, and a `note` where no row was held out."""
    labels_needed: int | None = None
    tightest: Mapping[str, Any] | None = None
    tighter: Mapping[str, Any] | None = None
    baselines: tuple[Mapping[str, Any], ...] = field(default=())
    unreadable: Mapping[str, Any] | None = None
    outcome: Outcome | None = None
    difference: Estimate | None = None
    label_rates: tuple[Mapping[str, Any], ...] = ()
    """Precision, recall and flag rate of the cascade, by label and by group of labels, on the rows of `expected`."""
    totals: Mapping[str, Estimate] | None = None
    """Target total_cost: calls and errors together, as recommended and of each model alone, on the rows of `expected`."""
    mix_difference: Estimate | None = None
    """`difference` re-weighted to production's label mix, as `expected` is; None where the rows have that mix already."""

    def to_json(self) -> dict[str, Any]:
        """The fields of recommendation.json that are known here; what is unknown is None."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "threshold": self.threshold,
            "sentence": self.sentence,
            "promise": self.promise,
            "not_said": self.not_said,
            "warnings": [dict(vars(w)) for w in self.warnings],
            "certificate": self.certificate.to_json(),
            "expected": {name: e.to_json() for name, e in self.expected.items()},
            "labels_needed": self.labels_needed,
            "tightest": None if self.tightest is None else dict(self.tightest),
            "tighter": None if self.tighter is None else dict(self.tighter),
            "baselines": [dict(b) for b in self.baselines],
            "optimism": None if self.optimism is None else dict(self.optimism),
            "intervals": dict(self.intervals),
            "label_rates": [dict(entry) for entry in self.label_rates],
            "totals": None if self.totals is None else {name: e.to_json() for name, e in self.totals.items()},
            "unreadable": None if self.unreadable is None else dict(self.unreadable),
            "outcome": None if self.outcome is None else self.outcome.to_json(),
            "difference": None if self.difference is None else self.difference.to_json(),
            "mix_difference": None if self.mix_difference is None else self.mix_difference.to_json(),
            "ends": {end: {name: e.to_json() for name, e in figures.items()} for end, figures in self.ends.items()},
        }


def recommend(
    rows: Rows,
    target: TargetLike,
    *,
    certificate: Certificate,
    sweep: pd.DataFrame | None = None,
    human: bool = False,
    prevalence: Mapping[str, float] | None = None,
    data: str = "the rows evaluated",
    replies: ReplyCounts | None = None,
    max_unreadable: float = unreadable.LIMIT,
    seed: int,
) -> Recommendation:
    """Turn the certificate into a verdict with its figures, words and warnings.

    rows        all rows; estimates are of the test split, or of certify where test is empty
    sweep       the table of `sweep.sweep`, for the certify and test figures side by side; optional
    human       people stand in for the strong model
    prevalence  production's share of each label, to re-weight the estimates
    data        how the promise names the data
    max_unreadable  share of the strong replies that may be unreadable, as the certificate had it
    replies     what was counted over the cheap model's replies, for warnings
    """
    goal, split = Goal.of(target), shown_split(rows.split)
    part = rows.of(split)
    weights = None if prevalence is None else mix_weights(part.label, prevalence)
    ahead = outlook(rows, goal, certificate, human=human, seed=seed)
    verdict, why = _verdict(rows.of("certify"), goal, certificate, human, ahead)
    alone, grouped = verdict in ("uncertified", "strong_only"), certificate.unit == "groups"
    threshold = None if alone else certificate.threshold
    shown = _Shown(part, split, threshold, human, grouped, weights, alone, seed)
    figures = shown.figures(part)
    expected, partly = figures.all(), not bool(figures.compared.all())
    unread = Unreadable.of(rows, () if replies is None else replies.strong_unreadable)
    found = _outcome(rows, goal, certificate, threshold, human)
    blurred = None if human or not unread.n else shown.both_ends()
    beyond = unread.beyond(max_unreadable)
    warnings = gravest_first(
        () if human else of_unreadable(unread, beyond=beyond, paired=goal.paired, both_ends=blurred),
        row_warnings(
            rows,
            certificate,
            expected,
            human=human,
            needed=sample_size.fewest_rows(goal, human=human),
            reweighted=prevalence is not None,
            partly=partly,
        ),
        of_the_outcome(found),
        of_larger_rates(ahead.larger_rates, certified=certificate.certified),
        findings(rows, goal, threshold, human=human, grouped=grouped),
        () if replies is None else reply_warnings(replies),
    )
    of_data = [w.text for w in warnings if verdict == "uncertified" and speaks_of_data(w.code, w.gravity)]
    share = 0.0 if human else unread.share
    story = Story(verdict, threshold, expected, certificate, human, data, why, "".join(of_data[:1]), share, partly)
    costs = goal.usd_per_error
    return Recommendation(
        verdict=verdict,
        threshold=threshold,
        sentence=verdict_text.sentence(story),
        promise=verdict_text.promise(story, goal),
        not_said=verdict_text.not_said(story, goal, reweighted=prevalence is not None),
        warnings=warnings,
        certificate=certificate,
        expected=expected,
        ends=shown.ends(expected),
        optimism=_optimism(sweep if split == "test" else None, certificate),
        intervals={"split": split, "level": shown.level, "note": None if split == "test" else NOT_HELD_OUT},
        labels_needed=ahead.labels_needed,
        tightest=ahead.tightest,
        tighter=ahead.tighter,
        label_rates=shown.label_rates(goal),
        totals=None if costs is None else figures.totals(total_cost.costs(part, costs, human=human)),
        unreadable=None if blurred is None else _unreadable(unread, max_unreadable, blurred),
        outcome=found,
        mix_difference=None if weights is None or threshold is None else figures.against_strong(),
        # the promise's own figure, where it is the difference
        difference=found.figure if found is not None and goal.kind == "match_strong" else shown.difference(part),
    )


@dataclass(frozen=True)
class _Shown:
    """The rows that figures are read on, and the threshold that they are read at."""

    part: Rows
    split: str
    threshold: float | None
    human: bool
    grouped: bool
    weights: Floats | None
    """Of each row (n,), where production's label mix is another; None: all count alike."""
    alone: bool
    """Whether everything goes straight to the strong side."""
    seed: int

    @property
    def level(self) -> float:
        """Of all intervals."""
        return level_of(self.split)

    def figures(self, part: Rows) -> Expectation:
        """The estimates on these rows, or on the same ones with other strong answers."""
        return Expectation(
            part,
            self.threshold,
            split=self.split,
            human=self.human,
            weights=self.weights,
            alone=self.alone,
            seed=self.seed,
            level=self.level,
        )

    def both_ends(self) -> dict[str, dict[str, Estimate | None]]:
        """The figures that unreadable strong replies blur, as if all of these were wrong, and as if all were right."""
        found: dict[str, dict[str, Estimate | None]] = {}
        for end, right in (("all_wrong", False), ("all_right", True)):
            as_if = self.part.with_unreadable(right)
            estimates = self.figures(as_if).all()
            told = {name: estimates[name] for name in ("strong_accuracy", "system_accuracy")}
            for name, estimate in (told | {"difference": self.difference(as_if)}).items():
                found.setdefault(name, {})[end] = estimate
        return found

    def difference(self, part: Rows) -> Estimate | None:
        """Accuracy of the cascade minus that of the strong side on the same rows; None where there is no cascade."""
        if self.threshold is None:
            return None
        kept, group = accepted(part.confidence, self.threshold), part.group if self.grouped else None
        if part.sampled and not self.human:
            return sampled_difference(part, kept, level=self.level, split=self.split, group=group)
        strong = np.ones(len(part)) if self.human else part.strong_correct
        cascade = np.where(kept, part.cheap_correct, strong)
        return paired_difference(cascade, strong, level=self.level, split=self.split, group=group)

    def label_rates(self, goal: Goal) -> tuple[dict[str, Any], ...]:
        """Precision, recall and flag rate; a sampled answer counts for the rows that it stands for."""
        kept, weights = accepted(self.part.confidence, self.threshold), self.weights
        if self.part.sampled:
            weights = np.where(kept, 1.0, self.part.strong_weight) * (1.0 if weights is None else weights)
        rates = label_rates(
            self.part, kept, split=self.split, human=self.human, weights=weights, groups=goal.label_groups
        )
        return tuple(rates)

    def ends(self, expected: Mapping[str, Estimate]) -> dict[str, dict[str, Estimate]]:
        """Each model alone on the same rows: accuracy, dollars, seconds."""
        part, level = self.part, expected["cheap_accuracy"].level
        group = blocks_of(part.group, seed=0, at_most=max(1, len(part)))
        strong_s = np.full(len(part), np.nan) if part.sampled else part.strong_s  # a time never represents another row
        seconds = {"cheap": part.cheap_s, "strong": strong_s}
        return {
            f"{role}_only": {
                "accuracy": expected[f"{role}_accuracy"],
                "usd_per_1000": expected[f"{role}_usd_per_1000"],
                **waiting(seconds[role], self.split, group, level),
            }
            for role in ROLES
        }


def _unreadable(
    unread: Unreadable, most: float, both_ends: Mapping[str, Mapping[str, Estimate | None]]
) -> dict[str, Any]:
    """Unreadable strong replies, the share of them that is allowed, and the figures at both ends."""
    blurred = {
        name: {end: None if e is None else e.to_json() for end, e in ends.items()} for name, ends in both_ends.items()
    }
    return {**unread.to_json(), "limit": most, **blurred}


def _verdict(held: Rows, goal: Goal, certificate: Certificate, human: bool, ahead: Outlook) -> tuple[str, str]:
    """The verdict, and for strong_only and uncertified the reason in words."""
    other = "people" if human else "the strong model"
    if _never_right(held):
        return "strong_only", f"the cheap model was never right on {counted(len(held), 'row')}"
    if certificate.threshold is None:
        if goal.kind == "total_cost" and certificate.statistic is not None:
            return (
                "strong_only",
                f"escalating everything has the lowest total of calls and errors on {counted(certificate.n, 'row')}",
            )
        if goal.kind == "system_accuracy" and not human and _strong_reaches(held, goal):
            return (
                "strong_only",
                f"the strong model alone reaches {limit(goal.at_least)}, and no cascade was shown to",
            )
        return "uncertified", verdict_text.why_uncertified(
            goal, certificate, (ahead.labels_needed, ahead.perhaps_fewer), ahead.chance, human
        )
    if certificate.delta is None:
        total, alone = (certificate.details.get(k) for k in ("usd_per_1000_cross_fitted", "strong_only_usd_per_1000"))
        if total is not None and alone is not None and total >= alone:
            return (
                "strong_only",
                f"calls and errors together cost {usd(total)} per 1,000 with the best cascade and {usd(alone)} with {other} alone",
            )
        return "optimized", ""
    costs = None if goal.kind == "budget" else cost_against_strong(held, certificate.threshold)
    if costs is not None and costs[0] >= costs[1] and _strong_may_answer_all(held, goal, human):
        return (
            "strong_only",
            f"a cascade that keeps the promise costs {usd(1000 * costs[0])} per 1,000, {other} alone {usd(1000 * costs[1])}",
        )
    return ("cheap_only" if certificate.threshold == 0.0 else "certified"), ""


def _outcome(rows: Rows, goal: Goal, certificate: Certificate, threshold: float | None, human: bool) -> Outcome | None:
    """What became of the promise on the test rows, or without any on the certify rows; None where there is no promise."""
    if threshold is None or certificate.delta is None:
        return None
    split = shown_split(rows.split)
    # unreadable replies may have been right: the badge uses the worse end
    part = rows.of(split).with_unreadable(right=goal.kind == "match_strong")
    return outcome(part, goal, threshold, human=human, grouped=certificate.unit == "groups", split=split)


def _never_right(held: Rows) -> bool:
    known = held.cheap_correct[~np.isnan(held.cheap_correct)]
    return len(known) > 0 and not known.any()


def _strong_reaches(held: Rows, goal: Goal) -> bool:
    errors = int(np.count_nonzero(~(held.strong_correct == 1)))
    return bool(too_few_errors_p(errors, len(held), 1 - goal.limit) <= goal.delta)


def _strong_may_answer_all(held: Rows, goal: Goal, human: bool) -> bool:
    """Whether sending everything to the strong model breaks no promise that the cascade would keep."""
    if human or (goal.kind != "system_accuracy" and not goal.floored):
        return True
    return goal.kind == "system_accuracy" and not goal.floored and _strong_reaches(held, goal)


def _optimism(sweep: pd.DataFrame | None, certificate: Certificate) -> dict[str, Any] | None:
    """The certified threshold on the rows that chose it and on those that did not; from the sweep, where it holds it.

    Of total costs, what the choice flatters by cross-fitting. None where neither is known.
    """
    details: dict[str, Any] = {
        name: finite(value)
        for name, value in certificate.details.items()
        if name.startswith(("optimism", "usd_per_1000"))
    }
    if sweep is None or certificate.threshold is None:
        return details or None
    at = sweep[sweep["threshold"] == certificate.threshold].set_index("split")
    for name in ("escalation_rate", "accepted_accuracy", "system_accuracy", "usd_per_1000"):
        if name in at and {"certify", "test"} <= set(at.index):
            chosen, fresh = (float(at[name].to_dict()[split]) for split in ("certify", "test"))
            details[name] = {"certify": finite(chosen), "test": finite(fresh), "gap": finite(chosen - fresh)}
    return details or None
