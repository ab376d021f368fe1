"""Dataset: labeled rows, checked before anything is spent, with stable ids, and placed in splits by content alone."""

from __future__ import annotations

import difflib
import hashlib
import heapq
import json
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cascade_threshold.label_text import label_text
from cascade_threshold.segment import BLANK
from pipeline.collect.data.choice_reading import ChoiceReading, options_in
from pipeline.collect.data.examples import Codes, Example, Examples
from pipeline.collect.data.table_reader import TableFile, columns_shown, is_storable, short
from pipeline.collect.request import letters
from pipeline.config.split import Split
from pipeline.config.task import TaskConfig
from pipeline.errors import DataError
from pipeline.run.digests import digest_of_list
from pipeline.run.garbage import no_garbage_search

LONG_TEXT = 100_000

Canonical = Callable[[str], str | None]


@dataclass(frozen=True)
class Dataset:
    """All rows of a task and what was noticed while reading them."""

    examples: Examples
    columns: tuple[str, ...]
    digest: str
    health: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.examples)

    def fields(self, example: Example) -> dict[str, str]:
        """The prompt's columns of a row by name."""
        return dict(zip(self.columns, example.texts, strict=True))

    def limited(self, n: int) -> Dataset:
        """The n rows with the smallest hashes, in their old order: the same n whatever else the file holds."""
        hashed = ((_hash(name), name, place) for place, name in enumerate(self.examples.ids()))
        kept = self.examples.taken(sorted(place for _, _, place in heapq.nsmallest(n, hashed)))
        used = {
            **self.health,
            "used": len(kept),
            "excluded": {**self.health["excluded"], "limit": len(self) - len(kept)},
        }
        return Dataset(kept, self.columns, _digest_of(kept), {**used, "splits": dict(Counter(e.split for e in kept))})


def read(config: TaskConfig, canonical: Canonical) -> Dataset:
    """Read and check a task's rows.

    `canonical` maps a label's text to the label of the config, or to None. Raises DataError that names file, line,
    value, rule and remedy at the first fault that could falsify a result.
    """
    spec = config.dataset
    if spec is None or config.prompt is None:
        raise DataError(
            f"{config.source}: has no `dataset` and `prompt`, so there are no rows to ask about; for a table of predictions use "
            "`evaluate --predictions FILE`, or predictions: {path: ...} in the config"
        )
    table = TableFile(config.resolve(spec.path))
    text_columns = (
        tuple(c for c in config.prompt.columns if c != spec.options) if spec.options else config.prompt.columns
    )
    named = {
        "dataset.id": spec.id,
        "dataset.label": spec.label,
        "dataset.options": spec.options,
        "dataset.group": spec.group,
        "dataset.segment": spec.segment,
        **{f"prompt: {{{c}}}": c for c in text_columns},
    }
    wanted = {where: column for where, column in named.items() if column}
    reader = _Reader(config, table, text_columns, canonical)
    with no_garbage_search():
        for number, row in table.rows(list(dict.fromkeys(wanted.values()))):
            if number == 1 or not len(reader.examples):
                _require_columns(table, number, row, wanted)
            reader.add(number, row)
        return reader.finish()


def split_of(group: str, split: Split) -> str:
    """The split of a group: a hash of its name alone, so that no seed and no order of rows can move it."""
    u = int(_hash(group)[:13], 16) / 16**13
    return "fit" if u < split.fit else "certify" if u < split.fit + split.certify else "test"


def normalised(texts: Sequence[str]) -> str:
    """Content as compared for copies: NFKC, case folded, white space collapsed."""
    return "\x1f".join(" ".join(unicodedata.normalize("NFKC", t).casefold().split()) for t in texts)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _digest_of(examples: Iterable[Example]) -> str:
    total = hashlib.sha256()
    for e in examples:
        total.update(_digest(e))
    return total.hexdigest()


def _digest(e: Example) -> bytes:
    return digest_of_list(e.id, e.texts, e.label, e.options, e.group, e.segment).encode()


