"""TextColumn: the texts of many rows in Arrow's memory; a text is a Python object only while it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

PIECE = 2_048
"""Rows that are Python objects at a time."""

Places = npt.NDArray[np.int64]


class TextColumn:
    """Texts, or None, in the order in which they were added, a piece at a time. Half a character (a lone surrogate), which
    Arrow's strings cannot hold, is kept as it is.
    """

    def __init__(self) -> None:
        self._pieces: list[pa.Array] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, texts: Sequence[str | None]) -> None:
        """Append a piece: of `PIECE` texts, or the last one with fewer."""
        assert self._length % PIECE == 0 and len(texts) <= PIECE
        if texts:
            self._pieces.append(_packed(texts))
            self._length += len(texts)

    def pieces(self) -> Iterator[list[str | None]]:
        """The texts of each piece."""
        return map(_unpacked, self._pieces)

    def between(self, start: int, stop: int) -> list[str | None]:
        """The texts from one place to before another."""
        found: list[str | None] = []
        for number in range(start // PIECE, -(-stop // PIECE)):
            first = number * PIECE
            inside = self._pieces[number].slice(max(start - first, 0), stop - max(start, first))
            found += _unpacked(inside)
        return found

    def at(self, places: Places) -> list[str | None]:
        """The texts at some places (n,)."""
        if len(places) and np.array_equal(places, np.arange(places[0], places[0] + len(places))):
            return self.between(int(places[0]), int(places[-1]) + 1)
        found: list[str | None] = [None] * len(places)
        of = places // PIECE
        for number in np.unique(of):
            mine = np.flatnonzero(of == number)
            texts = _unpacked(self._pieces[number].take(pa.array(places[mine] - number * PIECE)))
            for place, text in zip(mine.tolist(), texts, strict=True):
                found[place] = text
        return found


def _packed(texts: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(texts, type=pa.large_string())
    except UnicodeEncodeError:
        raw = [None if text is None else text.encode("utf-8", "surrogatepass") for text in texts]
        return pa.array(raw, type=pa.large_binary())


def _unpacked(array: pa.Array) -> list[str | None]:
    values: list[str | None] = array.to_pylist()
    if pa.types.is_large_binary(array.type):
        return [None if raw is None else raw.decode("utf-8", "surrogatepass") for raw in array.to_pylist()]
    return values
