"""Rows on S3: a real S3 API on a socket, served by moto."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from pipeline.collect.data.table_reader import TableFile


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="rows")
    client.put_object(Bucket="rows", Key="folder/rows.jsonl", Body=b'{"text": "a", "label": "work"}\n')
    client.close()
    yield "s3://rows/folder/rows.jsonl"
    server.stop()


@pytest.mark.filterwarnings("ignore")  # what two cloud libraries warn about is not ours to mend
def test_rows_are_read_from_s3(bucket: str) -> None:
    assert list(TableFile(bucket).rows()) == [(1, {"text": "a", "label": "work"})]
