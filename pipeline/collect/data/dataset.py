"""Dataset: labeled rows, checked before anything is spent, with stable ids, and placed in splits by content alone."""

from __future__ import annotations

import difflib
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cascade_threshold.label_text import label_text
from cascade_threshold.segment import BLANK
from pipeline.collect.data.choice_reading import ChoiceReading, options_in
from pipeline.collect.data.table_reader import TableFile, columns_shown, is_storable
from pipeline.collect.request import letters
from pipeline.config.split import Split
from pipeline.config.task import TaskConfig
from pipeline.config.vocabulary import SPLITS
from pipeline.errors import DataError
from pipeline.run.digests import digest_of_list
from pipeline.run.garbage import no_garbage_search

LONG_TEXT = 100_000

Canonical = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Example:
    """One row: what the prompt needs, and what is known about it."""

    id: str
    texts: tuple[str, ...]
    """The prompt's columns, in the prompt's order."""
    label: str | None
    options: tuple[str, ...] | None
    group: str
    segment: str | None
    split: str


@dataclass(frozen=True)
class Dataset:
    """All rows of a task and what was noticed while reading them."""

    examples: list[Example]
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
        keep = set(sorted((_hash(e.id), e.id) for e in self.examples)[:n])
        kept = [e for e in self.examples if (_hash(e.id), e.id) in keep]
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
            if number == 1 or not reader.seen:
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


def _digest_of(examples: Sequence[Example]) -> str:
    total = hashlib.sha256()
    for e in examples:
        total.update(digest_of_list(e.id, e.texts, e.label, e.options, e.group, e.segment).encode())
    return total.hexdigest()


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
        self.repeated_options = 0
        self.seen: dict[str, int] = {}
        self.examples: list[Example] = []
        self.needed = tuple(c for c in (*text_columns, self.spec.label) if c)
        self.exact: set[tuple[str, ...]] = set()
        self.copies = self.blank = self.long = 0
        self.label_of: dict[str, str | None] = {}
        """The first label of each content; below, the contents that have another too, and those in two splits."""
        self.conflicting: set[str] = set()
        self.split_of: dict[str, str] = {}
        self.leaked: set[str] = set()
        self.duplicates: list[tuple[str, int, int]] = []

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
        self.copies += texts in self.exact
        self.exact.add(texts)
        self.blank += not all(map(str.strip, texts))
        self.long += max(map(len, texts), default=0) > LONG_TEXT
        label = self._label(number, row, options)
        key = _hash(normalised(texts))
        group = self._plain(number, self.spec.group, row) if self.spec.group else key
        split = split_of(group, self.split)
        if self.label_of.setdefault(key, label) != label:
            self.conflicting.add(key)
        if self.spec.group and self.split_of.setdefault(key, split) != split:
            self.leaked.add(key)
        segment = self._plain(number, self.spec.segment, row, blank=BLANK) if self.spec.segment else None
        self.examples.append(Example(self._id(number, row, texts), texts, label, options, group, segment, split))

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
            raise DataError(f"{where}: column {column!r} holds {value!r} ({type(value).__name__}); write it as text")
        return value

    def _id(self, number: int, row: dict[str, Any], texts: tuple[str, ...]) -> str:
        if self.spec.id:
            name = self._plain(number, self.spec.id, row)
            if not is_storable(name):
                raise DataError(
                    f"{self.table.where(number)}: id {name!r} holds half a character (a lone surrogate), which no database can store; fix the row"
                )
            if name in self.seen:
                self.duplicates.append((name, self.seen[name], number))
        else:
            # copies get a number, so that a file of copies still has one id per row
            name = base = _hash("\x1f".join(texts))[:24]
            repeat = 1
            while name in self.seen:
                repeat += 1
                name = f"{base}-{repeat}"
        self.seen.setdefault(name, number)
        return name

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
            known = list(self.config.answers or ())
            said = (
                repr(text)
                if isinstance(value, str)
                else f"{value!r} is {type(value).__name__}, which reads {text!r}, and"
            )
            near = difflib.get_close_matches(text, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(
                f"{self.table.where(number)}: label {said} is not one of the config's labels {known}{hint}; add it to `labels` or fix the row"
            )
        return label

    def _choice(self, number: int, text: str, options: tuple[str, ...]) -> str:
        """The letter of the right option, in the file's one reading."""
        found = self.choices.letter(text, options)
        if found is None:
            names = letters(len(options))
            raise DataError(
                f"{self.table.where(number)}: label {text!r} is {self.choices.misfit(text, options)}; give the letter of the right option, "
                f"{names[0]} to {names[-1]}, in every row"
            )
        return found

    def finish(self) -> Dataset:
        if self.duplicates:
            shown = "; ".join(f"{n!r} at {self.table.unit}s {a} and {b}" for n, a, b in self.duplicates[:5])
            raise DataError(
                f"{self.table.path}: {len(self.duplicates)} duplicate ids: {shown}; ids in column {self.spec.id!r} must be unique"
            )
        if not self.examples:
            raise DataError(f"{self.table.path}: no rows; a dataset needs labeled rows below its header")
        n = len(self.examples)
        health = {
            "rows": n,
            "used": n,
            "excluded": {},
            "splits": {s: sum(e.split == s for e in self.examples) for s in SPLITS},
            "duplicate_texts": self.copies,
            "duplicate_texts_normalised": n - len(self.label_of),
            "conflicting_labels": len(self.conflicting),
            "leaked_between_splits": len(self.leaked),
            "blank_texts": self.blank,
            "long_texts": self.long,
            "repeated_options": self.repeated_options,
            "groups": len({e.group for e in self.examples}),
            "grouped_by": self.spec.group or "content",
            "labels": dict(sorted(Counter(e.label or "(none)" for e in self.examples).items())),
        }
        return Dataset(self.examples, self.columns, _digest_of(self.examples), health)
