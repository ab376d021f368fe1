"""The main job from rows to policy, through the real SDK and the embedded models, as a new user runs it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from run_folder import OF_THE_RUN, RunFolder

from cascade_threshold import policy as policies
from cascade_threshold import signals as signals_module
from cascade_threshold.answers import AnswerSet
from cascade_threshold.signals import SIGNALS, measure
from pipeline import stages
from pipeline.__main__ import main
from pipeline.collect import request as request_module
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.store.response_store import ResponseStore
from pipeline.collect.task_input import TaskInput
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.engine import local
from pipeline.errors import DataError, UsageError
from pipeline.run import directory, schemas
from pipeline.run.directory import parquet_options

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "email_triage.yaml"
ROWS = 400
BANDED = ("coverage", "escalation_rate", "accepted_accuracy", "selective_risk", "system_accuracy", "usd_per_1000")
DECIDED = (
    "predictions.parquet",
    "calibration.json",
    "reliability.parquet",
    "sweep.parquet",
    "recommendation.json",
    "policy.json",
    "decision.json",
)


def command(*arguments: str, folder: Path) -> int:
    return main(
        [*arguments, "--runs-dir", str(folder / "runs"), "--reports-dir", str(folder / "reports"), "--quiet", "--json"]
    )


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One evaluation: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("main")
    kept, sys.stdout = sys.stdout, io.StringIO()
    try:
        assert command("evaluate", str(CONFIG), "--limit", str(ROWS), folder=folder) == 0
        printed = sys.stdout.getvalue()
    finally:
        sys.stdout = kept
    return folder, json.loads(printed)


def run_of(job: tuple[Path, dict[str, Any]]) -> RunFolder:
    folder, result = job
    return RunFolder(folder / "runs", result)


def test_every_pinned_artefact_is_there(job: tuple[Path, dict[str, Any]]) -> None:
    folder, result = job
    run = run_of(job)
    assert sorted(p.name for p in run.run.iterdir() if p.is_file()) == sorted(OF_THE_RUN)
    assert sorted(p.name for p in run.decision.iterdir()) == sorted(DECIDED)
    assert len(result["decision_id"]) == 8
    page = folder / "reports" / "email_triage" / result["run_id"] / result["decision_id"]
    for name in ("report.html", "report.json", "policy.json"):
        assert (page / name).is_file()
    assert (folder / "reports" / "index.html").is_file()
    assert not (page.parent.parent / "latest.json").exists(), "a trial with --limit is not the task's latest decision"
    assert len(result["run_id"]) == 12
    assert result["sentence"]


def test_tables_have_the_pinned_columns_and_types(job: tuple[Path, dict[str, Any]]) -> None:
    run = run_of(job)
    tokens = pq.read_schema(run / "tokens.parquet")
    wanted = {
        "request_id": "string",
        "example_id": "string",
        "role": "string",
        "position": "int32",
        "token": "string",
        "bytes": "binary",
        "logprob": "double",
        "in_answer": "bool",
    }
    assert {name: str(tokens.field(name).type) for name in wanted} == wanted
    assert [f.name for f in tokens.field("alternatives").type.value_type] == ["token", "bytes", "logprob"]
    predictions = pd.read_parquet(run / "predictions.parquet")
    for name in (
        "example_id",
        "split",
        "group",
        "segment",
        "label",
        "cheap_answer",
        "cheap_status",
        "cheap_correct",
        "strong_answer",
        "strong_status",
        "strong_correct",
        "cheap_usd",
        "strong_usd",
        "confidence",
        *(f"signal_{s}" for s in SIGNALS),
    ):
        assert name in predictions
    assert len(predictions) == ROWS
    assert predictions["example_id"].is_unique
    sweep = pd.read_parquet(run / "sweep.parquet")
    for name in ("split", "threshold", *BANDED, "latency_p50_s", "latency_p95_s"):
        assert name in sweep
    for name in BANDED:
        assert {f"{name}_lower", f"{name}_upper"} <= set(sweep.columns)
    levels = [set(part["threshold"]) for _, part in sweep.groupby("split")]
    assert len(levels) == 3
    assert levels[0] == levels[1] == levels[2]
    assert len(levels[0]) <= 1000
    threshold = json.loads((run / "recommendation.json").read_text())["threshold"]
    assert threshold is None or threshold in levels[0]


@pytest.mark.parametrize("name", ["tokens.parquet", "predictions.parquet"])
def test_tables_are_packed_by_what_their_columns_hold(job: tuple[Path, dict[str, Any]], name: str) -> None:
    metadata = pq.ParquetFile(run_of(job) / name).metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert sum(group.num_rows for group in groups) == metadata.num_rows >= ROWS
    seen: Counter[str] = Counter()
    for group in groups:
        for i in range(metadata.num_columns):
            column, text = group.column(i), metadata.schema.column(i).logical_type.type == "STRING"
            assert column.compression == "ZSTD"
            assert column.has_dictionary_page == text, column.path_in_schema
            assert "BYTE_STREAM_SPLIT" not in column.encodings, "not every reader of Parquet knows it"
            seen.update(["text"] * text + ["floats"] * (column.physical_type == "DOUBLE"))
    assert min(seen["text"], seen["floats"]) >= 2
    assert parquet_options(schemas.TOKENS)["compression_level"] == 3


@pytest.mark.parametrize("name", ["tokens.parquet", "predictions.parquet"])
def test_a_byte_that_changed_in_a_table_is_noticed(job: tuple[Path, dict[str, Any]], name: str, tmp_path: Path) -> None:
    whole, path = run_of(job) / name, tmp_path / name
    group = pq.ParquetFile(whole).metadata.row_group(0)
    for i in range(group.num_columns):
        column, data = group.column(i), bytearray(whole.read_bytes())
        begin = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        data[begin + column.total_compressed_size - 1] ^= 1  # the last byte of the last data page
        path.write_bytes(data)
        with pytest.raises(OSError, match="CRC checksum verification failed"):
            pq.read_table(path, page_checksum_verification=True)


def test_confidence_is_null_unless_the_status_is_ok(job: tuple[Path, dict[str, Any]]) -> None:
    frame = pd.read_parquet(run_of(job) / "predictions.parquet")
    assert frame.loc[frame["cheap_status"] != "ok", "confidence"].isna().all()
    known = frame["confidence"].dropna()
    assert ((known >= 0) & (known <= 1)).all()
    assert set(frame["split"]) == {"certify"}, "the signal is named by the replies' shape, so no row was set apart"


def test_every_signal_column_is_what_the_stored_reply_measures(job: tuple[Path, dict[str, Any]]) -> None:
    run, config = run_of(job), yaml_file.load(CONFIG)
    fitted = json.loads((run / "calibration.json").read_text())["signal"]
    learned = fitted["params"] if fitted["name"] == "learned" else None
    answers = AnswerSet.classify(config.answers)
    frame = pd.read_parquet(run / "predictions.parquet").set_index("example_id")
    replies = pd.read_parquet(run / "replies.parquet").query("role == 'cheap'")
    assert len(replies) == ROWS
    with ResponseStore(job[0] / "runs" / "responses.sqlite") as store:
        for request_id, example_id in zip(replies["request_id"], replies["example_id"], strict=True):
            reply, row = store.get(request_id), frame.loc[example_id]
            assert reply is not None
            measured = measure(reply.body, answers, learned=learned)
            assert set(measured.signals) == set(SIGNALS)
            for name, value in measured.signals.items():
                held = row[f"signal_{name}"]
                assert (None if pd.isna(held) else held) == value, name  # to the bit
            assert (row["cheap_answer"], row["cheap_status"]) == (measured.answer, measured.status)
    for name in set(SIGNALS) - {"learned"}:
        assert frame[f"signal_{name}"].notna().any(), name


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["auto", "learned"])
def test_the_signal_is_chosen_and_fitted_on_the_fit_rows_alone(
    job: tuple[Path, dict[str, Any]], wanted: str, tmp_path: Path
) -> None:
    shutil.copytree(job[0] / "runs", tmp_path / "runs")
    options = Options(limit=ROWS, runs_dir=tmp_path / "runs", reports_dir=tmp_path / "reports", quiet=True)
    made = TaskInput(yaml_file.load(CONFIG, [f"signal={wanted}"]), options)
    rows = stages.graded(made)
    found = stages.measure(made, rows)
    assert bool(found.signal["params"]) == (found.signal["name"] == "learned")
    assert wanted == "auto" or found.signal["name"] == wanted
    elsewhere = rows.frame["split"] != "fit"
    assert ROWS / 2 < elsewhere.sum() < ROWS
    spoiled, rng = rows.frame.copy(), np.random.default_rng(1)
    spoiled.loc[elsewhere, "cheap_correct"] = rng.random(elsewhere.sum()) < 0.5
    for name in SIGNALS:
        spoiled.loc[elsewhere, f"signal_{name}"] = rng.random(elsewhere.sum())
    again = stages.measure(made, replace(rows, frame=spoiled))
    assert (again.signal, again.signal_table) == (found.signal, found.signal_table)


def test_the_demonstration_models_are_named_as_such_and_not_exported(
    job: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = job
    document = json.loads((run_of(job) / "policy.json").read_text())
    assert document["provider"] == "embedded"
    for role in ("cheap", "strong"):
        assert document[role]["model"].startswith("embedded/")
        assert "@" in document[role]["model"]
        assert document[role]["stands_in_for"]
    page = (folder / "reports" / "email_triage" / job[1]["run_id"] / job[1]["decision_id"] / "report.html").read_text()
    assert "demonstration" in page.lower()
    options = ["--limit", str(ROWS), "--allow-uncertified"]
    assert command("export", str(CONFIG), *options, folder=folder) == 5
    capsys.readouterr()
    assert command("export", str(CONFIG), *options, "--allow-demo", "--format", "json", folder=folder) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "json"


def test_the_policy_alone_decides_as_the_tables_do_on_every_stored_reply(job: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = job
    run = run_of(job)
    policy = policies.load(run / "policy.json")
    document = json.loads((run / "policy.json").read_text())
    frame = pd.read_parquet(run / "predictions.parquet").set_index("example_id")
    replies = pd.read_parquet(run / "replies.parquet").query("role == 'cheap'")
    checked = 0
    with ResponseStore(folder / "runs" / "responses.sqlite") as store:
        for request_id, example_id in zip(replies["request_id"], replies["example_id"], strict=True):
            reply = store.get(request_id)
            assert reply is not None
            decision = policy.decide(reply.body, prompt_sha256=document["prompt_sha256"])
            row = frame.loc[example_id]
            expected = None if pd.isna(row["confidence"]) else row["confidence"]
            assert decision.confidence == expected  # to the bit
            accept = document["threshold"] is not None and expected is not None and expected >= document["threshold"]
            assert decision.action == ("accept" if accept else "escalate")
            if accept:
                assert decision.answer == row["cheap_answer"]
            checked += 1
    assert checked == ROWS


@pytest.mark.slow
def test_a_second_run_sends_nothing_and_writes_the_same_bytes(
    job: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, result = job
    run = run_of(job)
    timeless = [*DECIDED, "replies.parquet", "tokens.parquet", "graded.parquet"]

    def digests() -> dict[str, Any]:
        decided = json.loads((run / "decision.json").read_text())
        made = decided.pop("run")  # as run.json: when, and how many requests were sent
        assert decided.pop("digest")
        names = [name for name in timeless if name != "decision.json"]
        of_files = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names}
        return of_files | {"decided": decided, "models": made["models"], "prompt": made["digests"]}

    before = digests()
    assert command("evaluate", str(CONFIG), "--limit", str(ROWS), folder=folder) == 0
    assert json.loads(capsys.readouterr().out) == result
    assert digests() == before
    spending = json.loads((run / "run.json").read_text())["spending"]
    assert spending["cheap"]["sent"] == spending["strong"]["sent"] == 0


@pytest.mark.slow
def test_stages_can_be_run_one_by_one_and_say_what_is_missing(
    job: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("calibrate", str(CONFIG), "--limit", str(ROWS), folder=tmp_path) == 2
    assert "measure" in capsys.readouterr().err
    folder, _ = job
    for stage in ("measure", "calibrate", "sweep", "recommend", "report"):
        assert command(stage, str(CONFIG), "--limit", str(ROWS), folder=folder) == 0


@pytest.mark.slow
def test_stages_run_one_by_one_from_nothing_end_in_the_same_artefacts(
    job: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    for stage in ("collect", "measure", "calibrate", "sweep", "recommend", "report"):
        assert command(stage, str(CONFIG), "--limit", str(ROWS), folder=tmp_path) == 0, stage
    whole, run = run_of(job), run_of((tmp_path, job[1]))
    for name in {*DECIDED, "tokens.parquet"} - {"predictions.parquet", "decision.json"}:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    recorded, expected = (json.loads((r / "run.json").read_text()) for r in (run, whole))
    for record in (recorded, expected):
        assert record["measured"].pop("newest_reply")[:4] >= "2026"
    for part in ("config", "digests", "models", "versions", "counts", "measured"):
        assert recorded[part] == expected[part], part


@pytest.mark.slow
def test_another_target_on_the_same_rows_is_another_look(
    job: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = job
    looks = [json.loads(line) for line in (folder / "runs" / "looks.jsonl").read_text().splitlines()]
    assert len(looks) == 1, "the identical question is not a new look"
    strict = ("--limit", str(ROWS), "--set", "target.within=0.05")
    assert command("evaluate", str(CONFIG), *strict, folder=folder) == 0
    other = json.loads(capsys.readouterr().out)
    advice = json.loads((RunFolder(folder / "runs", other) / "recommendation.json").read_text())
    assert advice["certificate"]["look"] == 2
    assert other["run_id"] == job[1]["run_id"]
    assert other["decision_id"] != job[1]["decision_id"], "another question is another document"
    assert command("recommend", str(CONFIG), "--limit", str(ROWS), folder=folder) == 0
    assert json.loads((run_of(job) / "recommendation.json").read_text())["certificate"]["look"] == 1


@pytest.mark.slow
def test_an_experiment_overwrites_nothing_and_no_command_mixes_the_two(
    job: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, first = tmp_path, job[1]
    shutil.copytree(job[0] / "runs", folder / "runs")
    assert command("report", str(CONFIG), "--limit", str(ROWS), folder=folder) == 0  # other tests may have decided anew
    capsys.readouterr()
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and first["decision_id"] in p.parts}
    loose = ("--limit", str(ROWS), "--set", "target.within=0.2")
    assert command("export", str(CONFIG), *loose, "--allow-demo", "--allow-uncertified", folder=folder) == 2
    said = capsys.readouterr()
    assert "never computed" in said.err
    assert f"evaluate email_triage --set target.within=0.2 --limit {ROWS}" in said.err
    assert command("evaluate", str(CONFIG), *loose, folder=folder) == 0
    capsys.readouterr()
    assert {p: p.read_bytes() for p in before} == before, "the first document is as it was"
    exported = []
    for options in (("--limit", str(ROWS)), loose):
        assert command("export", str(CONFIG), *options, "--allow-demo", "--allow-uncertified", folder=folder) == 0
        exported.append(json.loads(json.loads(capsys.readouterr().out)["text"]))
    assert exported[0]["decision_id"] == first["decision_id"] != exported[1]["decision_id"]
    assert exported[0]["threshold"] == first["threshold"]
    assert exported[0]["certificate"]["target"]["within"] != exported[1]["certificate"]["target"]["within"] == 0.2
    assert exported[0]["review_by"] > "2026"
    # a whole decision in another's place is not taken for it
    run = folder / "runs" / first["task"] / first["run_id"]
    shutil.move(run / first["decision_id"], folder / "aside")
    shutil.copytree(run / exported[1]["decision_id"], run / first["decision_id"])
    for name in ("export", "report"):
        assert command(name, str(CONFIG), "--limit", str(ROWS), folder=folder) == 2
        assert f"that of another decision ({first['task']}/{first['run_id']}/{exported[1]['decision_id']})" in (
            capsys.readouterr().err
        )
    shutil.rmtree(run / first["decision_id"])
    shutil.move(folder / "aside", run / first["decision_id"])
    # a page that is written again tells of its own config, prices and command, not of those of the run's latest decision
    (page,) = (p for p in before if p.name == "report.json")
    assert command("report", str(CONFIG), "--limit", str(ROWS), folder=folder) == 0
    told, again = json.loads(before[page]), json.loads(page.read_bytes())
    for shown in (told, again):
        del shown["digest"], shown["provenance"]["finished"], shown["provenance"]["stages"]
    assert again == told


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DECIDED, "graded.parquet", "run.json"])
def test_a_changed_bit_is_noticed_wherever_it_is_and_named(
    job: tuple[Path, dict[str, Any]], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bit flipped at places all over an artefact: `report` refuses, or shows what it showed."""
    shutil.copytree(job[0] / "runs", tmp_path / "runs")
    run = RunFolder(tmp_path / "runs", job[1])
    page = tmp_path / "reports" / "email_triage" / job[1]["run_id"] / job[1]["decision_id"] / "report.json"
    path, rng = run / name, np.random.default_rng(len(name))
    whole = path.read_bytes()
    task = TaskInput(yaml_file.load(CONFIG), Options(limit=ROWS, runs_dir=tmp_path / "runs", quiet=True))
    own = whole.find(b'"digest"') if name == "run.json" else -9  # without its digest a record says what it said
    for place in rng.integers(0, len(whole), 25):
        if own <= place < own + 8:
            continue
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(broken)
        check = (lambda: task.run.read_json(name)) if name == "run.json" else (lambda: task.decision.require_whole())
        with pytest.raises((DataError, UsageError)) as refused:
            check()
        assert str(tmp_path) in str(refused.value)
        assert "evaluate" in str(refused.value)
    assert command("report", str(CONFIG), "--limit", str(ROWS), folder=tmp_path) == 2
    assert not page.exists()
    capsys.readouterr()
    assert command("evaluate", str(CONFIG), "--limit", str(ROWS), folder=tmp_path) == 0, "the store has everything"
    assert page.exists()


