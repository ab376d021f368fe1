"""YamlText: a YAML text read within limits: the one reader of YAML.

size      MOST_BYTES
depth     MOST_DEPTH levels of lists and mappings
values    MOST_VALUES, each counted as often as aliases repeat it
numbers   whole numbers of at most 18 digits; dates that the calendar has
tags      none: `!!str 01` is written "01"
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent
from ruamel.yaml.reader import ReaderError

from pipeline.errors import ConfigError

MOST_BYTES = 500_000
MOST_DEPTH = 50
MOST_VALUES = 100_000
_WHOLE = re.compile(r"[-+]?(0x[0-9a-fA-F_]{16,}|0o[0-7_]{21,}|0b[01_]{63,}|[0-9][0-9_]{18,})")


def read(text: str, where: str) -> Any:
    """The value of a YAML text: mappings and lists of ruamel.yaml, which know their lines. `where`: the file, for messages.

    Raises ConfigError with the line for text that is no YAML or is beyond a limit.
    """
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{where}: {len(text):,} characters; it may have at most {MOST_BYTES:,}")
    try:
        scalars = _bounded(text, where)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)  # YAML lets an anchor be set anew
            return YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = str(error.problem).split(" with value")[0]
        raise ConfigError(f"{where}:{line}: {problem}; keep one of the two") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if mark else where
        raise ConfigError(
            f"{place}: not valid YAML: {error.problem or error.context}; check indentation, colons and quotes there"
        ) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{where}:{line}: holds the character U+{ord(text[error.position]):04X}, which YAML cannot hold; remove it"
        ) from None
    except YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise _too_deep(where) from None
    except ConfigError:
        raise
    except Exception as error:  # constructors of dates and numbers raise whatever Python does, without a line
        raise ConfigError(_no_such_value(scalars, where, error)) from None


def _too_deep(place: str) -> ConfigError:
    return ConfigError(f"{place}: nested deeper than {MOST_DEPTH} levels; flatten it")


def _bounded(text: str, where: str) -> list[ScalarEvent]:
    """The plain scalars of a text that keeps the limits. Raises ConfigError at the first that it does not keep.

    Events come one by one, so a text that nests or repeats without end is left before anything is built from it.
    """
    scalars: list[ScalarEvent] = []
    sizes: dict[str, int | None] = {}
    open_: list[list[Any]] = []  # anchor and number of values of each collection that is not closed yet
    total = 0
    for event in _events(text):
        place = f"{where}:{event.start_mark.line + 1}"
        if getattr(event, "tag", None) is not None and not _implied(event):
            raise ConfigError(
                f"{place}: holds a tag ({str(event.tag)[:60]}); tags are not supported: put text in quotes and remove the tag"
            )
        if isinstance(event, CollectionStartEvent):
            if len(open_) >= MOST_DEPTH:
                raise _too_deep(place)
            open_.append([event.anchor, 1])
            if event.anchor:
                sizes[event.anchor] = None
            continue
        size = 1
        if isinstance(event, CollectionEndEvent):
            anchor, size = open_.pop()
            if anchor:
                sizes[anchor] = size
        elif isinstance(event, AliasEvent):
            found = sizes.get(event.anchor, 1)  # an anchor that is not there is YAML's own error
            if found is None:
                raise ConfigError(
                    f"{place}: the alias *{event.anchor} is nested within what it repeats; write the values out"
                )
            size = found
        elif isinstance(event, ScalarEvent):
            if event.anchor:
                sizes[event.anchor] = 1
            if event.implicit[0]:
                scalars.append(event)
                if _WHOLE.fullmatch(event.value):
                    raise ConfigError(
                        f"{place}: {event.value[:20]}... is a whole number of {len(event.value):,} digits; "
                        "no value is that large, and text goes in quotes"
                    )
        else:
            continue
        total = max(total, size)
        if open_:
            open_[-1][1] += size
            total = max(total, open_[-1][1])
        if total > MOST_VALUES or len(scalars) > MOST_VALUES:
            raise ConfigError(
                f"{place}: more than {MOST_VALUES:,} values once its aliases are written out; write fewer"
            )
    return scalars


def _implied(event: Any) -> bool:
    implicit = getattr(event, "implicit", True)
    return bool(implicit[0] or implicit[1]) if isinstance(implicit, tuple) else bool(implicit)


def _events(text: str) -> Iterator[Any]:
    yaml = YAML(typ="rt")
    yaml.allow_duplicate_keys = False
    yield from yaml.parse(text)


def _no_such_value(scalars: list[ScalarEvent], where: str, error: Exception) -> str:
    for event in scalars:
        if event.value[:1] in "+-.0123456789" and event.value:
            try:
                YAML(typ="rt").load(f"x: {event.value}")
            except Exception as same:
                line = event.start_mark.line + 1
                return f"{where}:{line}: {event.value[:40]!r} is neither a date nor a number ({same}); fix it, or put text in quotes"
    return f"{where}: holds a value that cannot be read ({error})"


def plain(node: Any) -> Any:
    """YAML nodes as plain Python values (ruamel's scalars carry formatting)."""
    if isinstance(node, CommentedMap):
        return {(str(k) if isinstance(k, str) else k): plain(v) for k, v in node.items()}
    if isinstance(node, CommentedSeq):
        return [plain(v) for v in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return node if kind is bool else kind(node)
    return node
