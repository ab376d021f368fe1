"""The store on other machines' disks, beside other processes, and in what order their sessions are numbered."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest
from asking import rows
from fake_provider import FakeProvider

from pipeline.collect.store import schema
from pipeline.collect.store.file_system import network_kind
from pipeline.collect.store.response_store import ResponseStore

pytest_plugins = ("asking_fixtures",)

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /mnt/share rw - nfs4 server:/share rw,vers=4.2
31 30 0:41 / /mnt/share/local rw shared:7 master:3 - ext4 /dev/vdb rw
32 22 0:42 / /mnt/with\\040space rw - cifs //server/x rw
33 22 0:43 / /data rw - fuse.sshfs me@there:/ rw
34 22 0:44 / /data rw - xfs /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", None),
        ("/mnt", None),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/runs/x", "nfs4"),
        ("/mnt/shared", None),
        ("/mnt/share/local/runs", None),
        ("/mnt/with space/runs", "cifs"),
        ("/data/runs", None),
    ],
)
def test_the_innermost_and_last_mount_holds_a_folder(folder: str, kind: str | None) -> None:
    assert network_kind(Path(folder), MOUNTS) == kind


def test_this_very_folder_is_looked_up(tmp_path: Path) -> None:
    assert network_kind(tmp_path) is None or "network" in str(tmp_path)


def test_on_a_network_file_system_a_store_is_kept_without_shared_memory_and_moved_there_too(
    ask, store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeProvider() as api:
        ask(api, rows(20))
        store.close()
        monkeypatch.setattr(schema, "network_kind", lambda folder: "nfs4")
        with pytest.warns(UserWarning, match=r"on a network file system \(nfs4\)"):
            moved = ResponseStore(store.path)
        with moved:
            assert moved.query("PRAGMA journal_mode", []) == [("delete",)] or moved.query(
                "PRAGMA journal_mode", []
            ) == [("truncate",)]
            assert not store.path.with_name(store.path.name + "-shm").exists()
            assert len(list(moved.replies(r.request_id for r in rows(20)))) == 20
            with contextlib.closing(sqlite3.connect(store.path)) as other:  # another process looks at it
                assert other.execute("SELECT count(*) FROM attempt WHERE state='ok'").fetchone() == (20,)
            moved.remember("x", 1)
            assert moved.fact("x") == 1
            assert moved.compact()


def test_two_processes_that_begin_at_once_never_share_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ResponseStore(tmp_path / "s.sqlite") as one, ResponseStore(tmp_path / "s.sqlite") as other:
        commit, numbers = one.commit, []

        def then_the_other() -> None:
            commit()
            numbers.append(other.session("second"))

        monkeypatch.setattr(one, "commit", then_the_other)
        numbers.append(one.session("first"))
        assert len(set(numbers)) == 2


def test_stores_that_are_opened_at_once_on_a_new_file_all_open(tmp_path: Path) -> None:
    failed: list[BaseException] = []
    (tmp_path / "first" / "0123456789ab").mkdir(parents=True)
    (tmp_path / "first" / "0123456789ab" / "run.json").write_text('{"schema": "cascade-run/1"}')

    def work(name: str) -> None:
        try:
            with ResponseStore(tmp_path / name):
                pass
        except BaseException as error:
            failed.append(error)

    for number in range(30):  # what can go wrong goes wrong in one of some tens
        threads = [threading.Thread(target=work, args=(f"{number}.sqlite",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed
