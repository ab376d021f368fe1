"""Reading of recorded replies that is killed or interrupted goes on where it was, and gives the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline import stages
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.task_input import TaskInput
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.engine import shards
from pipeline.errors import DataError

ROWS, SHARD = 230, 50
PRICE = "usd_per_million_tokens: {{input: {}, output: 8, as_of: 2026-11-01, source: invented}}"


def recorded(folder: Path, *, price: float = 2.0) -> Path:
    """A task whose replies lie in files; its config."""
    for name in ("rows", "cheap", "strong"):
        with (folder / f"{name}.jsonl").open("w") as lines:
            for i in range(ROWS):
                label = "ab"[i % 2]
                row = {"id": f"r{i}", "text": f"text {i}", "label": label}
                said = label if name == "strong" or i % 7 else "ab"[1 - i % 2]
                logprobs = {"content": [{"token": said, "logprob": -0.01 * (i % 40 + 1), "top_logprobs": []}]}
                choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
                choices = [choice | ({"logprobs": logprobs} if name == "cheap" else {})]
                usage = {"prompt_tokens": 9, "completion_tokens": 1}
                body = {"object": "chat.completion", "model": name, "choices": choices, "usage": usage}
                line = {"custom_id": f"r{i}", "response": {"status_code": 200, "body": body}}
                lines.write(json.dumps(row if name == "rows" else line) + "\n")
    models = "".join(
        f"{role}: {{model: {role}, {more}params: {{}}, replies: {role}.jsonl, {PRICE.format(price)}}}\n"
        for role, more in (("cheap", "top_logprobs: 5, "), ("strong", ""))
    )
    path = folder / "t.yaml"
    path.write_text(
        "task: t\nkind: classify\nlabels: [a, b]\nprovider: recorded\ndataset: {path: rows.jsonl, id: id, label: label}\n"
        f'prompt: {{user: "{{text}}"}}\n{models}target: {{kind: match_strong, within: 0.05}}\n'
    )
    return path


def task(config: Path, runs: Path, shards_dir: str | None = None) -> TaskInput:
    options = Options(runs_dir=runs, reports_dir=runs, quiet=True, workers=1, shards_dir=shards_dir)
    return TaskInput(yaml_file.load(config), options)


def collected(of: TaskInput) -> dict[str, bytes]:
    rows = stages.collect(of, Allowance())
    names = ("replies.parquet", "tokens.parquet", "graded.parquet")
    found = {name: of.run.path(name).read_bytes() for name in names}
    assert not list(of.run.directory.glob(".*.tmp")), "shards are gone when the tables are there"
    assert rows.facts is not None
    return {**found, "facts": rows.facts.model_dump_json().encode()}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The places of the shards that are parsed; a negative place in front interrupts there."""
    seen: list[int] = []
    whole = shards._read

    def parsed(shard: shards.Shard) -> shards.Manifest:
        if seen and seen[0] < 0 and shard.place == -seen[0]:
            raise KeyboardInterrupt
        seen.append(shard.place)
        return whole(shard)

    monkeypatch.setattr(shards, "SHARD", SHARD)
    monkeypatch.setattr(shards, "_read", parsed)
    return seen


def test_an_interrupted_reading_goes_on_with_the_next_shard(tmp_path: Path, read: list[int]) -> None:
    config = recorded(tmp_path)
    straight = collected(task(config, tmp_path / "straight"))
    assert read == [0, 1, 2, 3, 4]
    read[:] = [-3]
    with pytest.raises(KeyboardInterrupt):
        stages.collect(task(config, tmp_path / "runs"), Allowance())
    assert read[1:] == [0, 1, 2]
    read.clear()
    assert collected(task(config, tmp_path / "runs")) == straight
    assert read == [3, 4]


