"""Examples: the rows of a dataset in columns; a row is an object only while it is looked at."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.collect.data.id_places import IdPlaces
from pipeline.collect.data.text_column import PIECE, Places, TextColumn
from pipeline.config.vocabulary import SPLITS

Codes = npt.NDArray[np.signedinteger]

DIGEST = 32
"""Bytes of a sha256."""


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


class _Coded:
    """A column of few distinct texts: the number of each row's, -1 for None."""

    def __init__(self) -> None:
        self.codes, self.texts = array("i"), dict[str, int]()

    def add(self, text: str | None) -> None:
        self.codes.append(-1 if text is None else self.texts.setdefault(text, len(self.texts)))

    def between(self, start: int, stop: int) -> list[str | None]:
        told = [*self.texts, None]  # -1 is the last
        return [told[code] for code in self.codes[start:stop]]

    def counts(self) -> Counter[str | None]:
        told = [*self.texts, None]
        return Counter({told[code]: n for code, n in Counter(self.codes).items()})


class Examples(Sequence[Example]):
    """Rows in order. They are added one by one and packed a piece at a time, so that about as much memory is held as their texts
    take as UTF-8, and 80 bytes a row.

    columns  number of the prompt's columns
    grouped  rows name their groups; else a row's group is the digest of its content, in hex
    """

    def __init__(self, columns: int, *, grouped: bool) -> None:
        self.grouped = grouped
        self._ids, self._options = TextColumn(), TextColumn()
        self._texts = tuple(TextColumn() for _ in range(columns))
        self._named = TextColumn() if grouped else None
        self._content = bytearray()
        self._label, self._segment, self._split = _Coded(), _Coded(), array("b")
        self._piece: list[tuple[str | None, ...]] = []

    def add(self, row: Example, content: bytes) -> None:
        """Append a row; `content`: the sha256 of its normalised texts. `close` ends the additions."""
        options = None if row.options is None else json.dumps(row.options)
        self._piece.append((row.id, options, *row.texts, *((row.group,) if self.grouped else ())))
        self._content += content
        self._label.add(row.label)
        self._segment.add(row.segment)
        self._split.append(SPLITS.index(row.split))
        if len(self._piece) == PIECE:
            self._pack()

    def _pack(self) -> None:
        columns = (self._ids, self._options, *self._texts, *((self._named,) if self._named is not None else ()))
        for column, texts in zip(columns, zip(*self._piece, strict=True), strict=True):
            column.add(texts)
        self._piece = []

    def close(self) -> None:
        """All rows were added."""
        if self._piece:
            self._pack()

    def __len__(self) -> int:
        return len(self._split)

    @overload
    def __getitem__(self, which: int) -> Example: ...
    @overload
    def __getitem__(self, which: slice) -> list[Example]: ...
    def __getitem__(self, which: int | slice) -> Example | list[Example]:
        if isinstance(which, slice):
            start, stop, step = which.indices(len(self))
            return self._rows(start, max(start, stop)) if step == 1 else [self[i] for i in range(start, stop, step)]
        place = range(len(self))[which]
        return self._rows(place, place + 1)[0]

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), PIECE):
            yield from self._rows(start, min(start + PIECE, len(self)))

    def _rows(self, start: int, stop: int) -> list[Example]:
        told = zip(*(column.between(start, stop) for column in self._texts), strict=True) if self._texts else iter(())
        texts = list(told) or [()] * (stop - start)
        options = [None if o is None else tuple(json.loads(o)) for o in self._options.between(start, stop)]
        columns = (
            self._ids.between(start, stop),
            texts,
            self._label.between(start, stop),
            options,
            self.groups(start, stop),
            self._segment.between(start, stop),
            [SPLITS[code] for code in self._split[start:stop]],
        )
        return list(map(Example, *columns))

    def ids(self) -> Iterator[str]:
        """Every row's id."""
        for piece in self._ids.pieces():
            yield from piece  # type: ignore[misc]

    def texts_by_id(self, start: int, stop: int) -> dict[str, str]:
        """The texts of some rows, a line break between those of a row, by id; quicker than from the rows."""
        texts: list[list[str]] = [column.between(start, stop) for column in self._texts]  # type: ignore[misc]
        joined = texts[0] if len(texts) == 1 else map("\n".join, zip(*texts, strict=True))
        return dict(zip(self._ids.between(start, stop), joined if texts else [""] * (stop - start), strict=True))  # type: ignore[arg-type]

    def groups(self, start: int, stop: int) -> list[str]:
        """The groups of some rows."""
        if self._named is not None:
            return self._named.between(start, stop)  # type: ignore[return-value]
        size, told = DIGEST, self._content[DIGEST * start : DIGEST * stop].hex()
        return [told[i : i + 2 * size] for i in range(0, len(told), 2 * size)]

    @property
    def labels(self) -> list[str | None]:
        """Every row's label."""
        return self._label.between(0, len(self))

    @property
    def segments(self) -> list[str | None]:
        """Every row's segment."""
        return self._segment.between(0, len(self))

    @property
    def splits(self) -> list[str]:
        """Every row's split."""
        return [SPLITS[code] for code in self._split]

    @property
    def split_codes(self) -> Codes:
        """The place in SPLITS of every row's split, (n,)."""
        return np.array(self._split, dtype=np.int8)

    @property
    def label_counts(self) -> Counter[str | None]:
        """Rows by label."""
        return self._label.counts()

    @property
    def split_counts(self) -> dict[str, int]:
        """Rows by split, of all splits."""
        counts = np.bincount(self.split_codes, minlength=len(SPLITS)).tolist()
        return dict(zip(SPLITS, counts, strict=True))

    @property
    def label_codes(self) -> Codes:
        """A number for every row's label, (n,); -1 is None."""
        return np.array(self._label.codes, dtype=np.int32)

    @property
    def content_codes(self) -> Codes:
        """A number for every row's content, (n,): the same where nothing but spelling differs, counted by first appearance."""
        raw = pa.py_buffer(self._content)
        digests = pa.FixedSizeBinaryArray.from_buffers(pa.binary(DIGEST), len(self), [None, raw])
        return np.asarray(digests.dictionary_encode().indices.to_numpy())

    @property
    def group_codes(self) -> Codes:
        """A number for every row's group, (n,), counted by first appearance."""
        if self._named is None:
            return self.content_codes
        numbers: dict[str | None, int] = {}
        told = (numbers.setdefault(group, len(numbers)) for piece in self._named.pieces() for group in piece)
        return np.fromiter(told, dtype=np.int32, count=len(self))

    def content(self, place: int) -> bytes:
        """The sha256 of a row's normalised texts."""
        return bytes(self._content[DIGEST * place : DIGEST * (place + 1)])

    def contents_at(self, places: Places) -> npt.NDArray[np.void]:
        """The sha256 of the normalised texts of some rows, (n,)."""
        every = np.frombuffer(self._content, dtype=np.dtype((np.void, DIGEST)))
        return every[places]

    @cached_property
    def places(self) -> IdPlaces:
        """Where an id stands."""
        return IdPlaces(self._ids)

    def number_repeated_ids(self) -> None:
        """Give rows whose id stood before a number after it, from 2 on."""
        times: Counter[int] = Counter()
        names: dict[int, str] = {}
        for name, first, later in self.places.repeated():
            times[first] += 1
            names[later] = f"{name}-{times[first] + 1}"
        if names:
            self._ids, rest = TextColumn(), iter(names.get(i, name) for i, name in enumerate(list(self.ids())))
            while piece := list(islice(rest, PIECE)):
                self._ids.add(piece)
            del self.places

    def taken(self, places: Iterable[int]) -> Examples:
        """Some rows as rows of their own."""
        found = Examples(len(self._texts), grouped=self.grouped)
        for place in places:
            found.add(self[place], self.content(place))
        found.close()
        return found


class TextsById(Mapping[str, str]):
    """What a model is asked about, by the id of its row. Quick in the order of the rows: a piece of them is held at a time."""

    def __init__(self, examples: Examples) -> None:
        self._examples, self._piece = examples, dict[str, str]()

    def __getitem__(self, name: str) -> str:
        if name not in self._piece:
            place = int(self._examples.places.find([name])[0])
            if place < 0:
                raise KeyError(name)
            first = place // PIECE * PIECE
            self._piece = self._examples.texts_by_id(first, min(first + PIECE, len(self)))
        return self._piece[name]

    def __iter__(self) -> Iterator[str]:
        return self._examples.ids()

    def __len__(self) -> int:
        return len(self._examples)