def _require_columns(table: TableFile, number: int, row: dict[str, Any], wanted: dict[str, str]) -> None:
    for where, column in wanted.items():
        if column not in row:
            near = difflib.get_close_matches(column, list(row), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            if where.startswith("prompt") and not column.replace("_", "").isalnum():
                hint += "; if these braces are literal text, double them"
            raise DataError(
                f"{table.where(number)}: no column {column!r}, which the config names as {where}{hint}; columns here: {columns_shown(row)}"
            )


class _Reader:
    """Turns rows of a file into examples and keeps the counts."""

    def __init__(
        self, config: TaskConfig, table: TableFile, text_columns: tuple[str, ...], canonical: Canonical
    ) -> None:
        assert config.dataset is not None and config.prompt is not None
        self.config, self.spec, self.table, self.canonical = config, config.dataset, table, canonical
        self.split = config.split
        self.text_columns, self.columns = text_columns, config.prompt.columns
        self.choices = ChoiceReading.of(table, self.spec.label, self.spec.options)
        self.repeated_options = self.blank = self.long = 0
        self.examples = Examples(len(self.columns), grouped=self.spec.group is not None)
        self.needed = tuple(c for c in (*text_columns, self.spec.label) if c)
        self.numbers = array("q")
        """Line or row number of each row."""
        self.exact = array("q")
        """A hash of each row's texts as they stand."""
        self.total = hashlib.sha256()
        """Over the digests of the rows, where these name their ids."""

    def add(self, number: int, row: dict[str, Any]) -> None:
        for column in self.needed:
            if column not in row:
                raise DataError(f"{self.table.where(number)}: no {column!r} here; every row needs it")
        by_name = {c: self._text(number, c, row[c]) for c in self.text_columns}
        options = self._options(number, row)
        if self.spec.options is not None and options is not None:
            self.repeated_options += len({o.strip() for o in options}) < len(options)
            by_name[self.spec.options] = "\n".join(
                f"{a}. {o}" for a, o in zip(letters(len(options)), options, strict=True)
            )
        texts = tuple([by_name[c] for c in self.columns])
        self.blank += not all(map(str.strip, texts))
        self.long += max(map(len, texts), default=0) > LONG_TEXT
        label = self._label(number, row, options)
        content = hashlib.sha256(normalised(texts).encode("utf-8", "surrogatepass"))
        group = self._plain(number, self.spec.group, row) if self.spec.group else content.hexdigest()
        segment = self._plain(number, self.spec.segment, row, blank=BLANK) if self.spec.segment else None
        name, split = self._id(number, row, texts), split_of(group, self.split)
        example = Example(name, texts, label, options, group, segment, split)
        if self.spec.id:
            self.total.update(_digest(example))
        self.examples.add(example, content.digest())
        self.numbers.append(number)
        self.exact.append(hash(texts))

    def _text(self, number: int, column: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        if value is None:
            return ""
        if isinstance(value, bool | int | float):
            return json.dumps(value)
        where = self.table.where(number)
        raise DataError(
            f"{where}: column {column!r} holds {type(value).__name__}, a prompt takes text; flatten it first"
        )

    def _plain(self, number: int, column: str | None, row: dict[str, Any], blank: str | None = None) -> str:
        assert column is not None
        value = row.get(column)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is None or (isinstance(value, str) and not value.strip()):
            if blank is not None:
                return blank
            raise DataError(f"{self.table.where(number)}: column {column!r} is blank; every row needs one")
        if not isinstance(value, str):
            where = self.table.where(number)
            raise DataError(
                f"{where}: column {column!r} holds {short(str(value))} ({type(value).__name__}); write it as text"
            )
        return value

    def _id(self, number: int, row: dict[str, Any], texts: tuple[str, ...]) -> str:
        if self.spec.id:
            name = self._plain(number, self.spec.id, row)
            if not is_storable(name):
                raise DataError(
                    f"{self.table.where(number)}: id {short(name)!r} holds half a character (a lone surrogate), which no database can store; fix the row"
                )
            return name
        return _hash("\x1f".join(texts))[:24]

    def _options(self, number: int, row: dict[str, Any]) -> tuple[str, ...] | None:
        if not self.spec.options:
            return None
        found = options_in(row.get(self.spec.options))
        if isinstance(found, str):
            raise DataError(f"{self.table.where(number)}: column {self.spec.options!r} {found}")
        return found

    def _label(self, number: int, row: dict[str, Any], options: tuple[str, ...] | None) -> str | None:
        column = self.spec.label
        if column is None:
            return None
        value = row[column]
        try:
            text = label_text(value)
            label = (
                None
                if options is not None or text is None
                else self.canonical(value if isinstance(value, str) else text)
            )
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self.table.where(number)}: label {str(value)[:80]}: {error}; write it as text, as the config does"
            ) from None
        if text is None or not text.strip():
            raise DataError(
                f"{self.table.where(number)}: the label is blank; label the row or leave it out of the file"
            )
        if options is not None:
            return self._choice(number, text, options)
        if label is None and self.config.kind == "judge" and self.config.answer_set is not None:
            label = self.config.answer_set.label_of(value)  # yes, true, relevant, 1 and their opposites
        if label is None:
            known, text = list(self.config.answers or ()), short(text)
            said = (
                repr(text)
                if isinstance(value, str)
                else f"{short(str(value))} is {type(value).__name__}, which reads {text!r}, and"
            )
            near = difflib.get_close_matches(text, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(
                f"{self.table.where(number)}: label {said} is not one of the config's labels [{columns_shown(known)}]{hint}; add it to `labels` or fix the row"
            )
        return label

    def _choice(self, number: int, text: str, options: tuple[str, ...]) -> str:
        """The letter of the right option, in the file's one reading."""
        found = self.choices.letter(text, options)
        if found is None:
            names = letters(len(options))
            raise DataError(
                f"{self.table.where(number)}: label {short(text)!r} is {self.choices.misfit(text, options)}; give the letter of the right option, "
                f"{names[0]} to {names[-1]}, in every row"
            )
        return found

    def finish(self) -> Dataset:
        rows = self.examples
        rows.close()
        if not len(rows):
            raise DataError(f"{self.table.path}: no rows; a dataset needs labeled rows below its header")
        self.config.require_costs(rows.label_counts)
        if self.spec.id:
            self._require_distinct_ids()
        else:  # copies get a number, so that a file of copies still has one id per row
            rows.number_repeated_ids()
        n, content = len(rows), rows.content_codes
        contents = int(content.max()) + 1
        health = {
            "rows": n,
            "used": n,
            "excluded": {},
            "splits": rows.split_counts,
            "duplicate_texts": self._copies(content),
            "duplicate_texts_normalised": n - contents,
            "conflicting_labels": _told_apart(content, rows.label_codes),
            "leaked_between_splits": _told_apart(content, rows.split_codes) if self.spec.group else 0,
            "blank_texts": self.blank,
            "long_texts": self.long,
            "repeated_options": self.repeated_options,
            "groups": int(rows.group_codes.max()) + 1 if self.spec.group else contents,
            "grouped_by": self.spec.group or "content",
            "labels": dict(sorted((label or "(none)", count) for label, count in rows.label_counts.items())),
        }
        return Dataset(rows, self.columns, self.total.hexdigest() if self.spec.id else _digest_of(rows), health)

    def _require_distinct_ids(self) -> None:
        if twice := list(self.examples.places.repeated()):
            places = ((name, self.numbers[first], self.numbers[again]) for name, first, again in twice[:5])
            shown = "; ".join(
                f"{short(name)!r} at {self.table.unit}s {first} and {again}" for name, first, again in places
            )
            raise DataError(
                f"{self.table.path}: {len(twice)} duplicate ids: {shown}; ids in column {self.spec.id!r} must be unique"
            )

    def _copies(self, content: Codes) -> int:
        """Rows whose texts are, to the letter, those of an earlier one: of one content and one hash."""
        pairs = pd.DataFrame({"content": content, "exact": np.frombuffer(self.exact, dtype=np.int64)})
        return int(pairs.duplicated().sum())


def _told_apart(content: Codes, said: Codes) -> int:
    """Contents of which some rows say another thing than others."""
    pairs = pd.DataFrame({"content": content, "said": said}).drop_duplicates()
    return int((pairs["content"].value_counts() > 1).sum())
