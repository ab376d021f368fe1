"""Findings: what the figures show about a threshold without being asked, as sentences with a gravity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from pipeline.decide.advice.number_text import MINUS, counted, p_value, percent, points, short, shortened
from pipeline.decide.advice.warnings import ResultWarning
from pipeline.decide.held_out import interval_level, shown_split
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing.paired_interval import paired_difference
from pipeline.decide.testing.sampled_interval import sampled_difference
from pipeline.decide.thresholds import accepted

FEWEST = 30
"""With fewer rows, a group or the top of the confidences gets no sentence."""
TOP = 0.1
"""Share of the most confident rows that is looked at by itself."""
CHANCE = 0.01
MOST_NAMED = 3


def findings(rows: Rows, goal: Goal, threshold: float | None, *, human: bool, grouped: bool) -> Iterator[ResultWarning]:
    """Sentences about the recommended threshold. `rows` are all rows; `grouped`: groups are what is counted."""
    test = rows.of("test")
    shown = rows.of(shown_split(rows.split))
    if threshold is not None and len(test) and not test.sampled:
        yield from _splits_disagree(rows.of("certify"), test, threshold, human)
    yield from _surest_are_worst(rows.of("certify"))
    if threshold is not None and goal.kind == "match_strong" and not human:
        for what in ("label", "segment"):
            yield from _beyond_margin(shown, what, goal.limit, threshold, grouped)


def of_ranking(ranking: Mapping[str, Any] | None) -> Iterator[ResultWarning]:
    """A ranking that the cascade does not improve, by the first measure that both have."""
    cheap, cascade = (None if ranking is None else ranking[who] for who in ("cheap", "cascade"))
    if cheap is None or cascade is None:
        return
    titles = {"ndcg_at_10": "nDCG@10", "top_1": "Top-1 accuracy"}
    for name, title in titles.items():
        if name in cheap and name in cascade:
            before, after = cheap[name]["value"], cascade[name]["value"]
            if before is not None and after is not None and after <= before:
                yield ResultWarning(
                    "ranking_not_improved",
                    2,
                    f"As a ranking the cascade is no better than the cheap model alone: {title} {after:.4f} against {before:.4f}.",
                )
            return


def of_usual_rules(rules: list[dict[str, Any]]) -> Iterator[ResultWarning]:
    """A router that reads the text alone and does better than the cascade at the same dollars."""
    for rule in rules:
        difference = rule["against_cascade"] if rule["name"] == "router" else None
        if difference is None or difference["value"] is None or difference["value"] <= 0:
            continue
        low, high = difference["lower"], difference["upper"]
        sure = low is not None and low > 0
        interval = "" if low is None else f" [{_points(low)}, {_points(high)}]"
        cost = "at the same cost" if rule["equal"] == "dollars" else "at the same share escalated"
        yield ResultWarning(
            "router_better",
            2 if sure else 1,
            f"A router that reads only the text is {points(round(difference['value'], 3) or difference['value'])} more accurate {cost}{interval}."
            + ("" if sure else " Chance may explain that."),
        )


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", MINUS)


def _fisher(a: int, n: int, b: int, m: int, alternative: Literal["two-sided", "less"] = "two-sided") -> float:
    """P-value of Fisher's exact test of a of n against b of m."""
    from scipy import stats

    return float(stats.fisher_exact(np.array([[a, n - a], [b, m - b]]), alternative=alternative)[1])


def _splits_disagree(held: Rows, test: Rows, threshold: float, human: bool) -> Iterator[ResultWarning]:
    """Accuracy of the cascade on the rows that chose the threshold and on those that did not (Fisher's exact test)."""
    counts = []
    for part in (held, test):
        final = np.where(
            accepted(part.confidence, threshold),
            part.cheap_correct,
            np.ones(len(part)) if human else part.strong_correct,
        )
        known = final[~np.isnan(final)]
        counts.append((int(known.sum()), len(known)))
    (a, n), (b, m) = counts
    if min(n, m) < FEWEST:
        return
    p = _fisher(a, n, b, m)
    if p < CHANCE:
        yield ResultWarning(
            "splits_disagree",
            3 if b / m < a / n else 2,
            f"The cascade is right in {percent(a / n)} of the certify rows and in {percent(b / m)} of the test rows. "
            f"Chance hardly explains that ({p_value(p)}): the two parts may differ in kind.",
        )


def _surest_are_worst(held: Rows) -> Iterator[ResultWarning]:
    """The most confident tenth is right less often than the rest: no threshold can fix that."""
    known = ~np.isnan(held.confidence) & ~np.isnan(held.cheap_correct)
    confidence, right = held.confidence[known], held.cheap_correct[known]
    if len(confidence) < 2 * FEWEST:
        return
    cut = float(np.quantile(confidence, 1 - TOP))
    top = confidence >= cut
    if top.sum() < FEWEST or (~top).sum() < FEWEST:
        return
    a, n, b, m = int(right[top].sum()), int(top.sum()), int(right[~top].sum()), int((~top).sum())
    if a / n < b / m and _fisher(a, n, b, m, "less") < 0.05:
        yield ResultWarning(
            "surest_are_worst",
            3,
            f"The most confident answers are the worst: {percent(a / n)} of the surest {counted(n, 'row')} are right, {percent(b / m)} of the others.",
        )


def _beyond_margin(shown: Rows, what: str, within: float, threshold: float, grouped: bool) -> Iterator[ResultWarning]:
    """Labels or segments where the cascade is worse than the strong model by more than the promise for the whole."""
    values = getattr(shown, what)
    cascade = np.where(accepted(shown.confidence, threshold), shown.cheap_correct, shown.strong_correct)
    found = []
    for name in sorted(values.present):
        mine = np.asarray(values == name, dtype=bool)
        group = shown.group[mine] if grouped else None
        if shown.sampled:
            part = shown.take(mine)
            at = sampled_difference(
                part, accepted(part.confidence, threshold), level=interval_level(shown.split), split="", group=group
            )
        else:
            at = paired_difference(
                cascade[mine], shown.strong_correct[mine], level=interval_level(shown.split), split="", group=group
            )
        if at.n >= FEWEST and at.value is not None and at.value < -within:
            found.append((at.value, name, at.n, at.upper is not None and at.upper < -within))
    if not found:
        return
    found.sort()
    named = ", ".join(f"{shortened(name)} ({_points(value)}, n = {n:,})" for value, name, n, _ in found[:MOST_NAMED])
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    sure = any(s for *_, s in found)
    yield ResultWarning(
        f"{what}_beyond_margin",
        2 if sure else 1,
        f"Beyond the {short(100 * within)} points promised for the whole: {what} {named}{more}."
        + ("" if sure else " Chance may explain that."),
    )
