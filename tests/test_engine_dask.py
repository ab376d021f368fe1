"""A real Dask cluster of two processes: the same bytes as in one process, also when a worker is killed, and from a real S3 server."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shard_work import Part, refuse, work

from pipeline import stages
from pipeline.__main__ import main
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.task_input import TaskInput
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.engine import dask, engines, local, shards
from pipeline.errors import DataError, Stopped, UsageError

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "email_triage.yaml"
ARTEFACTS = ("replies.parquet", "tokens.parquet", "graded.parquet")
# torn-down clusters leave sockets and event loops for the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def parts(folder: Path, count: int = 5, **deaths: int) -> list[Part]:
    return [Part(i, folder, deaths.get(f"of_{i}", 0)) for i in range(count)]


def test_without_the_library_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    folders = ["--runs-dir", str(tmp_path / "runs"), "--reports-dir", str(tmp_path / "reports")]
    assert main(["evaluate", str(CONFIG), "--limit", "100", "--engine", "dask", "--quiet", *folders]) == 2
    assert "pip install 'cascade-threshold[dask]'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["ray", "dask=", "daskk", ""])
def test_an_unknown_engine_is_refused_by_name(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(CONFIG), "--engine", text])
    assert stopped.value.code == 2
    assert "local, dask and dask=ADDRESS" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_an_error_is_raised_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = list(local.run(work, parts(tmp_path / "whole"), workers=1))
    killed = list(dask.run(work, parts(tmp_path / "killed", of_1=1), workers=2))
    assert [list(m.sha256.values()) for m in killed] == [list(m.sha256.values()) for m in whole]
    assert Counter((tmp_path / "killed" / "begun").read_text().split())["1"] >= 2
    with pytest.raises(DataError, match="part 0 is odd"):
        list(dask.run(refuse, parts(tmp_path), workers=2))


@pytest.mark.slow
def test_a_part_on_which_workers_keep_dying_stops_the_run_resumably(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="keep dying on the same part") as stopped:
        list(dask.run(work, parts(tmp_path, 2, of_1=99), workers=2))
    assert stopped.value.exit_code == 3


@pytest.mark.slow
def test_an_address_without_a_scheduler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "CONNECT_S", 1)
    with pytest.raises(UsageError, match=r"dask=tcp://127\.0\.0\.1:1: no Dask scheduler answers there"):
        list(engines.run("dask=tcp://127.0.0.1:1", work, parts(tmp_path)))


# A real run


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskInput:
    """A collected task of 120 rows in shards of 20, read in this process."""
    monkeypatch.setattr(shards, "SHARD", 20)
    options = Options(limit=120, runs_dir=tmp_path / "runs", reports_dir=tmp_path / "reports", quiet=True, workers=1)
    made = TaskInput(yaml_file.load(CONFIG), options)
    with stages.begun(made):
        stages.measure(made, stages.collect(made, Allowance()))
    return made


def written(task: TaskInput) -> dict[str, bytes]:
    return {name: task.run.path(name).read_bytes() for name in ARTEFACTS}


def again(task: TaskInput, **options: Any) -> dict[str, bytes]:
    """The artefacts of another engine, made anew."""
    for name in ARTEFACTS:
        task.run.path(name).unlink()
    other = TaskInput(task.config, replace(task.options, **options))
    stages.graded(other)
    return written(other)


@pytest.fixture
def cluster() -> Iterator[Any]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as running:
        yield running


def kill_a_worker(cluster: Any, killed: list[int]) -> None:
    time.sleep(0.2)
    pid = next(iter(cluster.workers.values())).pid
    os.kill(pid, signal.SIGKILL)
    killed.append(pid)


@pytest.mark.slow
def test_every_engine_leaves_the_same_bytes(task: TaskInput, cluster: Any) -> None:
    one = written(task)
    assert again(task, workers=2) == one
    assert again(task, engine=f"dask={cluster.scheduler_address}") == one
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(cluster, killed))
    killer.start()
    assert again(task, engine=f"dask={cluster.scheduler_address}") == one
    killer.join()
    assert killed


@pytest.mark.slow
def test_shards_on_a_real_s3_server_are_read_by_both_workers(task: TaskInput, s3: Any) -> None:
    from distributed import Client, LocalCluster

    s3.create_bucket(Bucket="shards")
    one = written(task)
    assert again(task, workers=1, shards_dir="s3://shards/local") == one
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as running,
        Client(running) as client,
    ):
        assert again(task, engine=f"dask={running.scheduler_address}", shards_dir="s3://shards/cluster") == one
        log = client.run(lambda dask_worker: len(dask_worker.state.log))
        assert len(log) == 2
        assert all(log.values())
    assert "Contents" not in s3.list_objects_v2(Bucket="shards"), "shards are removed in the end"
    with pytest.raises(DataError, match="s3://absent/folder"):
        again(task, shards_dir="s3://absent/folder")


@pytest.mark.slow
def test_the_command_line_runs_on_a_cluster_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shards, "SHARD", 100)
    found = {}
    for engine in ("local", "dask"):
        arguments = [
            "--runs-dir",
            str(tmp_path / engine),
            "--reports-dir",
            str(tmp_path / "reports"),
            "--json",
            "--quiet",
        ]
        assert main(["evaluate", str(CONFIG), "--limit", "300", "--engine", engine, "--workers", "2", *arguments]) == 0
        result = json.loads(capsys.readouterr().out)
        run = tmp_path / engine / result["task"] / result["run_id"]
        found[engine] = (result["decision_id"], [(run / name).read_bytes() for name in ARTEFACTS[1:]])
    assert found["local"] == found["dask"]
