"""Category rows: a table whose label column holds lists, or that has one 0/1 column per category, as one yes/no row per text and
category, with the text as group.

A list of labels has no single right answer whose confidence a threshold could be held against; whether one category applies
has. Rows of one text resemble each other, so the text is their group.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cascade_threshold import json_text
from cascade_threshold.label_text import NO_NAMES, YES_NAMES, label_text
from pipeline.collect.data.table_columns import Column

LIST_NAMES = ("labels", "categories", "tags", "topics", "classes", "flags", "label", "category")
"""Columns of these names that hold lists are labels, not options."""
MOST_CATEGORIES = 50
APPLIES, CATEGORY, GROUP = "applies", "category", "group"
"""Columns of the rows made: whether the category applies (yes or no), which it is, and what belongs together."""


class Told(NamedTuple):
    """What a row of the table says of the categories."""

    applies: Sequence[str]
    blank: frozenset[str] = frozenset()
    """Categories of which it says nothing."""


@dataclass(frozen=True)
class CategoryRows:
    """One row per text and category of which the table says something. `blank` texts say nothing and are left out."""

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
            value = _printed(value)
    if not isinstance(value, list) or any(isinstance(v, list | dict) for v in value):
        return None
    found = [label_text(v) for v in value]
    return [text.strip() for text in found if text is not None and text.strip()]


def _printed(text: str) -> Any:
    """A list as Python prints it, which is how pandas writes one into a CSV."""
    try:
        return ast.literal_eval(text.strip()) if len(text) < 10_000 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def flag_columns(columns: Sequence[Column]) -> list[str]:
    """Columns of 0 and 1, true and false, or yes and no, both of which occur: one per category, if there are several."""

    def flags(column: Column) -> bool:
        values = {value.strip().strip('"').casefold() for value in column.distinct}
        values = {value.removesuffix(".0") for value in values}
        return bool(values & YES_NAMES) and bool(values & NO_NAMES) and values <= YES_NAMES | NO_NAMES

    found = [column.name for column in columns if flags(column)]
    return found if 2 <= len(found) <= MOST_CATEGORIES else []


def told_by_flags(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[Told | None]:
    """What 0/1 columns say, row by row; None where all are blank."""

    def told(row: dict[str, Any]) -> Told | None:
        said = {c: (label_text(row.get(c)) or "").strip().casefold().removesuffix(".0") for c in columns}
        blank = frozenset(c for c, value in said.items() if not value)
        return None if len(blank) == len(columns) else Told([c for c, v in said.items() if v in YES_NAMES], blank)

    return [told(row) for row in rows]


def told_by_lists(rows: Sequence[dict[str, Any]], column: str) -> list[Told | None]:
    """What a column of lists says, row by row; None where there is not a list."""
    lists = [listed(row.get(column)) for row in rows]
    return [None if found is None else Told(list(dict.fromkeys(found))) for found in lists]


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
    rows: Sequence[dict[str, Any]],
    told: Sequence[Told | None],
    dropped: Sequence[str],
    *,
    identity: str | None,
    group: str | None,
) -> CategoryRows:
    """Every text asked about every category that occurs, in order of how often they do; `dropped` columns are the labels'.

    `identity` names the column of unique ids, else rows are numbered; `group` one whose rows belong together, else each text
    is its own group.
    """
    counts = Counter(category for found in told if found is not None for category in found.applies)
    categories = [category for category, _ in counts.most_common()]
    taken = {*dropped, APPLIES, CATEGORY, GROUP, "id"}

    def made() -> Iterator[dict[str, Any]]:
        for number, (row, found) in enumerate(zip(rows, told, strict=True), 1):
            if found is None:
                continue
            name = f"row-{number}" if identity is None else label_text(row[identity])
            kept = {key: value for key, value in row.items() if key not in taken and key != identity}
            together = name if group is None or row.get(group) in (None, "") else label_text(row[group])
            for category in categories:
                if category in found.blank:
                    continue
                applies = "yes" if category in found.applies else "no"
                yield {"id": f"{name}:{category}", GROUP: together, **kept, CATEGORY: category, APPLIES: applies}

    made_rows = list(made())
    blank = sum(found is None for found in told)
    return CategoryRows(categories, counts, len(rows) - blank, len({row[GROUP] for row in made_rows}), blank, made_rows)
