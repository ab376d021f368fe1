"""IdPlaces: where an id stands in a column of ids. Takes twelve bytes an id, where a dict of texts takes two hundred."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.collect.data.text_column import Places, TextColumn


class IdPlaces:
    """The places of the ids of a column, found by their hashes and compared as texts; None is no id."""

    def __init__(self, ids: TextColumn) -> None:
        self._ids = ids
        hashes, known = np.empty(len(ids), dtype=np.int64), np.ones(len(ids), dtype=bool)
        start = 0
        for piece in ids.pieces():
            hashes[start : start + len(piece)] = list(map(hash, piece))
            known[start : start + len(piece)] = [text is not None for text in piece]
            start += len(piece)
        order = np.argsort(hashes, kind="stable")
        order = order[known[order]]
        self._hashes = hashes[order]
        self._order = order.astype(np.int32 if len(ids) < 2**31 else np.int64)
        """Places in order of their hashes; of equal ones the first in the column is first."""

    def __len__(self) -> int:
        """Rows that have an id."""
        return len(self._order)

    def find(self, ids: Sequence[str]) -> Places:
        """The first place of each id (n,), -1 where the column lacks it."""
        wanted = np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids))
        found = np.full(len(ids), -1, dtype=np.int64)
        at = np.searchsorted(self._hashes, wanted)
        left = np.arange(len(ids))
        while len(left := left[self._is_at(at[left], wanted[left])]):
            places = self._order[at[left]].astype(np.int64)
            texts = self._ids.at(places)
            same = np.fromiter((ids[i] == t for i, t in zip(left.tolist(), texts, strict=True)), bool, len(left))
            found[left[same]] = places[same]
            left = left[~same]  # another id of the same hash
            at[left] += 1
        return found

    def _is_at(self, at: Places, wanted: Places) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        inside = at < len(self._hashes)
        inside[inside] = self._hashes[at[inside]] == wanted[inside]
        return inside

    def repeated(self) -> Iterator[tuple[str, int, int]]:
        """Every id that stood before, in order, with its first place and this one."""
        same = self._hashes[1:] == self._hashes[:-1]
        later = np.sort(self._order[1:][same]).astype(np.int64)
        ids = [text for text in self._ids.at(later) if text is not None]
        for name, first, place in zip(ids, self.find(ids).tolist(), later.tolist(), strict=True):
            if first != place:  # else it only shares a hash
                yield name, first, place
