"""CodedTexts: a column of texts as codes into its distinct texts. Ten million ids take no Python object each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.decide.arrays import Flags, Ints

AT_ONCE = 1 << 16
"""Texts that are Python objects at a time, where they can be."""


@dataclass(frozen=True, eq=False)
class CodedTexts:
    """Texts of n rows: `codes` (n,) are places in `values`, -1 where there is no text (None).

    `values` are distinct; some may stand on no row, since taking rows takes codes and shares the texts. Compares with a text
    element by element, and is an array of objects wherever numpy wants one.
    """

    codes: npt.NDArray[np.integer[Any]]
    values: pa.Array | npt.NDArray[np.object_]

    @classmethod
    def of(cls, column: Any) -> CodedTexts:
        """From an array, a series or an Arrow column; what pandas takes for missing is None."""
        if isinstance(column, cls):
            return column
        if isinstance(column, pd.Series):
            if isinstance(column.dtype, pd.CategoricalDtype):
                return cls(column.cat.codes.to_numpy(), column.cat.categories.to_numpy(object))
            column = column.array
        if hasattr(column, "__arrow_array__"):
            column = column.__arrow_array__()
        if isinstance(column, pa.ChunkedArray | pa.Array):
            return cls._of_arrow(column)
        codes, values = pd.factorize(np.asarray(column, dtype=object))
        return cls(codes.astype(np.int32), values)

    @classmethod
    def _of_arrow(cls, column: pa.ChunkedArray | pa.Array) -> CodedTexts:
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if isinstance(whole, pa.ChunkedArray):  # more than fits one array
            whole = pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in whole.chunks])
        if pa.types.is_null(whole.type):
            return cls.none(len(whole))
        if not pa.types.is_dictionary(whole.type):
            whole = whole.dictionary_encode()
        codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return cls(codes.astype(np.int32, copy=False), whole.dictionary)

    @classmethod
    def names(cls, column: Any) -> CodedTexts:
        """From a column whose texts are known to be distinct and there on every row, which saves looking for equal ones."""
        values = column.array if isinstance(column, pd.Series) else column
        if hasattr(values, "__arrow_array__"):
            values = values.__arrow_array__()
        if isinstance(values, pa.ChunkedArray):
            values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
        if not isinstance(values, pa.Array):
            values = np.asarray(values, dtype=object)
            known = not pd.isna(values).any()
        else:
            known = values.null_count == 0
        return cls(np.arange(len(values), dtype=np.int32), values) if known else cls.of(column)

    @classmethod
    def none(cls, n: int) -> CodedTexts:
        """No text on any of n rows. Takes no memory."""
        return cls(np.broadcast_to(np.int32(-1), n), np.zeros(0, dtype=object))

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, which: int | np.integer[Any]) -> Any: ...
    @overload
    def __getitem__(self, which: npt.NDArray[Any] | slice) -> CodedTexts: ...
    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, int | np.integer):
            code = int(self.codes[which])
            return None if code < 0 else self._told(np.array([code]))[0]
        return CodedTexts(self.codes[which], self.values)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), AT_ONCE):
            yield from self[start : start + AT_ONCE].tolist()

    def __contains__(self, text: object) -> bool:
        return bool(np.any(self == text))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if len(self.values) > len(self.codes):  # taken from more rows: most texts stand on none of these
            found, known = np.full(len(self.codes), None, dtype=object), self.known
            found[known] = self._told(self.codes[known])
            return found.astype(object if dtype is None else dtype, copy=False)
        told = np.empty(len(self.values) + 1, dtype=object)  # None last, where the code -1 points
        told[: len(self.values)] = self._told(np.arange(len(self.values)))
        return np.asarray(told[self.codes], dtype=object if dtype is None else dtype)

    def copy(self) -> npt.NDArray[np.object_]:
        """The texts as an array of objects, which may be changed."""
        return self.__array__()

    def tolist(self) -> list[Any]:
        """Every row's text, None where there is none."""
        found: list[Any] = self.__array__().tolist()
        return found

    def __eq__(self, other: object) -> Flags:  # type: ignore[override]
        """Which rows have the text, (n,); of another column, which rows have the same in both (None is None)."""
        if isinstance(other, str) or other is None:
            return np.asarray(self.codes == self._code(other))
        its = CodedTexts.of(other)
        mine = {text: code for code, text in enumerate(self._told(np.arange(len(self.values))))}
        code_of = [mine.get(text, -2) for text in its._told(np.arange(len(its.values)))]
        return np.asarray(self.codes == np.array([*code_of, -1])[its.codes])

    def __ne__(self, other: object) -> Flags:  # type: ignore[override]
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]

    def filled(self, text: str) -> CodedTexts:
        """The column with a text where there is none."""
        if self.known.all():
            return self
        return CodedTexts.of(pd.Series(self.__array__()).fillna(text))

    def isin(self, texts: Collection[str]) -> Flags:
        """Which rows have one of the texts, (n,)."""
        places = [code for text in texts if (code := self._code(text)) >= 0]
        return np.isin(self.codes, places)

    @property
    def known(self) -> Flags:
        """Which rows have a text, (n,)."""
        return self.codes >= 0

    @property
    def present(self) -> list[Any]:
        """The distinct texts of the rows, by first appearance."""
        return self._told(self.factorized()[1])

    def factorized(self) -> tuple[Ints, Ints]:
        """Number of each row's text by first appearance, (n,), -1 where there is none; and the places of these in `values`."""
        if len(self) and self.codes[0] >= 0 and np.all(self.codes[1:] > self.codes[:-1]):  # each another text
            return np.arange(len(self)), self.codes.astype(np.int64)
        first = np.full(len(self.values) + 1, len(self), dtype=np.int64)  # where each code stands first; -1 is the last
        first[self.codes[::-1]] = np.arange(len(self) - 1, -1, -1)
        places = np.flatnonzero(first[:-1] < len(self))
        if np.any(np.diff(first[places]) < 0):
            places = places[np.argsort(first[places], kind="stable")]
        number = np.full(len(self.values) + 1, -1, dtype=np.int64)
        number[places] = np.arange(len(places))
        return number[self.codes], places

    def texts_at(self, places: Ints, at_once: int = AT_ONCE) -> Iterator[Any]:
        """The texts at some places of `values`, made a part at a time."""
        for start in range(0, len(places), at_once):
            yield from self._told(places[start : start + at_once])

    def _told(self, places: npt.NDArray[Any]) -> list[Any]:
        if isinstance(self.values, np.ndarray):
            return list(self.values[places].tolist())
        return list(self.values.take(pa.array(places)).to_pylist())

    def _code(self, text: str | None) -> int:
        """The code of a text: -1 is None's, -2 that of a text which stands nowhere."""
        if text is None:
            return -1
        if isinstance(self.values, np.ndarray):
            at = np.flatnonzero(self.values == text)
            return int(at[0]) if len(at) else -2
        found = pc.index(self.values, pa.scalar(text, self.values.type)).as_py()
        return found if found >= 0 else -2
