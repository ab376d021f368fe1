"""Column roles: which column of somebody's table is the label, an id, a group, a segment, and which the prompt shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cascade_threshold.label_text import NO_NAMES, YES_NAMES
from pipeline.collect.data.category_rows import flag_columns
from pipeline.collect.data.table_columns import Column, identifies, kept_out, named

MOST_LABELS = 200
LABEL_NAMES = ("label", "category", "class", "target", "intent", "gold", "answer", "relevance", "folder", "y")
ID_NAMES = ("id", "example_id", "uid", "uuid", "key")
GROUP_NAMES = (
    "thread",
    "thread_id",
    "query_id",
    "user",
    "user_id",
    "session",
    "conversation",
    "conversation_id",
    "customer",
    "group",
    "author",
)
SEGMENT_NAMES = ("segment", "language", "lang", "source", "channel", "region", "style", "country")
QUERY_NAMES = ("query", "question", "search")
PASSAGE_NAMES = ("passage", "document", "doc", "text", "content", "snippet", "context", "answer_text")
MOST_GRADES = 6
"""Grades of relevance, from 0."""


def worded(columns: list[Column]) -> Column | None:
    """The column one of whose name's words is that of a label ("Class Name", "airline-sentiment")."""
    words = {*LABEL_NAMES, "sentiment"} - {"y"}
    return next((c for c in columns if words & set(re.split(r"[\W_]+", c.name.casefold()))), None)


def chosen_from(columns: list[Column], lists: str, label: str | None) -> bool:
    """Whether another column names one entry of each list, so that the list holds options."""
    if label is not None:
        return False
    others = [c for c in columns if c.name != lists and c.name.casefold() in LABEL_NAMES and not c.is_list]
    return bool(others)


def flags_of(columns: list[Column], texts: Sequence[str]) -> list[str]:
    """Columns that each say yes or no of one category, where no other column is named like a label."""
    flags = flag_columns([c for c in columns if c.name not in texts])
    label = named(columns, LABEL_NAMES, set()) or worded([c for c in columns if len(c.distinct) <= MOST_LABELS])
    return flags if label is None else []


def roles_of(columns: list[Column], named_label: str | None = None, named_texts: Sequence[str] = ()) -> dict[str, Any]:
    """Which column plays which part; the longest remaining text columns are the prompt's."""
    roles: dict[str, Any] = {}
    taken: set[str] = set()

    def take(role: str, column: Column | None) -> None:
        if column is not None:
            roles[role] = column
            taken.add(column.name)

    chosen = {c.name: c for c in columns}
    if named_label is not None:
        take("label", chosen[named_label])
    take("options", next((c for c in columns if c.is_list and c.name not in taken and c.name not in named_texts), None))
    if named_label is None:
        take("label", _label([c for c in columns if c.name not in {*taken, *named_texts}], "options" in roles))
    identity = named(columns, ID_NAMES, taken)
    named_so = next((c for c in columns if c.name not in {*taken, *named_texts} and identifies(c)), None)
    take("id", identity if identity is not None and identity.unique else named_so)
    take("group", named(columns, GROUP_NAMES, taken))
    segment = named(columns, SEGMENT_NAMES, taken)
    take("segment", segment if segment is not None and len(segment.distinct) <= 30 else None)
    texts = [c for c in columns if c.name not in taken and not c.is_list and c.length >= 3 and not kept_out(c)]
    if named_texts:
        roles |= {
            "kind": "choose" if "options" in roles else "classify",
            "texts": [chosen[name] for name in named_texts],
        }
        return roles
    judge = None if "options" in roles else _judge(texts, roles.get("label"))
    if judge is not None:
        roles.setdefault("group", judge["texts"][0])  # passages of one query belong together
        return roles | judge
    roles["kind"] = "choose" if "options" in roles else "classify"
    longest = max((c.length for c in texts), default=0)
    shown = [c for c in texts if c.length >= 0.05 * longest or c.name.casefold() in ("subject", "title")]
    options = [] if "options" in roles else _named_by(roles.get("label"), columns)
    roles["texts"] = [*(c for c in shown if c not in options), *options]
    return roles


def _named_by(label: Column | None, columns: list[Column]) -> list[Column]:
    """Columns whose names are the labels, such as A, B, C and D: what a question's options say, without which none can be chosen."""
    named_so = {} if label is None else {c.name.strip().casefold(): c for c in columns if c is not label}
    values = [] if label is None else sorted({v.strip().casefold() for v in label.distinct})
    return [named_so[v] for v in values] if len(values) > 1 and named_so.keys() >= set(values) else []


def _label(columns: list[Column], has_options: bool) -> Column | None:
    """The column that looks most like a label: by its name, its values, as letters of options, or the last with few values."""
    few = [c for c in columns if 2 <= len(c.distinct) <= min(MOST_LABELS, max(2, c.rows // 3)) and c.length < 60]
    letters = [c for c in columns if has_options and c.name.casefold() in LABEL_NAMES]
    others = [c for c in few if named([c], (*ID_NAMES, *GROUP_NAMES, *SEGMENT_NAMES), set()) is None]
    return named(few, LABEL_NAMES, set()) or worded(few) or next(iter([*letters, *(others or few)[::-1]]), None)


def _judge(texts: list[Column], label: Column | None) -> dict[str, Any] | None:
    """The part of kind judge: a query and a passage, and a label that is yes or no, or a grade; None for another kind."""
    query, passage = named(texts, QUERY_NAMES, set()), named(texts, PASSAGE_NAMES, set())
    values = set() if label is None else {v.strip('"').casefold() for v in label.distinct}
    if query is None or passage is None or not values:
        return None
    found: dict[str, Any] = {"kind": "judge", "texts": [query, passage]}
    if values <= YES_NAMES | NO_NAMES:
        return found
    if not (3 <= len(values) <= MOST_GRADES and all(re.fullmatch(r"\d", v) for v in values) and "0" in values):
        return None
    asks = f"How well does the passage answer the query? Answer with a grade: {', '.join(sorted(values))}."
    return found | {"grades": sorted(values, reverse=True), "asks": asks}
