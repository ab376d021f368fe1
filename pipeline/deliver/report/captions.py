"""Captions: for each figure a title and what there is to see in it, in words and with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.vocabulary import ROLES
from pipeline.deliver.report.formatting import count, estimate, number, share, threshold, usd
from pipeline.deliver.report.sweep import priced


@dataclass(frozen=True)
class Caption:
    """`title` names the figure, `takeaway` is its message for those who cannot see it, `reading` says how to look at it."""

    title: str
    takeaway: str
    reading: str


def captions(report: Mapping[str, Any]) -> dict[str, Caption]:
    """A caption for every figure that this report can have."""
    trust = report["trust"]
    made: dict[str, Callable[[], Caption]] = {}
    if report["decide"]["sweep"]:
        made["decide"] = lambda: _decide(report)
    if trust["reliability"]:
        made["reliability"] = lambda: _reliability(trust)
    if trust["histogram"]:
        made["histogram"] = lambda: _histogram(trust["histogram"], report["verdict"]["threshold"])
    if trust["risk"]:
        made["risk"] = lambda: _risk(trust, reweighted=bool(report["decide"]["reweighted"]))
    if trust["signals"]:
        made["signals"] = lambda: _signals(trust["signals"], "certify" if trust["cross_fitted"] else "fit")
    return {name: make() for name, make in made.items()}


def _decide(report: Mapping[str, Any]) -> Caption:
    decide = report["decide"]
    sweep, ends = decide["sweep"], decide["ends"]
    quality = "accuracy" if sweep["quality"] == "accuracy" else "agreement with the strong model"
    best = sweep["recommended"]
    takeaway = "No row of the sweep is recommended."
    if best is not None:
        columns = sweep["columns"]
        parts = [
            f"{share(columns['system_accuracy'][best])} {quality}",
            f"{share(columns['escalation_rate'][best])} escalated",
        ]
        if columns["usd_per_1000"][best] is not None:
            parts.append(f"{usd(columns['usd_per_1000'][best])} per 1,000 requests")
        takeaway = f"Recommended, {_where(columns['threshold'][best])}: {', '.join(parts)}."
    for role in ROLES:
        end = ends[f"{role}_only"]
        if end["accuracy"]["value"] is not None:
            money = f" at {usd(end['usd_per_1000']['value'])}" if end["usd_per_1000"]["value"] is not None else ""
            who = "People" if role == "strong" and decide["human"] else f"The {role} model"
            takeaway += f" {who} alone: {share(end['accuracy']['value'])}{money}."
    whole = any(v is not None for v in sweep["columns"]["system_accuracy_sim_lower"])
    wide = (
        "; the pale one covers the whole line at once: use it to pick a threshold by eye"
        if whole
        else ", not the whole line at once"
    )
    reading = (
        "Each point of the line is a threshold; further left is cheaper, further up is better. "
        f"The darker {share(sweep['level'], 0)} band covers one threshold at a time{wide}."
    )
    if sweep["quality"] == "accuracy" and decide["baselines"]:
        reading += " The further the line rises above random escalation, the more the confidence is worth; the oracle is the best that any confidence could do."
    return Caption(
        f"{'Cost' if priced(sweep) else 'Escalation'} against {quality}, {sweep['split']} split (n\u00a0=\u00a0{count(sweep['n'])})",
        takeaway,
        reading,
    )


def _where(value: float | None) -> str:
    return "everything escalated" if value is None else f"threshold {threshold(value)}"


def _reliability(trust: Mapping[str, Any]) -> Caption:
    data = trust["reliability"]
    stage = "after" if data["after"] else "before"
    entry = data[stage]
    metrics = trust["metrics"][stage][data["split"]]
    known = [b for b in entry["bin"] if b["accuracy"] is not None and b["mean_confidence"] is not None]
    takeaway = "No bin has rows."
    mean, right = metrics["mean_confidence"], metrics["accuracy"]
    if mean["value"] is not None and right["value"] is not None:
        takeaway = f"On average the confidence says {estimate(mean)}, and {estimate(right)} of the answers are right."
    elif known:
        most = max(known, key=lambda b: b["n"])
        takeaway = f"In the fullest bin {count(most['n'])} answers have a mean confidence of {share(most['mean_confidence'])}, and {share(most['accuracy'])} of them are right."
    fitted = ""
    if stage == "after":
        other = "calibrators fitted to other groups" if trust["cross_fitted"] else "a calibrator fitted on the fit rows"
        fitted = f" The blue curve reads each row by {other}."
    words = "before and after calibration" if stage == "after" else "of the confidence as the signal gives it"
    return Caption(
        f"Reliability {words}, {data['split']} split (n\u00a0=\u00a0{count(entry['n'])})",
        takeaway,
        "A point on the diagonal keeps its word: of answers given with 80\u00a0% confidence, 80\u00a0% are right. Below it the model is too sure. "
        f"Where the line leaves the grey band, chance does not explain it. The strip below shows where the rows lie.{fitted}",
    )


def _histogram(data: Mapping[str, Any], at: float | None) -> Caption:
    right, wrong = data["right_n"], data["wrong_n"]
    takeaway = f"{count(right)} right and {count(wrong)} wrong answers have a confidence; {count(data['null'])} of {count(data['n'])} requests have none and escalate."
    line = f" Everything left of the dashed line ({threshold(at)}) escalates." if at else ""
    axis = " The axis counts nines, as most confidences crowd near 1." if data["scale"] == "nines" else ""
    return Caption(
        f"Confidence of right and wrong answers, {data['split']} split (n\u00a0=\u00a0{count(data['n'])})",
        takeaway,
        f"The further the wrong answers sit to the left of the right ones, the better the confidence tells them apart.{line}{axis}",
    )


def _risk(trust: Mapping[str, Any], *, reweighted: bool) -> Caption:
    risk = trust["risk"]
    here = risk["recommended"]
    takeaway = (
        "No threshold is recommended."
        if not here
        else f"At the recommended threshold the cheap model keeps {share(here['coverage'])}, and {share(here['selective_risk'])} of what it keeps is wrong."
    )
    aurc = trust["metrics"]["before"][risk["split"]]["aurc_mean"]
    if not reweighted:  # it counts rows as they are, and would be the area under another curve
        takeaway += f" Area under this curve (AURC): {estimate(aurc, 'number')}, n\u00a0=\u00a0{count(aurc['n'])}."
    return Caption(
        f"Error among the kept against the share kept, {risk['split']} split",
        takeaway,
        "Read from left to right: keep only the surest answers, then more and more. A line that rises late is good; one as flat as the dotted line would mean that confidence says nothing.",
    )


def _signals(signals: list[Mapping[str, Any]], split: str) -> Caption:
    chosen = next((s for s in signals if s["chosen"]), None)
    takeaway = (
        "No signal was chosen."
        if chosen is None
        else f"Chosen: {str(chosen['signal']).replace('_', ' ')}, AURC {number(chosen['aurc'])}."
    )
    return Caption(
        f"The signals compared on the {split} split",
        takeaway,
        "Each signal is a way to read a confidence from the same reply. To the right of the line a signal ranks worse than the chosen one. "
        "Differences are taken in each of ten parts of the rows, so what is hard for all signals is not in the bars.",
    )
