"""Reading a page without a browser: its elements, its visible text and the numbers in it."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Iterator
from typing import Any

VOID = {"meta", "input", "br", "link", "img", "hr"}


class Page(html.parser.HTMLParser):
    """Elements with attributes in order, text outside style, script and drawings, and ill-nested tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.faults: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:]} at line {self.getpos()[0]}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open) and self._open[-1:] != ["text"]:
            self.text.append(data)

    @property
    def words(self) -> str:
        """All visible text, without the labels inside drawings."""
        return " ".join(" ".join(self.text).split())


def numbers(text: str) -> set[str]:
    """Every number written in a text, without its sign."""
    return set(re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?", text.replace("\u2212", "-")))


def leaves(value: Any) -> Iterator[Any]:
    """Every number, text and length in a JSON value."""
    if isinstance(value, dict):
        yield len(value)
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif isinstance(value, list):
        yield len(value)
        for item in value:
            yield from leaves(item)
    elif value is not None:
        yield value
