"""Table answers: what the models' answers in a table of predictions say, read as replies are.

A table may hold labels, or replies as the models wrote them (``\\boxed{spam}``, ``SPAM.``). Both are spelled as the set spells
them, so that labels compare and the two models' answers agree where they mean the same. An answer that is none of the config's
labels has the status that such a reply has.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from cascade_threshold.answer_set import AnswerSet
from cascade_threshold.label_text import fold
from cascade_threshold.readings import widened
from pipeline.errors import DataError

ENOUGH = 20
"""Answers from which on it is no chance that none of them is a label."""
_SEPARATORS = re.compile(r"[\s_\-]+")
_NO_LABEL = "\ue000"
"""Stands beside a single label, as a closed set has two: a character that no text uses."""


def known_set(labels: Sequence[str]) -> AnswerSet | None:
    """The set of the labels that occur; None where they cannot be told apart, or there are none."""
    try:
        return AnswerSet.classify([*labels, _NO_LABEL] if len(labels) == 1 else labels)
    except ValueError:
        return None


def spell(frame: pd.DataFrame, answers: AnswerSet, *, closed: bool, path: str) -> None:
    """Spell labels and answers as the set does, in place. Values are texts, or None.

    `closed`: the set is the config's, so that an answer outside it is unreadable; sets that were made of the labels that
    occur leave it as it is. Raises DataError where no answer of a role is one of the set.
    """
    for column in ("label", "cheap_answer", "strong_answer"):
        if column not in frame:
            continue
        texts = [text if isinstance(text, str) else None for text in frame[column]]
        read = [None if text is None else label(text, answers) for text in texts]
        role = column.removesuffix("_answer")
        if column != "label" and f"{role}_correct" not in frame:
            _require_one_spelling(role, texts, read, answers, path)
        if closed and column != "label" and f"{role}_correct" not in frame:
            _mark(frame, role, texts, read, path)
        else:
            if column != "label" and f"{role}_correct" not in frame:
                _require_common(role, texts, read, path)
            read = [text if found is None else found for text, found in zip(texts, read, strict=True)]
        frame[column] = pd.Series(read, dtype=object, index=frame.index)


def label(text: str, answers: AnswerSet) -> str | None:
    """The label that a text means: as a value, as a reply that is a label, or as a wider reading of one."""
    if (known := answers.label_of(text)) is not None:
        return known
    found = answers.find(text)
    if found is None and (wider := widened(text, answers)) is not None:
        found = wider[:3]
    return None if found is None else answers.labels[found[0]]


def _mark(frame: pd.DataFrame, role: str, texts: Sequence[str | None], read: Sequence[str | None], path: str) -> None:
    unread = np.array([text is not None and found is None for text, found in zip(texts, read, strict=True)])
    there = sum(text is not None for text in texts)
    if not unread.any():
        return
    if unread.sum() == there:
        raise DataError(_none_is_a_label(role, texts, path))
    status = np.full(len(frame), None, dtype=object)
    status[[text is not None for text in texts]] = "ok"
    status[unread] = "out_of_set"
    frame[f"{role}_status"] = status
    if role == "cheap":  # an answer that is no label is never kept
        frame["confidence"] = np.where(unread, np.nan, frame["confidence"].to_numpy(np.float64))


def _require_common(role: str, texts: Sequence[str | None], read: Sequence[str | None], path: str) -> None:
    """Raise DataError where many answers and none of them is a label that occurs: they are spelled otherwise, not all wrong."""
    there = sum(text is not None for text in texts)
    if there >= ENOUGH and all(found is None for found in read):
        raise DataError(_none_is_a_label(role, texts, path))


def _require_one_spelling(
    role: str, texts: Sequence[str | None], read: Sequence[str | None], answers: AnswerSet, path: str
) -> None:
    """Raise DataError where a label mostly occurs, among the answers, with other spaces, hyphens or underscores: each would count as wrong."""
    bare = {_bare(label): label for label in answers.labels}
    if len(bare) < len(answers.labels):
        return
    pairs = Counter(zip(texts, read, strict=True))  # few texts, however many rows
    exact: Counter[str | None] = Counter()
    other: Counter[tuple[str, str]] = Counter()
    for (text, found), n in pairs.items():
        exact[found] += n
        if text is not None and found is None and (meant := bare.get(_bare(text))) is not None:
            other[text, meant] += n
    for (text, meant), n in other.most_common():
        if n >= ENOUGH and n > exact[meant]:
            raise DataError(
                f"{path}: {n:,} answers in {role}_answer are {text[:60]!r}, which is none of the labels; the label {meant[:60]!r} differs in "
                "spaces, hyphens or underscores only: spell the column label, and `labels`, as the answers are spelled"
            )


def _bare(text: str) -> str:
    return _SEPARATORS.sub("", fold(text, "loose"))


def _none_is_a_label(role: str, texts: Sequence[str | None], path: str) -> str:
    said = [text for text in texts if text is not None]
    seen = ", ".join(f"{text[:60]!r} {n:,} times" for text, n in Counter(said).most_common(3))
    return (
        f"{path}: {len(said):,} of {len(said):,} answers in {role}_answer are none of the labels: {seen}; spell `labels` and the column "
        "label as the answers are spelled, or name the right column with predictions: {columns: ...}"
    )
