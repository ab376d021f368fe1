"""Probability of every label from the alternatives at the answer's tokens.

With A the returned alternatives at the answer's first token (the emitted one added when absent, repeats merged),

    M(y) = sum of e^logprob over u in A such that what u spells begins y and no other label

so that " Work", "work" and "Work" all count for *work*. Where a token begins several labels, the emitted path is
followed and the mass at its next token is multiplied on, until one label is left. Where the emitted label ends but another
goes on ("work", "workshop"), the token after the answer decides, if it was returned: whatever stands there ended the
label, be it an end token, a JSON comma or the stop word, and its mass is the label's. Mass on shared beginnings that were
not emitted, on format alone (a quote, a thought's tag), and on tokens that may end the label or not stays undecided. The
tail of a label behind its deciding token is taken as 1, so masses are first-order for labels that were not emitted.
Renormalised: C(y) = M(y) / sum of M. Bounds of the mass: [M(y), M(y) + rest], where rest is what was not returned, or
undecided.
"""

from __future__ import annotations

from math import exp, fsum
from typing import NamedTuple

from cascade_threshold.alignment import SPECIAL, Span, Spelling, by_bytes
from cascade_threshold.answers import POSITIVE_TOLERANCE, SENTINEL, AnswerSet, Reach
from cascade_threshold.completion import Token

_new = tuple.__new__  # what the constructor of a NamedTuple calls, at half the cost
CERTAIN = 1e-9
"""If no more probability than this is missing, a single alternative is the whole distribution."""


class Candidates(NamedTuple):
    """The tokens that could have stood at a position, in the order given: three equally long lists."""

    data: list[bytes]
    logprobs: list[float]
    """Clipped to [SENTINEL, 0]."""
    probabilities: list[float]
    """0 for sentinels."""
    unseen: float
    """Probability of all tokens that were not returned."""


class LabelMass(NamedTuple):
    """Masses by index of label, before renormalisation."""

    masses: list[float]
    rest: float


def usable(logprob: float | None) -> bool:
    """Whether a chosen token's logprob is a measurement: not null, not impossible, no sentinel."""
    return logprob is not None and SENTINEL < logprob <= POSITIVE_TOLERANCE


def candidates(token: Token, spelling: Spelling) -> Candidates | None:
    """Alternatives of a token, the emitted one included, each once; None if one of them has no usable logprob, or
    the emitted one is listed as impossible.

    The same bytes with another logprob are another token of the vocabulary, so both count.
    """
    data: list[bytes] = []
    known: list[float | None] = []
    if token.alternatives:
        _, given, values = zip(*token.alternatives)
        plain = spelling is by_bytes and None not in given  # the usual case, without a call per alternative
        data, known = list(given) if plain else [spelling(other) for other in token.alternatives], list(values)
    emitted = spelling(token)
    if emitted not in data:
        data.append(emitted)
        known.append(token.logprob if usable(token.logprob) else None)
    if len(set(data)) < len(data):
        distinct = dict.fromkeys(zip(data, known))
        data, known = [piece for piece, _ in distinct], [logprob for _, logprob in distinct]
    logprobs: list[float] = []
    for logprob in known:
        if logprob is None or logprob > POSITIVE_TOLERANCE:
            return None
        logprobs.append(logprob if SENTINEL < logprob <= 0.0 else SENTINEL if logprob < 0.0 else 0.0)
    probabilities = list(map(exp, logprobs))
    if SENTINEL in logprobs:
        if all(logprob == SENTINEL for piece, logprob in zip(data, logprobs) if piece == emitted):
            return None  # the token that was chosen is listed as impossible
        probabilities = [0.0 if logprob == SENTINEL else p for logprob, p in zip(logprobs, probabilities)]
    unseen = 1.0 - fsum(probabilities)
    return _new(Candidates, (data, logprobs, probabilities, unseen if unseen > 0.0 else 0.0))


def label_mass(
    tokens: tuple[Token, ...], span: Span, label: int, answers: AnswerSet, options: Candidates | None
) -> LabelMass | str:
    """Masses of all labels, or why there are none.

    ``label``: index of the emitted answer; ``options``: `candidates` of its first token.
    """
    first, last, lead, spelling = span
    masses = [0.0] * len(answers.labels)
    waiting: dict[bytes, float] = {}  # mass on shared beginnings that the emitted path has not reached
    position, path, said, rest = first, 1.0, b"", 0.0
    while True:
        if options is None:
            return f"an alternative of token {position} has no usable logprob"
        pieces, _, probabilities, missing = options
        token = tokens[position]
        alone = len(pieces) < 2 or len(token.alternatives) < 2
        if alone and (position == first or (position <= last and missing > CERTAIN)):
            return f"token {position} came without alternatives"
        emitted = spelling(token)
        if lead and position == first:
            opening, emitted = emitted[:lead], emitted[lead:]
            pieces = [piece.removeprefix(opening) or b" " for piece in pieces]
        hits, key = _reach(answers, said, emitted) if said else answers.reach(emitted)
        ended = position > last and (label not in hits or len(hits) == 1)
        if ended:
            hits = (label,)
        elif label not in hits:
            return f"token {position} does not begin the answer"
        reached = [_reach(answers, said, piece) for piece in pieces] if said else answers.reach_each(pieces)
        if said and answers.ended(said) is not None:
            reached, unclear = _endings(pieces, list(reached), probabilities, emitted if ended else None, label)
            rest += path * unclear
        shared = 0.0
        for (labels, stem), probability in zip(reached, probabilities):
            if len(labels) == 1:
                masses[labels[0]] += path * probability
            elif labels and stem == key:
                shared += probability
            elif labels:
                waiting[stem] = waiting.get(stem, 0.0) + path * probability
        rest += path * missing
        if len(hits) == 1:
            break
        path = path * shared + waiting.pop(key, 0.0)
        said += emitted
        position += 1
        if position >= len(tokens) or (position > last and not usable(tokens[position].logprob)):
            masses[label] += path  # what follows the answer was not returned, so it is assumed to end here
            break
        options = candidates(tokens[position], spelling)
        if options is None and position > last:
            masses[label] += path
            break
    return _new(LabelMass, (masses, rest + fsum(waiting.values()) if waiting else rest))


def _endings(
    pieces: list[bytes], reached: list[Reach], probabilities: list[float], emitted: bytes | None, label: int
) -> tuple[list[Reach], float]:
    """Where a label may end: the emitted token (if it did) ends it, and others that begin no word perhaps: their mass."""
    found = [((label,), b"") if piece == emitted else reach for piece, reach in zip(pieces, reached)]
    perhaps = (
        probability
        for piece, (labels, _), probability in zip(pieces, found, probabilities)
        if not labels and not piece.decode("utf-8", "replace")[:1].isalnum()
    )
    return found, fsum(perhaps)


def _reach(answers: AnswerSet, said: bytes, data: bytes) -> Reach:
    """`AnswerSet.reach`, where an end token ends the label that was said."""
    if not data or SPECIAL.fullmatch(data):
        whole = answers.ended(said)
        return ((), b"") if whole is None else ((whole,), b"")
    return answers.reach(said + data)
