"""JsonText: the one reader of JSON from outside, within limits. Standard library only.

A text that nests too deeply, or a number with too many digits, is reported as damaged like any other; neither ends
in RecursionError or OverflowError somewhere later.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

MOST_DEPTH = 100
"""Levels of lists and objects within each other; a completion with logprobs has 7."""
MOST_DIGITS = 300
"""Of a whole number; one of 309 digits is beyond every float."""


class JsonError(ValueError):
    """A text is not JSON, or exceeds the limits."""


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise JsonError(f"a whole number of {len(digits):,} digits")
    return int(digits)


_decoder = json.JSONDecoder(parse_int=_integer)


def _read(decode: Callable[..., Any], *given: Any) -> Any:
    """What a decoder makes of what it is given; whatever it cannot read is a JsonError."""
    try:
        return decode(*given)
    except RecursionError:
        raise JsonError(f"nested deeper than {MOST_DEPTH} levels") from None
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError(str(error)) from None


def parse(
    text: str | bytes,
    *,
    parse_constant: Callable[[str], Any] | None = None,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """The value of a JSON text, in UTF-8 where it is bytes. The two hooks are those of `json.loads`.

    Raises JsonError, a ValueError, for text that is not JSON or not UTF-8, nests deeper than MOST_DEPTH, or contains a whole number of
    more than MOST_DIGITS digits.
    """
    decoder = _decoder
    if parse_constant is not None or object_pairs_hook is not None:
        decoder = json.JSONDecoder(
            parse_int=_integer, parse_constant=parse_constant, object_pairs_hook=object_pairs_hook
        )
    if isinstance(text, bytes):
        text = str(_read(text.decode, "utf-8"))
    value = _read(decoder.decode, text)
    if text.count("[") + text.count("{") > MOST_DEPTH:  # with fewer brackets it cannot nest that deep
        require_depth(value)
    return value


def parse_start(text: str, at: int) -> tuple[Any, int]:
    """The JSON value that begins at a place of a text, and where it ends. Raises JsonError as `parse` does."""
    value, end = _read(_decoder.raw_decode, text, at)
    if text.count("[", at, end) + text.count("{", at, end) > MOST_DEPTH:
        require_depth(value)
    return value, end


def require_depth(value: Any) -> None:
    """Raise JsonError for lists and objects that nest deeper than MOST_DEPTH."""
    level, depth = [value], 0
    while level := [v for v in level if isinstance(v, (dict, list))]:
        depth += 1
        if depth > MOST_DEPTH:
            raise JsonError(f"nested deeper than {MOST_DEPTH} levels")
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