def test_what_was_left_is_read_anew_where_it_would_not_be_the_same(tmp_path: Path, read: list[int]) -> None:
    config = recorded(tmp_path)
    read[:] = [-4]
    with pytest.raises(KeyboardInterrupt):
        stages.collect(task(config, tmp_path / "runs"), Allowance())
    left = next((tmp_path / "runs" / "t").glob("*/.shards.*.tmp"))
    (part,) = left.glob("00001-*-graded.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    (manifest,) = left.glob("00002-*-manifest.json")
    manifest.write_bytes(manifest.read_bytes()[:-1])
    read.clear()
    told = collected(task(config, tmp_path / "runs"))
    assert read == [1, 2, 4]
    read.clear()
    assert collected(task(config, tmp_path / "runs")) == told
    assert read == [0, 1, 2, 3, 4], "a reading that came to its end leaves nothing"
    # another price is the same run, and another figure of every reply
    read[:] = [-4]
    with pytest.raises(KeyboardInterrupt):
        stages.collect(task(config, tmp_path / "runs"), Allowance())
    read.clear()
    dearer = collected(task(recorded(tmp_path, price=3.0), tmp_path / "runs"))
    assert read == [0, 1, 2, 3, 4]
    assert dearer["replies.parquet"] != told["replies.parquet"]


@pytest.fixture
def memory() -> Iterator[str]:
    """An empty folder of a file system that is none of this machine's."""
    folder = "memory://resumed"
    yield folder
    fsspec.filesystem("memory").rm("/resumed", recursive=True)


def lying_at(folder: str) -> list[str]:
    fs, place = fsspec.core.url_to_fs(folder)
    return sorted(fs.find(place))


def test_an_interrupted_reading_at_a_remote_address_goes_on_and_leaves_nothing(
    tmp_path: Path, read: list[int], memory: str
) -> None:
    config, runs = recorded(tmp_path), tmp_path / "runs"
    straight = collected(task(config, tmp_path / "straight"))
    read[:] = [-3]
    with pytest.raises(KeyboardInterrupt):
        stages.collect(task(config, runs, memory), Allowance())
    assert read[1:] == [0, 1, 2]
    left = lying_at(memory)
    assert len(left) == 4 + 3 * 4, "rows of four shards; three tables and a manifest of three"
    damaged = next(path for path in left if "/00001-" in path and path.endswith("graded.parquet"))
    fs = fsspec.filesystem("memory")
    fs.pipe_file(damaged, fs.cat_file(damaged)[:-9])
    # replies that another folder's store holds may be others, and another price makes other figures
    read.clear()
    assert collected(task(config, tmp_path / "elsewhere", memory)) == straight
    assert read == [0, 1, 2, 3, 4]
    assert lying_at(memory) == left
    read.clear()
    assert collected(task(config, runs, memory)) == straight
    assert read == [1, 3, 4]
    assert not lying_at(memory)


def test_shards_at_a_remote_address_are_read_anew_at_another_price(
    tmp_path: Path, read: list[int], memory: str
) -> None:
    config, runs = recorded(tmp_path), tmp_path / "runs"
    read[:] = [-4]
    with pytest.raises(KeyboardInterrupt):
        stages.collect(task(config, runs, memory), Allowance())
    read.clear()
    dearer = collected(task(recorded(tmp_path, price=3.0), runs, memory))
    assert read == [0, 1, 2, 3, 4]
    assert dearer == collected(task(config, tmp_path / "straight"))


def test_shards_at_a_remote_address_are_removed_when_reading_fails(
    tmp_path: Path, read: list[int], memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(shard: shards.Shard) -> shards.Manifest:
        raise DataError("no luck")

    config = recorded(tmp_path)
    monkeypatch.setattr(shards, "_read", failing)
    with pytest.raises(DataError, match="no luck"):
        stages.collect(task(config, tmp_path / "runs", memory), Allowance())
    assert not lying_at(memory)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_resumed_reading import SHARD, shards, stages, task, Allowance
shards.SHARD, whole = SHARD, shards._read
def dying(shard):
    if shard.place == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(shard)
shards._read = dying
stages.collect(task(Path({config!r}), Path({runs!r}), {shards_dir!r}), Allowance())
"""


@pytest.mark.slow
def test_a_killed_process_is_taken_over_by_the_next(tmp_path: Path, read: list[int]) -> None:
    config, runs = recorded(tmp_path), tmp_path / "runs"
    straight = collected(task(config, tmp_path / "straight"))
    killed(config, runs, None)
    read.clear()
    assert collected(task(config, runs)) == straight
    assert read == [3, 4]


def killed(config: Path, runs: Path, shards_dir: str | None) -> None:
    """Collect in a process that is killed when it comes to the fourth shard."""
    script = KILLED.format(tests=str(Path(__file__).parent), config=str(config), runs=str(runs), shards_dir=shards_dir)
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_process_whose_shards_lie_on_s3_is_taken_over_by_the_next(
    tmp_path: Path, read: list[int], s3: Any
) -> None:
    s3.create_bucket(Bucket="shards")
    config, runs, where = recorded(tmp_path), tmp_path / "runs", "s3://shards/of/a/team"
    straight = collected(task(config, tmp_path / "straight"))
    killed(config, runs, where)
    assert s3.list_objects_v2(Bucket="shards")["KeyCount"] == 4 + 3 * 4
    read.clear()
    assert collected(task(config, runs, where)) == straight
    assert read == [3, 4]
    assert s3.list_objects_v2(Bucket="shards")["KeyCount"] == 0
