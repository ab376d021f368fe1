"""Input as nobody should send it, for every reader: values put into valid documents, bytes turned, cut and repeated."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import strategies as st

from pipeline.__main__ import main

DOCUMENTED = frozenset({0, 2, 3, 4, 5, 6, 7})
"""Exit codes of pipeline.errors; 1 is a bug."""


def nested(depth: int, pair: str = "[]") -> str:
    return pair[0] * depth + pair[1] * depth


def deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    0.5,
    -0.5,
    1e308,
    -1e308,
    1e-320,
    10**18,
    10**30,
    10**299,
    10**400,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    " ",
    "x",
    "1",
    "-1",
    "nan",
    "true",
    "null",
    "2026-02-30",
    "\x00",
    "\x1b[31mred",
    "\ud800",
    "\u202eabc",
    "é" * 300,
    "{text}",
    "{",
    "=1+1",
    "../../x",
    "s3://user:secret-word@bucket/x.csv?sig=abcdefghijklmnop",
    [],
    [None],
    [[]],
    {},
    {"": None},
    {"a": {"b": 1}},
    deep(40),
    deep(150),
    [1, "a"],
    ["a", "a"],
    list(range(300)),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value within a JSON value, the outermost first."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


def without(value: Any, path: tuple[Any, ...]) -> Any:
    """A copy that lacks a place."""
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = without(value[path[0]], path[1:])
    return copy


@st.composite
def altered(draw: Callable[..., Any], valid: Any, odd: Sequence[Any] = ODD) -> Any:
    """A JSON value with one to three of its parts replaced by odd ones, or left out."""
    value = valid
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(value))
        path = known[draw(st.integers(0, len(known) - 1))]
        if path and draw(st.booleans()) and draw(st.booleans()):
            value = without(value, path)
        else:
            value = put(value, path, odd[draw(st.integers(0, len(odd) - 1))])
    return value


@st.composite
def damaged(draw: Callable[..., Any], valid: bytes) -> bytes:
    """Bytes with some turned, cut off, left out, repeated or put in."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.integers(0, 4))
        if kind == 0 and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + draw(st.integers(1, 20))]
        elif kind == 3:
            data[at:at] = data[at : at + draw(st.integers(1, 50))]
        else:
            data[at:at] = draw(
                st.sampled_from(
                    [b"\xff", b"\x00", b'"', b"[" * 300, b"9" * 400, b"\xed\xa0\x80", b"\n", b"\r", b",", b"\x1b["]
                )
            )
    return bytes(data)


def json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


class Piped(io.TextIOWrapper):
    """Standard input that holds these bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")


def call(words: Sequence[str], piped: bytes = b"") -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in this process."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "stdin", Piped(piped))
        with warnings.catch_warnings():  # as outside of tests: a warning is said, and nothing stops
            warnings.simplefilter("always")
            code = main(list(words))
    out.flush(), err.flush()
    return code, *(stream.buffer.getvalue().decode("utf-8") for stream in (out, err))


def documented(words: Sequence[str], piped: bytes = b"") -> tuple[int, str, str]:
    """As `call`, and nothing else than a documented end, said in words that a terminal can take."""
    code, out, err = call(words, piped)
    assert code in DOCUMENTED, err
    assert "Traceback" not in err
    assert not {c for c in out + err if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160}, (out, err)
    if code == 2:
        assert err.strip(), "an error says what it is"
    return code, out, err
