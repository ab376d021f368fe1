"""ReplyWarnings: what the cheap model's replies contain that makes a confidence from them doubtful."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.decide.advice.number_text import percent
from pipeline.decide.advice.warnings import ResultWarning

NEARLY_ALL, MOST, MANY = 0.99, 0.6, 0.3
"""Shares of log-probabilities of exactly 0: 30 to 45 % occur in genuine replies of a confident model."""
ENOUGH = 20
"""From this many replies on, "nearly all" is not an accident."""


@dataclass(frozen=True)
class ReplyCounts:
    """What was counted over the cheap model's replies; None where it was not."""

    statuses: Mapping[str, int]
    long_answers: int | None = None
    """Replies of more than `long` tokens."""
    long: int = 8
    exact_zeros: int | None = None
    """Replies whose label is decided at a token with a log-probability of exactly 0."""
    few_alternatives: int | None = None
    """Usable replies with fewer than `wanted` alternatives at the label's first token."""
    wanted: int = 0
    asked: Mapping[str, str] = field(default_factory=dict)
    """The model asked for, by role."""
    answered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The models that replies name, by role."""
    strong_unreadable: tuple[tuple[str, int], ...] = ()
    """The commonest texts of strong replies that hold no whole answer, with their counts."""
    constrained: bool = False
    """Whether the cheap model's server was constrained to the answers."""


def reply_warnings(counts: ReplyCounts) -> Iterator[ResultWarning]:
    """Each warning says how many replies it is about, and what would help."""
    n = sum(counts.statuses.values()) - counts.statuses.get("failed", 0)
    if n > 0:
        yield from _of_statuses(counts, n)
        yield from _of_length(counts, n)
    ok = counts.statuses.get("ok", 0)
    if ok > 0:
        yield from _of_logprobs(counts, ok)
        if counts.constrained:
            yield ResultWarning(
                "constrained",
                1,
                "The cheap model could write nothing but an answer (constrain: answers). Its log-probabilities are shares among what was "
                "allowed, so they lie higher than without the constraint; production must send the same one, as Policy.request() does.",
            )
    yield from _of_names(counts)


def _of_statuses(counts: ReplyCounts, n: int) -> Iterator[ResultWarning]:
    cut, outside = (counts.statuses.get(status, 0) / n for status in ("truncated", "out_of_set"))
    if cut > 0:
        yield ResultWarning(
            "truncated",
            2 if cut > 0.02 else 1,
            f"{percent(cut)} of the cheap replies were cut before a whole label: raise max_tokens, or switch reasoning off "
            "(reasoning: {enabled: false}).",
        )
    if outside > 0.01:
        yield ResultWarning(
            "out_of_set",
            2 if outside > 0.1 else 1,
            f"{percent(outside)} of the cheap answers are none of the labels. They count as wrong and escalate; does the prompt ask for "
            "exactly one of them?",
        )


def _of_length(counts: ReplyCounts, n: int) -> Iterator[ResultWarning]:
    if counts.long_answers:
        yield ResultWarning(
            "long_answers",
            1,
            f"{percent(counts.long_answers / n)} of the cheap replies are longer than {counts.long} tokens. Their confidence is that of the "
            "label's own tokens, and says nothing about the rest.",
        )


def _of_logprobs(counts: ReplyCounts, ok: int) -> Iterator[ResultWarning]:
    zeros = (counts.exact_zeros or 0) / ok
    if zeros >= NEARLY_ALL and ok >= ENOUGH:
        yield ResultWarning(
            "exact_zeros",
            3,
            f"{percent(zeros)} of the cheap replies have a log-probability of exactly 0 where the label is decided. Values so uniform have "
            "been altered (by top_p, top_k or a forced format) and are not a confidence: remove these from params and set temperature: 0.",
        )
    elif zeros > MANY:
        yield ResultWarning(
            "exact_zeros",
            2 if zeros > MOST else 1,
            f"{percent(zeros)} of the cheap replies have a log-probability of exactly 0 where the label is decided; they tie at the top, and "
            "more than half of them would suggest top_p or a forced format.",
        )
    few = (counts.few_alternatives or 0) / ok
    if few > 0.5 and counts.wanted > 1:
        yield ResultWarning(
            "few_alternatives",
            2,
            f"{percent(few)} of the cheap replies came with fewer than the {counts.wanted} alternatives asked for, so signals that read "
            "alternatives see less of the other labels.",
        )


def _of_names(counts: ReplyCounts) -> Iterator[ResultWarning]:
    for role, names in counts.answered.items():
        asked = counts.asked.get(role)
        others = [name for name in names if name not in (asked, "(none)")]
        if asked is None or not others:
            continue
        several = len(names) > 1
        yield ResultWarning(
            "other_model",
            2 if several else 1,
            f"The {role} model asked for is {asked}; replies name {', '.join(others[:3])}{' and others' if len(others) > 3 else ''}"
            + (
                ". Confidences of different models do not compare: name one exactly."
                if several
                else ". If that name is an alias, it may move to another model: name the one that answers."
            ),
        )
