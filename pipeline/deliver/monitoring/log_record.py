"""LogRecord: the JSON objects in the lines of a log, whatever wrapping a log driver added.

Read are: one object a line; one array, on one line or many; objects that span lines; an object behind a time, a level or
any other text; JSON inside a JSON text; objects inside the field of a log driver (`log`, `message` and the like), joined where
the driver cut a long line; Python's own notation of a dict.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from cascade_threshold import json_text
from pipeline.deliver.monitoring.log_table import LogTable

WRAPPERS = (
    "log",
    "message",
    "msg",
    "line",
    "MESSAGE",
    "@message",
    "textPayload",
    "jsonPayload",
    "event",
    "_raw",
    "_source",
    "attributes",
    "record",
    "data",
    "payload",
    "fields",
    "value",
    "body",
    "stringValue",
    "detail",
    "properties",
    "extra",
    "decision",
)
"""Fields in which log drivers and shippers put the line that a program wrote."""
_LISTS = (
    "events",
    "logEvents",
    "hits",
    "Records",
    "records",
    "results",
    "result",
    "data",
    "values",
    "entries",
    "items",
    "logs",
    "rows",
)
"""Fields in which an answer of a log service holds many lines."""
_PAYLOAD = ("action", "choices", "completion", "response")
AUDIT = ("label", "correct", "strong_answer")
"""Fields by which a line says what is right, or what the strong model said."""
_LABELED = re.compile(r"""["'](?:label|correct)\\?["']\s*[:=]\s*(?!null|None)""")
_PAIR = re.compile(r"""(?<![\w.@-])([\w.@-]+)=("(?:[^"\\]|\\.)*"|[^\s"]*)""")
_CRI = re.compile(r"^\S+ (?:stdout|stderr) ([PF])(?: (.*))?$", re.DOTALL)
_DEPTH = 6
MOST_PIECES = 1000
"""Of a line that a driver cut; a line of more has lost its end."""
MOST_HELD = 16_000_000
"""Characters of such a line."""


class LogRecord(NamedTuple):
    """What one line held."""

    fields: Mapping[str, Any] | None
    """The object; None when the line could not be read."""
    labeled: bool = False
    """For a line that could not be read: it still carries a label."""
    torn: bool = False
    """For a line that could not be read: it begins as an object and breaks off, as a crash leaves it."""


def records(lines: Iterable[str | bytes | Mapping[str, Any]]) -> Iterator[LogRecord]:
    """Every object in a log's lines, in their order; blank lines give nothing, any other line at least one record."""
    held, pieces, many, table = "", 0, _ManyLines(), LogTable()
    for line in lines:
        if isinstance(line, Mapping):
            yield LogRecord(_unwrapped(line))
            continue
        text = (line.decode("utf-8", "replace") if isinstance(line, bytes) else line).strip("\x00\x1e\ufeff \t\r\n")
        if table.starts(text):
            continue
        if table.within(text):
            row = table.row(line if isinstance(line, str) else text)
            if row is None:
                continue
            if row or "{" not in text:  # no row of the table may still be a line with an object in it
                yield LogRecord(_unwrapped(row)) if row else LogRecord(None, table.labeled)
                continue
        if many.open or (not held and text in ("[", "{")):
            yield from many.add(text)
            continue
        if match := _CRI.match(text):
            held += match[2] or ""
            if match[1] == "P" and len(held) < MOST_HELD:
                continue
            text, held = held, ""
        if not text or text in ("]", "],"):
            continue
        part = _part_of_line(text)
        if part is not None and (held or part.lstrip().startswith("{")):
            held, pieces = held + part, pieces + 1
            whole = part.endswith("\n") or (part.rstrip().endswith("}") and _objects(held.strip()) is not None)
            if not whole and pieces < MOST_PIECES and len(held) < MOST_HELD:
                continue
            text, held, pieces = held.strip(), "", 0
        yield from _read(text)
    if table.open:
        yield LogRecord(None, table.labeled, torn=True)
    yield from many.rest()
    if held:
        yield from _read(held)


def _read(text: str) -> list[LogRecord]:
    found = _objects(text)
    if found is None:
        torn = text.lstrip("[, ").startswith("{") and not text.rstrip(", ]").endswith("}")
        return [_unreadable(text, torn=torn)]
    read: list[LogRecord] = []
    for part in found:
        if isinstance(part, str):
            read.append(_unreadable(part, torn=True))
        else:
            members = [part] if _payload(part) else _members(part) or [part]
            read += [LogRecord(_unwrapped(member)) for member in members]
    return read


def _members(fields: Mapping[str, Any], depth: int = 0) -> list[Mapping[str, Any]]:
    """The lines within an answer of a log service; empty for any other object."""
    for name in _LISTS:
        held = fields.get(name)
        if isinstance(held, dict) and depth < _DEPTH and (inner := _members(held, depth + 1)):
            return inner
        if not isinstance(held, list):
            continue
        found: list[Mapping[str, Any]] = []
        for item in held:
            if isinstance(item, list) and len(item) == 2 and isinstance(item[1], str):
                item = {"timestamp": item[0], "message": item[1]}
            elif isinstance(item, str):
                item = {"message": item}
            if isinstance(item, dict):
                found += (_members(item, depth + 1) if depth < _DEPTH and not _payload(item) else []) or [item]
        if found:
            return found
    return []


def _unreadable(text: str, *, torn: bool) -> LogRecord:
    return LogRecord(None, _LABELED.search(text) is not None, torn)


def _objects(text: str, depth: int = 0) -> list[Mapping[str, Any] | str] | None:
    """The objects of a line, and the text of a torn one before them; None when it holds no object."""
    try:
        value = json_text.parse(text.rstrip(","))
    except ValueError:
        return _embedded(text)
    if isinstance(value, str) and depth < _DEPTH:
        return _objects(value, depth + 1)
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return [v if isinstance(v, dict) else {} for v in value]
    return [value] if isinstance(value, dict) else None


def _embedded(text: str) -> list[Mapping[str, Any] | str] | None:
    """The objects behind a time, a level or a torn line, or one behind the other; a torn line stays as text."""
    found: list[Mapping[str, Any] | str] = []
    at, failures = text.find("{"), 0
    first = at
    while at >= 0 and failures < 50:
        try:
            value, end = json_text.parse_start(text, at)
        except ValueError:
            failures, end = failures + 1, at + 1
        else:
            if not found and failures and text.startswith("{"):
                found.append(text[:at])
            found.append(value)
        at = text.find("{", end)
    inner = bool(found) and failures > 0 and bool(text[end:].strip(" ,]\"'")) if first >= 0 else True
    if inner or not any(isinstance(v, dict) for v in found):
        return _quoted(text) or _python(text) or _pairs(text)
    return found


def _pairs(text: str) -> list[Mapping[str, Any] | str] | None:
    """action=accept confidence=0.97 label="spam", as key=value loggers write a decision."""
    found: dict[str, Any] = {}
    for name, value in _PAIR.findall(text):
        try:
            found[name] = json_text.parse(value) if value[:1] == '"' else value
        except ValueError:  # an escape that JSON does not know
            found[name] = value[1:-1]
    return [{k: v for k, v in found.items() if v not in ("", "null", "None")}] if "action" in found else None


def _quoted(text: str) -> list[Mapping[str, Any] | str] | None:
    r"""msg="{\"action\": ...}", as key=value loggers write it."""
    start, end = text.find('{\\"'), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        value = json_text.parse(json_text.parse(f'"{text[start : end + 1]}"'))
    except ValueError:
        return None
    return [value] if isinstance(value, dict) else None


def _python(text: str) -> list[Mapping[str, Any] | str] | None:
    start, end = text.find("{'"), text.rfind("}")
    if start < 0 or end < start or end - start > 100_000:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape that Python does not know
            value = ast.literal_eval(text[start : end + 1])
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    return [value] if isinstance(value, dict) and all(isinstance(k, str) for k in value) else None


def _payload(fields: Mapping[str, Any]) -> bool:
    return any(name in fields for name in _PAYLOAD)


def _unwrapped(fields: Mapping[str, Any], depth: int = 0) -> Mapping[str, Any]:
    """The program's own object. What the driver's object says of time, and any label beside it, is kept where the inner has none."""
    if _payload(fields) or depth >= _DEPTH:
        return fields
    for name in WRAPPERS:
        inner = fields.get(name)
        if isinstance(inner, str) and "{" in inner:
            found = _objects(inner.strip(), depth + 1)
            inner = found[0] if found else None
        if isinstance(inner, Mapping):
            known = _unwrapped(inner, depth + 1)
            if _payload(known):
                outer = {
                    k: fields[k] for k in (*AUDIT, "time", "@timestamp", "timestamp") if k in fields and k not in known
                }
                return {**known, **outer}
    return fields


def _part_of_line(text: str) -> str | None:
    """The text in a driver's object that may be a piece of a longer line; None for any other line."""
    if not text.startswith("{") or '"action"' in text[:12]:
        return None
    try:
        value = json_text.parse(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or _payload(value) or not isinstance(value.get("log"), str):
        return None
    piece: str = value["log"]
    return piece if "stream" in value or "partial_message" in value else None


class _ManyLines:
    """Objects that span lines: gathered until their brackets close."""

    def __init__(self) -> None:
        self.open = False
        self._text: list[str] = []
        self._depth = 0

    def add(self, text: str) -> Iterator[LogRecord]:
        """Take a line; give the objects that it closes."""
        self.open = True
        if self._depth == 0 and text in ("[", "]", ",", ""):
            self.open = text != "]"
            return
        self._text.append(text)
        self._depth += _balance(text)
        if self._depth <= 0:
            whole, self._text, self._depth = " ".join(self._text), [], 0
            self.open = whole.endswith(",")
            ended = whole.rstrip().endswith("]") and not whole.lstrip().startswith("[")
            yield from _read(whole.rstrip("]") if ended else whole)

    def rest(self) -> Iterator[LogRecord]:
        """Objects that never closed."""
        if self._text:
            yield from _read(" ".join(self._text))


_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')


def _balance(text: str) -> int:
    bare = _STRINGS.sub("", text)
    return bare.count("{") - bare.count("}")
