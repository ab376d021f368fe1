"""UsualRules: what people do instead of a certified threshold, on the same rows, at the same prices, with the same test.

cascade         the recommended threshold
fixed           confidence 0.85, whatever the task
best_looking    the threshold that looks good enough on the certify rows, without a test: the lowest that meets the target
random          as many requests as the cascade escalates, picked at random, in expectation
router          reads the text alone and pays no cheap call for what it sends up, at the dollars of the cascade
oracle          escalates exactly where only the strong model is right: no rule can do better
strong, cheap   one model alone

A rule's promise is tested on the certify rows, as the target says, with the test that certifies. `best_looking` was chosen
on these, so it is tested on the test rows; where there are none, on the rows that chose it, which flatter it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from pipeline.decide.advice.holdout_check import share
from pipeline.decide.arrays import Flags, Floats
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.curves.at_threshold import Estimate
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing import threshold_search
from pipeline.decide.testing.paired_interval import paired_difference
from pipeline.decide.thresholds import accepted, cuts, threshold_at

FIXED = 0.85
LARGEST_CHOICE = 400
"""Number of thresholds among which the best-looking one is searched."""


@dataclass(frozen=True)
class Rule:
    """A rule and what it does on the rows: which it keeps, and whether it asks the cheap model before it escalates."""

    name: str
    kept: Flags
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
    first_token: Floats | None = None
    """Probability of the first token, (n,), where the confidence is another signal: what people cut at 0.85."""

    @property
    def strong(self) -> Floats:
        """Whether the strong side is right, (n,)."""
        return np.ones(len(self.rows)) if self.human else self.rows.strong_correct

    @property
    def group(self) -> CodedTexts | None:
        """Groups, where they are what is drawn."""
        return self.rows.group if self.grouped else None


def usual_rules(
    shown: Setting, tested: Setting, threshold: float | None, *, routers: tuple[Floats, Floats] | None = None
) -> list[dict[str, Any]]:
    """One record per rule: name, threshold, escalation_rate, accuracy, difference to strong, usd_per_1000, p_value, kept.

    Figures are read on the rows `shown`; promises are tested on the certify rows, `tested`, as ours was. The best-looking
    threshold was chosen on those, so it is tested on the shown ones. `routers`: predicted chance that the cheap model errs
    on the shown and on the tested rows, from the text alone. `tested_on` names the split; `kept` True: the rule's promise
    passed its test; False: it did not; None: nothing to test.
    """
    best = best_looking(tested.rows, tested.goal, human=tested.human)
    here = rules_on(shown, threshold, best, None if routers is None else routers[0])
    there = rules_on(tested, threshold, best, None if routers is None else routers[1])
    out = []
    for name, rule in here.items():
        own = shown if name == "best_looking" else tested
        mine = rule if own is shown else there[name]
        record = _record(shown, rule)
        if name == "random":
            record |= _by_lot(shown, rule, record)
            p_value, kept = _lot_test(own, mine)
        else:
            p_value = promise_p_value(own, mine.kept)
            kept = _verdict(own, mine.kept, p_value)
        record |= {"p_value": p_value, "kept": kept, "tested_on": own.split}
        if name == "strong":  # by construction, whatever the rows
            record["difference"] |= {"lower": None, "upper": None}
        if name == "router":
            record |= _against_cascade(shown, rule, here["cascade"])
        out.append(record)
    return out


def rules_on(setting: Setting, threshold: float | None, best: float | None, router: Floats | None) -> dict[str, Rule]:
    """The rules as they act on these rows."""
    rows, everything = setting.rows, np.ones(len(setting.rows), dtype=bool)
    found: list[Rule] = []
    if threshold is not None:
        found.append(Rule("cascade", accepted(rows.confidence, threshold), threshold))
    found.append(Rule("fixed", accepted(rows.confidence, FIXED), FIXED))
    if setting.first_token is not None:
        found.append(Rule("first_token", accepted(setting.first_token, FIXED), FIXED))
    if best is not None:
        found.append(Rule("best_looking", accepted(rows.confidence, best), best))
    if threshold is not None:
        cascade = found[0]
        found.append(Rule("random", cascade.kept))
        if router is not None:
            found.append(Rule("router", _routed(setting, cascade, router), asks_first=False))
    found.append(Rule("oracle", ~((rows.cheap_correct == 0) & (setting.strong == 1))))
    found.append(Rule("strong", ~everything, asks_cheap=False))
    found.append(Rule("cheap", everything))
    return {rule.name: rule for rule in found}


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
    if goal.paired:
        return -float(goal.within or 0.0)
    return float(goal.at_least) if goal.at_least is not None else -np.inf


def _figure(rows: Rows, strong: Floats, kept: Flags, goal: Goal) -> float | None:
    """The figure that the target is about, larger is better (the escalated share for a budget); None if there is none."""
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
    return {
        "name": rule.name,
        "threshold": rule.threshold,
        "escalation_rate": share((~rule.kept).astype(np.float64), level=level, split=split).to_json(),
        "accuracy": share(final, level=level, split=split, group=setting.group).to_json(),
        "difference": paired_difference(final, strong, level=level, split=split, group=setting.group).to_json(),
        "usd_per_1000": _mean(1000 * spent, level, split).to_json(),
    }


def _verdict(setting: Setting, kept: Flags, p_value: float | None) -> bool | None:
    if not setting.goal.promises:
        return None
    if p_value is None:  # nothing kept: a comparison with the strong model holds by construction
        return True if setting.goal.paired and not kept.any() else None
    return p_value <= setting.goal.delta


def promise_p_value(setting: Setting, kept: Flags) -> float | None:
    """P-value of "this rule breaks the promise" on the rows, by the test that certifies; None where there is none."""
    goal, rows = setting.goal, setting.rows
    if not goal.promises or goal.kind == "budget" or not kept.any():
        return None
    as_confidence = replace(rows, confidence=np.where(kept & ~np.isnan(rows.confidence), 1.0, 0.0))
    if kept.all():  # including rows without a confidence: the cheap model alone keeps everything
        as_confidence = replace(rows, confidence=np.ones(len(rows)))
    drawn = threshold_search.sample(as_confidence, goal, fit=None, human=setting.human)
    found = threshold_search.of_sample(drawn, goal, levels=[1.0], fit=None)
    at = np.flatnonzero(found.laid.thresholds == 1.0)
    return float(found.found.p_values[at[0]]) if len(at) and found.laid.n_accepted[at[0]] > 0 else None


def _by_lot(setting: Setting, cascade: Rule, told: dict[str, Any]) -> dict[str, Any]:
    """As many requests as the cascade escalates, at random: expected figures, so each is a mixture of the two ends."""
    rows, level, split, kept_share = setting.rows, setting.level, setting.split, float(cascade.kept.mean())
    cheap = paired_difference(rows.cheap_correct, setting.strong, level=level, split=split, group=setting.group)
    expected = kept_share * rows.cheap_correct + (1 - kept_share) * setting.strong
    return {
        "escalation_rate": {**told["escalation_rate"], "lower": None, "upper": None},
        "accuracy": _mean(expected, level, split).to_json(),
        "difference": cheap.times(kept_share).to_json(),
        "usd_per_1000": _mean(1000 * (rows.cheap_usd + (1 - kept_share) * rows.strong_usd), level, split).to_json(),
    }


def _lot_test(setting: Setting, cascade: Rule) -> tuple[float | None, bool | None]:
    """At random, the loss is the kept share of the cheap model's loss, so the test uses a wider margin."""
    goal, kept_share = setting.goal, float(cascade.kept.mean())
    if not goal.paired or kept_share == 0:
        return None, None
    wider = float(goal.within or 0.0) / kept_share
    if wider >= 1:
        return None, True
    everything = np.ones(len(cascade.kept), dtype=bool)
    p_value = promise_p_value(replace(setting, goal=replace(goal, within=wider)), everything)
    return p_value, None if p_value is None else p_value <= goal.delta


