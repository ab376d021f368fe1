"""Given predictions: a table that somebody already has, brought to the columns of predictions.parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.collect.data.dataset import split_of
from pipeline.collect.data.table_reader import TableFile
from pipeline.config.task import Split
from pipeline.config.vocabulary import SPLITS
from pipeline.errors import DataError

TRUE = {"1", "1.0", "true", "yes"}
SIGNAL: dict[str, Any] = {"name": "given", "version": None, "params": {}}
FALSE = {"0", "0.0", "false", "no"}


def read(path: Path, split: Split) -> pd.DataFrame:
    """Read and check a table of predictions. Needs example_id, confidence, cheap_correct (or cheap_answer and label).

    strong_correct (or strong_answer), cheap_usd, strong_usd, group, segment and split are used where they are there;
    rows without a split are placed by the hash of their group. Raises DataError with row, value, rule and remedy.
    """
    table = TableFile(str(path))
    numbered = list(table.rows())
    if not numbered:
        raise DataError(f"{path}: no rows; --predictions needs a table with example_id, confidence and cheap_correct")
    frame = pd.DataFrame([row for _, row in numbered], dtype=object)
    places = [table.where(number) for number, _ in numbered]
    for column in ("example_id", "confidence"):
        if column not in frame:
            raise DataError(f"{path}: no column {column!r}; columns here: {', '.join(frame.columns)}")
    frame["example_id"] = [str(v) for v in frame["example_id"]]
    twice = frame["example_id"][frame["example_id"].duplicated()]
    if len(twice):
        raise DataError(
            f"{path}: {len(twice)} duplicate ids in example_id, for example {twice.iloc[0]!r}; ids must be unique"
        )
    for column in ("confidence", "cheap_usd", "strong_usd"):
        if column in frame:
            frame[column] = [_number(v, column, place) for v, place in zip(frame[column], places, strict=True)]
    _check_confidence(frame, places)
    for role in ("cheap", "strong"):
        _correct(frame, role, places, path)
    return _placed(frame, split, places)


def _blank(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))


def _number(value: Any, column: str, place: str) -> float:
    if _blank(value):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"{place}: {column} is {value!r}, not a number; leave it blank where it is unknown") from None


def _check_confidence(frame: pd.DataFrame, places: list[str]) -> None:
    for value, place in zip(frame["confidence"], places, strict=True):
        if not (np.isnan(value) or 0 <= value <= 1):
            raise DataError(
                f"{place}: confidence is {value!r}; it must lie in [0, 1] (map a margin m to 1 - exp(-m)), or be blank"
            )


def _correct(frame: pd.DataFrame, role: str, places: list[str], path: Path) -> None:
    name, answer = f"{role}_correct", f"{role}_answer"
    if name in frame:
        frame[name] = pd.array(
            [_truth(v, name, place) for v, place in zip(frame[name], places, strict=True)], dtype="boolean"
        )
    elif answer in frame and "label" in frame:
        frame[name] = pd.array(
            [
                None if _blank(a) or _blank(y) else str(a).strip() == str(y).strip()
                for a, y in zip(frame[answer], frame["label"], strict=True)
            ],
            dtype="boolean",
        )
    elif role == "cheap" and not {"cheap_answer", "strong_answer"} <= set(frame.columns):
        raise DataError(f"{path}: needs a column cheap_correct, or cheap_answer together with label")


def _truth(value: Any, column: str, place: str) -> bool | None:
    if _blank(value):
        return None
    text = str(value).strip().casefold()
    if text in TRUE or text in FALSE:
        return text in TRUE
    raise DataError(f"{place}: {column} is {value!r}; write 1 or 0, or leave it blank where it is unknown")


def _placed(frame: pd.DataFrame, split: Split, places: list[str]) -> pd.DataFrame:
    if "group" not in frame:
        frame["group"] = frame["example_id"]
    frame["group"] = [str(e) if _blank(g) else str(g) for g, e in zip(frame["group"], frame["example_id"], strict=True)]
    if "split" not in frame:
        frame["split"] = [split_of(g, split) for g in frame["group"]]
    for value, place in zip(frame["split"], places, strict=True):
        if value not in SPLITS:
            raise DataError(f"{place}: split is {value!r}; it must be {', '.join(SPLITS)}, or the column left out")
    across = frame.groupby("group")["split"].nunique()
    if (across > 1).any():
        raise DataError(
            f"{places[0].split(',')[0].rsplit(':', 1)[0]}: group {across.idxmax()!r} lies in more than one split; rows of a group belong together"
        )
    for role in ("cheap", "strong"):
        if f"{role}_status" not in frame:
            known = frame.get(f"{role}_correct", pd.Series([None] * len(frame))).notna()
            answered = frame[f"{role}_answer"].map(lambda v: not _blank(v)) if f"{role}_answer" in frame else known
            frame[f"{role}_status"] = ["ok" if there else None for there in known | answered]
    return frame
