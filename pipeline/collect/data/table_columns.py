"""TableColumns: what each column of a user's table holds, and which ones are uninformative."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cascade_threshold import json_text
from cascade_threshold.label_text import label_text
from pipeline.collect.data.table_reader import TableFile
from pipeline.errors import DataError

ID_WORDS = ("id", "uid", "uuid", "guid", "key", "index", "no", "nr", "num", "number", "ref")
"""Last words of a name such as "Ticket No", whose column is an id where every row has a value of its own."""


@dataclass(frozen=True)
class Column:
    """What a column holds."""

    name: str
    blank: int
    distinct: Counter[str]
    is_list: bool
    length: float
    """Mean characters."""

    @property
    def rows(self) -> int:
        """Rows of the table, blank ones included."""
        return self.blank + sum(self.distinct.values())

    @property
    def unique(self) -> bool:
        """Whether every row has a value of its own."""
        return self.blank == 0 and len(self.distinct) == self.rows


def columns_of(table: TableFile) -> list[Column]:
    """What each column of a table holds. Raises DataError for a table without rows."""
    seen: dict[str, list[Any]] = {}
    count = 0
    for _, row in table.rows():
        for column, value in row.items():
            seen.setdefault(column, [None] * count).append(value)
        count += 1
        for values in seen.values():
            values.extend([None] * (count - len(values)))
    if not count:
        raise DataError(f"{table.path}: no rows; a proposal needs labeled rows")
    return [column_of(name, values) for name, values in seen.items()]


def column_of(name: str, values: list[Any]) -> Column:
    """What a column of these values holds."""
    lists = [v for v in values if isinstance(v, list) or (isinstance(v, str) and v.startswith("[") and _list(v))]
    texts = [_text(v) for v in values if v is not None and v != ""]
    mean = sum(map(len, texts)) / len(texts) if texts else 0.0
    return Column(name, len(values) - len(texts), Counter(texts), len(lists) > 0.9 * len(values), mean)


def _text(value: Any) -> str:
    """A cell as a label's value would be read; lists and mappings as JSON."""
    try:
        return label_text(value) or ""
    except (TypeError, ValueError):
        return json.dumps(value, ensure_ascii=False, default=str)


def _list(text: str) -> bool:
    try:
        return isinstance(json_text.parse(text), list)
    except ValueError:
        return False


def named(columns: list[Column], names: tuple[str, ...], taken: set[str]) -> Column | None:
    """The first of the names that a column has which is not taken; "Strong Correct", "ok?" and "Score (%)" are such names too."""
    found = [(_plain(c.name), c) for c in columns if c.name not in taken]
    known = [(names.index(name), c) for name, c in found if name in names]
    return min(known, key=lambda pair: pair[0], default=(0, None))[1]


def _plain(name: str) -> str:
    """A column's name in lower case, its words joined as ours are."""
    return "_".join(re.findall(r"[^\W_]+", name.casefold()))


def kept_out(column: Column) -> bool:
    """Whether a column is no text to decide by: a constant, a number of each row, an id or a time."""
    if len(column.distinct) <= 1:
        return True
    sample = [v for v, _ in column.distinct.most_common(200)]
    numbers = all(re.fullmatch(r"[+-]?[\d.,eE]+%?", v.strip()) for v in sample)
    times = all(
        re.fullmatch(r"\d{4}-\d\d?-\d\d?([T ].*)?|\d\d?[./]\d\d?[./]\d{2,4}.*|\d\d?:\d\d(:\d\d.*)?", v.strip())
        for v in sample
    )
    ids = bool(re.search(r"(?:^|[\W_])(?:id|uuid|guid|key|index)$", column.name.casefold())) or all(
        re.fullmatch(r"[0-9a-fA-F-]{16,}", v) for v in sample
    )
    return numbers or times or ids or identifies(column)


def identifies(column: Column) -> bool:
    """Whether a column names the rows: a short value of its own for each, under a name such as "Ticket No"."""
    words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column.name))
    return bool(words) and words[-1].casefold() in ID_WORDS and column.unique and column.length <= 40
