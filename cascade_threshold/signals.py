"""Token rows to named signals: how sure the model was of its answer, each on [0, 1], larger is surer.

The same implementation serves calibration and production decisions: one reply at a time, standard library only, so the
two cannot differ by a bit. Every signal looks at the answer's tokens alone. `SIGNALS` states each one's formula,
with l_j the logprob of token j (clipped at 0), S the answer's tokens, j1 the first of them, A the alternatives at j1.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, expm1, fsum, log
from operator import mul
from typing import Any, NamedTuple

from cascade_threshold.alignment import Span
from cascade_threshold.answers import SENTINEL, Answer, AnswerSet, read_answer
from cascade_threshold.completion import Alternative, Reply, Token, parse
from cascade_threshold.label_mass import CERTAIN, Candidates, LabelMass, candidates, label_mass
from cascade_threshold.learned import features, lacking, learned_confidence
from cascade_threshold.signal import AnswerTokens, Signal

_new = tuple.__new__  # what the constructor of a NamedTuple calls, at half the cost
LONG_ANSWER_TOKENS = 8
"""A reply of more tokens than this is long: its confidence describes the label's span only, and that is reported."""


_FEW = "fewer than two alternatives came for the answer's first token"
_UNUSABLE = "an alternative of the answer's first token has no usable logprob"

_TOGETHER = (
    Signal("first_token", 2, "l_j1", 0, "exp(x)", "never"),
    Signal("label_sequence", 2, "sum of l_j over S", 0, "exp(x)", "never"),
    Signal("mean", 2, "mean of l_j over S", 0, "exp(x)", "never"),
    Signal("minimum", 2, "minimum of l_j over S", 0, "exp(x)", "never"),
    Signal("margin", 2, "m = l_(1) - l_(2), the two likeliest of A (infinite when the second has p = 0)", 2,
           "1 - exp(-x)", f"{_FEW}, or {_UNUSABLE}"),
    Signal("entropy", 2, "H = -sum of p ln p over A - r ln r, r = max(0, 1 - sum of p): the rest as one symbol, "
           "a lower bound", 2, "exp(-x)", f"{_FEW}, or {_UNUSABLE}"),
    Signal("label_probability", 3, "M(answer) / sum of M over the labels, M the mass of all spellings of a label, "
           "followed down the tokens while labels share them", 2, "x",
           f"{_FEW}, or {_UNUSABLE}; or so for a later token that labels share; or a token does not begin the answer"),
)  # fmt: skip
"""Computed together, since they share their work."""
_EACH_BY_ITSELF: tuple[Signal, ...] = (
    # name_of_the_file.SIGNAL,
)
"""Signals with a file of their own, each in one line."""
_LEARNED = Signal(
    "learned",
    4,
    "logistic model of the other signals, the lengths, the answer, the request's segment and words, fitted on the fit split",
    2,
    "1 / (1 + exp(-x))",
    "no model is given, a feature of it is null, or it reads a text or segment that was not given or is unknown",
)
SIGNALS = {signal.name: signal for signal in (*_TOGETHER, *_EACH_BY_ITSELF, _LEARNED)}
"""By name, the simplest first, which is also the order of their columns."""
_WITHOUT_ALTERNATIVES = ("first_token", "label_sequence", "mean", "minimum")


class Measurement(NamedTuple):
    """Everything that one reply says. ``signals`` are all None unless ``status`` is "ok"."""

    answer: str | None
    status: str
    signals: dict[str, float | None]
    reasons: dict[str, str]
    """Why a signal is null, by its name."""
    span: Span | None
    """The answer's tokens; None where they were not located."""
    label_probabilities: dict[str, float] | None
    """Probability of every label, summing to 1: P(yes) of a judge, an option's score of choose. None where
    label_probability is, but for a judge's two labels: without alternatives, p of the answer's own tokens and 1 - p."""
    captured_mass: float | None
    """Probability that falls on any label, before renormalisation; 1 - captured_mass is off the labels or unseen."""
    exact_zero: bool | None
    """Whether the token at which the answer parts from all other labels has a logprob of exactly 0. Nearly all rows so
    means processed logprobs (top_p, a constraint)."""
    reply: Reply
    detail: str = ""
    """Why the status is not ok."""
    unseen_mass: float | None = None
    """Probability not returned or not decided: bounds of a label's mass are [M, M + unseen_mass]."""
    reading: str = ""
    """Which wider reading the reply needed (see `readings`); empty for a bare answer."""

    @property
    def answer_tokens(self) -> int:
        """How many tokens are part of the answer."""
        return 0 if self.span is None else self.span.last - self.span.first + 1

    @property
    def in_answer(self) -> tuple[bool, ...]:
        """Per token, whether it is part of the answer."""
        count, span = len(self.reply.tokens or ()), self.span
        if span is None:
            return (False,) * count
        inside = self.answer_tokens
        return (False,) * span.first + (True,) * inside + (False,) * (count - span.first - inside)

    @property
    def long_answer(self) -> bool:
        """More than LONG_ANSWER_TOKENS tokens were generated."""
        tokens = self.reply.output_tokens if self.reply.tokens is None else len(self.reply.tokens)
        return tokens is not None and tokens > LONG_ANSWER_TOKENS

    def fewer_alternatives_than(self, count: int) -> bool:
        """Whether the answer's first token came with fewer alternatives than that, although there are more."""
        if self.span is None or self.reply.tokens is None:
            return False
        token = self.reply.tokens[self.span.first]
        if len(token.alternatives) >= count:
            return False
        seen = candidates(token, self.span.spelling)
        return seen is None or seen.unseen > CERTAIN

    def bounds(self, label: str) -> tuple[float, float] | None:
        """Lower and upper bound of a label's unrenormalised mass; None where label_probability is."""
        if self.label_probabilities is None or self.captured_mass is None or self.unseen_mass is None:
            return None
        mass = self.label_probabilities[label] * self.captured_mass
        return mass, min(1.0, mass + self.unseen_mass)


