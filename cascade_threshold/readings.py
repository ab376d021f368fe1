r"""Replies that say a letter or a verdict and go on: wider readings, for kinds choose and judge, of a reply that is no bare answer.

The whole reply must start so, behind its thoughts; a letter is never taken from within a word. The span is the letter's or
the word's own, so the logprobs are those of the decision. Each reading is counted by its name.

=========  =============================================================================================
choose     ``(B)`` ``[B]`` ``B)`` ``B.`` ``Option B``, also followed by the option's text or by a reason
           ``B - text`` ``B text``: a letter and its own option's text
           the text of an option, whole (where the options are known and no two read alike)
judge      ``Yes, it does`` ``Yes.\n\nThe passage ...``: the label, a mark of punctuation, anything
           ``Y`` ``N``: the initial of one label only
           ``Yes`` ``Irrelevant``: known names of yes and no, bare, where the labels are others
           ``{"relevant": true}`` ``True``: JSON's boolean, unless its name is that of the other label or denies
=========  =============================================================================================

A reply that names another option in such a form, or by its text, or the opposite verdict, later on is not read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from cascade_threshold.answer_set import AnswerSet
from cascade_threshold.decorations import behind_thoughts, denies, is_json, json_answer, peel, trim
from cascade_threshold.label_text import fold


class Reading(NamedTuple):
    """A wider reading of a reply."""

    label: int
    start: int
    end: int
    """Span of what decided it, in characters of the text."""
    spelled: AnswerSet
    """The set in which the span is spelled, in the labels' order: the answers, the options' texts, or true and false."""
    name: str


_CHOSEN = re.compile(
    r"[*_]{0,3}(?:(?:the\s+)?(?:correct\s+|best\s+|right\s+)?(?:option|choice|answer)(?:\s+is)?\s*:?\s+)?[*_]{0,3}"
    r"(?:(?P<bracket>[(\[（【])\s*(?P<inside>[A-Za-zＡ-Ｚａ-ｚ])\s*[)\]）】]|(?P<letter>[A-Za-zＡ-Ｚａ-ｚ])(?P<mark>[*_]{0,3}[).:．：）、]|(?=[*_]{0,3}\s*(?:\n|\Z))))",
    re.IGNORECASE,
)
_OPTION = re.compile(r"(?:option|choice)\s+[*_(\[]{0,3}(?P<letter>[A-Za-z])(?!\w)", re.IGNORECASE)
_ANOTHER = re.compile(
    r"[(\[（]\s*([A-ZＡ-Ｚ])\s*[)\]）]|(?<!\w)([A-ZＡ-Ｚ])(?:[)）]|[.．:：](?=\s|\Z))|(?:option|choice|answer)\s+(?:is\s+)?([A-ZＡ-Ｚ])(?!\w)|^\s*([A-ZＡ-Ｚ])\s*$",
    re.MULTILINE,
)
_TOGETHER = re.compile(
    r"\W{0,3}(?:[/,&+;]|\b(?:and|or|und|oder|et|ou|e|y|o|i|и|или)\b|和|或)\s*(?:(?:option|choice|not)\s+)?[*_(\[]{0,3}([A-Za-z])(?!\w)",
    re.IGNORECASE,
)
"""A second letter directly behind the first."""
_RULED_OUT = re.compile(
    r"\W{0,5}(?:(?:is|was|seems|appears|would|could|can|must|should|does|do|may|be|clearly|definitely|obviously|simply|the|an?)\W+){0,4}"
    r"(?:not|never|cannot|(?:is|was|ca|wo|does|do|could|would)n['’]?t|incorrect|wrong|false|ruled\s+out|excluded|eliminated|unlikely|impossible)\b",
    re.IGNORECASE,
)
"""What takes a letter back: "Option A is not correct"."""
_LETTER_NAME = re.compile(r"""[{,]\s*["']?([A-Za-z])["']?\s*:\s*["']?\Z""")
_FIRST_WORD = re.compile(r"\w+")


def widened(text: str, answers: AnswerSet) -> Reading | None:
    """The wider reading of a reply that `AnswerSet.find` does not know, or None."""
    if answers.kind not in ("choose", "judge"):
        return None
    start, end = trim(text, behind_thoughts(text), len(text))
    if start >= end:
        return None
    return _choice(text, start, end, answers) if answers.kind == "choose" else _verdict(text, start, end, answers)


def _choice(text: str, start: int, end: int, answers: AnswerSet) -> Reading | None:
    if (own := _own_text(text, answers)) is not None:
        return own
    for _ in range(4):  # marks around the whole reply: emphasis, quotes, a box, JSON
        found = _OPTION.match(text, start, end) or _CHOSEN.match(text, start, end)
        if found is None and (index := _letter_and_text(text, start, end, answers)) is not None:
            return Reading(index, start, start + 1, answers, "letter and text")
        if found is not None:
            place = found.span("letter") if found["letter"] else found.span("inside")
            index = answers.index_of(text[slice(*place)])
            if index is None or _takes_back(text[place[1] : end], text[found.end() : end], index, answers):
                return None
            return Reading(index, *place, answers, "letter and text")
        if text[start] == "{" and is_json(text, start, end):
            value = json_answer(text, start, end)
            inner = (value.start, value.end) if value is not None and value.quoted else None
            key = None if value is None else answers.index_of(value.key)
            if inner and key is not None:  # the name is a letter itself
                said = _choice(text, *inner, answers)
                return said if said is not None and said.label == key else None
        else:
            inner = peel(text, start, end)
        if inner is None or inner[0] >= inner[1]:
            return None
        start, end = trim(text, *inner)
        if start >= end:
            return None
    return None


def _letter_and_text(text: str, start: int, end: int, answers: AnswerSet) -> int | None:
    """A letter and its own option's text, whatever little stands between them."""
    texts = None if answers.options is None else _texts(answers.options)
    rest = text[start + 1 : end]
    if texts is None or not (rest[:1].isspace() or rest[:1] in set(",-–—|/")):
        return None
    index, said = answers.index_of(text[start]), texts.find(rest.lstrip(" \t,-–—|/"))
    return index if said is not None and said[0] == index else None


def _takes_back(behind: str, rest: str, index: int, answers: AnswerSet) -> bool:
    """Whether what follows a letter names another, or rules it out; `behind` the letter, and the `rest` behind its mark."""
    also = _TOGETHER.match(behind)
    if also is not None and answers.index_of(also[1]) not in (None, index):
        return also[1].isupper() or not _goes_on_as_text(behind[also.end(1) :])
    own = None if answers.options is None else answers.options[index].strip()
    ruled_out = _RULED_OUT.match(behind) and not (
        own and answers.fold(rest.lstrip(" \t*_-–—:：,.．)）")).startswith(answers.fold(own))
    )
    return bool(ruled_out) or _names_another(rest, index, answers)


def _goes_on_as_text(rest: str) -> bool:
    """Whether a small letter is the first word of a sentence rather than another choice: "Option B, a city"."""
    return bool(re.match(r"\s+\w", rest))


def _names_another(rest: str, index: int, answers: AnswerSet) -> bool:
    if answers.options is not None:
        texts = _texts(answers.options)
        said = None if texts is None else texts.find(rest.lstrip(" \t\r\n*_-–—:：,.．)）"))
        if said is not None:
            return said[0] != index  # the letter of one option and the text of another
        if own := answers.options[index].strip():
            rest = rest.replace(own, "")  # the option's own text may hold anything
    named = {answers.index_of(next(filter(None, found.groups()))) for found in _ANOTHER.finditer(rest)}
    return bool(named - {index, None})


def _own_text(text: str, answers: AnswerSet) -> Reading | None:
    if answers.options is None:
        return None
    texts = _texts(answers.options)
    found = None if texts is None else texts.find(text)
    if texts is None or found is None:
        return None
    if (name := _LETTER_NAME.search(text, 0, found[1])) and answers.index_of(name[1]) != found[0]:
        return None  # {"B": "the text of A"}
    return Reading(*found, texts, "option's text")


@lru_cache(maxsize=1024)
def _texts(options: tuple[str, ...]) -> AnswerSet | None:
    try:
        return AnswerSet.classify(options)
    except ValueError:  # two read alike, or one is blank: none can be told by its text
        return None


def _verdict(text: str, start: int, end: int, answers: AnswerSet) -> Reading | None:
    boolean = _boolean(text, start, end, answers) or _by_name(text, start, end, answers)
    if boolean is not None:
        return boolean
    initial = _initial(text, start, end, answers)
    if initial is not None:
        return initial
    while start < end and text[start] in "*_\"'`“":
        start += 1
    for index, label in sorted(enumerate(answers.labels), key=lambda pair: -len(pair[1])):
        stop = start + len(label)
        if stop < end and answers.fold(text[start:stop]) == answers.fold(label) and _goes_on(text, stop, end):
            if _denied(text, stop, end, index, answers):
                return None
            return Reading(index, start, stop, answers, "verdict and text")
    return None


def _goes_on(text: str, stop: int, end: int) -> bool:
    """Whether punctuation or a new line parts the word from the rest."""
    rest = text[stop:end].lstrip("*_\"'`”")
    return (
        rest[:1] in set(",.;:!。，、；：！．।،؛—–\n\r")
        or rest.lstrip(" \t")[:1] in set("\n\r—–")
        or rest[:3] in (" - ", " (")
    )


def _denied(text: str, stop: int, end: int, index: int, answers: AnswerSet) -> bool:
    """Whether the rest takes the verdict back: another label as a word of its own, or the opposite as its first word
    (``Relevant: no``)."""
    rest = fold(text[stop:end], answers.fold_level)
    first = _FIRST_WORD.search(fold(rest, "loose"))
    if first and first[0] in (("no", "false") if index == answers.positive else ("yes", "true")):
        return True
    others = (answers.fold(label) for i, label in enumerate(answers.labels) if i != index)
    return any(re.search(rf"(?<!\w){re.escape(label)}(?!\w)", rest) for label in others)


def _initial(text: str, start: int, end: int, answers: AnswerSet) -> Reading | None:
    initials = [fold(label, "loose").strip()[:1] for label in answers.labels]
    letter = text[start:end].strip("*_\"'`.()")
    folded = fold(letter, "loose")
    if len(letter) != 1 or not letter.isalpha() or initials.count(folded) != 1 or len(set(initials)) != len(initials):
        return None
    place = text.index(letter, start, end)
    return Reading(initials.index(folded), place, place + 1, answers, "initial")


def _boolean(text: str, start: int, end: int, answers: AnswerSet) -> Reading | None:
    if answers.positive is None or len(answers.labels) != 2:
        return None
    booleans = _BOOLEANS[answers.positive]
    if text.startswith("```", start) and (inner := peel(text, start, end)):
        start, end = trim(text, *inner)
    if text[start] != "{":
        bare = None if "[" in text[start:end] else booleans.find(text)
        return None if bare is None else Reading(*bare, booleans, "JSON boolean")
    value = json_answer(text, start, end) if is_json(text, start, end) else None
    if value is None or value.quoted or text[value.start : value.end].casefold() not in booleans.labels:
        return None
    name, start, end, _ = value
    named = answers.index_of(name)
    if named is None:
        if denies(name):
            return None
    elif named != answers.positive:
        return None
    return Reading(booleans.labels.index(text[start:end].casefold()), start, end, booleans, "JSON boolean")


def _by_name(text: str, start: int, end: int, answers: AnswerSet) -> Reading | None:
    """A bare verdict in other words than the labels: as tables name it, so do replies."""
    if answers.positive is None or len(answers.labels) != 2 or "{" in text[start:end] or "[" in text[start:end]:
        return None
    for yes, no in _VERDICTS:
        names = _named(*((yes, no) if answers.positive == 0 else (no, yes)))
        if (found := names.find(text)) is not None:
            return Reading(*found, names, "other words")
    return None


@lru_cache(maxsize=32)
def _named(first: str, second: str) -> AnswerSet:
    return AnswerSet.classify((first, second))


_VERDICTS = (
    ("yes", "no"),
    ("relevant", "irrelevant"),
    *(("relevant", f"{no}{mark}relevant") for no in ("not", "non") for mark in (" ", "_", "-")),
    ("relevant", "nonrelevant"),
    ("1", "0"),
)
"""Names of yes and no that `AnswerSet.label_of` knows in tables, too."""
_BOOLEANS = (AnswerSet.classify(("true", "false")), AnswerSet.classify(("false", "true")))