def _routed(setting: Setting, cascade: Rule, score: Floats) -> Flags:
    """What the text-only router keeps when it spends what the cascade spends; without prices, as many as the cascade."""
    rows, n = setting.rows, len(setting.rows)
    cheap, strong = np.nan_to_num(rows.cheap_usd), np.nan_to_num(rows.strong_usd)
    order = np.argsort(-score, kind="stable")
    size = int((~cascade.kept).sum())
    if _priced(rows):
        spent = float((cheap + np.where(cascade.kept, 0.0, strong)).sum())
        growing = cheap.sum() + np.concatenate([[0.0], np.cumsum((strong - cheap)[order])])
        size = int(np.searchsorted(growing, spent, side="right")) - 1
    kept = np.ones(n, dtype=bool)
    kept[order[: max(0, min(size, n))]] = False
    return kept


def _priced(rows: Rows) -> bool:
    return not (np.isnan(rows.cheap_usd).all() or np.isnan(rows.strong_usd).all())


def _against_cascade(setting: Setting, router: Rule, cascade: Rule) -> dict[str, Any]:
    rows, strong = setting.rows, setting.strong
    finals = [np.where(rule.kept, rows.cheap_correct, strong) for rule in (router, cascade)]
    found = paired_difference(*finals, level=setting.level, split=setting.split, group=setting.group)
    return {"against_cascade": found.to_json(), "equal": "dollars" if _priced(rows) else "escalation"}


def _mean(values: Floats, level: float, split: str) -> Estimate:
    """Mean of the known values with Student's interval."""
    known = values[~np.isnan(values)]
    n = len(known)
    if n == 0:
        return Estimate(None, None, None, level, 0, split)
    mean = float(known.mean())
    if n == 1:
        return Estimate(mean, None, None, level, n, split)
    half = float(stdtrit(n - 1, (1 + level) / 2) * known.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, level, n, split)