def measure(
    body_or_reply: Reply | Mapping[str, Any] | str | bytes,
    answers: AnswerSet,
    *,
    role: str = "cheap",
    learned: Mapping[str, Any] | None = None,
    only: str | None = None,
    text: str | None = None,
    segment: object = None,
) -> Measurement:
    """Answer, status and signals of one reply. Never raises on any body.

    ``learned``: numbers of a fitted model (see `cascade_threshold.learned`). ``only``: compute this signal alone, as
    production does; the value is the same bit for bit. ``text``, ``segment``: the request's own, for a model that reads them.
    ``role="strong"``: answer, status, and where logprobs came what options and passages are ranked by; every signal is null.
    Raises KeyError for an unknown ``only`` and ValueError for unusable ``learned`` numbers.
    """
    reply = body_or_reply if isinstance(body_or_reply, Reply) else parse(body_or_reply)
    if only is not None and only not in SIGNALS:
        raise KeyError(f"unknown signal {only!r}; known are {', '.join(SIGNALS)}")
    found = read_answer(reply, answers, role=role)
    if found.status != "ok" or role != "cheap" or found.span is None or found.label is None:
        names = SIGNALS if only is None else (only,)
        reason = f"status {found.status}" if found.status != "ok" else "not measured for this role"
        return _new(
            Measurement,
            (
                found.answer,
                found.status,
                dict.fromkeys(names),
                dict.fromkeys(names, reason),
                found.span,
                _ranking_of_strong(reply, found, answers),
                None,
                None,
                reply,
                found.detail,
                None,
                found.reading,
            ),
        )
    return _measured(
        reply, found.span, found.label, answers, learned, only, found.spelled or answers, found.reading, text, segment
    )


def _ranking_of_strong(reply: Reply, found: Answer, answers: AnswerSet) -> dict[str, float] | None:
    """The label probabilities of a strong reply that carries logprobs, where something is ranked by them."""
    if found.status != "ok" or answers.kind not in ("choose", "judge"):
        return None
    told = read_answer(reply, answers)  # as of a cheap reply, whose logprobs must be the answer's
    if told.status != "ok" or told.span is None or told.label is None:
        return None
    spelled = told.spelled or answers
    return _measured(
        reply, told.span, told.label, answers, None, "label_probability", spelled, told.reading
    ).label_probabilities


def _measured(
    reply: Reply,
    span: Span,
    label: int,
    answers: AnswerSet,
    learned: Mapping[str, Any] | None,
    only: str | None,
    spelled: AnswerSet,
    reading: str,
    text: str | None = None,
    segment: object = None,
) -> Measurement:
    """`measure` for a reply whose status is ok. `spelled`: the set in which the span is spelled, in the answers' order."""
    tokens = reply.tokens or ()
    everything = only is None or only == "learned"
    signals: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    if everything or only in _WITHOUT_ALTERNATIVES:
        signals = _of_the_span(tokens, span)
    shares = captured = missing = None
    if everything or only not in _WITHOUT_ALTERNATIVES:
        options = candidates(tokens[span.first], span.spelling)
        if options is None or len(options.data) < 2 or len(tokens[span.first].alternatives) < 2:
            why = _UNUSABLE if options is None else _FEW
            signals["margin"] = signals["entropy"] = signals["label_probability"] = None
            reasons["margin"] = reasons["entropy"] = reasons["label_probability"] = why
        else:
            if only != "label_probability":
                signals["margin"] = _margin(options)
                signals["entropy"] = _entropy(options)
            if everything or only == "label_probability":
                shares, captured, missing, reason = _shares(tokens, span, label, spelled, options)
                signals["label_probability"] = shares[label] if shares else None
                if reason:
                    reasons["label_probability"] = reason
    for signal in _EACH_BY_ITSELF:
        if signal.value is not None and only in (None, signal.name):
            signals[signal.name] = found = signal.value(AnswerTokens(tokens[span.first : span.last + 1]))
            if found is None:
                reasons[signal.name] = signal.null_when
    if everything:
        lengths = (span.last - span.first + 1, len(tokens))
        _add_learned(signals, reasons, learned, lengths, answers.labels[label], text, segment)
    if only is not None:
        signals = {only: signals[only]}
        reasons = {only: reasons[only]} if only in reasons else {}
    if shares is None and captured is None and answers.kind == "judge" and len(answers.labels) == 2:
        shares = _from_one(tokens, span, label)
    return _new(
        Measurement,
        (
            answers.labels[label],
            "ok",
            signals,
            reasons,
            span,
            dict(zip(answers.labels, shares)) if shares else None,
            captured,
            _exact_zero(tokens, span, spelled),
            reply,
            "",
            missing,
            reading,
        ),
    )


