"""A plain Parquet table is read in columns; the reader that goes row by row is what it is held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.collect.data import predictions_file, typed_predictions
from pipeline.config.split import POOLED, Split
from pipeline.errors import DataError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_predictions, "FEWEST", 1)


def table(n: int = 400, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    confidence = rng.random(n)
    confidence[::17] = np.nan
    strong = pd.array(rng.random(n) < 0.9, dtype="boolean")
    strong[::11] = pd.NA
    made = {
        "example_id": [f" r{i} é" for i in range(n)],
        "confidence": confidence,
        "cheap_correct": rng.random(n) < confidence,
        "strong_correct": strong,
        "cheap_usd": 1e-5,
        "strong_usd": np.where(rng.random(n) < 0.5, np.nan, 2e-4),
    }
    return pd.DataFrame(made | columns)


def both(tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, split: Split) -> list[Any]:
    path = tmp_path / "table.parquet"
    frame.to_parquet(path)
    found: list[Any] = [typed_predictions.table(path, {})]
    for fewest in (1, 10**9):
        monkeypatch.setattr(typed_predictions, "FEWEST", fewest)
        try:
            found.append(predictions_file.read(path, split))
        except DataError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("shares", ["pooled", {"fit": 0.3, "certify": 0.5, "test": 0.2}])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"group": [f"g{i // 3}" for i in range(400)]},
        {"segment": ["a", "b"] * 200},
        {"split": ["certify", "test"] * 200},
        {"group": [f"g{i}" for i in range(400)], "split": ["fit"] * 400},
    ],
)
def test_both_readers_make_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], shares: Any
) -> None:
    plain, quick, slow = both(tmp_path, table(**more), monkeypatch, Split.model_validate(shares))
    assert plain is not None
    assert sorted(quick.columns) == sorted(slow.columns)
    for column in slow.columns:
        mine, theirs = quick[column].astype(object), slow[column].astype(object)
        assert mine.where(mine.notna(), None).tolist() == theirs.where(theirs.notna(), None).tolist(), column


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"confidence": 1.5}, "confidence is 1.5"),
        ({"cheap_usd": -1.0}, "dollars are not below 0"),
        ({"strong_usd": np.inf}, "dollars are not below 0"),
        ({"example_id": "twice"}, "duplicate ids"),
        ({"example_id": " "}, "example_id is blank"),
        ({"split": "train"}, "split is 'train'"),
        ({"group": "one", "split": ["fit", "test"] * 200}, "lies in more than one split"),
        ({"confidence": 1 - np.arange(400) / 400, "cheap_correct": np.arange(400) > 200}, "inverted"),
    ],
)
def test_whatever_is_wrong_is_said_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], said: str
) -> None:
    _, quick, slow = both(tmp_path, table(**more), monkeypatch, POOLED)
    assert said in slow
    assert quick == slow


@pytest.mark.parametrize(
    "more",
    [
        {"cheap_correct": ["yes"] * 400},
        {"confidence": 1},
        {"label": "a"},
        {"strong_usd": np.float32(1)},
        {"group": [None, "g"] * 200},
        {"example_id": range(400)},
    ],
)
def test_whatever_needs_a_rule_goes_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    plain, quick, slow = both(tmp_path, table(**more), monkeypatch, POOLED)
    assert plain is None
    assert quick.astype(object).where(quick.notna(), None).equals(slow.astype(object).where(slow.notna(), None))


def test_one_id_that_occurs_twice_among_very_many_is_found(tmp_path: Path) -> None:
    n = 3 * typed_predictions.AT_ONCE // 2
    ids = [f"r{i}" for i in range(n)]
    for twice in (None, 0, n - 2):
        ids[n - 1] = f"r{n - 1 if twice is None else twice}"
        frame = pd.DataFrame({"example_id": ids, "confidence": 0.5, "cheap_correct": True})
        frame.to_parquet(path := tmp_path / "t.parquet", row_group_size=n // 3)
        found = typed_predictions.table(path, {})
        assert (found is None) == (twice is not None)
        assert found is None or found["example_id"].to_pylist() == ids
