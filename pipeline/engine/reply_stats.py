"""Facts: what is counted over a run's replies for the report. Facts of shards add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from math import fsum
from typing import Any

import pyarrow as pa

from cascade_threshold.answers import NO_WHOLE_ANSWER
from cascade_threshold.signals import Measurement
from pipeline.config.vocabulary import ROLES
from pipeline.run.record import Measured

MOST_REASONS = 20
MOST_TEXTS, SHOWN_TEXTS, LONGEST_TEXT = 50, 5, 80


def _by_role() -> dict[str, Counter[str]]:
    return {role: Counter() for role in ROLES}


@dataclass
class Facts:
    """Counts over rows, or sums from which means follow."""

    exact_zeros: int = 0
    """Cheap replies whose label is decided at a token with a logprob of exactly 0."""
    long_answers: int = 0
    few_alternatives: int = 0
    """Usable cheap replies with fewer alternatives at the label's first token than were asked for, and not all there are."""
    fewest_alternatives: int | None = None
    """Smallest number of alternatives that any usable cheap reply with signals from alternatives returned, capped at top_logprobs."""
    more_than_the_answer: int = 0
    """Usable cheap replies that hold tokens beside the answer's."""
    captured: list[float] = field(default_factory=list)
    """Probability on any label, of the replies that tell it."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why a signal is null although the reply is usable."""
    forms: dict[str, Counter[str]] = field(default_factory=_by_role)
    """Request forms in which replies were asked for, by role."""
    statuses: dict[str, Counter[str]] = field(default_factory=_by_role)
    named: dict[str, Counter[str]] = field(default_factory=_by_role)
    """Model names in replies, by role."""
    unreadable: dict[str, Counter[str]] = field(default_factory=_by_role)
    """Texts of replies that hold no whole answer, by role, cut after 80 characters."""
    readings: dict[str, Counter[str]] = field(default_factory=_by_role)
    """Replies that needed a wider reading than a bare answer, by role and name of the reading."""
    missing: dict[str, Counter[str]] = field(default_factory=_by_role)
    """Why there is no reply, by role."""
    input_tokens: Counter[str] = field(default_factory=Counter)
    """Of the replies that report them, by role; and how many of these the service had cached (a role is missing if no reply reports them)."""
    cached_tokens: Counter[str] = field(default_factory=Counter)

    def count(self, role: str, m: Measurement, *, form: str | None, wanted: int) -> None:
        """Count one reply. `form`: the request form it was asked in; `wanted`: alternatives asked for."""
        if m.status != "failed":
            self.named[role][m.reply.model or "(none)"] += 1
        if m.reading:
            self.readings[role][m.reading] += 1
        if form not in (None, "", "batch", "recorded"):
            self.forms[role][form] += 1
        if m.status in NO_WHOLE_ANSWER:
            self.unreadable[role][(m.reply.text or "")[:LONGEST_TEXT]] += 1
        usage = m.reply.usage
        if usage.known:
            self.input_tokens[role] += usage.input_tokens or 0
            if usage.cached_tokens is not None:
                self.cached_tokens[role] += usage.cached_tokens
        if role != "cheap":
            return
        self.exact_zeros += bool(m.exact_zero)
        self.long_answers += m.long_answer
        if m.captured_mass is not None:
            self.captured.append(m.captured_mass)
        if m.status == "ok" and m.span is not None and m.reply.tokens is not None:
            self.few_alternatives += m.fewer_alternatives_than(wanted)
            if m.signals.get("margin") is not None:
                fewest = wanted if self.fewest_alternatives is None else self.fewest_alternatives
                few = m.fewer_alternatives_than(fewest)
                self.fewest_alternatives = len(m.reply.tokens[m.span.first].alternatives) if few else fewest
            self.more_than_the_answer += len(m.reply.tokens) > m.answer_tokens
            for name, why in m.reasons.items():
                if name != "learned":
                    self.reasons[f"{name}: {why}"] += 1

    def grade(self, rows: pa.Table) -> None:
        """Count the statuses of graded rows; rows that got no answer of a role have none."""
        for role in ROLES:
            counts = rows[f"{role}_status"].drop_null().value_counts()
            self.statuses[role].update({found["values"]: found["counts"] for found in counts.to_pylist()})

    def packed(self) -> dict[str, Any]:
        """Plain values that travel between processes, of bounded size."""
        values = {
            f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name not in ("captured", "unreadable")
        }
        texts = {role: dict(counts.most_common(MOST_TEXTS)) for role, counts in self.unreadable.items()}
        return values | {"unreadable": texts} | {"captured_sum": fsum(self.captured), "captured_n": len(self.captured)}


def _plain(value: Any) -> Any:
    return {key: _plain(part) for key, part in value.items()} if isinstance(value, dict) else value


def total(parts: Iterable[Mapping[str, Any]], newest_reply: str | None = None) -> Measured:
    """The packed facts of all shards as run.json holds them."""
    found = list(parts)

    def summed(name: str, role: str | None = None) -> Counter[str]:
        counts: Counter[str] = Counter()
        for part in found:
            counts.update(part[name] if role is None else part[name][role])
        return counts

    prompts, cached = summed("input_tokens"), summed("cached_tokens")
    known = sum(part["captured_n"] for part in found)
    return Measured(
        exact_zeros=sum(part["exact_zeros"] for part in found),
        long_answers=sum(part["long_answers"] for part in found),
        few_alternatives=sum(part["few_alternatives"] for part in found),
        fewest_alternatives=min(
            (part["fewest_alternatives"] for part in found if part["fewest_alternatives"] is not None), default=None
        ),
        whole_output=not any(part["more_than_the_answer"] for part in found),
        reasons=dict(summed("reasons").most_common(MOST_REASONS)),
        cached_share={
            role: cached[role] / prompts[role] if role in cached and prompts[role] else None for role in ROLES
        },
        captured_mass=fsum(part["captured_sum"] for part in found) / known if known else None,
        response_models={role: tuple(sorted(summed("named", role))) for role in ROLES},
        forms={role: next(iter(summed("forms", role).most_common(1)), (None, 0))[0] for role in ROLES},
        unreadable_texts={role: tuple(summed("unreadable", role).most_common(SHOWN_TEXTS)) for role in ROLES},
        readings={role: dict(summed("readings", role).most_common()) for role in ROLES},
        statuses={role: dict(sorted(summed("statuses", role).items())) for role in ROLES},
        newest_reply=newest_reply,
    )
