"""The package in a notebook: a DataFrame in, an object out, nothing written unless asked."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import pipeline
from pipeline.__main__ import main
from pipeline.collect.sending import event_loop
from pipeline.errors import ConfigError, DataError, UsageError

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TARGET = {"kind": "match_strong", "within": 0.05}


def predictions(n: int = 1500) -> pd.DataFrame:
    """Rows whose confidence is the chance of being right, and a strong model that is right in 95 %."""
    draw = np.random.default_rng(7)
    confidence = draw.uniform(0.5, 1, n).round(3)
    return pd.DataFrame(
        {
            "confidence": confidence,
            "cheap_correct": draw.uniform(size=n) < confidence,
            "strong_correct": draw.uniform(size=n) < 0.95,
            "cheap_usd": 1e-5,
            "strong_usd": 1e-3,
        },
        index=[f"row-{i}" for i in range(n)],
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pipeline.Evaluation]:
    mpl.use("agg")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        yield pipeline.evaluate(predictions(), target=TARGET)


def test_a_frame_becomes_a_policy_and_nothing_is_written(found):
    assert not list(Path.cwd().iterdir())
    assert (found.verdict, found.threshold) == ("certified", found.policy.threshold)
    assert "no look was counted" in found.note
    assert found.note in found._repr_html_()
    record = found.certificate.to_json()
    assert (record["look"], found.certificate.look, found.certificate.certified) == (1, 1, True)
    assert isinstance(record["details"], dict)
    assert found.policy.decide_confidence(found.threshold).action == "accept"
    assert found.policy.decide_confidence(found.threshold - 1e-6).action == "escalate"
    assert found.threshold in set(found.sweep["threshold"])


@pytest.mark.slow
def test_it_is_what_the_command_line_finds(found, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    predictions().rename_axis("example_id").reset_index().to_csv("table.csv", index=False)
    Path("notebook.yaml").write_text(json.dumps({"task": "notebook", "kind": "classify", "target": TARGET}))
    assert main(["evaluate", "notebook.yaml", "--predictions", "table.csv", "--quiet", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert (out["verdict"], out["threshold"]) == (found.verdict, found.threshold)


def test_plots_take_and_return_axes_and_the_page_is_written_where_it_is_told(found, tmp_path):
    figure, (left, right) = plt.subplots(1, 2)
    assert found.plot_cost_accuracy(left) is left
    assert found.plot_reliability(ax=right) is right
    assert left.get_xlabel() == "cost, USD per 1,000 requests"
    assert left.lines
    assert right.lines
    fresh = found.plot_cost_accuracy()
    assert fresh.figure is not figure
    plt.close("all")
    page = found.report(tmp_path / "page.html")
    assert page.read_text().lower().startswith("<!doctype html>")


@pytest.mark.slow
def test_with_a_folder_for_runs_each_further_question_is_a_further_look(tmp_path):
    first, second = (
        pipeline.evaluate(predictions(200), target={"kind": "match_strong", "within": w}, runs_dir=tmp_path / "runs")
        for w in (0.1, 0.15)
    )
    assert [first.certificate.look, second.certificate.look] == [1, 2]
    assert "look 2" in second.note
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    ("frame", "target", "more", "error", "said"),
    [
        (predictions(5), None, {}, UsageError, "target is missing"),
        (predictions(5), {"kind": "match"}, {}, ConfigError, "match_strong"),
        (predictions(5), TARGET, {"sed": 1}, ConfigError, "did you mean 'seed'"),
        (predictions(5).drop(columns="confidence"), TARGET, {}, DataError, "no column 'confidence'"),
        (predictions(5).assign(confidence=7.5), TARGET, {}, DataError, "confidence"),
        ([1, 2], TARGET, {}, UsageError, "takes a DataFrame"),
        # of the frame and the arguments, not of files that nobody has
        (predictions(5).assign(confidence=7.5), TARGET, {}, DataError, "^frame, row 1: "),
        (predictions(5), TARGET, {"sed": 1}, ConfigError, "^config: sed"),
        (predictions(5), TARGET, {"task": "mail/in"}, ConfigError, "^config: task: .*a-z"),
        (predictions(5).assign(segment=[object()] * 5), TARGET, {}, UsageError, "column 'segment' holds what no table"),
        # a column that is not read may hold anything
        (predictions(5).assign(note=[object()] * 5, confidence=7.5), TARGET, {}, DataError, "confidence is 7.5"),
    ],
)
def test_bad_input_raises_what_the_command_line_says(frame, target, more, error, said):
    with pytest.raises(error, match=said):
        pipeline.evaluate(frame, target=target, **more)


def test_a_config_whose_models_cost_money_is_not_run_from_a_notebook(tmp_path):
    text = (Path(__file__).resolve().parent.parent / "configs" / "email_triage.yaml").read_text()
    (tmp_path / "paid.yaml").write_text(text.replace("provider: embedded", "provider: together"))
    with pytest.raises(UsageError, match="cost money"):
        pipeline.evaluate(tmp_path / "paid.yaml")


@pytest.mark.slow
def test_the_example_script_ends_with_a_policy_that_decides(tmp_path, capsys):
    runpy.run_path(str(EXAMPLES / "predictions.py"))["main"](str(tmp_path / "policy.json"))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("certified: ")
    assert said[-3:] == ["0.99: accept", "0.55: escalate", "None: escalate"]


def in_a_cell(work):
    """What a synchronous call made while a loop runs returns, as in a notebook: SIGINT is a KeyboardInterrupt there."""

    async def cell():
        return work()

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(cell())
    finally:
        loop.close()


def test_sending_works_inside_a_running_loop_and_an_interrupt_ends_it():
    ended, caller = [], threading.get_ident()

    async def interrupted():
        try:
            # until the caller waits: a finalizer that it runs before would swallow the interrupt
            while sys._current_frames()[caller].f_code is not threading.Condition.wait.__code__:
                await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def fails():
        raise UsageError("said")

    assert in_a_cell(lambda: event_loop.run(asyncio.sleep(0, "value"))) == "value"
    with pytest.raises(UsageError, match="said"):
        in_a_cell(lambda: event_loop.run(fails()))
    with pytest.raises(KeyboardInterrupt):
        in_a_cell(lambda: event_loop.run(interrupted()))
    assert ended == ["cancelled"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_example_notebook_runs(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert outputs[-1][-1]["data"]["text/plain"] == "['accept', 'escalate', 'escalate']"
    assert any("no look was counted" in o["data"].get("text/html", "") for cell in outputs for o in cell if "data" in o)


@pytest.mark.slow
def test_frames_as_they_come_out_of_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows put together from several frames, a column of booleans and integers, columns that stand twice."""
    monkeypatch.chdir(tmp_path)
    frame, target = predictions(300), {"kind": "budget", "escalation_rate": 0.3}
    right = [bool(x) if i % 2 else int(x) for i, x in enumerate(frame["cheap_correct"])]
    mixed = pd.concat([frame[:150], frame[150:].set_index(frame.index[:150])]).assign(
        cheap_correct=np.array(right, dtype=object)
    )
    assert not mixed.index.is_unique
    found = pipeline.evaluate(mixed, target=target)
    assert found.threshold == pipeline.evaluate(frame, target=target).threshold
    with pytest.raises(UsageError, match="'confidence' appears twice"):
        pipeline.evaluate(pd.concat([frame, frame[["confidence"]]], axis=1), target=target)
