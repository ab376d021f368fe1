"""Predictions: graded rows placed in splits, with the confidence that decides and the signal that it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pipeline.config.vocabulary import LENGTHS, SIGNALS
from pipeline.run import schemas
from pipeline.run.directory import PREDICTIONS, Folder

Floats = npt.NDArray[np.float64]

GROUP = 1 << 20
"""Rows of a row group, which are made into a table at once."""

STRONG = ("strong_answer", "strong_status", "strong_correct", "strong_usd", "strong_cached_tokens", "strong_s")
"""Columns of the strong side: null where no answer is wanted."""


@dataclass(frozen=True)
class Predictions:
    """The rows that decisions are made from, a row each, with the columns of predictions.parquet."""

    frame: pd.DataFrame
    signal: dict[str, Any]
    """The chosen signal {name, version, params}."""
    signal_table: list[dict[str, Any]]
    """What it was chosen from."""
    strong_sampling: dict[str, Any] | None = None
    """How strong answers were sampled (run.json's `strong_sampling`, and the largest coin drawn in each split); None: all are bought."""

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of predictions.parquet; texts that the frame holds as codes stay so."""
        return _part(self.frame, pa.schema([schemas.PREDICTIONS.field(name) for name in columns]), coded=True)

    @property
    def failed(self) -> int:
        """Rows of which at least one reply never came."""
        return int(((self.frame["cheap_status"] == "failed") | (self.frame["strong_status"] == "failed")).sum())

    @classmethod
    def of(cls, frame: pd.DataFrame, signal: dict[str, Any], signal_table: list[dict[str, Any]]) -> Predictions:
        """Rows with split and confidence; which of them want a strong answer is what has a status of one."""
        wanted = frame["strong_status"].notna() if "strong_status" in frame else pd.Series(False, index=frame.index)
        codes = np.where(wanted, 0, -1).astype(np.int8)
        return cls(
            frame.assign(
                strong_wanted=pd.Categorical.from_codes(codes, pd.Index(["all"])),
                strong_weight=pd.Categorical.from_codes(codes, pd.Index([1.0])),
            ),
            signal,
            signal_table,
        )

    def sampled(
        self, coin: Floats, wanted: npt.NDArray[np.object_], weight: Floats, record: Mapping[str, Any]
    ) -> Predictions:
        """The rows with the strong answers that are `wanted` (n,) alone; `coin` (n,) is NaN for rows that cannot be drawn.

        The frame's column `drawn` tells which rows the coin drew; it follows from `coin` and is not written.
        """
        frame = self.frame.assign(strong_wanted=wanted, strong_weight=weight, coin=coin)
        without = np.array([why is None for why in wanted], dtype=bool)
        for column in STRONG:
            if column in frame:
                frame[column] = frame[column].astype(object).mask(without, None)
        return replace(self, frame=_with_drawn(frame, record), strong_sampling=dict(record))

    @property
    def decided(self) -> Predictions:
        """The rows without the columns that only choose a confidence, which no later stage reads."""
        names = [f"signal_{name}" for name in SIGNALS if name != "first_token"]
        return replace(self, frame=self.frame.drop(columns=[*names, *LENGTHS], errors="ignore"))

    def write(self, folder: Folder) -> None:
        """Write predictions.parquet, with the signal in its metadata."""
        metadata = {
            "schema": "cascade-predictions/1",
            "signal": json.dumps(self.signal),
            "signal_table": json.dumps(self.signal_table),
        }
        if self.strong_sampling is not None:
            metadata["strong_sampling"] = json.dumps(self.strong_sampling)
        write(self.frame, folder, PREDICTIONS, schemas.PREDICTIONS, metadata)

    @classmethod
    def read(cls, folder: Folder) -> Predictions:
        """Read what `write` wrote. Raises UsageError where it is not there, DataError where it is damaged."""
        table = folder.read_arrow(PREDICTIONS)
        metadata = table.schema.metadata or {}
        signal = json.loads(metadata[b"signal"]), json.loads(metadata[b"signal_table"])
        said = metadata.get(b"strong_sampling")
        if said is None:
            return cls(table.to_pandas(), *signal)
        record = json.loads(said)
        return cls(_with_drawn(table.to_pandas(), record), *signal, record)


def _with_drawn(frame: pd.DataFrame, record: Mapping[str, Any]) -> pd.DataFrame:
    """The frame with `drawn`: 1 where the row's coin is at most the largest that was drawn in its split, else 0."""
    largest = frame["split"].map(record["drawn_up_to"]).astype("float64").fillna(-1.0)
    return frame.assign(drawn=(frame["coin"].fillna(np.inf) <= largest).astype("float64"))


def write(
    frame: pd.DataFrame, folder: Folder, name: str, schema: pa.Schema, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a frame as an artefact of the schema, a row group at a time; columns that it lacks are null."""
    starts = range(0, max(1, len(frame)), GROUP)
    parts = (_part(frame.iloc[start : start + GROUP], schema) for start in starts)
    folder.write_parts(name, schema, parts, metadata)


def _part(frame: pd.DataFrame, schema: pa.Schema, *, coded: bool = False) -> pa.Table:
    absent: dict[pa.DataType, pa.Array] = {}
    arrays, fields = [], []
    for field in schema:
        if field.name in frame:
            array = _array(frame[field.name], field.type, coded)
        else:  # one for all that are null
            array = absent.setdefault(field.type, pa.nulls(len(frame), type=field.type))
        arrays.append(array)
        fields.append(field.with_type(array.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _array(column: pd.Series, kind: pa.DataType, coded: bool) -> pa.Array | pa.ChunkedArray:
    if column.isna().all():
        return pa.nulls(len(column), type=kind)
    if pa.types.is_list(kind):
        return pa.array([list(v) if isinstance(v, list | np.ndarray) else None for v in column], type=kind)
    if isinstance(column.dtype, pd.CategoricalDtype):
        found = pa.array(column)
        return found if coded else found.cast(kind)
    return pa.array(column, type=kind, from_pandas=True)
