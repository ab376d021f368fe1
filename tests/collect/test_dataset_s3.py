"""Rows on S3: a real S3 API on a socket, served by moto."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.collect.data.table_reader import TableFile


@pytest.mark.filterwarnings("ignore")  # what two cloud libraries warn about is not ours to mend
def test_rows_are_read_from_s3(s3: Any) -> None:
    s3.create_bucket(Bucket="rows")
    s3.put_object(Bucket="rows", Key="folder/rows.jsonl", Body=b'{"text": "a", "label": "work"}\n')
    rows = TableFile("s3://rows/folder/rows.jsonl").rows()
    assert list(rows) == [(1, {"text": "a", "label": "work"})]
