"""Reading a page without a browser: its elements, its visible text and the numbers in it."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

VOID = {"meta", "input", "br", "link", "img", "hr"}


@dataclass
class Node:
    """An element with what it holds."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Node | str] = field(default_factory=list)

    def all(self, tag: str, **attributes: str) -> list[Node]:
        """The elements below with that tag whose attributes hold these words, in order; `class_` stands for class."""
        wanted = {key.rstrip("_").replace("_", "-"): word for key, word in attributes.items()}
        found = []
        for child in self.children:
            if isinstance(child, Node):
                fits = all(w in (child.attributes.get(k) or "").split() for k, w in wanted.items())
                found += ([child] if child.tag == tag and fits else []) + child.all(tag, **attributes)
        return found

    @property
    def text(self) -> str:
        """The text in it, outside style, script and drawings; a space that does not break stays one."""
        return re.sub("[ \n]+", " ", self._text(())).strip()

    def but(self, *tags: str) -> str:
        """The text in it without those tags too."""
        return re.sub("[ \n]+", " ", self._text(tags)).strip()

    def _text(self, without: tuple[str, ...]) -> str:
        if self.tag in ("style", "script", "svg", *without):
            return " "
        return " ".join(c if isinstance(c, str) else c._text(without) for c in self.children)


class Page(html.parser.HTMLParser):
    """Elements with attributes in order and as a tree, text outside style, script and drawings, and ill-nested tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = Node("", {})
        self._path = [self.root]
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.faults: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        node = Node(tag, dict(attrs))
        self._path[-1].children.append(node)
        if tag not in VOID:
            self._open.append(tag)
            self._path.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:]} at line {self.getpos()[0]}")
        else:
            self._open.pop()
            self._path.pop()

    def handle_data(self, data: str) -> None:
        self._path[-1].children.append(data)
        if not {"script", "style"} & set(self._open) and self._open[-1:] != ["text"]:
            self.text.append(data)

    @property
    def words(self) -> str:
        """All visible text, without the labels inside drawings."""
        return " ".join(" ".join(self.text).split())


def numbers(text: str) -> set[str]:
    """Every number written in a text, without its sign."""
    return set(re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?", text.replace("\u2212", "-")))


def figures(text: str) -> list[str]:
    """Every number in a text in order, with its sign and its unit."""
    return re.findall(r"[−+±]?\$?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-−+]?\d+)?(?:\u00a0(?:%|ms|s\b|points))?", text)


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
