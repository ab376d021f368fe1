"""VerdictText: the recommendation in a product owner's words: one sentence, one promise, one line on what is not claimed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.decide.advice.number_text import (
    SPACE,
    bare_tenths,
    change,
    counted,
    limit,
    ordinal,
    percent,
    points,
    roughly,
    shortened,
    tenths,
    usd,
)
from pipeline.decide.curves.at_threshold import Estimate
from pipeline.decide.held_out import LEVEL
from pipeline.decide.target import Goal
from pipeline.decide.testing.certificate import Certificate, finite

LIKELY_NOT, NEARLY_ALWAYS = 0.25, 0.95
"""Chances below which no number of further labels is said to help, and from which on one is said to do."""


@dataclass(frozen=True)
class Story:
    """What the words are about.

    `why` explains strong_only, as the end of a sentence, and uncertified, in whole sentences. `check` is the gravest warning
    for which an uncertified result says more about the data than about the models.
    """

    verdict: str
    threshold: float | None
    expected: Mapping[str, Estimate]
    certificate: Certificate
    human: bool
    data: str
    why: str = ""
    check: str = ""
    unreadable: float = 0.0
    """Share of the strong replies that are no whole answer; figures count them as wrong."""
    partly: bool = False
    """Whether strong answers were got for a part of the rows only."""

    @property
    def other(self) -> str:
        """Who answers what is escalated."""
        return "people" if self.human else "the strong model"


def sentence(story: Story) -> str:
    """One or two sentences that answer: what to do, with what effect, at what cost."""
    other = story.other
    if story.verdict == "uncertified":
        if story.check:
            return f"Check the data first: {_inside(story.check)} Until then keep sending everything to {other}."
        rest = _worse(story)
        return (
            f"Keep sending everything to {other} for now: {story.why}{f' {rest[0].upper()}{rest[1:]}.' if rest else ''}"
        )
    if story.verdict == "strong_only":
        return f"Send everything to {other} alone: {story.why}. {_sent_alone(story)}".strip()
    if story.verdict == "cheap_only":
        nulls = story.expected["escalation_rate"].value or 0.0
        rest = f", except the {percent(nulls)} that come without a confidence" if nulls > 0 else ""
        start = f"Keep every answer of the cheap model{rest}"
    else:
        rate = story.expected["escalation_rate"].value
        start = f"Escalate when confidence is below {story.threshold}"
        if rate is not None:
            start += f": {_about(rate)} go to {other}"
    parts = [start + ("" if story.verdict != "cheap_only" else ":"), _quality(story), _cost(story), _worse(story)]
    if story.verdict == "cheap_only":
        return f"{parts[0]} " + "; ".join(p for p in parts[1:] if p) + "."
    if story.verdict == "optimized":
        parts.insert(1, _optimum(story))
    return "; ".join(p for p in parts if p) + "."


def promise(story: Story, target: Goal) -> str:
    """What is promised, with which certainty, about which data; or that nothing is."""
    found = story.certificate
    if story.verdict == "optimized":
        chosen = (
            "the smallest total of calls and errors"
            if target.kind == "total_cost"
            else "the budget by a bootstrap bound"
        )
        return f"No promise: the threshold was chosen for {chosen}, which is an estimate."
    if story.verdict in ("uncertified", "strong_only"):
        return "No promise: nothing is kept by the cheap model."
    count = f"n{SPACE}={SPACE}" + (f"{found.n:,}" if found.unit == "rows" else counted(found.n, "group"))
    look = f"{ordinal(found.look)} look"
    if found.looks_planned is not None:
        whole = limit(1 - target.delta * found.looks_planned)
        look = f"look {found.look} of {found.looks_planned} planned, which share {whole} certainty"
    return f"Promise: {_claim(story, target)}, with {limit(1 - target.delta)} certainty, on data like {story.data} ({count}, {look})."


def _claim(story: Story, target: Goal) -> str:
    kind, other = target.kind, story.other
    if kind == "match_strong":
        text = f"at most {points(target.limit)} worse than {other}"
    elif kind == "agree_with_strong":
        text = f"an answer other than that of {other} in at most {limit(target.within)} of requests"
    elif kind == "accepted_accuracy":
        text = f"at least {limit(target.at_least)} of the answers that the cheap model keeps are right"
    elif kind == "system_accuracy":
        text = f"at least {limit(target.at_least)} of all answers are right"
    else:
        text = f"at most {limit(target.escalation_rate)} of requests go to {other}"
    floors = target.label_floors or {}
    text += "".join(
        f", and at least {limit(floor)} of {shortened(label)} are recognised" for label, floor in floors.items()
    )
    return text + "".join(
        f", and at least {limit(least)} of {shortened(name)} are {'right' if label is None else 'recognised'}"
        for name, (_, label, least) in target.floors_by_segment.items()
    )


def why_uncertified(
    goal: Goal, certificate: Certificate, further: tuple[int | None, int | None], chance: float | None, human: bool
) -> str:
    """Why no threshold came out, and what would help, in whole sentences that follow a colon.

    `further` rows would certify with probability `chance`, and perhaps the second number of them, which is None where the first is
    fairly certain; None: no number that was tried, and `chance` is of the largest.
    """
    number, fewer = further
    it, its = ("them", "their") if human else ("it", "its")
    if certificate.p_value is None and goal.kind != "budget":
        return f"{certificate.reason}."
    shown = {
        "match_strong": f"stay within {points(goal.within or 0)} of {it}",
        "agree_with_strong": f"give {its} answer in at least {limit(1 - (goal.within or 0))} of requests",
        "accepted_accuracy": f"keep answers of which at least {limit(goal.at_least)} are right",
        "system_accuracy": f"make at least {limit(goal.at_least)} of all answers right",
        "budget": "keep to the budget",
    }[goal.kind]
    floors = " and to keep every floor" if goal.floored else ""
    rows = counted(certificate.n, certificate.unit.removesuffix("s"))
    text = f"on {rows} no threshold could be shown to {shown}{floors}"
    if goal.kind == "budget":
        return f"{text} ({certificate.reason})."
    if (floor := certificate.details.get("floor")) is not None:
        return f"{text}. {_floor_missed(floor)}"
    if number is None and chance is not None and chance >= LIKELY_NOT:
        return f"{text}. Whether more labels would change that these rows leave open: the chance is about {percent(round(chance, 1))}, however many."
    if number is None:
        return f"{text}. At these error rates more labels alone would probably not change that."
    more = f"About {roughly(number)} more labeled row{'' if number == 1 else 's'}"
    if fewer is not None and fewer < number:
        more = f"Perhaps {roughly(fewer)} more labeled rows, perhaps as many as {roughly(number)}: these rows do not tell. So many"
    if chance is None:
        return f"{text}. {more} might change that."
    how_often = "nearly always" if chance >= NEARLY_ALWAYS else f"in about {round(10 * chance)} of 10 cases"
    return f"{text}. {more} would change that {how_often}."


def _floor_missed(floor: Mapping[str, Any]) -> str:
    """The floor that fails, and how many rows of it would help: more of any others would not."""
    name, rows = shortened(floor["name"]), floor["rows"]
    seen = f"The floor of {limit(floor['at_least'])} for {name} fails: {floor['right']:,} of {counted(rows, 'row')} of it right."
    if floor["further"] is None:
        return f"{seen} At this rate more rows of it alone would not change that."
    more = f"{roughly(floor['further'])} more row{'' if floor['further'] == 1 else 's'} of {name}"
    return f"{seen} About {more} might change that; rows of anything else would not."


def not_said(story: Story, target: Goal, *, reweighted: bool = False) -> str:
    """One line that rules out the most tempting misreading."""
    if story.verdict == "strong_only":
        return _not_said_alone(story, target)
    if story.check:
        return "This does not say that no threshold would pass, only that these rows cannot show it."
    if story.verdict == "uncertified":
        return "This does not say that the cheap model is useless: with more labels, another prompt or another target a threshold may pass."
    if target.kind == "agree_with_strong":
        text = f"This does not say that the answers are right: only that they are those of {story.other}"
    elif target.kind == "budget":
        text = "This does not say how accurate the answers are: the budget is what is kept"
    elif target.kind == "total_cost":
        text = "This does not say that the estimated cost will be met, nor that errors stay below any number"
    elif target.kind == "accepted_accuracy":
        text = "This does not say that each label or segment is that accurate, nor anything about the escalated answers"
    else:
        text = (
            "This does not say that each label or segment does as well as the whole, nor that a single answer is right"
        )
    text += "; it no longer holds once the model, the prompt or the mix of requests changes."
    if reweighted and target.promises:
        text += (
            " The figures are re-weighted to production's label mix; the promise is about the labeled set's own mix."
        )
    if reweighted and target.kind == "total_cost":
        text += " All figures, the totals among them, are re-weighted to production's label mix."
    if story.certificate.unit == "groups":
        text += " It is about the average group, not the average row."
    return text


def _not_said_alone(story: Story, target: Goal) -> str:
    if story.expected["cheap_accuracy"].value == 0:
        return "This does not say that the cheap model cannot do it: where no answer is right, labels or prompt may be what is wrong."
    if target.kind == "system_accuracy" and story.certificate.threshold is None:
        return "This does not say that the cheap model is bad, only that no threshold was shown to reach the target with it."
    return "This does not say that the cheap model is bad, only that asking it first does not pay here."


def _quality(story: Story) -> str:
    mine, strong = story.expected["system_accuracy"], story.expected["strong_accuracy"]
    if mine.value is None:
        same = story.expected["agreement_with_strong"]
        if same.value is None:
            return "accuracy unknown"
        text = f"{tenths(same.value)} {_interval(same)} of answers are those of {story.other}; accuracy unknown, "
        labeled = story.expected["cheap_accuracy"].value is not None
        return text + (f"no escalated row has a graded answer of {story.other}" if labeled else "there are no labels")
    text = f"accuracy {tenths(mine.value)} {_interval(mine)}"
    if story.human:
        return f"{text} where people's answers count as right"
    if strong.value is None:
        return f"{text}, that of the strong model alone unknown"
    cheap = story.expected["cheap_accuracy"]
    if story.partly:
        text += f"; on the {counted(strong.n, 'row')} that have graded answers the strong model is right in {tenths(strong.value)}"
        return text + ("" if cheap.value is None else f", the cheap model in {tenths(cheap.value)}")
    text += f" against {tenths(strong.value)} for the strong model alone"
    return text + (
        f" ({percent(story.unreadable)} of its replies unreadable, counted as wrong)" if story.unreadable else ""
    )


def _worse(story: Story) -> str:
    cheap, strong = story.expected["cheap_accuracy"].value, story.expected["strong_accuracy"].value
    if story.human or cheap is None or strong is None or strong >= cheap or story.unreadable:
        return ""
    return "the strong model is the less accurate of the two here"


def _cost(story: Story) -> str:
    mine, strong = story.expected["usd_per_1000"].value, story.expected["strong_usd_per_1000"].value
    if mine is None and strong is None:
        return "cost unknown"
    if mine is None or strong is None:
        return f"cost {usd(mine)} against {usd(strong)} per 1,000"
    relative = f" ({change(mine / strong - 1)})" if strong > 0 else ""
    what = "calls alone" if "usd_per_1000_cross_fitted" in story.certificate.details else "cost"
    return f"{what} {usd(mine)} against {usd(strong)} per 1,000{relative}"


def _optimum(story: Story) -> str:
    """What was minimised, beside the alternatives' value; the cross-fitted total."""
    details = story.certificate.details
    total, bound = (details.get(name) for name in ("usd_per_1000_cross_fitted", "usd_per_1000_upper"))
    if total is not None:
        others = (
            ("strong_only_usd_per_1000", f"{story.other} alone"),
            ("cheap_only_usd_per_1000", "the cheap model alone"),
        )
        against = [f"{usd(details[name])} with {who}" for name, who in others if finite(details.get(name)) is not None]
        text = f"calls and errors together cost an estimated {usd(total)} per 1,000"
        return text + (f", against {' and '.join(against)}" if against else "")
    budget = story.certificate.target.get("usd_per_1000")
    return "" if bound is None else f"at most about {usd(bound)} per 1,000 of a budget of {usd(budget)}"


def _sent_alone(story: Story) -> str:
    accuracy, cost = story.expected["strong_accuracy"], story.expected["strong_usd_per_1000"]
    parts = []
    if accuracy.value is not None and not story.human:
        parts.append(f"accuracy {tenths(accuracy.value)} {_interval(accuracy)}")
    if cost.value is not None and "per 1,000" not in story.why:  # else the reason was the cost
        parts.append(f"cost {usd(cost.value)} per 1,000")
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _inside(text: str) -> str:
    """A sentence as it stands after a colon."""
    return text[:1].lower() + text[1:]


def _about(rate: float) -> str:
    if 0.01 <= rate <= 0.99:
        return f"about {100 * rate:.0f}{SPACE}%"
    return "none" if rate == 0 else "all" if rate == 1 else f"about {percent(rate)}"


def _interval(estimate: Estimate) -> str:
    if estimate.lower is None or estimate.upper is None:
        return ""
    level = "" if estimate.level == LEVEL else f" ({limit(estimate.level)} interval)"
    return f"[{bare_tenths(estimate.lower)}, {bare_tenths(min(estimate.upper, 1.0))}]{level}"
