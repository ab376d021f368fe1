"""Addressed: rows whose text speaks to the model (prompt injection), told from the text alone, as a group of their own.

A sign is no proof: a mail may say "answer: work" to its reader. Nothing is left out or changed because of it; the page shows whether
such rows are answered worse than the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.decide.breakdown.coded_rows import Coded, CodedRows

ADDRESSED, OTHERS = "speaks to the model", "other texts"
LOOKED_AT = 20_000
"""Characters of a text that are searched, from its start and from its end."""
AT_ONCE = 1 << 16
"""Rows whose names are held at a time."""
_OVERRIDE = (
    r"\b(?:ignore|disregard|forget|override|bypass)\b[^.\n]{0,40}\b(?:previous|prior|above|earlier|all|any|these|those|your|the|other)\b"
    r"[^.\n]{0,30}\b(?:instruction|rule|prompt|direction|guideline|context)s?\b"
)
_ROLE = (
    r"</?(?:system|assistant|user|message|prompt|instructions?)\b[^>\n]{0,40}>|<\|[a-z_]{2,30}\|>|\[/?INST\]"
    r"|(?:^|\n|>)[ \t]*(?:system|assistant)[ \t]*:|\byou are now\b|\b(?:new|updated) (?:system )?instructions?[ \t]*:"
)
_NAMES = r"(?:label|answer|category|class|classification|verdict|output|response|result|decision)"
_ASKS = r"\b(?:answer|respond|reply|classif\w{1,4}|label|output)\b"
_KEYS = (
    "ignore",
    "disregard",
    "forget",
    "override",
    "bypass",
    "system",
    "assistant",
    "instruction",
    "you are now",
    "<|",
    "inst]",
    "<user",
    "/user",
    "message>",
    "<message",
    "prompt>",
    "<prompt",
    "/message",
    "/prompt",
    "answer",
    "respon",
    "reply",
    "classif",
    "label",
    "output",
    "categor",
    "verdict",
    "result",
    "decision",
    "option",
    "class",
)
"""No sign is without one of them, and looking for them takes a tenth of the time."""


def pattern(labels: Iterable[str]) -> re.Pattern[str]:
    """What a text that speaks to the model holds: an order to drop instructions, marks of a role, or an answer that it dictates."""
    said = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True) if label.strip())
    signs = [_OVERRIDE, _ROLE]
    if said:
        answer = rf"(?<!\w)(?:{said})(?!\w)"
        signs += [
            rf"""{_ASKS}[^.\n]{{0,40}}["'`“”]{answer}["'`“”]""",
            rf"""\b{_NAMES}["']?[ \t]{{0,3}}[:=][ \t]{{0,3}}["'`]?{answer}""",
            rf"(?:labels|answers|categories|classes|options)[ \t]{{0,3}}:[ \t]{{0,3}}{answer}(?:[ \t]{{0,3}},[ \t]{{0,3}}{answer})+",
        ]
    return re.compile("|".join(signs), re.IGNORECASE)


def is_addressed(text: str, signs: re.Pattern[str]) -> bool:
    """Whether a text holds one of the signs (see `pattern`)."""
    if len(text) > 2 * LOOKED_AT:
        text = f"{text[:LOOKED_AT]}\n{text[-LOOKED_AT:]}"
    small = text.lower()
    return any(key in small for key in _KEYS) and signs.search(text) is not None


def with_addressed(rows: CodedRows, texts: Mapping[str, str], labels: Iterable[str], split: str) -> CodedRows | None:
    """The rows with a column `text` that says which speak to the model; None where none of a split does. `texts` are by example id."""
    signs = pattern(labels)
    found = np.zeros(len(rows), dtype=np.int8)
    for start in range(0, len(rows), AT_ONCE):
        names = rows.ids(np.arange(start, min(start + AT_ONCE, len(rows))))
        found[start : start + AT_ONCE] = [is_addressed(texts.get(name, ""), signs) for name in names]
    if not found[rows.of(split)].any():
        return None
    columns: dict[str, Any] = {**rows.texts, "text": Coded(found, (OTHERS, ADDRESSED))}
    return replace(rows, texts=columns)
