"""The same work in one process or in several, and what a process that dies costs: row 34 of the fault matrix."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import pickletools
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from shard_work import Part, break_oddly, outlast, refuse, wait_for_reader, work

from pipeline import stages
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.task_input import TaskInput
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.engine import local, shards
from pipeline.engine.manifest import Failure, Manifest, computed
from pipeline.engine.shard_plan import planned
from pipeline.errors import DataError, Stopped, UsageError
from pipeline.run import address

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "email_triage.yaml"


def parts(folder: Path, count: int = 5, **deaths: int) -> list[Part]:
    return [Part(i, folder, deaths.get(f"of_{i}", 0)) for i in range(count)]


def begun(folder: Path) -> Counter[str]:
    return Counter((folder / "begun").read_text().split())


def test_one_process_or_several_give_the_same_manifests_in_order(tmp_path: Path) -> None:
    here = list(local.run(work, parts(tmp_path), workers=1))
    assert [m.facts["number"] for m in here] == [0, 1, 2, 3, 4]
    assert list(local.run(work, parts(tmp_path), workers=2)) == here


def test_row_34_a_killed_process_costs_what_was_being_computed_and_ends_in_the_same_digests(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = list(local.run(work, parts(tmp_path / "whole"), workers=2))
    # three shards for two workers: deaths of one shard do not count against the next
    killed = list(local.run(work, parts(tmp_path / "killed", of_0=2, of_1=2, of_3=2), workers=2))
    assert [list(m.sha256.values()) for m in killed] == [list(m.sha256.values()) for m in whole]
    assert begun(tmp_path / "killed") == {"0": 3, "1": 3, "2": 1, "3": 3, "4": 1}, "a death costs its own shard only"


def test_a_process_that_dies_does_not_disturb_one_that_is_long_at_work(tmp_path: Path) -> None:
    """One pool for both waits for ever here."""
    expected = list(local.run(work, parts(tmp_path), workers=1))
    (tmp_path / "begun").unlink()
    assert list(local.run(outlast, parts(tmp_path, of_1=2), workers=2)) == expected
    assert begun(tmp_path) == {"0": 1, "1": 3, "2": 1, "3": 1, "4": 1}


def test_a_shard_whose_process_dies_again_and_again_stops_the_run_resumably(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match=r"died 3 times on the same part.*--workers 1") as stopped:
        list(local.run(work, parts(tmp_path, of_2=9), workers=2))
    assert stopped.value.exit_code == 3
    assert begun(tmp_path)["2"] == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_ours_is_raised_as_what_it_is(tmp_path: Path, workers: int) -> None:
    with pytest.raises(DataError, match="part 0 is odd"):
        list(local.run(refuse, parts(tmp_path), workers=workers))


def test_an_error_that_cannot_travel_arrives_as_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"the work on a shard failed[\s\S]*Unpicklable: part 0"):
        list(local.run(break_oddly, parts(tmp_path), workers=2))


def test_shards_are_drawn_as_workers_become_free(tmp_path: Path) -> None:
    drawn = []

    def plan() -> Iterator[Part]:
        for part in parts(tmp_path, 9):
            drawn.append(part.number)
            yield part

    manifests = local.run(wait_for_reader, plan(), workers=2)
    next(manifests)
    before = len(drawn)
    (tmp_path / "read").touch()  # first, so that a failure does not wait for ever
    assert before <= 4, "not all of them are written before the first is read"
    assert [m.facts["number"] for m in manifests] == list(range(1, 9))


# A real run


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskInput:
    """A collected task of 240 rows in shards of 50."""
    monkeypatch.setattr(shards, "SHARD", 50)
    options = Options(limit=240, runs_dir=tmp_path / "runs", reports_dir=tmp_path / "reports", quiet=True)
    made = TaskInput(yaml_file.load(CONFIG), options)
    monkeypatch.setattr(local, "processors", lambda: 1)
    with stages.begun(made):
        stages.measure(made, stages.collect(made, Allowance()))
    return made


def written(task: TaskInput) -> dict[str, bytes]:
    return {name: task.run.path(name).read_bytes() for name in ("replies.parquet", "tokens.parquet", "graded.parquet")}


def kill_one(found: list[int]) -> None:
    """Kill the first working process that is seen well under way."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for child in multiprocessing.active_children():
            if child.pid is not None:
                time.sleep(0.3)
                os.kill(child.pid, signal.SIGKILL)
                found.append(child.pid)
                return
        time.sleep(0.005)


