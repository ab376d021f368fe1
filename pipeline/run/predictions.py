"""Predictions: graded rows placed in splits, with the confidence that decides and the signal that it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.run import schemas
from pipeline.run.directory import PREDICTIONS, Folder


@dataclass(frozen=True)
class Predictions:
    """The rows that decisions are made from, a row each, with the columns of predictions.parquet."""

    frame: pd.DataFrame
    signal: dict[str, Any]
    """The chosen signal {name, version, params}."""
    signal_table: list[dict[str, Any]]
    """What it was chosen from."""

    @property
    def table(self) -> pa.Table:
        """The content of predictions.parquet."""
        return as_table(self.frame, schemas.PREDICTIONS)

    @property
    def failed(self) -> int:
        """Rows of which at least one reply never came."""
        return int(((self.frame["cheap_status"] == "failed") | (self.frame["strong_status"] == "failed")).sum())

    @classmethod
    def of(cls, frame: pd.DataFrame, signal: dict[str, Any], signal_table: list[dict[str, Any]]) -> Predictions:
        """Rows with split and confidence; which of them want a strong answer is what has a status of one."""
        wanted = frame["strong_status"].notna() if "strong_status" in frame else pd.Series(False, index=frame.index)
        all_wanted = pd.Series(["all" if w else None for w in wanted], index=frame.index, dtype=object)
        return cls(
            frame.assign(strong_wanted=all_wanted, strong_weight=np.where(wanted, 1.0, np.nan)), signal, signal_table
        )

    def write(self, folder: Folder) -> None:
        """Write predictions.parquet, with the signal in its metadata."""
        metadata = {
            "schema": "cascade-predictions/1",
            "signal": json.dumps(self.signal),
            "signal_table": json.dumps(self.signal_table),
        }
        folder.write_table(PREDICTIONS, self.table, metadata)

    @classmethod
    def read(cls, folder: Folder) -> Predictions:
        """Read what `write` wrote. Raises UsageError where it is not there, DataError where it is damaged."""
        table = folder.read_arrow(PREDICTIONS)
        metadata = table.schema.metadata or {}
        signal = json.loads(metadata[b"signal"]), json.loads(metadata[b"signal_table"])
        return cls(table.to_pandas(), *signal)


def as_table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """A frame as a table of the schema; columns that it lacks are null."""
    full = frame.reindex(columns=schema.names)
    return pa.Table.from_arrays([_array(full[field.name], field.type) for field in schema], schema=schema)


def _array(column: pd.Series, kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind):
        return pa.array([list(v) if isinstance(v, list | np.ndarray) else None for v in column], type=kind)
    return pa.array(column, type=kind, from_pandas=True)
