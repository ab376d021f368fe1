r"""Reply text to an answer of a closed set, and where in the reply that answer stands.

Whole answers only: after the decorations below are taken off, what is left must *be* a label; it is never searched
for inside a text ("personal" is not in "impersonal"), so two labels, or a label within a sentence, are out of set.

=====================  ====================================================================================
taken off              example read as ``work``
=====================  ====================================================================================
white space            ``" work\n"``
thoughts               ``<think>...</think>work`` (also thinking, thought, reasoning; the opening tag may be missing)
matching quotes        ``"work"`` ``'work'`` and typographic pairs
markdown emphasis      ``**work**`` ``_work_`` `` `work` `` and a fenced block
one trailing period    ``work.``
a leading name         ``Label: work`` ``**Answer:** work`` (label, answer, category, class; "final" before it)
a JSON object          ``{"label": "work"}``: its only value, or that of label, answer, category or class
=====================  ====================================================================================

Labels and text are compared after strip, NFKC and casefold; casefold, then NFKC, is dropped for the whole set when
two labels would become one ("m" and "M" may be two answers).

Statuses, in the order in which they are decided (the first that applies):

1. ``failed``       no reply to read (error body, stream, Responses API, not JSON)
2. ``filtered``     the provider withheld or cut the answer
3. ``out_of_set``   the model refused in the API's own field
4. ``truncated``    the length limit was reached and the text is not a whole label, or could have become a longer one
5. ``empty``        no text
6. ``out_of_set``   the text is no label
7. ``no_logprobs``  the reply carries no logprobs (cheap role only, as are the next two)
8. ``unaligned``    the tokens cannot be laid under the answer
9. ``no_logprobs``  a token inside the answer has no usable logprob: null, NaN, above 1e-6, or at or below -100
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from cascade_threshold import completion as wire
from cascade_threshold.alignment import Span, locate
from cascade_threshold.completion import Reply, Token

STATUSES = ("ok", "out_of_set", "no_logprobs", "unaligned", "truncated", "empty", "filtered", "failed")

POSITIVE_TOLERANCE = 1e-6
"""A logprob up to this much above 0 is rounding and counts as 0 (nat)."""
SENTINEL = -100.0
"""At or below this a logprob is a sentinel (-9999, float32's minimum, -inf), not a measurement (nat)."""

_MEMORY = 4096  # entries remembered per answer set; pure functions of their argument, so only time is saved
_PAIRS = {'"': '"', "'": "'", "`": "`", "*": "*", "_": "_", "“": "”", "‘": "’", "„": "“", "«": "»"}
_THOUGHT_TAG = re.compile(r"</?(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_THOUGHT_END = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_NAME = re.compile(r"([*_]{0,3})(?:final\s+)?(?:label|answer|category|class)\s*(?::\1|\1\s*:)\s*", re.IGNORECASE)
_JSON_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]', re.DOTALL)
_JSON_NAMES = frozenset({"label", "answer", "category", "class"})
_LEADING = " \t\r\n\f\v\"'`*_“‘„«"  # what may stand before an answer within its first token
_TRAILING = " \t\r\n\f\v\"'`*_”’“».}"  # what may stand after an answer within its last token


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


Reach = tuple[tuple[int, ...], bytes]
"""Indices of labels, and the bytes that they begin with, as compared."""


class _Remembered(dict[bytes, Reach]):
    """Results of a pure function by its argument: found again without a call. Of bounded size."""

    def __init__(self, function: Callable[[bytes], Reach]) -> None:
        self._function = function

    def __missing__(self, data: bytes) -> Reach:
        found = self._function(data)
        if len(self) < _MEMORY:
            self[data] = found
        return found


class AnswerSet:
    """A closed set of answers. Immutable; equal arguments give equal behaviour.

    Make one with `classify`, `choose` or `judge`. Raises ValueError, saying why, for a set that is not closed (open-ended
    generation has no answer to hold a confidence against), too small, or ambiguous.
    """

    __slots__ = ("_answers", "_folded", "_keys", "_reached", "fold_level", "kind", "labels")

    def __init__(self, labels: Sequence[str], kind: str) -> None:
        if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
            raise ValueError("labels must be a list of texts; quote those that look like numbers or yes and no")
        self.labels: tuple[str, ...] = tuple(labels)
        self.kind = kind
        if len(self.labels) < 2:
            raise ValueError(
                f"a closed set of at least two answers is needed, this one has {len(self.labels)}: "
                "confidence from logprobs is not defined for open-ended generation"
            )
        blank = [label for label in self.labels if not _nfkc(label).strip()]
        if blank:
            raise ValueError(f"a label is blank: {blank[0]!r}")
        for level in ("casefold", "nfkc", "strip"):
            self.fold_level = level
            folded = [self.fold(label) for label in self.labels]
            if len(set(folded)) == len(folded):
                break
        else:
            twice = next(label for i, label in enumerate(folded) if label in folded[:i])
            raise ValueError(f"the label {twice!r} is listed twice")
        self._folded = {label: index for index, label in enumerate(folded)}
        self._keys = [label.encode("utf-8", "surrogatepass") for label in folded]
        self._answers: dict[str, tuple[int, int, int] | None] = {}
        self._reached = _Remembered(self._reach)

    @classmethod
    def classify(cls, labels: Sequence[str]) -> AnswerSet:
        """The labels themselves are the answers, spelled as the model is asked to spell them."""
        return cls(labels, "classify")

    @classmethod
    def choose(cls, options: int | Sequence[Any]) -> AnswerSet:
        """Letters A, B, ... stand for a row's options; pass how many there are, or the options (2 to 26)."""
        return _letters(options if isinstance(options, int) else len(options))

    @classmethod
    def judge(cls) -> AnswerSet:
        """The answers are ``yes`` and ``no``, in any case; ``label_probabilities["yes"]`` is the graded score."""
        return _YES_NO

    def __repr__(self) -> str:
        return f"AnswerSet({list(self.labels)!r}, kind={self.kind!r})"

    def fold(self, text: str) -> str:
        """The form in which labels and answers of this set are compared, before white space is stripped."""
        if self.fold_level == "strip":
            return text.strip()
        return self._fold_inside(text).strip()

    def _fold_inside(self, text: str) -> str:
        if text.isascii():
            return text.casefold() if self.fold_level == "casefold" else text
        if self.fold_level == "strip":
            return text
        folded = _nfkc(text)
        return _nfkc(folded.casefold()) if self.fold_level == "casefold" else folded

    def match(self, text: str) -> str | None:
        """The label that the text is, decorations aside, or None."""
        found = self.find(text)
        return None if found is None else self.labels[found[0]]

    def find(self, text: str) -> tuple[int, int, int] | None:
        """(index of the label, start, end of the answer in characters of the text), or None."""
        try:
            return self._answers[text]
        except KeyError:
            pass
        found = self._search(text)
        if len(text) <= 64 and len(self._answers) < _MEMORY:
            self._answers[text] = found
        return found

    def _search(self, text: str) -> tuple[int, int, int] | None:
        start, end = 0, len(text)
        for thought in _THOUGHT_END.finditer(text):
            start = thought.end()
        may_lose_period = True
        for _ in range(24):  # far more layers than any reply wears
            start, end = _trim(text, start, end)
            if start >= end:
                return None
            label = self._folded.get(self.fold(text[start:end]))
            if label is not None:
                return label, start, end
            if _PAIRS.get(text[start]) == text[end - 1] and end - start > 1:
                start, end = _fenced(text, start, end) or (start + 1, end - 1)
            elif text[start] == "{":
                value = _json_value(text, start, end)
                if value is None:
                    return None
                start, end = value
                if "\\" in text[start:end]:
                    label = self._folded.get(self.fold(json.loads(f'"{text[start:end]}"')))
                    return None if label is None else (label, start, end)
            elif name := _NAME.match(text, start, end):
                start = name.end()
            elif may_lose_period and text[end - 1] == ".":
                may_lose_period = False
                end -= 1
            else:
                return None
        return None

    def ended(self, data: bytes) -> int | None:
        """The label that these first bytes of an answer spell, if the answer ends there."""
        key, tail = _whole_characters(self.reach(data)[1])
        return (
            None
            if tail
            else next((self._folded[end] for end in (key, key.rstrip(_TRAILING)) if end in self._folded), None)
        )

    def reach(self, data: bytes) -> Reach:
        """Labels that an answer can still become once its first bytes are ``data``, and those bytes as compared.

        Leading white space, quotes and emphasis do not count; where they are all that was seen, every label is left. What
        may end an answer (a quote, a period, white space) leaves the label that it ends, and a longer one that goes on so.
        Bytes that stop within a character are fine. Empty when no label is left.
        """
        return self._reached[data]

    def reach_each(self, pieces: Iterable[bytes]) -> Iterator[Reach]:
        """`reach` of several."""
        return map(self._reached.__getitem__, pieces)

    def _reach(self, data: bytes) -> Reach:
        text, tail = _whole_characters(data)
        text = self._fold_inside(text).lstrip()
        for stem in (text, text.lstrip(_LEADING)):
            key = stem.encode("utf-8", "surrogatepass") + tail
            hits = {index for index, label in enumerate(self._keys) if label.startswith(key)} if key else set()
            ended = None if tail else self._folded.get(stem.rstrip(_TRAILING))
            if ended is not None:
                hits.add(ended)
            if hits:
                return tuple(sorted(hits)), key
        undecided = data and not tail and not any(map(str.isalnum, _THOUGHT_TAG.sub("", text)))
        return (tuple(range(len(self.labels))) if undecided else ()), b""


@lru_cache(maxsize=32)
def _letters(count: int) -> AnswerSet:
    if not 2 <= count <= 26:
        raise ValueError(f"options are lettered A to Z, so a row needs 2 to 26 of them, not {count}")
    return AnswerSet(tuple(string.ascii_uppercase[:count]), "choose")


_YES_NO = AnswerSet(("yes", "no"), "judge")


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _fenced(text: str, start: int, end: int) -> tuple[int, int] | None:
    """What stands in a fenced block, behind the line that opens it and may name a language."""
    if not (text.startswith("```", start, end) and text.endswith("```", start + 3, end)):
        return None
    line = text.find("\n", start, end)
    named = line > 0 and (text[start + 3 : line].strip() or "x").isalnum()
    return (line + 1, end - 3) if named else None


def _whole_characters(data: bytes) -> tuple[str, bytes]:
    """Text, and up to three bytes of an unfinished last character."""
    for cut in range(min(4, len(data) + 1)):
        head = data[: len(data) - cut]
        try:
            return head.decode("utf-8", "surrogatepass"), data[len(head) :]
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "replace"), b""


