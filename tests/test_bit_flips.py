"""One bit turned at two hundred places of every artefact: whoever reads it refuses it by name, or finds what it said before."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deliver.runs import shelf
from foreign_input import call
from run_folder import RunFolder

from cascade_threshold import policy as policies
from pipeline.collect.task_input import TaskInput
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.deliver.report import index
from pipeline.errors import DataError, UsageError
from pipeline.run.directory import read_json

PLACES = 200
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import clean  # noqa: E402 - a script is no package

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "retrieval_relevance.yaml"
LIMIT = 400
OF_A_DECISION = (
    "graded.parquet",
    "replies.parquet",
    "tokens.parquet",
    "predictions.parquet",
    "reliability.parquet",
    "sweep.parquet",
    "calibration.json",
    "recommendation.json",
    "policy.json",
    "decision.json",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("flips")
    words = [
        "--limit",
        str(LIMIT),
        "--runs-dir",
        str(folder / "runs"),
        "--reports-dir",
        str(folder / "reports"),
        "--quiet",
        "--json",
    ]
    code, out, err = call(["evaluate", str(CONFIG), *words])
    assert code == 0, err
    return folder, json.loads(out)


def turned(path: Path):
    """Turn one bit after the other, each alone; the file is whole again afterwards."""
    whole, rng = path.read_bytes(), np.random.default_rng(len(path.name))
    try:
        for place in rng.integers(0, 8 * len(whole), PLACES):
            broken = bytearray(whole)
            broken[place // 8] ^= 1 << int(place % 8)
            path.write_bytes(broken)
            yield int(place)
    finally:
        path.write_bytes(whole)


def outcome(read: Any, *refusals: type[Exception]) -> Any:
    try:
        return read()
    except refusals as error:
        return error


@pytest.mark.parametrize("name", OF_A_DECISION)
def test_what_a_decision_is_shown_from_is_held_to_what_was_written(job, name: str) -> None:
    folder, printed = job
    run = RunFolder(folder / "runs", printed)
    task = TaskInput(yaml_file.load(CONFIG), Options(limit=LIMIT, runs_dir=folder / "runs", quiet=True))
    task.decision.require_whole()
    for place in turned(run / name):
        found = outcome(task.decision.require_whole, DataError, UsageError)
        assert isinstance(found, Exception), f"bit {place} of {name} was not noticed"
        assert str(folder) in str(found)
        assert "evaluate" in str(found)
    task.decision.require_whole()


@pytest.mark.parametrize("name", ["calibration.json", "recommendation.json", "run.json"])
def test_a_stage_that_reads_a_record_reads_what_was_written(job, name: str) -> None:
    path = RunFolder(job[0] / "runs", job[1]) / name
    said = json.loads(path.read_bytes())
    assert "digest" in said
    for _ in turned(path):
        found = outcome(lambda: read_json(path), DataError)
        if isinstance(found, DataError):
            assert str(path) in str(found)
        else:  # the key of the digest was hit, or white space: the record itself is as it was
            assert [v for k, v in found.items() if k in said and k != "digest"] == [
                v for k, v in said.items() if k != "digest"
            ]


def test_a_page_is_listed_as_it_was_or_named_as_unreadable(job, tmp_path) -> None:
    shutil.copytree(job[0] / "reports", tmp_path / "reports")
    (path,) = (tmp_path / "reports").rglob("report.json")
    shown, unreadable = index.collect(tmp_path / "reports")
    assert not unreadable
    refused = 0
    for _ in turned(path):
        found, unreadable = index.collect(tmp_path / "reports")
        refused += bool(unreadable)
        assert unreadable == [path.parent.relative_to(tmp_path / "reports").as_posix()] or found == shown
    assert refused > 0.9 * PLACES


def test_a_policy_with_a_turned_bit_is_refused_or_called_edited(job) -> None:
    path = RunFolder(job[0] / "runs", job[1]) / "policy.json"
    good = policies.load(path)
    noticed = 0
    for place in turned(path):
        found = outcome(lambda: policies.load(path), DataError, UsageError, policies.PolicyEditedWarning)
        if isinstance(found, Exception):
            assert str(path) in str(found)
            noticed += 1
        else:  # white space
            assert found.document == good.document, f"bit {place}"
    assert noticed > 0.9 * PLACES


def test_the_pointer_to_the_latest_decision_is_whole_or_refused(tmp_path) -> None:
    """The very file that an evaluation without options leaves."""
    made = shelf(tmp_path)("uncertified")
    path = made.report.parent.parent / "latest.json"
    said = read_json(path)
    assert (said["run_id"], said["decision_id"]) == (made.report.parent.name, made.report.name)
    assert clean.points_at(path, {made.report})
    refused = 0
    for place in turned(path):
        found = outcome(lambda: read_json(path), DataError)
        if isinstance(found, DataError):
            assert str(path) in str(found)
            refused += 1
        else:  # the key of the digest was hit, or white space
            assert [v for k, v in found.items() if k in said and k != "digest"] == [
                v for k, v in said.items() if k != "digest"
            ], f"bit {place}"
    assert refused > 0.8 * PLACES
    assert clean.points_at(path, {made.report})


def test_a_decision_with_a_turned_bit_is_not_cleaned_away(tmp_path) -> None:
    """No bit makes a certified policy one that is known not to be certified."""
    for verdict in clean.CERTIFIED:
        path = tmp_path / verdict / "policy.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"verdict": verdict}), "utf-8")
        assert all(clean.certified(path.parent) for _ in turned(path))
