r"""Maps a reply's text to an answer of a closed set, and locates that answer in the reply.

Whole answers only: after the decorations below are taken off, what is left must *be* a label; it is never searched
for inside a text ("personal" is not in "impersonal"), so two labels, or a label within a sentence, are out of set.

=====================  ====================================================================================
taken off              example read as ``work``
=====================  ====================================================================================
white space            ``" work\n"``
thoughts               ``<think>...</think>work`` ``[THINK]...[/THINK]work`` (the opening tag may be missing; also
                       thinking, thought, reasoning, analysis, scratchpad and the marks of other families, and the channels
                       of gpt-oss)
special tokens         ``work<|im_end|>`` ``work</s>``
quotes and brackets    ``"work"`` ``(work)`` ``「work」`` and those of other scripts, in pairs
markdown emphasis      ``**work**`` ``_work_`` `` `work` `` and a fenced block
one final mark         ``work.`` ``work!`` ``work。`` (of any script; not a question mark)
TeX                    ``\boxed{work}`` ``$\boxed{\text{work}}$``
a leading name         ``Label: work`` ``**Answer:** work`` (label, answer, category, class, result; "final" before it; other
                       languages: ``Antwort: work``)
a tag                  ``<answer>work</answer>`` ``<label>work</label>``
a line's mark          ``- work`` ``### work`` ``> work``
a JSON object          ``{"label": "work"}``: its only value, or that of label, answer, category or class, or its only
                       one beside a reason, an explanation, a confidence or a score; also as Python writes a flat one
a tool call as text    ``<tool_call>{"name": "f", "arguments": {"label": "work"}}</tool_call>``
=====================  ====================================================================================

Labels and text are compared as `label_text.fold` says, on its first level that keeps all labels of the set apart ("m" and
"M" may be two answers). Kinds choose and judge know wider readings of a reply that goes on behind its answer: `readings`.
A reply without text whose answer is the argument of its only tool call is read like JSON.

Statuses, in the order in which they are decided (the first that applies):

1. ``failed``       no reply to read (error body, stream, Responses API, not JSON)
2. ``filtered``     the provider withheld or cut the answer
3. ``out_of_set``   the model refused in the API's own field
4. ``truncated``    the length limit was reached and the text is not a whole label, or could have become a longer one
5. ``empty``        no text
6. ``out_of_set``   the text is no label
7. ``no_logprobs``  the reply carries no logprobs (cheap role only, as are the next two)
8. ``unaligned``    the tokens cannot be aligned with the answer
9. ``no_logprobs``  a token inside the answer has no usable logprob: null, NaN, above 1e-6, or at or below -100
"""

from __future__ import annotations

from typing import NamedTuple

from cascade_threshold import completion as wire
from cascade_threshold.alignment import Span, locate
from cascade_threshold.answer_set import AnswerSet, Reach
from cascade_threshold.completion import Reply, Token
from cascade_threshold.readings import widened

__all__ = (
    "NO_WHOLE_ANSWER",
    "POSITIVE_TOLERANCE",
    "SENTINEL",
    "STATUSES",
    "Answer",
    "AnswerSet",
    "Reach",
    "read_answer",
)

_new = tuple.__new__  # what the constructor of a NamedTuple calls, at half the cost
STATUSES = (
    "ok",
    "out_of_set",
    "no_logprobs",
    "no_text",
    "no_segment",
    "unaligned",
    "truncated",
    "empty",
    "filtered",
    "failed",
)
"""`no_text` and `no_segment` are given by a policy whose confidence reads the text or the segment of the request, which was not
given or, of a segment, is unknown."""
NO_WHOLE_ANSWER = ("out_of_set", "truncated", "empty", "filtered")
"""Statuses of a reply that arrived without a whole answer of the set."""
POSITIVE_TOLERANCE = 1e-6
"""A logprob up to this much above 0 is rounding and counts as 0 (nat)."""
SENTINEL = -100.0
"""At or below this a logprob is a sentinel (-9999, float32's minimum, -inf), not a measurement (nat)."""


class Answer(NamedTuple):
    """What a reply answers, and which tokens spell the answer."""

    answer: str | None
    """A label of the set; None for every status that has no whole answer."""
    status: str
    """One of STATUSES."""
    label: int | None
    """Index of the answer in the set's labels."""
    span: Span | None
    """The answer's tokens; None when they were not located."""
    detail: str
    """Why the status is not ok, in words; empty when it is."""
    spelled: AnswerSet | None = None
    """The set in which the span is spelled, in the labels' order, where it is not the answers themselves: true and false,
    or the texts of the options."""
    reading: str = ""
    """Which wider reading was needed (see `readings`); empty for a bare answer."""

    @property
    def first(self) -> int | None:
        """Index of the answer's first token."""
        return None if self.span is None else self.span.first

    @property
    def last(self) -> int | None:
        """Index of the answer's last token, inclusive."""
        return None if self.span is None else self.span.last


def _no_answer(status: str, detail: str) -> Answer:
    return Answer(None, status, None, None, detail)


def read_answer(reply: Reply, answers: AnswerSet, *, role: str = "cheap") -> Answer:
    """Status, answer and token span of one reply; see the module's tables.

    For ``role="strong"`` logprobs are not needed: a matched label is ok, and its span is given when it can be.
    """
    text, problem = reply.text, reply.problem
    if problem in wire.UNREADABLE:
        return _no_answer("failed", str(problem))
    if problem == wire.FILTERED:
        return _no_answer("filtered", "withheld by a content filter")
    if problem == wire.REFUSAL:
        return _no_answer("out_of_set", "the model refused")
    at_limit = reply.finish_reason in wire.AT_LIMIT
    found = answers.find(text) if text else None
    spelled, reading = answers, ""
    if found is None and text and (wider := widened(text, answers)) is not None:
        found, spelled, reading = wider[:3], wider.spelled, wider.name
    if found is None:
        if at_limit:
            return _no_answer(
                "truncated",
                "the length limit was reached before a whole label: raise max_tokens, or switch reasoning off",
            )
        if text is None or not text.strip():
            return _no_answer("empty", problem or "no text")
        return _no_answer("out_of_set", "the text is not a label")
    assert text is not None
    index, start, end = found
    if at_limit and len(spelled.reach(text[start:].encode("utf-8", "surrogatepass"))[0]) > 1:
        return _no_answer("truncated", "cut where a longer label begins alike: raise max_tokens")
    label = answers.labels[index]
    if problem == wire.LENGTHS_DIFFER or not reply.tokens:
        span = None
    else:
        span = locate(reply, text, start, end)
    mine = None if spelled is answers else spelled
    if role != "cheap":
        return _new(Answer, (label, "ok", index, span, "", mine, reading))
    if not reply.tokens:
        return Answer(label, "no_logprobs", index, None, "the reply carries no logprobs", mine, reading)
    if span is None:
        return Answer(label, "unaligned", index, None, problem or "the tokens do not spell the answer", mine, reading)
    fault = _fault(reply.tokens, span)
    return _new(Answer, (label, "no_logprobs" if fault else "ok", index, span, fault, mine, reading))


def _fault(tokens: tuple[Token, ...], span: Span) -> str:
    """Which token of the answer has no usable logprob; empty when none."""
    for position, token in enumerate(tokens[span.first : span.last + 1], span.first):
        value = token.logprob
        if value is None:
            return f"token {position} of the answer has no logprob"
        if not SENTINEL < value <= POSITIVE_TOLERANCE:
            return f"token {position} of the answer has the impossible logprob {value!r}"
    return ""
