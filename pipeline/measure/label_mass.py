"""Probability of every label from the alternatives at the answer's tokens.

With A the returned alternatives at the answer's first token (the emitted one added when absent, repeats merged),

    M(y) = sum of e^logprob over u in A such that what u spells begins y and no other label

so that " Work", "work" and "Work" all count for *work*. Where a token begins several labels, the emitted path is
followed and the mass at its next token is multiplied on, until one label is left; where the emitted label ends but another
goes on ("work", "workshop"), the token after the answer decides, if it was returned. Mass on shared beginnings that
were not emitted stays undecided. The tail of a label behind its deciding token is taken as 1, so masses are first-order
for labels that were not emitted. Renormalised: C(y) = M(y) / sum of M. Bounds of the mass: [M(y), M(y) + rest], where
rest is what was not returned, or undecided.
"""

from __future__ import annotations

from math import exp, fsum
from typing import NamedTuple

from pipeline.measure.alignment import SPECIAL, Span, Spelling
from pipeline.measure.answers import POSITIVE_TOLERANCE, SENTINEL, AnswerSet
from pipeline.measure.tokens import Token

CERTAIN = 1e-9
"""Where no more probability than this is missing, a single alternative is the whole distribution."""


class Candidate(NamedTuple):
    """A token that could have stood at a position."""

    data: bytes
    logprob: float  # clipped at 0
    probability: float  # 0 for sentinels


class LabelMass(NamedTuple):
    """Masses by index of label, before renormalisation."""

    masses: list[float]
    rest: float


def usable(logprob: float | None) -> bool:
    """Whether a chosen token's logprob is a measurement: not null, not impossible, no sentinel."""
    return logprob is not None and SENTINEL < logprob <= POSITIVE_TOLERANCE


def candidates(token: Token, spelling: Spelling) -> list[Candidate] | None:
    """Alternatives of a token, emitted one included, each once, in the order given; None if one has no usable logprob."""
    found: list[Candidate] = []
    emitted = spelling(token)
    listed = False
    seen = set()
    for other in token.alternatives:
        logprob = other.logprob
        if logprob is None or logprob > POSITIVE_TOLERANCE:
            return None
        data = spelling(other)
        if (data, logprob) in seen:
            continue
        seen.add((data, logprob))
        listed = listed or data == emitted
        if logprob > 0.0:
            logprob = 0.0
        found.append(Candidate(data, logprob, exp(logprob) if logprob > SENTINEL else 0.0))
    if not listed:
        logprob = token.logprob
        if logprob is None or not SENTINEL < logprob <= POSITIVE_TOLERANCE:
            return None
        logprob = min(logprob, 0.0)
        found.append(Candidate(emitted, logprob, exp(logprob)))
    return found


def unseen(options: list[Candidate]) -> float:
    """Probability of all tokens that were not returned."""
    return max(0.0, 1.0 - fsum([option.probability for option in options]))


def label_mass(
    tokens: tuple[Token, ...], span: Span, label: int, answers: AnswerSet, options: list[Candidate] | None
) -> LabelMass | str:
    """Masses of all labels, or why there are none.

    ``label``: index of the emitted answer; ``options``: `candidates` of its first token.
    """
    first, last, lead, spelling = span
    position = first
    masses = [0.0] * len(answers.labels)
    waiting: dict[bytes, float] = {}  # mass on shared beginnings that the emitted path has not come to
    path, said, rest = 1.0, b"", 0.0
    opening = spelling(tokens[first])[:lead]
    while True:
        if options is None:
            return f"an alternative of token {position} has no usable logprob"
        missing = unseen(options)
        alone = len(options) < 2 or len(tokens[position].alternatives) < 2
        if alone and (position == first or (position <= last and missing > CERTAIN)):
            return f"token {position} came without alternatives"
        emitted = spelling(tokens[position])[lead if position == first else 0 :]
        hits, key = ((label,), b"") if position > last else answers.reach(said + emitted)
        if label not in hits:
            return f"token {position} does not begin the answer"
        shared = 0.0
        for data, _, probability in options:
            if position == first and opening and data.startswith(opening):
                data = data[len(opening) :]
            reached, stem = _reach(answers, said, data)
            if len(reached) == 1:
                masses[reached[0]] += path * probability
            elif reached and stem == key:
                shared += probability
            elif reached:
                waiting[stem] = waiting.get(stem, 0.0) + path * probability
        rest += path * missing
        if len(hits) == 1:
            break
        path = path * shared + waiting.pop(key, 0.0)
        said += emitted
        position += 1
        if position >= len(tokens) or (position > last and not usable(tokens[position].logprob)):
            masses[label] += path  # what follows the answer was not returned: it is taken to end here
            break
        options = candidates(tokens[position], spelling)
        if options is None and position > last:
            masses[label] += path
            break
    return LabelMass(masses, rest + fsum(waiting.values()))


def _reach(answers: AnswerSet, said: bytes, data: bytes) -> tuple[tuple[int, ...], bytes]:
    """`AnswerSet.reach`, where an end token ends the label that was said."""
    if said and (not data or SPECIAL.fullmatch(data)):
        whole = answers.index_of(answers.reach(said)[1])
        return ((), b"") if whole is None else ((whole,), b"")
    return answers.reach(said + data)
