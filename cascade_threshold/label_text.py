"""Label values from any table or JSON as text, and the folding under which texts are compared.

One reader for datasets, predictions, recorded answers and monitor logs: JSON true and 5.0 are read as "true" and "5", bytes
as UTF-8, numpy's scalars as what they hold. `fold` has four levels, each of which joins fewer spellings than the one
before; a set of labels is compared on the first level that keeps all of them apart.
"""

from __future__ import annotations

import unicodedata
from typing import Any

LEVELS = ("loose", "casefold", "nfkc", "strip")
"""loose: casefold, and accents, vowel points, variation selectors, skin tones and zero-width characters do not count, nor the dot of an
i, and hyphens, dashes and apostrophes of every form are one; casefold: NFKC and casefold; nfkc: NFKC alone; strip: white space alone."""

YES_NAMES = frozenset({"yes", "y", "true", "t", "1", "relevant"})
_NOT_RELEVANT = {f"{no}{mark}relevant" for no in ("not", "non") for mark in (" ", "_", "-")}
NO_NAMES = frozenset({"no", "n", "false", "f", "0", "irrelevant", "nonrelevant"} | _NOT_RELEVANT)

_RIGHT = YES_NAMES - {"relevant"} | {"1.0", "correct", "right", "pass", "passed"}
_WRONG = frozenset({"0", "0.0", "false", "f", "no", "n", "incorrect", "wrong", "fail", "failed"})

_MARKS = (
    (0x0300, 0x036F), (0x0591, 0x05C7), (0x064B, 0x0652), (0x0670, 0x0670), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F), (0x200B, 0x200F), (0x2060, 0x2060), (0xFEFF, 0xFEFF),
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x180B, 0x180D), (0xE0100, 0xE01EF), (0x1F3FB, 0x1F3FF),
)  # fmt: skip
# Accents (Latin, Greek, Cyrillic), Hebrew and Arabic points, variation selectors, zero-width characters, skin tones. Not the vowel
# signs and voicing marks of other scripts, which distinguish words.
_UNMARKED: dict[int, str | None] = {code: None for first, last in _MARKS for code in range(first, last + 1)}
_UNMARKED |= dict.fromkeys(
    (*range(0x2010, 0x2016), 0x2212), "-"
)  # hyphens that models and spreadsheets write, dashes, minus
_UNMARKED |= dict.fromkeys((0x2018, 0x2019, 0x02BC, 0x02B9, 0x2032), "'")
_UNMARKED[0x0131] = "i"  # dotless i; the dotted capital becomes i and a combining dot by casefolding


def nfkc(text: str) -> str:
    """Unicode's compatibility composition."""
    return unicodedata.normalize("NFKC", text)


def fold(text: str, level: str) -> str:
    """The text as compared on one of LEVELS, white space at its ends kept. Idempotent."""
    if text.isascii():
        return text.casefold() if level in ("loose", "casefold") else text
    if level == "strip":
        return text
    if level == "nfkc":
        return nfkc(text)
    if level == "casefold":
        return nfkc(nfkc(text).casefold())
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return nfkc(decomposed.translate(_UNMARKED))


def label_text(value: Any) -> str | None:
    """A label's value as text; None where there is none (null, NaN, an empty text stays a text).

    Raises TypeError for a list, a mapping or anything else that is no single value, ValueError for bytes that are not UTF-8.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"bytes that are not UTF-8: {value[:20]!r}") from None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    item = getattr(value, "item", None)  # a scalar of numpy
    if callable(item) and not getattr(value, "shape", ()):
        return label_text(item())
    if type(value).__name__ == "Decimal":
        return label_text(float(value))
    raise TypeError(f"{type(value).__name__} is not a single value")


def as_number(text: str) -> float | None:
    """The finite number that a text spells in plain digits, or None."""
    if not text.isascii() or not any(map(str.isdigit, text)) or any(c not in "+-.0123456789" for c in text.strip()):
        return None
    try:
        return float(text)
    except ValueError:
        return None


def truth_of(text: str) -> bool | None:
    """Whether a word says that an answer is right (1, true, yes, correct, pass) or wrong; None for any other."""
    word = text.strip().casefold()
    return True if word in _RIGHT else False if word in _WRONG else None