def _from_one(tokens: tuple[Token, ...], span: Span, label: int) -> list[float]:
    """Both labels' probability from the answer's own logprobs: p, and all the rest for the other."""
    p = _of_the_span(tokens, span)["label_sequence"]
    assert p is not None
    return [p, 1.0 - p] if label == 0 else [1.0 - p, p]


def _of_the_span(tokens: tuple[Token, ...], span: Span) -> dict[str, float | None]:
    """The signals that need the answer's own logprobs only."""
    if span.first == span.last:  # the formulas agree
        logprob = tokens[span.first].logprob
        assert logprob is not None  # the status is ok
        value = exp(logprob) if logprob < 0.0 else 1.0
        return {"first_token": value, "label_sequence": value, "mean": value, "minimum": value}
    values = [min(token.logprob, 0.0) for token in tokens[span.first : span.last + 1] if token.logprob is not None]
    total = fsum(values)
    return {
        "first_token": exp(values[0]),
        "label_sequence": exp(total),
        "mean": exp(total / len(values)),
        "minimum": exp(min(values)),
    }


def _shares(
    tokens: tuple[Token, ...], span: Span, label: int, answers: AnswerSet, options: Candidates
) -> tuple[list[float] | None, float | None, float | None, str]:
    """Renormalised mass of every label, the mass itself, what is missing from it; or why there is none."""
    mass = label_mass(tokens, span, label, answers, options)
    if not isinstance(mass, LabelMass):
        return None, None, None, mass
    masses, rest = mass
    total = fsum(masses)
    if total <= 0.0:
        return None, None, None, "no probability on any label"
    return [value / total for value in masses], total if total < 1.0 else 1.0, rest if rest < 1.0 else 1.0, ""


def _margin(options: Candidates) -> float:
    """1 - e^-(gap between the two largest logprobs); 1 where the second has no probability at all."""
    second, first = sorted(options.logprobs)[-2:]
    return 1.0 if second <= SENTINEL else 0.0 - expm1(second - first)  # a tie is 0.0, not -0.0


def _entropy(options: Candidates) -> float:
    """e^-H, with what was not returned as one more symbol."""
    nats = -fsum(map(mul, options.probabilities, options.logprobs))
    if options.unseen > 0.0:
        nats -= options.unseen * log(options.unseen)
    return exp(-nats) if nats > 0.0 else 1.0


def _add_learned(
    signals: dict[str, float | None],
    reasons: dict[str, str],
    learned: Mapping[str, Any] | None,
    lengths: tuple[int, int],
    answer: str,
    text: str | None,
    segment: object,
) -> None:
    if learned is None:
        signals["learned"] = None
        reasons["learned"] = "no model is given"
        return
    row = features(signals, *lengths)
    signals["learned"] = learned_confidence(learned, row, answer=answer, text=text, segment=segment)
    if signals["learned"] is None:
        lack = lacking(learned, text=text, segment=segment)
        reasons["learned"] = "a signal that the model uses is null" if lack is None else lack.reason


def _exact_zero(tokens: tuple[Token, ...], span: Span, answers: AnswerSet) -> bool:
    """Whether the token that parts the answer from all other labels has a logprob of exactly 0."""
    position, said, skip = span.first, b"", span.lead
    while position < span.last:
        said += span.spelling(tokens[position])[skip:]
        if len(answers.reach(said)[0]) == 1:
            break
        position, skip = position + 1, 0
    return tokens[position].logprob == 0.0


TokenRow = tuple[int, str, bytes | None, float | None, bool, tuple[Alternative, ...]]


def token_rows(measurement: Measurement) -> list[TokenRow]:
    """Rows of tokens.parquet for one reply, without the ids: position, token, bytes, logprob, in_answer, alternatives."""
    tokens = measurement.reply.tokens or ()
    return [
        (position, token, data, logprob, inside, alternatives)
        for (position, (token, data, logprob, alternatives)), inside in zip(enumerate(tokens), measurement.in_answer)
    ]