def test_one_evaluation_renders_hashes_and_parses_each_thing_once_and_reads_back_nothing(
    job: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from outside: prompts filled, request keys computed, bodies parsed, artefacts read."""
    shutil.copytree(job[0] / "runs", tmp_path / "runs")
    counts: Counter[str] = Counter()

    def counted(owner: Any, name: str, what: str) -> None:
        original = getattr(owner, name)

        def stand_in(*given: Any, **named: Any) -> Any:
            counts[what] += 1
            return original(*given, **named)

        monkeypatch.setattr(owner, name, stand_in)

    counted(request_module, "messages", "rendered")
    counted(request_module, "digest", "hashed")
    counted(signals_module, "parse", "parsed")
    counted(directory, "read_parquet", "tables read")
    counted(directory, "read_json", "JSON read")
    monkeypatch.setattr(local, "processors", lambda: 1)
    options = Options(limit=ROWS, runs_dir=tmp_path / "runs", reports_dir=tmp_path / "reports", quiet=True)
    task = TaskInput(yaml_file.load(CONFIG), options)
    stages.evaluate(task, Allowance())
    replies = len(pd.read_parquet(task.run.path("replies.parquet")))
    assert replies == len(task.requests("cheap")) + len(task.requests("strong")) > ROWS
    assert counts["rendered"] == counts["hashed"] == counts["parsed"] == replies
    assert counts["tables read"] == 0
    assert counts["JSON read"] <= 3, "run.json of the run before, which says what changed since, and nothing else"


def test_one_figure_has_one_interval_in_every_artefact(job: tuple[Path, dict[str, Any]]) -> None:
    run = run_of(job)
    advice, sweep = json.loads((run / "recommendation.json").read_text()), pd.read_parquet(run / "sweep.parquet")
    if advice["threshold"] is None:
        pytest.skip("no threshold")
    for name in ("coverage", "escalation_rate", "accepted_accuracy", "system_accuracy", "usd_per_1000"):
        told = advice["expected"][name]
        row = sweep[(sweep["split"] == told["split"]) & (sweep["threshold"] == advice["threshold"])].iloc[0]
        assert (row[f"{name}_lower"], row[f"{name}_upper"]) == (told["lower"], told["upper"]), name
        assert row[f"{name}_sim_lower"] <= row[f"{name}_lower"] <= row[f"{name}_upper"] <= row[f"{name}_sim_upper"]


@pytest.mark.slow
def test_a_table_with_sampled_answers_is_not_read_back_and_its_look_is_that_of_the_whole_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    confidence = rng.uniform(size=600).round(3)
    right = rng.uniform(size=600) < 0.6 + 0.4 * confidence
    table = {"confidence": confidence, "cheap_correct": right, "strong_correct": rng.uniform(size=600) < 0.95}
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    config = tmp_path / "t.yaml"
    config.write_text(
        "task: t\nkind: choose\npredictions: {path: t.csv}\ntarget: {kind: match_strong, within: 0.1}\nstrong: {sample: 0.5}\n"
    )
    read: list[str] = []
    original = directory.read_parquet

    def recorded(path: Path, *rest: Any, **options: Any) -> Any:
        read.append(path.name)
        return original(path, *rest, **options)

    monkeypatch.setattr(directory, "read_parquet", recorded)
    assert command("evaluate", str(config), folder=tmp_path) == 0
    assert read == []
    assert command("recommend", str(config), folder=tmp_path) == 0
    assert "graded.parquet" in read
    looks = [json.loads(line) for line in (tmp_path / "runs" / "looks.jsonl").read_text().splitlines()]
    assert len({json.dumps(entry["rows"]) for entry in looks}) == 1, "both see the rows as the table gives them"
