"""The response store: what is kept comes back byte for byte, what is damaged is noticed, what is purged is gone."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import sqlite3
import time
from pathlib import Path

import pytest
from asking import KEY, request, rows
from fake_provider import FakeProvider, completion, http, ok, reset
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.collect.providers.provider import Attempt
from pipeline.collect.providers.recorded import Recorded
from pipeline.collect.sending.response_class import judge
from pipeline.collect.sending.sender import send
from pipeline.collect.store import admin, group_commit
from pipeline.collect.store.response_store import ResponseStore, ending, opening
from pipeline.collect.store.schema import SCHEMA_VERSION
from pipeline.errors import DataError, DiskFull, UsageError

pytest_plugins = ("asking_fixtures",)

NUMBERS = itertools.count(1)
BODY = b'{"choices": [{"message": {"content": "spam"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}'


def keep(store: ResponseStore, text: str = "x", body: bytes = BODY, task: str = "mail", **attempt: object) -> str:
    """Store one reply without a provider."""
    req = request(text)
    came = Attempt("reply", 200, body, {"x-request-id": "r1", "set-cookie": "never kept"}, 0.25, "integer", "host:1")

    def write() -> None:
        store.note_uses([(task, req.role, req.example_id, req.request_id)])
        store.note((), [ending(opening(next(NUMBERS), task, req.request_id, req), came, judge(came))])

    store.durably(write)
    return req.request_id


def test_a_reply_comes_back_as_it_was_kept_and_survives_reopening(tmp_path):
    with ResponseStore(tmp_path / "s.sqlite") as store:
        request_id = keep(store)
    with ResponseStore(tmp_path / "s.sqlite") as store:
        reply = store.get(request_id)
    assert (reply.request_id, reply.task, reply.example_id, reply.role, reply.service, reply.model) == (
        request_id,
        "mail",
        "x",
        "cheap",
        "together",
        "cheap-model",
    )
    assert (reply.body, reply.seconds, reply.host, reply.wire_form, reply.http_status) == (
        BODY,
        0.25,
        "host:1",
        "integer",
        200,
    )
    assert (reply.input_tokens, reply.output_tokens, reply.reasoning_tokens, reply.attempts) == (
        7,
        2,
        None,
        1,
    )
    assert reply.headers == {"x-request-id": "r1"}
    assert abs(reply.received_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)


def test_replies_come_in_the_order_asked_for_and_gaps_are_left_out(store):
    ids = [keep(store, f"row {i}") for i in range(1000)]
    wanted = [*reversed(ids), request("never sent").request_id, ids[3]]
    assert [r.request_id for r in store.replies(iter(wanted))] == [*reversed(ids), ids[3]]
    assert store.get(request("never sent").request_id) is None


@given(body=st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_any_bytes_come_back_exactly(tmp_path_factory, body):
    with ResponseStore(tmp_path_factory.mktemp("s") / "s.sqlite") as store:
        req, came = request("x"), Attempt("reply", 500, body)
        store.durably(lambda: store.note((), [ending(opening(1, "mail", req.request_id, req), came, judge(came))]))
        assert store.bodies(req.request_id) == [body]


@pytest.mark.parametrize("change", ["flip", "cut", "swap"])
def test_row_32_a_damaged_reply_is_named_set_aside_and_asked_again(ask, store, change, capsys):
    with FakeProvider() as api:
        ask(api, rows(20))
        with sqlite3.connect(store.path) as direct:
            seventh, packed = direct.execute("SELECT id, body FROM attempt ORDER BY id LIMIT 1 OFFSET 6").fetchone()
            bad = {"flip": packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:], "cut": packed[:10], "swap": None}[
                change
            ]
            if bad is None:
                bad = direct.execute("SELECT body FROM attempt WHERE id=?", (seventh + 1,)).fetchone()[0]
            direct.execute("UPDATE attempt SET body=? WHERE id=?", (bad, seventh))
        direct.close()
        assert len(admin.check(store)) == 1
        assert f"attempt {seventh} " in admin.check(store)[0]
        report = ask(api, rows(20))
        assert len(api.posts) == 21
    assert (report.damaged, report.kept, report.from_store) == (1, 1, 19)
    assert "damaged" in capsys.readouterr().err
    assert len(list(store.replies(r.request_id for r in rows(20)))) == 20
    assert admin.check(store) == []


def test_reading_a_damaged_reply_gives_none_and_says_so(store):
    request_id = keep(store)
    with sqlite3.connect(store.path) as direct:
        direct.execute("UPDATE attempt SET checksum=x'00'")
    direct.close()
    assert store.get(request_id) is None
    assert store.damaged == [request_id]


def test_a_commit_is_on_disk_when_it_returns_and_readers_do_not_wait_for_it(store):
    for connection in (store._write, store._read):
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,), (
            "FULL: WAL's usual 1 may lose the last commits"
        )
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_store_of_a_newer_version_is_refused_with_what_to_do(tmp_path):
    ResponseStore(tmp_path / "s.sqlite").close()
    with sqlite3.connect(tmp_path / "s.sqlite") as direct:
        direct.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    direct.close()
    with pytest.raises(UsageError, match="upgrade"):
        ResponseStore(tmp_path / "s.sqlite")


def test_another_programs_database_is_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "s.sqlite") as direct:
        direct.execute("CREATE TABLE theirs (x)")
    direct.close()
    with pytest.raises(UsageError, match="another program"):
        ResponseStore(tmp_path / "s.sqlite")


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "s.sqlite").write_bytes(b"this is not a database, it is a note" * 100)
    with pytest.raises(DataError, match=r"s\.sqlite: damaged"):
        ResponseStore(tmp_path / "s.sqlite")


def test_a_page_of_rubbish_inside_the_file_is_named(tmp_path):
    with ResponseStore(tmp_path / "s.sqlite") as store:
        for i in range(300):
            keep(store, f"row {i}", BODY + b" " * i)
        store.compact()
    data = bytearray((tmp_path / "s.sqlite").read_bytes())
    data[4096 * 3 : 4096 * 8] = b"\xa5" * (4096 * 5)
    (tmp_path / "s.sqlite").write_bytes(data)
    try:
        with ResponseStore(tmp_path / "s.sqlite") as store:
            found = admin.check(store)
        assert found
    except DataError as error:
        assert "damaged" in str(error)  # noqa: PT017


# What it holds


def test_the_summary_agrees_with_the_ledger(ask, store):
    script = {
        "row 3.": [http(500)],
        "row 4.": [http(400, message="too long for the context length")],
        "row 5.": [reset()],
        "row 6.": [reset(), reset()],
    }
    with FakeProvider(script) as api:
        ask(api, rows(10))
        (group,) = admin.summary(store, "mail")
        assert group["attempts"] == len(api.posts) == 13
        assert group["usd"] == pytest.approx(api.usd)
        assert group["input_tokens"] == sum(p.usage[0] for p in api.posts)
    assert (group["requests"], group["kept"], group["maybe_paid"], group["in_flight"]) == (10, 8, 3, 0)
    assert group["failed"] == {"too_long": 1, "cut": 1}
    assert admin.summary(store, "another task") == []
    assert any("kept 8" in line for line in admin.lines([group]))


def test_a_request_left_open_by_a_killed_run_counts_as_perhaps_paid_from_the_next_run_on(ask, store):
    req = request("row 3.")
    store.durably(lambda: store.note([opening(1, "mail", req.request_id, req)]))
    assert admin.summary(store)[0]["in_flight"] == 1
    with FakeProvider() as api:
        report = ask(api, rows(5))
    assert (report.maybe_paid, report.kept) == (1, 5)
    group = admin.summary(store)[0]
    assert (group["in_flight"], group["maybe_paid"], group["kept"], group["failed"]) == (0, 1, 5, {})


def test_an_open_request_of_another_task_is_left_alone(ask, store):
    req = request("row 3.")
    store.durably(lambda: store.note([opening(1, "another task", req.request_id, req)]))
    with FakeProvider() as api:
        assert ask(api, rows(5)).maybe_paid == 0


# Purge


SECRET = b"a very private sentence"


def _bytes_of(store: ResponseStore) -> bytes:
    return b"".join(p.read_bytes() for p in store.path.parent.glob(store.path.name + "*"))


def test_purged_replies_are_gone_from_the_files_bytes_and_their_cost_is_not(store):
    body = BODY.replace(b"spam", SECRET)
    keep(store, "x", body)
    for i in range(50):
        keep(store, f"row {i}")
    before = admin.summary(store)[0]
    packed = __import__("zlib").compress(body, 1)
    assert packed[12:40] in _bytes_of(store)
    assert admin.purge(store, example_id="x") == 1
    assert packed[12:40] not in _bytes_of(store)
    assert store.get(request("x").request_id) is None
    after = admin.summary(store)[0]
    assert (after["input_tokens"], after["kept"], after["purged"]) == (before["input_tokens"], before["kept"] - 1, 1)


def test_purge_by_task_leaves_other_tasks(store):
    one, two = keep(store, "one", task="mail"), keep(store, "two", task="shop")
    assert admin.purge(store, task="mail") == 1
    assert store.get(one) is None
    assert store.get(two) is not None


def test_purge_by_age_removes_what_is_older(store):
    old, new = keep(store, "old"), keep(store, "new")
    store.transaction([("UPDATE attempt SET received_at=? WHERE request_id=?", (time.time() - 40 * 86400, old))])
    assert admin.purge(store, older_than=dt.timedelta(days=30)) == 1
    assert (store.get(old), store.get(new).request_id) == (None, new)


def test_a_purged_request_is_asked_again_when_needed(ask, store):
    with FakeProvider() as api:
        ask(api, rows(5))
        admin.purge(store, example_id="row 3.")
        assert ask(api, rows(5)).sent == 1


def test_purge_without_a_condition_is_refused(store):
    with pytest.raises(UsageError, match="what to remove"):
        admin.purge(store)


# Export


def test_exported_replies_answer_the_same_questions_for_nothing(ask, store, tmp_path):
    wanted = [*rows(30), request("row 3.", example_id="twin")]
    with FakeProvider({"row 4.": [http(400, message="maximum context length")], "row 5.": [ok(choices=[])]}) as api:
        first = ask(api, wanted)
    assert admin.export(store, "mail", "cheap", tmp_path / "cheap.jsonl") == 31
    provider = Recorded(tmp_path / "cheap.jsonl")
    again = [request(r.messages[0]["content"], example_id=r.example_id, service=provider.service) for r in wanted]
    with ResponseStore(tmp_path / "second.sqlite") as second:
        report = send(again, provider, second, task="mail", progress=False)
        assert report.failed_by_reason == first.failed_by_reason == {"too_long": 1}
        for one, two in zip(wanted, again, strict=True):
            if one.example_id != "row 4.":
                assert json.loads(second.get(two.request_id).body) == json.loads(store.get(one.request_id).body)


# Group commits


def test_notes_that_arrive_together_share_a_commit(store, monkeypatch):
    committed = []
    monkeypatch.setattr(store, "commit", lambda real=store.commit: (committed.append(1), real()))
    req = request("x")

    async def main() -> None:
        group = group_commit.GroupCommit(store, busy=lambda: True)

        async def one(number: int) -> None:
            group.opened(opening(number, "mail", req.request_id, req))
            await group.durable()

        await asyncio.gather(*(one(i) for i in range(1, 201)))
        await group.aclose()

    asyncio.run(main())
    assert store.query("SELECT count(*) FROM open", []) == [(200,)]
    assert len(committed) <= 8


def test_a_full_group_of_replies_is_committed_before_its_window_ends(store, monkeypatch):
    monkeypatch.setattr(group_commit, "LONGEST_S", 600.0)
    req, came = request("x"), Attempt("reply", 200, BODY)
    seen = []

    def kept() -> int:
        return store.query("SELECT count(*) FROM attempt", [])[0][0]

    async def main() -> None:
        group = group_commit.GroupCommit(store, busy=lambda: True)
        group.window = 600.0
        for number in range(1, 66):
            if number == group_commit.AT_MOST:
                await asyncio.sleep(0.1)
                seen.append(kept())
            group.ended(ending(opening(number, "mail", req.request_id, req), came, judge(came)))
        async with asyncio.timeout(30):
            while not kept():
                await asyncio.sleep(0.01)
        seen.append(kept())
        await group.aclose()

    asyncio.run(main())
    assert seen == [0, 65]


def test_a_note_that_is_waited_for_is_durable_and_so_is_everything_noted_before(store):
    seen = []
    req = request("x")
    came = Attempt("reply", 200, BODY)

    async def main() -> None:
        group = group_commit.GroupCommit(store, busy=lambda: False)
        for i in range(1, 6):
            group.opened(opening(i, "mail", req.request_id, req))
            group.ended(ending(opening(100 + i, "mail", req.request_id, req), came, judge(came)))
            await group.durable()
            other = sqlite3.connect(store.path)
            seen.append(
                (
                    other.execute("SELECT count(*) FROM open").fetchone()[0],
                    other.execute("SELECT count(*) FROM attempt").fetchone()[0],
                )
            )
            other.close()
        await group.aclose()

    asyncio.run(main())
    assert seen == [(i, i) for i in range(1, 6)]


def test_replies_that_arrive_together_are_finished_a_few_at_a_time_and_in_order():
    turn, passed = 0, []

    async def main() -> None:
        nonlocal turn
        turnstile = group_commit.Turnstile(per_turn=2)

        async def one(number: int) -> None:
            await turnstile.enter()
            passed.append((turn, number))

        everybody = asyncio.gather(*(one(i) for i in range(20)))
        while not everybody.done():
            turn += 1
            await asyncio.sleep(0)
        await everybody

    asyncio.run(main())
    assert [number for _, number in passed] == list(range(20))
    turns = [turn for turn, _ in passed]
    assert max(turns.count(t) for t in turns) <= 4
    assert len(set(turns)) >= 5


def test_a_full_disk_stops_sending_and_keeps_what_was_committed(ask, store):
    with FakeProvider() as api:
        ask(api, rows(10))
        pages = store.query("PRAGMA page_count", [])[0][0]
        store._write.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(DiskFull, match=r"responses\.sqlite") as stopped:
            ask(api, rows(500), concurrency=4)
        assert stopped.value.exit_code == 3
        paid = len(api.posts)
        assert paid < 100
        store._write.execute("PRAGMA max_page_count=1000000")
        kept = len(list(store.replies(r.request_id for r in rows(500))))
        assert kept >= paid - 4
        ask(api, rows(500))
        assert len(api.posts) <= 500 + 4


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        ResponseStore(tmp_path / "file" / "s.sqlite")


def test_the_key_is_in_no_byte_of_the_store(ask, store):
    echo = http(400, message=f"bad header Authorization: Bearer {KEY} and sk-abcdefgh12345678")
    with FakeProvider({"row 3.": [echo], "row 4.": [ok(choices=completion_with(KEY))]}) as api:
        ask(api, rows(10))
        assert all(p.headers["authorization"] == f"Bearer {KEY}" for p in api.posts)
    bodies = b"".join(b"".join(store.bodies(r.request_id)) for r in rows(10))
    for secret in (KEY.encode(), b"sk-abcdefgh12345678"):
        assert secret not in bodies
        assert secret not in _bytes_of(store)


def completion_with(text: str) -> object:
    body = completion({"messages": [{"content": "x"}]})
    body["choices"][0]["message"]["content"] = text
    return body["choices"]


def test_dollars_of_replies_that_tell_no_usage_are_unknown_and_of_a_few_a_lower_bound(ask, store):
    with FakeProvider(lambda post: ok(usage=None)) as api:
        ask(api, rows(3))
    (group,) = admin.summary(store)
    assert (group["usd"], group["input_tokens"], group["output_tokens"]) == (None, None, None)
    assert group["replies_without_usage"] == 3
    assert "tokens unknown · dollars unknown" in "\n".join(admin.lines([group]))
    with FakeProvider() as api:
        ask(api, rows(5))
        (group,) = admin.summary(store)
        assert group["usd"] == pytest.approx(api.usd)
    assert f"at least ${group['usd']:.4f}" in "\n".join(admin.lines([group]))
