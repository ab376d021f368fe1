"""NumberText: numbers as text in a sentence, without line breaks inside them."""

from __future__ import annotations

import math
from typing import SupportsInt

SPACE = "\u00a0"
MINUS = "\u2212"
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def ordinal(look: int) -> str:
    """The number of a look in words: first, second, ... eleventh as 11th."""
    if 1 <= look <= len(ORDINALS):
        return ORDINALS[look - 1]
    suffix = "th" if look % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(look % 10, "th")
    return f"{look}{suffix}"


def counted(n: SupportsInt, thing: str) -> str:
    """So many things: 1 row, 1,471 rows."""
    return f"{int(n):,} {thing}{'' if int(n) == 1 else 's'}"


def roughly(n: float) -> str:
    """An estimated count with two significant digits: 11,000 for 10,787."""
    if n <= 0:
        return "0"
    unit = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return f"{round(n / unit) * unit:,}"


def rounded_up(n: float) -> int:
    """The next count that has two significant digits, as `roughly` prints it: 11,000 for 10,187."""
    unit: int = 10 ** max(0, math.floor(math.log10(max(n, 1))) - 1)
    return math.ceil(n / unit - 1e-9) * unit


def percent(share: float | None) -> str:
    """A share as per cent with one decimal where it needs one; never rounded to 0 % or 100 % when it is neither."""
    if share is None:
        return "unknown"
    return f"{_hundredths(share).removesuffix('.0')}{SPACE}%"


def limit(share: float | None) -> str:
    """A share that a person chose, in per cent with all its digits."""
    return "unknown" if share is None else f"{short(100 * share)}{SPACE}%"


def tenths(share: float) -> str:
    """Per cent with at least one decimal, as its interval has; 0 % and 100 % without."""
    return f"{bare_tenths(share)}{SPACE}%"


def bare_tenths(share: float) -> str:
    """The number of `tenths` without its sign, for intervals."""
    return _hundredths(share) if share not in (0.0, 1.0) else f"{100 * share:.0f}"


def _hundredths(share: float) -> str:
    for digits in range(1, 9):
        text = f"{100 * share:.{digits}f}"
        if share in (0.0, 1.0) or float(text) not in (0.0, 100.0):
            break
    return text.replace("-", MINUS)


def points(share: float) -> str:
    """A difference of shares in points."""
    text = short(100 * share)
    return f"{text} point" if text == "1" else f"{text} points"


def short(number: float) -> str:
    """A number with up to six decimals, no trailing zeros."""
    return f"{round(number, 6):g}".replace("-", MINUS)


def signed(number: float, digits: int) -> str:
    """A number with its sign and `decimals` decimals."""
    return f"{number:+.{digits}f}".replace("-", MINUS)


def change(share: float) -> str:
    """A relative change, such as −76 %."""
    rounded = round(100 * share)
    return f"{MINUS if rounded < 0 else '+' if rounded > 0 else '±'}{abs(rounded)}{SPACE}%"


def usd(dollars: float | None) -> str:
    """Dollars with cents, and three significant digits below one dollar, as the cards show them."""
    return "an unknown amount" if dollars is None else f"{MINUS if dollars < 0 else ''}${bare_usd(abs(dollars))}"


def p_value(p: float) -> str:
    """A p-value with three digits: p = 0.0953; p < 0.0001 where more of it says nothing."""
    return "p < 0.0001" if p < 1e-4 else "p > 0.999" if 0.9995 <= p < 1 else f"p = {p:.3g}"


def bare_usd(value: float) -> str:
    """The number of `usd` without the dollar sign, for intervals."""
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 1000 else max(2, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 12)}f}".replace("-", MINUS)


def shortened(text: str, at_most: int = 40) -> str:
    """A label in quotes, cut where it is long."""
    return repr(text if len(text) <= at_most else text[: at_most - 1].rstrip() + "…")
