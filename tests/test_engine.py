"""The same work in one process or in several, and what a process that dies costs: row 34 of the fault matrix."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from shard_work import Part, refuse, work

from pipeline import stages
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.task_input import TaskInput
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.engine import local, reading, shards
from pipeline.errors import DataError, Stopped

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "email_triage.yaml"


def parts(folder: Path, count: int = 5, **deaths: int) -> list[Part]:
    return [Part(i, folder, deaths.get(f"of_{i}", 0)) for i in range(count)]


def test_one_process_or_several_give_the_same_manifests_in_order(tmp_path: Path) -> None:
    here = list(local.run(work, parts(tmp_path), workers=1))
    assert [m.facts["number"] for m in here] == [0, 1, 2, 3, 4]
    assert list(local.run(work, parts(tmp_path), workers=2)) == here


def test_a_killed_process_costs_its_own_shard_only_and_ends_in_the_same_digests(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = list(local.run(work, parts(tmp_path / "whole"), workers=2))
    killed = list(local.run(work, parts(tmp_path / "killed", of_1=1, of_3=2), workers=2))
    assert [list(m.sha256.values()) for m in killed] == [list(m.sha256.values()) for m in whole]
    assert Counter((tmp_path / "killed" / "begun").read_text().split()) == {"0": 1, "1": 2, "2": 1, "3": 3, "4": 1}


def test_a_shard_whose_process_dies_again_and_again_stops_the_run_resumably(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match=r"died 3 times .* \(signal 9\)") as stopped:
        list(local.run(work, parts(tmp_path, of_2=9), workers=2))
    assert stopped.value.exit_code == 3
    assert Counter((tmp_path / "begun").read_text().split())["2"] == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_work_raises_is_raised(tmp_path: Path, workers: int) -> None:
    with pytest.raises(DataError, match="part 0 is odd"):
        list(local.run(refuse, parts(tmp_path), workers=workers))


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


def test_a_shard_file_that_changed_is_noticed(task: TaskInput) -> None:
    with reading.planned(task, task.run) as plan:
        done = [shards.read(part) for part in plan]
        assert len(plan) == 5
        path = plan[1].result("tokens.parquet")
        path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-8:])
        with pytest.raises(DataError, match="changed while"):
            list(shards.results(plan, done, "tokens.parquet"))
        folder = plan[0].rows.parent
    assert not folder.exists()
