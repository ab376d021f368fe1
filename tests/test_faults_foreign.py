"""Rows of the fault matrix about replies that nobody can expect: their size, their depth, their headers."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import random
import zlib

import pytest
from asking import rows
from fake_provider import FakeProvider, http, raw
from foreign_input import ODD, altered
from hypothesis import example, given
from hypothesis import strategies as st

from cascade_threshold import completion
from pipeline.collect.providers import bounded
from pipeline.collect.sending.rate_limit import wait_asked
from pipeline.collect.sending.response_class import Action, judge_body
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
        ("", plain),
        ("gzip", gzip.compress(plain)),
        ("deflate", zlib.compress(plain)),
        ("deflate", raw_deflate.compress(plain) + raw_deflate.flush()),
    ):
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


async def _whole(parts: list[bytes], encoding: str, most: int = 1_000_000) -> bytes:
    async def arriving():
        for part in parts:
            yield part

    return await bounded.read(arriving(), encoding, most)


def test_row_67_what_follows_a_compressed_body_or_holds_nothing_is_bounded_too(monkeypatch) -> None:
    good = gzip.compress(b"{}")
    assert asyncio.run(_whole([good, b"\0" * 1000], "gzip")) == b"{}"
    empty = b"\x00\x00\x00\xff\xff"  # a stored block of nothing
    for endless in ([good] + [b"x" * 100_000] * 20, [zlib.compress(b"")[:2]] + [empty * 20_000] * 20):
        with pytest.raises(bounded.TooLargeError):
            asyncio.run(_whole(endless, "gzip" if endless[0] is good else "deflate"))
    monkeypatch.setattr(bounded, "PIECE", 100)
    chance = random.Random(1)
    for _ in range(200):  # cut anywhere, unpacked in pieces: as zlib has it in one
        data = bytes(chance.choices(b"ab" if chance.random() < 0.5 else range(256), k=chance.randrange(3000)))
        raw = zlib.compressobj(wbits=-15)
        packed, encoding = chance.choice(
            [
                (gzip.compress(data), "gzip"),
                (gzip.compress(data[:50]) + gzip.compress(data[50:]), "gzip"),
                (zlib.compress(data), "deflate"),
                (raw.compress(data) + raw.flush(), "deflate"),
                (data, ""),
            ]
        )
        if encoding == "deflate" and packed[:1] and packed[0] & 15 == 8 and packed[:2] != zlib.compress(b"")[:2]:
            continue  # raw deflate that begins like a header cannot be told from one
        cuts = sorted(chance.randrange(len(packed) + 1) for _ in range(chance.randrange(6)))
        parts = [packed[a:b] for a, b in itertools.pairwise([0, *cuts, len(packed)])]
        assert asyncio.run(_whole(parts, encoding)) == data


GOOD = {
    "id": "x",
    "object": "chat.completion",
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "spam"}, "logprobs": None}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    "error": None,
}


WITHHELD = {"code": "content_filter", "message": "withheld"}
BROKEN_OFF = [*ODD, WITHHELD, "content_filter", "abort", "chat.completion.chunk", "response", {"delta": {}}]


@example({**GOOD, "choices": True, "error": True})
@example({**GOOD, "choices": [{**GOOD["choices"][0], "finish_reason": "content_filter"}], "error": "late"})
@example({"error": WITHHELD})
@example({"error": WITHHELD, "choices": [3]})
@example({"result": GOOD, "error": {"message": "late"}})
@given(st.one_of(altered(GOOD, BROKEN_OFF), altered({"result": GOOD, "error": None}, BROKEN_OFF)))
def test_rows_08_10_what_is_kept_as_a_reply_is_one_that_can_be_read(value) -> None:
    kept = judge_body(value, "here").state == "ok"
    assert kept == (
        completion.parse(value if isinstance(value, dict) else json.dumps(value)).problem not in completion.UNREADABLE
    )


@pytest.mark.parametrize(
    ("body", "state", "reason"),
    [
        ({"result": GOOD}, "ok", ""),
        ({"model": "m", "done": True, "message": {"content": "spam"}}, "ok", ""),
        ({"object": "response", "output": []}, "invalid", "not_a_completion"),
        ({"status": "queued"}, "invalid", "not_a_completion"),
        (
            {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "spam"}}]},
            "invalid",
            "not_a_completion",
        ),
        ({"object": "chat.completion", "usage": {}}, "ok", "empty"),
        ({**GOOD, "choices": []}, "ok", "empty"),
        ({**GOOD, "choices": [{"finish_reason": "SAFETY", "message": {"content": None}}]}, "ok", ""),
        ({"error": WITHHELD}, "ok", ""),
        ({**GOOD, "choices": [None], "error": "overloaded"}, "invalid", "interrupted"),
        ({"result": GOOD, "error": "overloaded"}, "invalid", "error_body"),
        ({**GOOD, "choices": [{"finish_reason": "stop", "message": {"content": None, "refusal": "No."}}]}, "ok", ""),
    ],
)
def test_rows_08_10_a_reply_of_another_form_is_kept_where_it_can_be_read_and_asked_once_more_where_not(
    body, state, reason
) -> None:
    found = judge_body(body, "here")
    assert (found.state, found.reason) == (state, reason)
    assert (found.action is Action.KEEP) == (not reason)
