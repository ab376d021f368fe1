"""AnswerSet: a closed set of answers, how texts are compared with it, and what the first bytes of an answer can still become."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from cascade_threshold.decorations import (
    LEADING,
    PAIRS,
    TERMINALS,
    THOUGHT_TAG,
    TRAILING,
    behind_thoughts,
    call_arguments,
    denies,
    is_json,
    json_answer,
    peel,
    trim,
    unescaped,
)
from cascade_threshold.label_text import LEVELS, NO_NAMES, YES_NAMES, as_number, fold, label_text, nfkc

WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")
_MEMORY = 4096  # cache size per answer set; the cached functions are pure, so caching saves time and changes nothing

Reach = tuple[tuple[int, ...], bytes]
"""Indices of labels, and the bytes that they begin with, as compared."""


class _Remembered(dict[bytes, Reach]):
    """Bounded cache of a pure function's results, by argument."""

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

    __slots__ = (
        "_answers",
        "_folded",
        "_keys",
        "_numbers",
        "_reached",
        "_split_keys",
        "fold_level",
        "kind",
        "labels",
        "options",
        "positive",
    )

    def __init__(self, labels: Sequence[str], kind: str, positive: str | None = None) -> None:
        if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
            raise ValueError("labels must be a list of texts; quote those that look like numbers or yes and no")
        self.labels: tuple[str, ...] = tuple(labels)
        self.kind = kind
        self.options: tuple[str, ...] | None = None
        """Kind choose: the texts that the letters stand for, where they are known."""
        if len(self.labels) < 2:
            raise ValueError(
                f"a closed set of at least two answers is needed, this one has {len(self.labels)}: "
                "confidence from logprobs is not defined for open-ended generation"
            )
        blank = [label for label in self.labels if not nfkc(label).strip()]
        if blank:
            raise ValueError(f"a label is blank: {blank[0]!r}")
        for level in LEVELS:
            self.fold_level = level
            folded = [self.fold(label) for label in self.labels]
            if len(set(folded)) == len(folded) and all(folded):
                break
        else:
            twice = next(label for i, label in enumerate(folded) if label in folded[:i])
            raise ValueError(f"the label {twice!r} is listed twice")
        self._folded = {label: index for index, label in enumerate(folded)}
        self._keys = [_encoded(label) for label in folded]
        # a token may end within a character, whose bytes are those of the text before accents are taken off
        whole = "casefold" if level == "loose" else level
        self._split_keys = [_encoded(fold(label, whole).strip()) for label in self.labels]
        numbers = [as_number(label) for label in self.labels]
        self._numbers = {n: i for i, n in enumerate(numbers)} if len({*numbers} - {None}) == len(numbers) else {}
        self._answers: dict[str, tuple[int, int, int] | None] = {}
        self._reached = _Remembered(self._reach)
        self.positive: int | None = self._positive(positive) if kind == "judge" else None
        """Kind judge: index of the label that means yes."""

    @classmethod
    def classify(cls, labels: Sequence[str]) -> AnswerSet:
        """The answers are the labels themselves, spelled as the model is asked to spell them."""
        return cls(labels, "classify")

    @classmethod
    def choose(cls, options: int | Sequence[Any]) -> AnswerSet:
        """Letters A, B, ... stand for a row's options; pass the options (2 to 26), or how many there are.

        With the options' texts, a reply that is one of them, or repeats it behind its letter, is read too.
        """
        if isinstance(options, int):
            return _letters(options)
        letters = _letters(len(options))
        if isinstance(options, (str, bytes)) or not all(isinstance(option, str) for option in options):
            return letters
        mine = cls.__new__(cls)  # tables and cache are those of the letters
        for name in cls.__slots__:
            setattr(mine, name, getattr(letters, name))
        mine.options = tuple(options)
        return mine

    @classmethod
    def judge(cls, labels: Sequence[str] = ("yes", "no"), positive: str | None = None) -> AnswerSet:
        """The answers are ``yes`` and ``no`` or the two labels given, in any case.

        ``positive`` names the label that means yes; without it, it is known by name (yes, true, relevant, 1). Raises
        ValueError when neither tells, or when both labels are known as yes.
        """
        return (
            _YES_NO if tuple(labels) == ("yes", "no") and positive in (None, "yes") else cls(labels, "judge", positive)
        )

    def __repr__(self) -> str:
        return f"AnswerSet({list(self.labels)!r}, kind={self.kind!r})"

    def _positive(self, named: str | None) -> int:
        if named is not None:
            found = self.index_of(named)
            if found is None:
                raise ValueError(f"the positive label {named!r} is none of the labels {list(self.labels)}")
            return found
        known = [i for i, label in enumerate(self.labels) if fold(label, "loose").strip() in YES_NAMES]
        if len(known) != 1:
            raise ValueError(
                f"which of the labels {list(self.labels)} means yes is not known by name (yes, true, relevant, 1): "
                "name it as judge.positive"
            )
        return known[0]

    def fold(self, text: str) -> str:
        """The form in which labels and answers of this set are compared, without white space at its ends."""
        return fold(text, self.fold_level).strip()

    def index_of(self, text: str) -> int | None:
        """Index of the label that equals the text up to white space; None if there is none."""
        return self._folded.get(self.fold(text))

    def match(self, text: str) -> str | None:
        """The label that the text gives once decorations are removed, or None."""
        found = self.find(text)
        return None if found is None else self.labels[found[0]]

    def label_of(self, value: Any) -> str | None:
        """The label that a value of a table or a log stands for, or None.

        Text is folded as answers are; JSON's true and 5.0 are read as the set spells them (see `label_text`), "5.0" as 5
        where all labels are numbers; a judge's set of two knows yes, true, relevant, 1 and their opposites. Raises as
        `label_text`.
        """
        text = label_text(value)
        if text is None:
            return None
        index = self.index_of(text)
        if index is None and self._numbers and (number := as_number(text)) is not None:
            index = self._numbers.get(number)
        if index is None and self.positive is not None and len(self.labels) == 2:
            name = fold(text, "loose").strip()
            name = {"1.0": "1", "0.0": "0"}.get(name, name)  # as tables of floats write them
            index = self.positive if name in YES_NAMES else 1 - self.positive if name in NO_NAMES else None
        if index is None and (code := getattr(value, "code", None)) is not None:
            return self.label_of(code)  # the table names its classes; the labels are their numbers
        return None if index is None else self.labels[index]

    def same(self, a: Any, b: Any) -> bool:
        """Whether two values mean the same label; texts outside the set are compared as folded."""
        first, second = self.label_of(a), self.label_of(b)
        if first is None and second is None:
            return self.fold(label_text(a) or "") == self.fold(label_text(b) or "")
        return first == second

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
        start, end = behind_thoughts(text), len(text)
        may_lose_mark = True
        for _ in range(24):  # far more layers than any real reply has
            start, end = trim(text, start, end)
            if start >= end:
                return None
            label = self.index_of(text[start:end])
            if label is not None:
                return label, *self._bare(text, start, end, label)
            if self._numbers and (whole := WHOLE_NUMBER.fullmatch(text, start, end)):
                label = self.index_of(whole[1])  # 4.0 is 4, and its span the 4
                return None if label is None else (label, *whole.span(1))
            if text[start] == "{" and is_json(text, start, end):
                if call := call_arguments(text, start, end):
                    name, start, end = call
                    if self.index_of(name) is not None:
                        return None  # two answers, or the name of a tool
                    continue
                value = json_answer(text, start, end)
                if value is None or (
                    self.positive is not None and denies(value.key) and self.index_of(value.key) is None
                ):
                    return None
                start, end = value.start, value.end
                if "\\" in text[start:end] and value.quoted:
                    label = self.index_of(unescaped(text, start, end))
                    return None if label is None else (label, start, end)
                key = self.index_of(value.key)
                if key is not None:  # {"spam": "ham"}: two labels
                    found = self._search(text[start:end]) if text[start:end] else None
                    return (key, start + found[1], start + found[2]) if found and found[0] == key else None
            elif inner := peel(text, start, end):
                start, end = inner
            elif may_lose_mark and text[end - 1] in TERMINALS:
                may_lose_mark = False
                end -= 1
            else:
                return None
        return None

    def _bare(self, text: str, start: int, end: int, label: int) -> tuple[int, int]:
        """The span without marks that folding takes off (an accent as quote, a mark of Hebrew) and the label does not have."""
        own = fold(self.labels[label], "casefold").strip()
        if self.fold_level != "loose" or fold(text[start:end], "casefold").strip() == own:
            return start, end
        while text[start] in PAIRS and self.index_of(text[start + 1 : end]) == label:
            start += 1
        while text[end - 1] in TRAILING and self.index_of(text[start : end - 1]) == label:
            end -= 1
        return start, end

    def ended(self, data: bytes) -> int | None:
        """The label that these first bytes of an answer spell, if the answer ends there."""
        key, tail = _whole_characters(self.reach(data)[1])
        return (
            None
            if tail
            else next((self._folded[end] for end in (key, key.rstrip(TRAILING)) if end in self._folded), None)
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
        level, keys = (self.fold_level, self._keys) if not tail else ("casefold", self._split_keys)
        if tail and self.fold_level not in ("loose", "casefold"):
            level = self.fold_level
        text = fold(text, level).lstrip()
        for stem in (text, text.lstrip(LEADING)):
            key = _encoded(stem) + tail
            hits = {index for index, label in enumerate(keys) if label.startswith(key)} if key else set()
            ended = None if tail else self._folded.get(stem.rstrip(TRAILING))
            if (
                ended is None
                and self._numbers
                and not tail
                and (whole := WHOLE_NUMBER.fullmatch(stem.rstrip(TRAILING)))
            ):
                ended = self._folded.get(whole[1])
            if ended is not None:
                hits.add(ended)
            if hits:
                return tuple(sorted(hits)), key
        undecided = data and not tail and not any(map(str.isalnum, THOUGHT_TAG.sub("", text)))
        return (tuple(range(len(self.labels))) if undecided else ()), b""


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _whole_characters(data: bytes) -> tuple[str, bytes]:
    """The text, and up to three bytes of an incomplete last character."""
    for cut in range(min(4, len(data) + 1)):
        head = data[: len(data) - cut]
        try:
            return head.decode("utf-8", "surrogatepass"), data[len(head) :]
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "replace"), b""


@lru_cache(maxsize=32)
def _letters(count: int) -> AnswerSet:
    if not 2 <= count <= 26:
        raise ValueError(f"options are lettered A to Z, so a row needs 2 to 26 of them, not {count}")
    return AnswerSet(tuple(string.ascii_uppercase[:count]), "choose")


_YES_NO = AnswerSet(("yes", "no"), "judge")
