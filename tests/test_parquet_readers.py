"""Every Parquet artefact of a real run, read by others: DuckDB, Polars, fastparquet and pandas see what pyarrow sees."""

from __future__ import annotations

from pathlib import Path

import duckdb
import fastparquet
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest

from pipeline.__main__ import main

pytestmark = [
    pytest.mark.slow,
    # fastparquet leaves its files to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
CONFIG = Path(__file__).resolve().parent.parent / "configs" / "email_triage.yaml"


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("readers")
    done = main(["evaluate", str(CONFIG), "--limit", "400", "--quiet", "--runs-dir", str(folder / "runs"),
                 "--reports-dir", str(folder / "reports")])  # fmt: skip
    assert done == 0
    return sorted((folder / "runs").rglob("*.parquet"))


def test_the_artefacts_are_those_that_are_pinned(artefacts: list[Path]) -> None:
    names = {path.name for path in artefacts}
    assert {"replies.parquet", "tokens.parquet", "predictions.parquet", "sweep.parquet", "reliability.parquet"} <= names


def test_each_artefact_is_read_by_duckdb_polars_fastparquet_and_pandas(artefacts: list[Path]) -> None:
    for path in artefacts:
        table = pq.read_table(path)
        columns, rows = table.column_names, table.num_rows
        floats = [f.name for f in table.schema if str(f.type) == "double"]
        sums = {name: pd.Series(table[name].to_pylist(), dtype=float).sum() for name in floats}
        found = duckdb.sql(f"SELECT * FROM '{path}'")
        assert (found.columns, found.fetchall().__len__()) == (columns, rows), path.name
        lazy = polars.read_parquet(path)
        assert (lazy.columns, lazy.height) == (columns, rows), path.name
        assert list(pd.read_parquet(path).columns) == columns
        flat = [f.name for f in table.schema if not str(f.type).startswith(("list", "struct"))]
        fast = fastparquet.ParquetFile(str(path)).to_pandas(columns=flat)
        assert len(fast) == rows, path.name
        for name, total in sums.items():
            assert lazy[name].sum() == pytest.approx(total, rel=1e-12), (path.name, name)
            assert fast[name].sum() == pytest.approx(total, rel=1e-12), (path.name, name)
