"""CodedRows: a run's predictions as coded columns, for figures of labels and segments. A million rows take about a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cascade_threshold.answers import NO_WHOLE_ANSWER
from pipeline.decide.arrays import Flags, Floats, Ints
from pipeline.decide.curves.at_threshold import mix_factors
from pipeline.decide.predictions import agreement
from pipeline.decide.thresholds import accepted

TEXTS = ("split", "segment", "label", "cheap_answer", "strong_answer", "cheap_status", "strong_status")
_NUMBERS = ("confidence", "cheap_correct", "strong_correct", "cheap_usd", "strong_usd", "coin", "strong_weight")
COLUMNS = ("example_id", "group", *TEXTS, *_NUMBERS)


@dataclass(frozen=True)
class Coded:
    """A text column as codes into its sorted distinct values; -1 is null."""

    codes: npt.NDArray[np.signedinteger[Any]]
    values: tuple[str, ...]

    def is_(self, value: str) -> Flags:
        """Which rows hold the value."""
        return self.codes == self.values.index(value) if value in self.values else np.zeros(len(self.codes), dtype=bool)


@dataclass(frozen=True)
class CodedRows:
    """predictions.parquet, a text as a number. Numbers are NaN where unknown; a column the file lacks is all unknown."""

    example_ids: pa.ChunkedArray | None
    texts: Mapping[str, Coded]
    numbers: Mapping[str, Floats]
    group: Ints | None = None
    """The number of each row's group, which intervals are over; None where each row is one by itself."""

    @classmethod
    def of_table(cls, table: pa.Table) -> CodedRows:
        """From predictions.parquet, of which COLUMNS are needed."""
        n, have = table.num_rows, set(table.column_names)
        texts = {c: _coded(table[c]) if c in have else Coded(np.broadcast_to(np.int8(-1), n), ()) for c in TEXTS}
        if "coin" not in have or table["coin"].null_count == n:
            have.discard("strong_weight")  # each answer stands for its own row
        numbers = {c: _floats(table[c]) if c in have else np.broadcast_to(np.nan, n) for c in _NUMBERS}
        ids = table["example_id"].cast(pa.string()) if "example_id" in have else None
        return cls(ids, texts, numbers, _groups(table) if "group" in have else None)

    def __len__(self) -> int:
        return len(self.numbers["confidence"])

    def of(self, split: str) -> Flags:
        """Which rows belong to a split; `all` gives every row."""
        return np.ones(len(self), dtype=bool) if split == "all" else self.texts["split"].is_(split)

    def kept(self, threshold: float | None) -> Flags:
        """Which rows the cheap model keeps."""
        return accepted(self.numbers["confidence"], threshold)

    def weights(self, split: str, prevalence: Mapping[str, float] | None) -> Floats:
        """How much each row of a split counts, mean 1: production's label mix over that of the rows; else all alike."""
        codes, values = self.texts["label"].codes[self.of(split)], self.texts["label"].values
        if not prevalence:
            return np.ones(len(codes))
        counts = np.bincount(codes[codes >= 0], minlength=len(values)).tolist()
        factors = mix_factors(dict(zip(values, counts, strict=True)), len(codes), prevalence)
        of_code: Floats = np.array([*(factors.get(value, 0.0) for value in values), 0.0])
        return np.asarray(of_code[codes])

    @property
    def agree(self) -> Floats:
        """Whether both models gave the same answer, shape (n,); see `agreement`."""
        cheap, strong, status = (self.texts[name] for name in ("cheap_answer", "strong_answer", "strong_status"))
        places = {v: i for i, v in enumerate(cheap.values)}
        same = cheap.codes == np.array([places.get(v, -2) for v in strong.values] + [-3])[strong.codes]
        unreadable = np.any([status.is_(name) for name in NO_WHOLE_ANSWER], axis=0)
        return agreement(same, cheap.codes >= 0, strong.codes >= 0, unreadable)

    @property
    def right(self) -> Floats:
        """Whether the cheap answer is right; where no row has a label, whether the strong model gave the same."""
        return self.numbers["cheap_correct"] if self.gold else self.agree

    @property
    def sampled(self) -> bool:
        """Whether strong answers were sampled, so that the available ones do not represent all rows."""
        return bool(np.isfinite(self.numbers["coin"]).any())

    @property
    def stands_for(self) -> Floats:
        """How many rows a strong answer stands for in figures, 0 where they may not use it; 1 where every one is bought."""
        if self.sampled:
            return np.nan_to_num(self.numbers["strong_weight"], nan=0.0)
        return np.asarray(np.broadcast_to(1.0, len(self)))

    @property
    def gold(self) -> bool:
        """Whether any answer is graded by a label."""
        return bool(np.isfinite(self.numbers["cheap_correct"]).any())

    def counts(self, column: str) -> dict[str, int]:
        """Rows by each text that a column holds."""
        coded = self.texts[column]
        sizes = np.bincount(coded.codes[coded.codes >= 0], minlength=len(coded.values))
        return {value: int(size) for value, size in zip(coded.values, sizes, strict=True) if size}

    def ids(self, at: Ints) -> list[str]:
        """Example ids of a few rows."""
        if self.example_ids is None:
            return [f"row {i}" for i in at]
        return [str(v) for v in self.example_ids.take(pa.array(at)).to_pylist()]


def _coded(column: pa.ChunkedArray) -> Coded:
    kind = column.type
    text = column if pa.types.is_string(kind) or pa.types.is_dictionary(kind) else column.cast(pa.string())
    encoded = (
        text.unify_dictionaries().combine_chunks()
        if pa.types.is_dictionary(text.type)
        else text.combine_chunks().dictionary_encode()
    )
    values = [str(v) for v in encoded.dictionary.to_pylist()]
    order = sorted(range(len(values)), key=lambda i: values[i])
    place = np.empty(len(values) + 1, dtype=np.int64)
    place[order] = np.arange(len(values))
    place[-1] = -1
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Coded(place.astype(np.min_scalar_type(-len(place)))[codes], tuple(values[i] for i in order))


def _groups(table: pa.Table) -> Ints | None:
    column = table["group"]
    if "example_id" in table.column_names and pc.all(pc.equal(column, table["example_id"]), skip_nulls=False).as_py():
        return None  # each row is one by itself
    coded = _coded(column).codes.astype(np.int64)
    alone = coded < 0
    if (~alone).sum() == coded.max(initial=-1) + 1:
        return None
    return np.where(alone, coded.max() + np.cumsum(alone), coded)


def _floats(column: pa.ChunkedArray) -> Floats:
    if column.null_count == len(column):
        return np.asarray(np.broadcast_to(np.nan, len(column)))
    numbers = pc.cast(column, pa.float64())
    if numbers.num_chunks == 1 and not numbers.null_count:
        return np.asarray(numbers.chunk(0).to_numpy())  # as they lie there, without a copy
    return np.asarray(numbers.to_numpy(), dtype=np.float64)
