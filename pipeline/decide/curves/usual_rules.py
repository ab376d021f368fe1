"""Usual rules: what people do in place of a certified threshold, on the same rows, at the same prices, with the same test.

cascade         the recommended threshold
fixed           confidence 0.85, whatever the task
best_looking    the threshold that looks good enough on the certify rows, without a test: the lowest that meets the target
random          as many requests as the cascade escalates, picked by lot, in expectation
router          reads the text alone and pays no cheap call for what it sends up, at the dollars of the cascade
oracle          escalates exactly where only the strong model is right: no rule can do better
strong, cheap   one model alone

A rule's promise is tested on the rows shown, as the target says, with the test that certifies. Where these are the certify
rows, `best_looking` was chosen on the rows that test it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipeline.decide.advice.holdout_check import share
from pipeline.decide.curves.at_threshold import Estimate
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing import threshold_search
from pipeline.decide.testing.paired_interval import paired_difference
from pipeline.decide.thresholds import accepted, cuts, threshold_at

Floats = npt.NDArray[np.float64]
Kept = npt.NDArray[np.bool_]

FIXED = 0.85
LARGEST_CHOICE = 400
"""Thresholds among which the best-looking one is sought."""


@dataclass(frozen=True)
class Rule:
    """A rule and what it does on the rows: which it keeps, and whether it asks the cheap model before it escalates."""

    name: str
    kept: Kept
    threshold: float | None = None
    asks_first: bool = True
    asks_cheap: bool = True


@dataclass(frozen=True)
class Setting:
    """Rows on which rules are compared, and how."""

    rows: Rows
    goal: Goal
    split: str
    level: float
    human: bool
    grouped: bool

    @property
    def strong(self) -> Floats:
        """Whether the strong side is right, (n,)."""
        return np.ones(len(self.rows)) if self.human else self.rows.strong_correct

    @property
    def group(self) -> npt.NDArray[np.object_] | None:
        """Groups, where they are what is drawn."""
        return self.rows.group if self.grouped else None


def usual_rules(
    setting: Setting, held: Rows, threshold: float | None, *, router: Floats | None = None
) -> list[dict[str, Any]]:
    """One record per rule: name, threshold, escalation_rate, accuracy, difference to strong, usd_per_1000, p_value, kept.

    `held`: certify rows, for the best-looking threshold. `router` (n,): predicted chance that the cheap model errs, from the
    text alone. `kept` True: the rule's promise passed its test; False: it did not; None: nothing to test.
    """
    rows, strong = setting.rows, setting.strong
    everything = np.ones(len(rows), dtype=bool)
    rules = [Rule("cascade", accepted(rows.confidence, threshold), threshold)] if threshold is not None else []
    rules.append(Rule("fixed", accepted(rows.confidence, FIXED), FIXED))
    best = best_looking(held, setting.goal, human=setting.human)
    if best is not None:
        rules.append(Rule("best_looking", accepted(rows.confidence, best), best))
    rules.append(Rule("oracle", ~((rows.cheap_correct == 0) & (strong == 1))))
    out = [_record(setting, rule) for rule in rules]
    cascade = rules[0] if threshold is not None else None
    if cascade is not None:
        out.insert(-1, _random(setting, cascade))
        if router is not None:
            found = _router(setting, cascade, router)
            if found is not None:
                out.insert(-1, found)
    out.append(_record(setting, Rule("strong", ~everything, asks_cheap=False)))
    out.append(_record(setting, Rule("cheap", everything)))
    return out


def best_looking(held: Rows, goal: Goal, *, human: bool) -> float | None:
    """The lowest threshold whose figure on these rows meets the target, without any margin for chance; None without one."""
    values, _ = cuts(held.confidence)
    if not len(values):
        return None
    at = np.unique(np.linspace(0, len(values) - 1, min(LARGEST_CHOICE, len(values))).round().astype(int))
    strong = np.ones(len(held)) if human else held.strong_correct
    for index in at:
        t = threshold_at(values, int(index))
        figure = _figure(held, strong, accepted(held.confidence, t), goal)
        if figure is not None and (figure <= goal.escalation_rate if goal.escalation_rate else figure >= _bound(goal)):
            return t
    return None


def _bound(goal: Goal) -> float:
    if goal.kind in ("match_strong", "agree_with_strong"):
        return -float(goal.within or 0.0)
    return float(goal.at_least) if goal.at_least is not None else -np.inf


def _figure(rows: Rows, strong: Floats, kept: Kept, goal: Goal) -> float | None:
    """What the target speaks of, larger is better (the escalated share for a budget); None where it speaks of nothing."""
    if goal.escalation_rate is not None:
        return float((~kept).mean())
    if goal.kind == "match_strong":
        values = np.where(kept, rows.cheap_correct - strong, 0.0)
    elif goal.kind == "agree_with_strong":
        values = np.where(kept, rows.agree - 1, 0.0)
    elif goal.kind == "accepted_accuracy":
        values = rows.cheap_correct[kept]
    elif goal.kind == "system_accuracy":
        values = np.where(kept, rows.cheap_correct, strong)
    else:
        return None
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _record(setting: Setting, rule: Rule) -> dict[str, Any]:
    rows, strong, split, level = setting.rows, setting.strong, setting.split, setting.level
    final = np.where(rule.kept, rows.cheap_correct, strong)
    cheap = rows.cheap_usd if rule.asks_cheap else np.zeros(len(rows))
    spent = np.where(rule.kept, cheap, rows.strong_usd + (cheap if rule.asks_first else 0.0))
    p_value = promise_p_value(setting, rule.kept)
    return {
        "name": rule.name,
        "threshold": rule.threshold,
        "escalation_rate": share((~rule.kept).astype(np.float64), level=level, split=split).to_json(),
        "accuracy": share(final, level=level, split=split, group=setting.group).to_json(),
        "difference": paired_difference(final, strong, level=level, split=split, group=setting.group).to_json(),
        "usd_per_1000": _mean(1000 * spent, level, split).to_json(),
        "p_value": p_value,
        "kept": _verdict(setting, rule.kept, p_value),
    }


def _verdict(setting: Setting, kept: Kept, p_value: float | None) -> bool | None:
    if not setting.goal.promises:
        return None
    if p_value is None:  # nothing kept: what compares with the strong model holds by construction
        return True if setting.goal.kind in ("match_strong", "agree_with_strong") and not kept.any() else None
    return p_value <= setting.goal.delta


def promise_p_value(setting: Setting, kept: Kept) -> float | None:
    """P-value of "this rule breaks the promise" on the rows, by the test that certifies; None where there is none."""
    goal, rows = setting.goal, setting.rows
    if not goal.promises or goal.kind == "budget" or not kept.any():
        return None
    as_confidence = replace(rows, confidence=np.where(kept & ~np.isnan(rows.confidence), 1.0, 0.0))
    if kept.all():  # also what has no confidence: the cheap model alone keeps everything
        as_confidence = replace(rows, confidence=np.ones(len(rows)))
    drawn = threshold_search.sample(as_confidence, goal, fit=None, human=setting.human)
    found = threshold_search.of_sample(drawn, goal, levels=[1.0], fit=None)
    at = np.flatnonzero(found.laid.thresholds == 1.0)
    return float(found.found.p_values[at[0]]) if len(at) and found.laid.n_accepted[at[0]] > 0 else None


def _random(setting: Setting, cascade: Rule) -> dict[str, Any]:
    """As many requests as the cascade sends up, by lot: figures in expectation, so each is a mixture of the two ends.

    The cascade loses (1 - r) times what the cheap model alone loses, so its promise is tested as the cheap model's with a
    margin 1 / (1 - r) times as wide.
    """
    cheap = _record(setting, Rule("cheap", np.ones(len(cascade.kept), dtype=bool)))
    strong = setting.strong
    kept_share = float(cascade.kept.mean())
    goal = setting.goal
    p_value: float | None = None
    kept: bool | None = None
    if goal.kind in ("match_strong", "agree_with_strong") and kept_share > 0:
        wider = float(goal.within or 0.0) / kept_share
        if wider < 1:
            scaled = replace(setting, goal=replace(goal, within=wider))
            p_value = promise_p_value(scaled, np.ones(len(cascade.kept), dtype=bool))
            kept = None if p_value is None else p_value <= goal.delta
        else:
            kept = True
    rows, level, split = setting.rows, setting.level, setting.split
    expected = kept_share * rows.cheap_correct + (1 - kept_share) * strong

    def scaled_by(estimate: dict[str, Any]) -> dict[str, Any]:
        return {
            **estimate,
            **{k: None if estimate[k] is None else kept_share * estimate[k] for k in ("value", "lower", "upper")},
        }

    return {
        "name": "random",
        "threshold": None,
        "escalation_rate": {**share((~cascade.kept).astype(np.float64), level=level, split=split).to_json(), "lower": None, "upper": None},
        "accuracy": _mean(expected, level, split).to_json(),
        "difference": scaled_by(cheap["difference"]),
        "usd_per_1000": _mean(1000 * (rows.cheap_usd + (1 - kept_share) * rows.strong_usd), level, split).to_json(),
        "p_value": p_value,
        "kept": kept,
    }  # fmt: skip


def _router(setting: Setting, cascade: Rule, score: Floats) -> dict[str, Any] | None:
    """The text-only router that spends what the cascade spends, and the paired difference between the two."""
    rows, n = setting.rows, len(setting.rows)
    both = np.nan_to_num(rows.cheap_usd), np.nan_to_num(rows.strong_usd)
    spent = float((both[0] + np.where(cascade.kept, 0.0, both[1])).sum())
    priced = not (np.isnan(rows.cheap_usd).all() or np.isnan(rows.strong_usd).all())
    order = np.argsort(-score, kind="stable")
    if priced:
        growing = both[0].sum() + np.concatenate([[0.0], np.cumsum((both[1] - both[0])[order])])
        size = int(np.searchsorted(growing, spent, side="right")) - 1
    else:  # at the same share of requests sent up
        size = int((~cascade.kept).sum())
    kept = np.ones(n, dtype=bool)
    kept[order[: max(0, min(size, n))]] = False
    record = _record(setting, Rule("router", kept, asks_first=False))
    strong = setting.strong
    record["against_cascade"] = paired_difference(
        np.where(kept, rows.cheap_correct, strong),
        np.where(cascade.kept, rows.cheap_correct, strong),
        level=setting.level,
        split=setting.split,
        group=setting.group,
    ).to_json()
    record["equal"] = "dollars" if priced else "escalation"
    return record


def _mean(values: Floats, level: float, split: str) -> Estimate:
    """Mean of the known values with Student's interval."""
    known = values[~np.isnan(values)]
    n = len(known)
    if n == 0:
        return Estimate(None, None, None, level, 0, split)
    mean = float(known.mean())
    if n == 1:
        return Estimate(mean, None, None, level, n, split)
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * known.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, level, n, split)
