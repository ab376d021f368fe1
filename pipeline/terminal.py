"""Terminal: the one way in which text reaches a person or a pipe.

Messages carry no key, and no control character of a foreign text: a model's name must not move the cursor or set the
window's title. What the terminal's encoding lacks is written in plain characters. Documents leave as UTF-8 bytes.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, TextIO

from pipeline.errors import DataError, UsageError
from pipeline.redact import redact, without_keys

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""C0 and C1 but tab and line break, and the marks that turn the direction of writing."""
_PLAIN = {
    "→": "->", "…": "...", "·": "|", "–": "-", "—": "-", "−": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "≥": ">=", "≤": "<=",
    "×": "x", "±": "+-", "✓": "ok", "✗": "x", "\u00a0": " ", "\u202f": " ", "█": "#", "░": ".",
}  # fmt: skip
ENCODING_ERRORS = "cascade_plain"


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Typographic characters as ASCII, any other as its escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error(ENCODING_ERRORS, _plain)


def prepare() -> None:
    """Have standard output and error write what their encoding lacks in plain characters; never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=ENCODING_ERRORS)


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def shown(text: str) -> str:
    """The text without keys; control characters and marks of direction stand as escapes, line breaks and tabs as they are."""
    return _CONTROL.sub(_escape, redact(text))


def say(*lines: str, error: bool = False) -> None:
    """Lines for people, on standard output, or on standard error."""
    stream: TextIO | None = sys.stderr if error else sys.stdout
    text = "".join(f"{shown(line)}\n" for line in lines)
    if stream is None:  # closed by whoever started us
        return
    if error:
        say_aside(stream, text)
    else:
        with _reader_may_leave():
            stream.write(text)


def say_aside(stream: TextIO, text: str) -> None:
    """Text beside the result: a run does not end because nobody reads its messages any more (`2>&1 | head`, a closed terminal)."""
    with suppress(OSError, ValueError):  # ValueError: the stream is closed
        stream.write(text)
        stream.flush()


def say_json(value: Any) -> None:
    """One line of JSON on standard output, without keys and raw control characters, readable in any encoding."""
    stream: TextIO | None = sys.stdout
    if stream is None:
        return
    unicode = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    text = without_keys(json.dumps(value, ensure_ascii=not unicode))
    with _reader_may_leave():
        stream.write(_CONTROL.sub(_escape, text) + "\n")


def write(text: str) -> None:
    """A document on standard output, in UTF-8 whatever the terminal's encoding, exactly as a file would hold it."""
    stream: TextIO | None = sys.stdout
    if stream is None:
        return
    binary = getattr(stream, "buffer", None)
    with _reader_may_leave():
        if binary is None:
            stream.write(text)
        else:
            stream.flush()
            binary.write(text.encode("utf-8", "backslashreplace"))
            binary.flush()


def standard_input() -> BinaryIO:
    """What is piped in, as bytes. Raises UsageError when there is no standard input."""
    if sys.stdin is None:
        raise UsageError("standard input is closed; pipe the text in, as in: command < FILE")
    return getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode("utf-8", "surrogateescape"))


def input_text(most_bytes: int) -> str:
    """All of standard input, which is text in UTF-8. Raises DataError where it is another encoding, or longer."""
    raw = standard_input().read(most_bytes + 1)
    if len(raw) > most_bytes:
        raise DataError(f"standard input: more than {most_bytes:,} bytes; one text is expected")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"standard input: not UTF-8 (byte {error.start} is {raw[error.start]:#04x}); convert it, for example with iconv -t utf-8"
        ) from None


def flush() -> None:
    """Let standard output go now, while an error can still be told. Raises OSError."""
    if sys.stdout is not None:
        with _reader_may_leave():
            sys.stdout.flush()


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """A run goes on when whoever read standard output has left (`evaluate all | head -1`): what it pays for is in its files."""
    try:
        yield
    except BrokenPipeError:
        discard()


def discard() -> None:
    """Drop what standard output still holds: whoever read it has left, or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