def _json_value(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Span, without its quotes, of the text or number that a JSON object gives as its answer."""
    try:
        json.loads(text[start:end])
    except (ValueError, RecursionError):
        return None
    values: list[tuple[str, tuple[int, int] | None]] = []
    depth, key, colon, expects_value = 0, "", 0, False
    for piece in _JSON_PIECE.finditer(text, start, end):
        mark = piece[0]
        if depth == 1 and expects_value and mark[0] in '"[{,}':
            quoted = mark[0] == '"'
            inside = (piece.start() + 1, piece.end() - 1) if quoted else _trim(text, colon, piece.start())
            none = mark[0] in "[{" or (not quoted and text[inside[0] : inside[1]] == "null")
            values.append((key, None if none else inside))
            expects_value = False
        elif depth == 1 and mark[0] == '"':
            key = mark[1:-1]
        if depth == 1 and mark == ":":
            expects_value, colon = True, piece.end()
        depth += (mark in "{[") - (mark in "}]")
    named = [value for key, value in values if key.casefold() in _JSON_NAMES]
    if len(values) == 1:
        return values[0][1]
    return named[0] if len(named) == 1 else None


class Answer(NamedTuple):
    """What a reply answers, and under which tokens."""

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
    at_limit = reply.finish_reason == "length"
    found = answers.find(text) if text else None
    if found is None:
        if at_limit:
            return _no_answer("truncated", "the length limit was reached before a whole label: raise max_tokens, "
                              "or switch reasoning off")  # fmt: skip
        if text is None or not text.strip():
            return _no_answer("empty", problem or "no text")
        return _no_answer("out_of_set", "the text is not a label")
    assert text is not None
    index, start, end = found
    if at_limit and len(answers.reach(text[start:].encode("utf-8", "surrogatepass"))[0]) > 1:
        return _no_answer("truncated", "cut where a longer label begins alike: raise max_tokens")
    label = answers.labels[index]
    if problem == wire.LENGTHS_DIFFER or not reply.tokens:
        span = None
    else:
        span = locate(reply, text, start, end)
    if role != "cheap":
        return Answer(label, "ok", index, span, "")
    if not reply.tokens:
        return Answer(label, "no_logprobs", index, None, "the reply carries no logprobs")
    if span is None:
        return Answer(label, "unaligned", index, None, problem or "the tokens do not spell the answer")
    fault = _fault(reply.tokens, span)
    return Answer(label, "no_logprobs" if fault else "ok", index, span, fault)


def _fault(tokens: tuple[Token, ...], span: Span) -> str:
    """Which token of the answer has no usable logprob; empty when none."""
    for position, token in enumerate(tokens[span.first : span.last + 1], span.first):
        value = token.logprob
        if value is None:
            return f"token {position} of the answer has no logprob"
        if not SENTINEL < value <= POSITIVE_TOLERANCE:
            return f"token {position} of the answer has the impossible logprob {value!r}"
    return ""
