"""Rows of the fault matrix about replies that nobody can expect: their size, their depth, their headers."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib

import pytest
from asking import rows
from fake_provider import FakeProvider, http, raw

from pipeline.collect.providers import bounded
from pipeline.collect.sending.rate_limit import wait_asked
from pipeline.collect.sending.role import SendReport
from pipeline.collect.store.response_store import ResponseStore
from pipeline.errors import DataError, ProviderDown
from pipeline.run.directory import Run

pytest_plugins = ("asking_fixtures",)


async def parts(body: bytes, size: int = 50_000):
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def endless(part: bytes, seen: list[int]):
    while True:
        seen.append(1)
        yield part


def test_row_67_a_reply_is_read_in_bounds_whatever_its_encoding() -> None:
    asyncio.run(_read_in_bounds())


async def _read_in_bounds() -> None:
    plain = json.dumps({"choices": ["x" * 1000] * 1000}).encode()
    raw_deflate = zlib.compressobj(wbits=-15)
    for encoding, packed in (
        ("", plain), ("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain)),
        ("deflate", raw_deflate.compress(plain) + raw_deflate.flush()),
    ):  # fmt: skip
        assert await bounded.read(parts(packed), encoding) == plain
    bomb = gzip.compress(b" " * 200_000_000)
    with pytest.raises(bounded.TooLargeError):
        await bounded.read(parts(bomb), "gzip")
    seen: list[int] = []
    with pytest.raises(bounded.TooLargeError):
        await bounded.read(endless(b"x" * 1_000_000, seen), "")
    assert len(seen) == 17


def test_row_67_a_reply_without_end_is_retried_once_then_failed(ask, monkeypatch) -> None:
    monkeypatch.setattr(bounded, "MOST_BYTES", 100_000)
    monkeypatch.setattr(bounded.read, "__defaults__", (100_000,))
    with FakeProvider({"row 3.": [raw(b" " * 200_000)] * 4}) as api:
        report = ask(api, rows(10))
        assert api.count("row 3.") == 2
    assert (report.kept, report.failed_by_reason) == (9, {"too_large": 1})


def test_row_67_json_without_bottom_is_no_reply_and_no_traceback(ask) -> None:
    with FakeProvider({"row 3.": [raw(b"[" * 200_000), raw(b'{"a":' * 100_000)]}) as api:
        assert ask(api, rows(10)).kept == 10


@pytest.mark.parametrize("date", ["Fri, 31 Dec 99999 23:59:59 GMT", "Mon, 01 Jan 10000 00:00:00 GMT"])
def test_row_02_a_wait_until_a_year_that_no_calendar_has_is_a_wait_too_long(ask, date: str) -> None:
    assert (wait_asked({"retry-after": date}) or 0) > 1e8
    with FakeProvider(lambda post: http(429, {"Retry-After": date})) as api, pytest.raises(ProviderDown):
        ask(api, rows(3))


def test_row_70_an_emptied_store_beside_runs_is_refused_and_a_new_one_is_not(tmp_path) -> None:
    path = tmp_path / "responses.sqlite"
    path.touch()
    with ResponseStore(path):
        pass  # nothing was ever made from it
    for name in ("responses.sqlite-wal", "responses.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    path.write_bytes(b"")
    run = Run(tmp_path, "mail", "0123456789ab")
    run.update(started="2026-11-29T00:00:00+00:00")
    begun = run.path("run.json").read_bytes()
    with ResponseStore(path):
        pass  # nor was anything sent by a run that began a moment ago
    for name in ("responses.sqlite-wal", "responses.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    path.write_bytes(b"")
    cheap = SendReport(sent=3, kept=3, attempts=3).record()
    for leave_a_trace in (lambda: run.update(spending={"cheap": cheap}), lambda: run.path("replies.parquet").touch()):
        run.path("run.json").write_bytes(begun)
        leave_a_trace()
        with pytest.raises(DataError, match="0123456789ab beside it were made from its replies"):
            ResponseStore(path)
        assert path.stat().st_size == 0


@pytest.mark.parametrize(
    "cell", ["headers='{'", "received_at='yesterday'", "received_at=1e300", "body='text'", "checksum=NULL"]
)
def test_row_70_a_damaged_cell_of_a_reply_is_asked_for_again_and_no_traceback(ask, store, cell) -> None:
    wanted = rows(5)
    with FakeProvider() as api:
        ask(api, wanted)
        store.transaction([(f"UPDATE attempt SET {cell} WHERE request_id=?", [wanted[3].request_id])])
        list(store.replies([r.request_id for r in wanted]))
        assert ask(api, wanted).kept == 1
    assert len(list(store.replies([r.request_id for r in wanted]))) == 5


def test_row_70_a_damaged_note_is_named(store) -> None:
    store.remember("probe:x", {"usable": True})
    store.transaction([("UPDATE fact SET value='{' WHERE key='probe:x'", [])])
    with pytest.raises(DataError, match="the note 'probe:x' is damaged"):
        store.fact("probe:x")
