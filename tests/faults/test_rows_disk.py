"""Rows of the fault matrix about disks: full, read-only, damaged, emptied, read by others; through the real command."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from fake_provider import FakeProvider, Post, Step
from fault_run import FaultRun, invariants, rows_are_accounted_for
from foreign_input import documented
from mounted import read_only, small_disk

from pipeline.collect.store import reserve, schema
from pipeline.collect.store.response_store import ResponseStore
from pipeline.run.lock import locked


@pytest.fixture
def run(tmp_path: Path) -> FaultRun:
    return FaultRun(tmp_path / "project")


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill the disk of a folder but for so many bytes; removing the file that is returned frees it."""
    plug = folder / "plug"
    with open(plug, "wb", buffering=0) as out:
        while True:
            try:
                out.write(bytes(4096))
            except OSError:
                break
    os.truncate(plug, max(0, plug.stat().st_size - leave))
    return plug


def test_row_28_a_disk_without_room_is_noticed_before_the_first_post(run: FaultRun) -> None:
    with small_disk(run.runs, "2m"), FakeProvider() as api:
        ended = run(api, "collect")
        assert (ended.code, len(api.posts)) == (3, 0)
        assert f"{run.store}: no space left" in ended.err


def test_rows_28_71_a_disk_that_fills_up_keeps_what_was_in_flight_and_sends_nothing_more(run: FaultRun) -> None:
    plugs: list[Path] = []

    def filling(post: Post) -> Step | None:
        if post.number == 30:
            plugs.append(fill(run.runs))
        return None

    with small_disk(run.runs, "12m"), FakeProvider(filling, latency=0.02) as api:
        ended = run(api, "collect", "--concurrency", "8")
        assert ended.code == 3, ended.err
        assert "Traceback" not in ended.err
        assert f"{run.store}: no space left" in ended.err
        assert "paid for and lost" not in ended.err, "the room set aside took them"
        answered = {(p.body["model"], p.text) for p in api.posts if p.billed}
        assert len(run.attempts("state='ok'")) == len(answered) == len(api.posts) < 60
        plugs[0].unlink()
        assert run(api, "collect").code == 0
        assert len(api.posts) == 2 * run.rows, "nothing is paid twice"
        invariants(run, api)