@pytest.mark.slow
def test_a_run_in_several_processes_one_of_them_killed_leaves_the_same_bytes(
    task: TaskInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = written(task)
    facts: dict[str, Any] = task.run.read_json("run.json")["measured"]
    monkeypatch.setattr(local, "processors", lambda: 2)
    killed: list[int] = []
    killer = threading.Thread(target=kill_one, args=(killed,))
    killer.start()
    rows = stages.graded(task)
    killer.join()
    assert killed, "no working process was there to be killed"
    stages.measure(task, rows)
    assert written(task) == one
    assert task.run.read_json("run.json")["measured"] == facts


@pytest.mark.slow
def test_the_number_of_shards_changes_no_row_and_no_count(task: TaskInput, monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, Any] = task.run.read_json("run.json")["measured"]
    tables = {name: pq.read_table(task.run.path(name)) for name in ("replies.parquet", "tokens.parquet")}
    graded = pq.read_table(task.run.path("graded.parquet"))
    monkeypatch.setattr(shards, "SHARD", 1000)
    stages.measure(task, stages.graded(task))
    whole: dict[str, Any] = task.run.read_json("run.json")["measured"]
    assert whole.pop("captured_mass") == pytest.approx(facts.pop("captured_mass"), abs=1e-12)
    assert whole == facts
    assert sum(facts["statuses"]["cheap"].values()) == 240
    assert pq.read_table(task.run.path("graded.parquet")).equals(graded)
    for name, table in tables.items():
        order = [("role", "ascending"), ("example_id", "ascending")] + [("position", "ascending")] * ("tokens" in name)
        assert pq.read_table(task.run.path(name)).sort_by(order).equals(table.sort_by(order)), name


@pytest.mark.slow
def test_a_shard_file_that_changed_is_noticed(task: TaskInput) -> None:
    with planned(task, task.run) as plan:
        done = [shards.read(part) for part in plan]
        assert len(plan.made) == 5
        path = Path(plan.made[1].result("tokens.parquet"))
        path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-8:])
        with pytest.raises(DataError, match="changed while"):
            list(shards.results(plan.made, done, "tokens.parquet"))
        folder = path.parent
    assert not folder.exists()


@pytest.mark.slow
def test_no_key_client_or_exception_travels(task: TaskInput, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pickled for another process, and what comes back, names classes of plain values only."""
    monkeypatch.setenv("TOGETHER_API_KEY", "tgp-secret-in-no-pickle")
    allowed = {
        "pipeline.engine.shards read",
        "pipeline.engine.shards Shard",
        "pipeline.engine.shards Asked",
        "pipeline.engine.manifest computed",
        "pipeline.engine.manifest Manifest",
        "pipeline.engine.manifest Failure",
        "cascade_threshold.pricing Price",
        "datetime date",
    }
    with planned(task, task.run) as plan:
        there = [(computed, shards.read, shard) for shard in plan]
        back = [computed(shards.read, there[0][2]), computed(refuse, parts(task.run.directory)[0])]
    assert isinstance(back[0], Manifest)
    assert isinstance(back[1], Failure)
    for value in (there, back):
        sent = pickle.dumps(value, protocol=2)  # which names every class in full
        named = {str(arg) for op, arg, _ in pickletools.genops(sent) if op.name == "GLOBAL"}
        assert named
        assert named - {name for name in named if name.split()[0] in ("copy_reg", "__builtin__", "_codecs")} <= allowed
        assert b"secret" not in sent
    json.dumps([back[0].sha256, back[0].rows, back[0].facts])


def test_a_shard_that_a_worker_cannot_reach_is_named_with_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"gone\.parquet: not found by the process.*--shards-dir"),
        address.parquet(str(tmp_path / "gone.parquet")),
    ):
        pass
    with pytest.raises(UsageError) as refused, address.parquet("nosuch://user:hunter2hunter2@host/x.parquet"):
        pass
    assert "nosuch://host/x.parquet" in str(refused.value)
    assert "hunter2" not in str(refused.value)
