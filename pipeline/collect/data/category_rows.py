"""Category rows: a table whose label column holds lists, as one yes/no row per text and category, with the text as group.

A list of labels has no single right answer whose confidence a threshold could be held against; whether one category applies
has. Rows of one text resemble each other, so the text is their group.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cascade_threshold import json_text
from cascade_threshold.label_text import label_text

LIST_NAMES = ("labels", "categories", "tags", "topics", "classes", "flags", "label", "category")
"""Columns of these names that hold lists are labels, not options."""
MOST_CATEGORIES = 50
APPLIES, CATEGORY, GROUP = "applies", "category", "group"
"""Columns of the rows made: whether the category applies (yes or no), which it is, and what belongs together."""


@dataclass(frozen=True)
class CategoryRows:
    """One row per text and category. `blank` texts had no list and are left out."""

    column: str
    categories: Sequence[str]
    counts: Counter[str]
    texts: int
    groups: int
    blank: int
    rows: list[dict[str, Any]]

    def file(self) -> bytes:
        """The rows as JSON lines."""
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows).encode()


def listed(value: Any) -> list[str] | None:
    """The categories that a cell holds, from a list or its JSON text; None where it holds no list of texts."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json_text.parse(value)
        except ValueError:
            return None
    if not isinstance(value, list) or any(isinstance(v, list | dict) for v in value):
        return None
    found = [label_text(v) for v in value]
    return [text.strip() for text in found if text is not None and text.strip()]


def label_column(rows: Sequence[dict[str, Any]], named: str | None) -> str | None:
    """The column whose lists are labels: the one named, or one that is called so; None where there is none.

    A list beside a label that is one of its entries (or their letter or index) holds options to choose from.
    """
    columns = [named] if named is not None else [c for c in rows[0] if c.strip().casefold() in LIST_NAMES]
    for column in sorted(columns, key=lambda c: LIST_NAMES.index(c.strip().casefold()) if named is None else 0):
        lists = [listed(row.get(column)) for row in rows]
        held = [found for found in lists if found is not None]
        distinct = {category for found in held for category in found}
        if len(held) > 0.5 * len(rows) and 2 <= len(distinct) <= MOST_CATEGORIES:
            return column
    return None


def category_rows(
    rows: Sequence[dict[str, Any]], column: str, *, identity: str | None, group: str | None
) -> CategoryRows:
    """Every text asked about every category that occurs, in order of how often they do.

    `identity` names the column of unique ids, else rows are numbered; `group` one whose rows belong together, else each text
    is its own group.
    """
    held = [(number, row, listed(row.get(column))) for number, row in enumerate(rows, 1)]
    counts = Counter(category for _, _, found in held for category in dict.fromkeys(found or ()))
    categories = [category for category, _ in counts.most_common()]
    taken = {column, APPLIES, CATEGORY, GROUP, "id"}

    def made() -> Iterator[dict[str, Any]]:
        for number, row, found in held:
            if found is None:
                continue
            name = f"row-{number}" if identity is None else label_text(row[identity])
            kept = {key: value for key, value in row.items() if key not in taken and key != identity}
            together = name if group is None or row.get(group) in (None, "") else label_text(row[group])
            for category in categories:
                applies = "yes" if category in found else "no"
                yield {"id": f"{name}:{category}", GROUP: together, **kept, CATEGORY: category, APPLIES: applies}

    made_rows = list(made())
    blank = sum(found is None for _, _, found in held)
    return CategoryRows(
        column, categories, counts, len(rows) - blank, len({row[GROUP] for row in made_rows}), blank, made_rows
    )