def test_row_71_replies_that_find_no_room_at_all_are_named_as_paid_and_lost(
    run: FaultRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "BYTES", 1)
    plugs: list[Path] = []

    def filling(post: Post) -> Step | None:
        if post.number == 30:
            plugs.append(fill(run.runs))
        return None

    with small_disk(run.runs, "6m"), FakeProvider(filling, latency=0.02) as api:
        ended = run(api, "collect", "--concurrency", "8")
        assert ended.code == 3
        lost = len(api.posts) - len(run.attempts("state='ok'"))
        assert 0 < lost <= 8
        assert f"{lost} replies that came back could not be kept there: they are paid for and lost" in ended.err
        assert "rows m" in ended.err
        plugs[0].unlink()
        assert run(api, "collect").code == 0
        assert len(api.posts) == 2 * run.rows + lost
        assert len(run.attempts("state='unknown'")) == lost, "and they count as paid"
        rows_are_accounted_for(run)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_row_28_a_limit_on_the_size_of_files_stops_the_run_like_a_full_disk(
    run: FaultRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeProvider(latency=0.01) as api:
        with largest_file(100_000):
            ended = run(api, "collect")
        assert (ended.code, len(api.posts)) == (3, 0)
        assert str(run.store) in ended.err
        monkeypatch.setattr(reserve, "BYTES", 1)
        with largest_file(250_000):
            ended = run(api, "collect", "--concurrency", "4")
        assert ended.code == 3
        assert str(run.store) in ended.err
        assert "Traceback" not in ended.err
        lost = len(api.posts) - len(run.attempts("state='ok'"))
        assert 0 < len(api.posts) < 2 * run.rows
        assert lost <= 4
        assert run(api, "collect").code == 0
        assert len(api.posts) == 2 * run.rows + lost
        rows_are_accounted_for(run)


@pytest.mark.slow
def test_row_28_a_full_disk_for_the_report_names_the_report_and_pays_nothing_again(run: FaultRun) -> None:
    with FakeProvider() as api:
        assert run(api, "collect").code == 0
        with small_disk(run.reports, "200k"):
            ended = run(api, "evaluate")
            assert ended.code == 3
            assert f"{run.reports}/" in ended.err
            assert ".lock" not in ended.err
        assert len(api.posts) == 2 * run.rows


@pytest.mark.parametrize("which", ["runs", "reports"])
def test_row_29_a_read_only_folder_is_noticed_before_the_first_post(run: FaultRun, which: str) -> None:
    folder = getattr(run, which)
    with read_only(folder), FakeProvider() as api:
        ended = run(api, "collect")
        assert (ended.code, len(api.posts)) == (2, 0)
        assert f"{folder}: cannot be written (Read-only file system)" in ended.err


def test_row_29_a_store_that_is_read_only_can_be_looked_at_and_nothing_is_sent(run: FaultRun) -> None:
    with FakeProvider() as api:
        assert run(api, "collect").code == 0
        with read_only(run.runs):
            for command in ("status", "collect"):
                ended = run(api, command)
                assert ended.code in (0, 2)
                assert "Traceback" not in ended.err
        assert len(api.posts) == 2 * run.rows


CELLS = {
    "attempt": (
        "request_id",
        "task",
        "example_id",
        "role",
        "service",
        "model",
        "sent_at",
        "state",
        "reason",
        "http_status",
        "received_at",
        "seconds",
        "headers",
        "host",
        "wire_form",
        "input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "body",
        "checksum",
        "cached_tokens",
    ),
    "session": ("task", "host", "pid", "started_at"),
    "used": ("task", "role", "example_id", "request_id"),
    "fact": ("key", "value"),
}
RUBBISH = ("'?'", "x'ff00'", "-9223372036854775808", "1e300")


def test_row_70_the_cells_that_are_damaged_here_are_all_there_are(tmp_path: Path) -> None:
    with ResponseStore(tmp_path / "s.sqlite"), contextlib.closing(sqlite3.connect(tmp_path / "s.sqlite")) as direct:
        for table, columns in CELLS.items():
            named = {row[1] for row in direct.execute(f"PRAGMA table_info({table})") if row[1] != "id"}
            assert named == set(columns)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> FaultRun:
    run = FaultRun(tmp_path_factory.mktemp("collected"))
    with FakeProvider() as api:
        assert run(api, "collect").code == 0
        run.port = api.port  # type: ignore[attr-defined]
    return run


@pytest.mark.parametrize(
    ("table", "column"),
    [
        pytest.param(t, c, marks=() if c in ("headers", "http_status", "service", "value") else pytest.mark.slow)
        for t, columns in CELLS.items()
        for c in columns
    ],
)
def test_row_70_damage_in_any_cell_of_the_store_is_no_traceback_and_no_wrong_reply(
    collected: FaultRun, table: str, column: str
) -> None:
    """One cell at a time: what reads it names it, asks again, or does without it."""
    backup = collected.folder / "backup.sqlite"
    if not backup.exists():
        with contextlib.closing(sqlite3.connect(collected.store)) as direct:
            direct.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(collected.store, backup)
    for rubbish in RUBBISH:
        for left in ("-wal", "-shm"):
            collected.store.with_name(collected.store.name + left).unlink(missing_ok=True)
        shutil.copy(backup, collected.store)
        with contextlib.closing(sqlite3.connect(collected.store)) as direct:
            name = {"attempt": "id", "session": "id", "used": "(task, role, example_id)", "fact": "key"}[table]
            where = f"{name}=(SELECT {name.strip('()')} FROM {table} LIMIT 1 OFFSET 1)"
            direct.execute(f"UPDATE {table} SET {column}={rubbish} WHERE {where}")
            direct.commit()
        with FakeProvider(port=collected.port) as api:  # type: ignore[attr-defined]
            for command in ("status", "collect"):
                ended = collected(api, command)
                assert ended.code in (0, 2), (rubbish, ended.err)
                assert "Traceback" not in ended.err, rubbish
                assert ended.code == 0 or str(collected.store) in ended.err or "lie in a batch" in ended.err, (
                    rubbish,
                    ended.err,
                )
            assert len(api.posts) <= 2 * collected.rows // 4, "little is asked again"
        if ended.code == 0:
            assert {row["cheap_status"] for row in collected.table("graded.parquet")} == {"ok"}


def test_row_73_a_purge_beside_a_reader_says_that_bytes_remain_and_the_next_one_removes_them(
    run: FaultRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "WAIT_S", 0.2)

    def kept() -> bool:
        """Whether a reply's bytes are in any file of the store, in the form in which they were kept."""
        return any(body[:200] in path.read_bytes() for path in run.runs.glob("responses.sqlite*") for body in bodies)

    with FakeProvider() as api:
        assert run(api, "collect").code == 0
        bodies = [body for *_, body in run.attempts("state='ok'")][:5]
        assert kept()
        with contextlib.closing(sqlite3.connect(run.store, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM attempt").fetchone()
            ended = run(api, "purge", "--yes")
            assert ended.code == 3
            assert "their bytes are still in the file" in ended.err
            assert "removed" not in ended.out
            assert kept(), "it says so because they are there"
        ended = run(api, "purge", "--yes")
        assert ended.code == 0, ended.err
        assert not kept()
        assert run(api, "purge", "--yes").code == 2, "nothing is left to remove"


@pytest.mark.parametrize("words", [["--yes"], ["--yes", "--example-id", "m3"]])
def test_rows_30_73_a_purge_while_the_task_is_worked_on_is_refused_and_removes_nothing(
    run: FaultRun, words: list[str]
) -> None:
    """Removed under a run that counts on them, replies would be paid again."""
    with FakeProvider() as api:
        assert run(api, "collect").code == 0
        with locked(run.runs, run.task):
            ended = run(api, "purge", *words)
            assert (ended.code, f"task 'faulty' is in use by process {os.getpid()}" in ended.err) == (2, True)
        assert len(run.attempts("state='ok'")) == 2 * run.rows
        with locked(run.runs, "another"):
            assert run(api, "purge", *words).code == 0
        assert len(run.attempts("state='ok'")) < 2 * run.rows


READ_ONLY_MACHINE = """
mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,bind,ro / || exit 99
shift
exec "$@"
"""


@pytest.mark.slow
def test_row_29_a_machine_that_is_read_only_but_for_the_results_and_has_no_home_is_enough(run: FaultRun) -> None:
    with FakeProvider() as api:
        words = [
            "unshare",
            "-m",
            "sh",
            "-c",
            READ_ONLY_MACHINE,
            "sh",
            str(run.folder),
            sys.executable,
            "-m",
            "pipeline",
        ]
        environment = {**run.environment(api), "HOME": "/nonexistent"}
        environment = {name: value for name, value in environment.items() if not name.startswith(("XDG_", "MPL"))}
        try:
            done = subprocess.run(
                [*words, *run.words("evaluate", "--quiet")], env=environment, cwd=ROOT, capture_output=True, text=True
            )
        except OSError:
            pytest.skip("no unshare here")
        if done.returncode in (1, 99) and "Traceback" not in done.stderr:
            pytest.skip("this user may not make mounts of its own")
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        invariants(run, api)


ODD_BODIES = {
    "digits": b'{"choices": [{"message": {"content": "spam"}}], "created": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 3000 + b"]" * 3000,
    "bytes": b"\xff\xfe",
    "bomb": b" " * 100_000_000,
    "infinite": b'{"a": 1e999, "choices": [{"message": {"content": "spam"}}]}',
}


@pytest.mark.parametrize("kind", ODD_BODIES)
def test_row_70_a_stored_body_beyond_the_limits_is_no_traceback(run: FaultRun, kind: str) -> None:
    """Its checksum is right: it was written by another program, or by an older version of ours."""
    with FakeProvider() as api:
        assert run(api, "collect").code == 0
        body = ODD_BODIES[kind]
        with contextlib.closing(sqlite3.connect(run.store)) as direct:
            (number,) = direct.execute("SELECT id FROM attempt WHERE state='ok' LIMIT 1").fetchone()
            values = (zlib.compress(body), hashlib.sha256(body).digest()[:16], number)
            direct.execute("UPDATE attempt SET body=?, checksum=? WHERE id=?", values)
            direct.commit()
        out = run.folder / "replies"
        assert run(api, "status", "--export-replies", str(out)).code == 0
        assert (
            len([line for path in out.rglob("*.jsonl") for line in path.read_text().splitlines()]) >= 2 * run.rows - 1
        )
        assert run(api, "collect").code == 0
        assert len(api.posts) == 2 * run.rows + (kind == "bomb"), "what cannot be a reply is asked again"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["/", "/dev/null/x", "é" * 300])
def test_row_69_a_place_that_no_file_can_have_is_told(run: FaultRun, place: str) -> None:
    with FakeProvider() as api:
        assert run(api, "evaluate").code == 0
        for words in (("export", "--allow-uncertified", "--output", place), ("evaluate", "--markdown", place)):
            ended = run(api, *words)
            assert ended.code == 2, ended.err
            assert place[:40] in ended.err
    for command in (
        ["status", "--runs-dir", place],
        ["compare", place, place],
        ["monitor", "--policy", place, "--log", place],
    ):
        documented(command)


@pytest.mark.parametrize("key", ["dataset.path", "predictions.path", "cheap.replies"])
def test_row_76_a_path_that_no_system_can_hold_is_refused(run: FaultRun, key: str) -> None:
    value = '"a\\0b"'
    run.write_config(f"predictions: {{path: {value}}}\n" if key == "predictions.path" else "", provider="recorded")
    text = run.config.read_text()
    if key == "dataset.path":
        text = text.replace(f"path: {run.dataset.name}", f"path: {value}")
    for model in ("small", "large"):
        text = text.replace(f"model: {model},", f"model: {model}, replies: {value},")
    run.config.write_text(text)
    ended = run("http://127.0.0.1:9", "measure")
    assert ended.code == 2, ended.err
    assert run.config.name in ended.err
    assert "Traceback" not in ended.err
