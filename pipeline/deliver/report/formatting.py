"""Formatting: numbers and foreign text as people read them on the page. Unknown is a word, never 0."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pipeline.decide.advice.number_text import MINUS, SPACE, bare_usd, roughly
from pipeline.decide.advice.number_text import p_value as tested

UNKNOWN = "unknown"

# Characters that reorder or hide neighbouring text: bidi controls and other invisible format characters, C0 and C1.
_HIDDEN = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_LONE = re.compile("[\ud800-\udfff]")
_UNIT = re.compile(r"(?<=\d) (?=(?:%|points?\b|ms\b|s\b))")


def share(value: float | None, digits: int = 1) -> str:
    """A share as per cent. More digits are shown rather than 0 % or 100 % for what is neither."""
    return UNKNOWN if value is None else f"{_percent(value, digits)}{SPACE}%"


def _percent(value: float, digits: int = 1) -> str:
    """The number before the per cent sign. What differs from 0 or 1 by rounding alone is 0 or 1."""
    if min(abs(value), abs(value - 1)) < 1e-12:
        return f"{round(value) * 100:d}"
    text = f"{value * 100:.{digits}f}"
    while float(text) in (0.0, 100.0) and digits < 8:
        digits += 1
        text = f"{value * 100:.{digits}f}"
    return text.replace("-", MINUS)


def points(value: float | None) -> str:
    """A difference of two shares in percentage points, with its sign."""
    if value is None:
        return UNKNOWN
    sign = MINUS if value < 0 else "+" if value > 0 else "±"
    return f"{sign}{_percent(abs(value))}{SPACE}points"


def change(value: float | None) -> str:
    """A relative change, such as −76 %."""
    if value is None:
        return UNKNOWN
    rounded = round(value * 100)
    return f"{MINUS if rounded < 0 else '+' if rounded > 0 else '±'}{abs(rounded):d}{SPACE}%"


def usd(value: float | None) -> str:
    """Dollars with cents, and three significant digits below one dollar."""
    if value is None:
        return UNKNOWN
    sign = MINUS if value < 0 else ""
    return f"{sign}${bare_usd(abs(value))}"


def price(value: float | None) -> str:
    """Dollars that somebody set: every digit that they have, and cents at least."""
    if value is None:
        return UNKNOWN
    whole, _, cents = f"{Decimal(str(value)):,f}".partition(".")
    return f"${whole}.{cents.rstrip('0').ljust(2, '0')}"


def per_1000(value: float | None) -> str:
    """A count per 1,000 requests."""
    if value is None:
        return UNKNOWN
    return f"{value:.0f}" if value in (0.0, 1000.0) else f"{value:.1f}" if round(value, 1) > 0 else f"{value:.2g}"


def seconds(value: float | None) -> str:
    """A duration."""
    if value is None:
        return UNKNOWN
    if value < 0.0995:
        return f"{value * 1000:.2g}{SPACE}ms"
    return f"{value:.2f}{SPACE}s" if value < 9.995 else f"{value:,.0f}{SPACE}s"


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 4) -> str:
    """Any other number: so many decimals below 1, more where two significant digits need them; else so many digits."""
    if value is None:
        return UNKNOWN
    size = abs(value)
    if 0 < size < 1:
        text = f"{value:.{min(12, max(digits, 1 - math.floor(math.log10(size))))}f}"
    else:
        text = f"{value:.{digits}g}"
    return text.replace("-", MINUS)


def short(value: float | None) -> str:
    """A number that a person chose, such as a limit: no more digits than it has."""
    return UNKNOWN if value is None else f"{value:.6g}".replace("-", MINUS)


def p_value(value: float | None) -> str:
    """The p-value of a test: p = 0.0953."""
    return UNKNOWN if value is None else tested(value).replace(" ", SPACE)


def terms(target: Mapping[str, Any]) -> str:
    """The terms of a target as its config names them: kind match strong, within 0.02."""

    def told(value: Any) -> str:
        if isinstance(value, Mapping):
            return f"({', '.join(f'{plain(k, 80)} {told(v)}' for k, v in value.items())})"
        return short(value) if isinstance(value, int | float) else plain(value, 200).replace("_", " ")

    return ", ".join(f"{key.replace('_', ' ')} {told(value)}" for key, value in target.items())


def threshold(value: float | None) -> str:
    """A threshold exactly as the policy holds it; no threshold escalates everything."""
    return "escalate all" if value is None else repr(float(value)) if value not in (0.0, 1.0) else f"{value:.0f}"


_UNITS = {"share": share, "usd": usd, "per_1000": per_1000, "seconds": seconds, "count": count, "number": number}
_BARE = {"share": _percent, "usd": bare_usd, "per_1000": per_1000, "seconds": seconds, "count": count, "number": number}


def value(amount: float | None, unit: str) -> str:
    """A number with its unit: share | usd | per_1000 | seconds | count | number."""
    return _UNITS[unit](amount)


def bounds(estimate: Mapping[str, Any], unit: str) -> str:
    """The interval of an estimate as [lower, upper], or nothing when none is known."""
    lower, upper = estimate["lower"], estimate["upper"]
    if lower is None or upper is None or lower == upper == estimate["value"]:  # a price that never varies
        return ""
    return f"[{_BARE[unit](lower)}, {_BARE[unit](upper)}]"


def estimate(of: Mapping[str, Any] | None, unit: str = "share") -> str:
    """An estimate with its interval: 95.1 % [94.4, 95.7]."""
    if of is None or of["value"] is None:
        return UNKNOWN
    return f"{value(of['value'], unit)} {bounds(of, unit)}".strip()


def bare_points(value: float | None) -> str:
    """A difference of shares in points, with its sign and without the word: -1.4."""
    return UNKNOWN if value is None else points(value).removesuffix(f"{SPACE}points")


def point_bounds(estimate: Mapping[str, Any]) -> str:
    """The interval of a difference of shares, in points, or nothing where none is known."""
    lower, upper = estimate["lower"], estimate["upper"]
    return "" if lower is None or upper is None else f"[{bare_points(lower)}, {bare_points(upper)}]"


def shade(probability: float | None) -> str:
    """The class of a token: p0 ... p9 by tenths of its probability, pn where it is unknown."""
    return "pn" if probability is None else f"p{min(9, int(probability * 10))}"


def visible(token: object) -> str:
    """A token with its blanks written out, so that a leading space and a new line can be seen."""
    return plain(token, 60).replace(" ", "\u2423").replace("\n", "\u21b5") or "\u2205"


def day(text: str | None) -> str:
    """The day of a UTC time."""
    return plain(text[:10]) if text else "not recorded"


def moment(text: str | None) -> str:
    """A UTC time as people write it; other text as it is."""
    if not text:
        return "not recorded"
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)$", r"\1 \2 UTC", plain(text, 40))


def cut(text: str, at_most: int = 500) -> str:
    """Text of at most so many characters; an ellipsis says that there was more."""
    return text if len(text) <= at_most else text[: at_most - 1].rstrip() + "…"


def plain(text: object, at_most: int = 500) -> str:
    """Foreign text made harmless to read: cut, with characters that hide or reorder others written out.

    Markup is not touched here; the template escapes it.
    """
    whole = unicodedata.normalize("NFC", _LONE.sub("\ufffd", str(text)))
    lines = cut(whole, at_most).replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    return _HIDDEN.sub(lambda m: f"⟨U+{ord(m.group()):04X}⟩", lines)


def sentence(text: object, at_most: int = 500) -> str:
    """A sentence of our own, whose names may be foreign: `plain`, and no line breaks between a number and its unit."""
    return _UNIT.sub(SPACE, plain(text, at_most))


FILTERS = {
    "share": share,
    "points": points,
    "change": change,
    "usd": usd,
    "price": price,
    "per_1000": per_1000,
    "seconds": seconds,
    "count": count,
    "number": number,
    "roughly": roughly,
    "short": short,
    "p_value": p_value,
    "terms": terms,
    "threshold": threshold,
    "unit": value,
    "bounds": bounds,
    "estimate": estimate,
    "moment": moment,
    "bare_points": bare_points,
    "point_bounds": point_bounds,
    "shade": shade,
    "visible": visible,
    "day": day,
    "plain": plain,
    "sentence": sentence,
}
