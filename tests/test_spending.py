"""What a command may spend, over all its tasks, both models and the first calls, as the command line holds to it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from asking import KEY
from fake_provider import FakeProvider, Post, Step, completion, hang, label_of
from zygote import Zygote

from pipeline.__main__ import main
from pipeline.collect.sending import progress
from pipeline.collect.store.response_store import ResponseStore

TASKS = ("first", "second")
ROWS = 60
Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in a folder with two small tasks for the API."""
    (tmp_path / "configs").mkdir()
    rows = [{"id": f"m{i}", "text": f"mail {i}.", "label": label_of(f"mail {i}.")[0]} for i in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    price = '{input: 1, output: 2, as_of: 2026-11-22, source: "made up"}'
    for task in TASKS:
        (tmp_path / "configs" / f"{task}.yaml").write_text(
            f"task: {task}\nkind: classify\ndataset: {{path: ../rows.jsonl, id: id, label: label}}\nlabels: [work, personal, spam, other]\n"
            f'prompt: {{system: "For {task}.", user: "{{text}}"}}\nprovider: together\n'
            f"cheap: {{model: small, usd_per_million_tokens: {price}, top_logprobs: 4, params: {{temperature: 0, max_tokens: 8}}}}\n"
            f"strong: {{model: large, usd_per_million_tokens: {price}, params: {{temperature: 0, max_tokens: 8}}, splits: [certify, test]}}\n"
            "target: {kind: match_strong, within: 0.05}\n"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)

    def command(api: FakeProvider, *arguments: str) -> int:
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        return main(arguments)

    return command


@pytest.mark.parametrize("cap", [0.0006, 0.0011, 0.0013])
def test_the_cap_holds_over_the_first_calls_and_both_models(
    run: Run, capsys: pytest.CaptureFixture[str], cap: float
) -> None:
    with FakeProvider() as api:
        assert run(api, "collect", "first", "--max-usd", str(cap), "--quiet") == 3
        assert 0.5 * cap < api.usd <= cap
        err = capsys.readouterr().err
        assert f"of ${cap:g} spent" in err, "the figure is the one that was given"
        posts = len(api.posts)
        assert run(api, "collect", "first", "--quiet") == 0
        asked = {(post.body["model"], post.text) for post in api.posts}
        assert len(api.posts) == len(asked) > posts, "what was paid under the cap is not paid again"


def test_the_cap_is_the_commands_and_not_each_tasks(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeProvider() as api:
        assert run(api, "collect", "first", "--quiet") == 0
        one = api.usd
    with FakeProvider() as api:
        cap = 0.6 * one
        assert run(api, "collect", "all", "--max-usd", f"{cap:.6f}", "--quiet", "--runs-dir", "others") == 3
        assert api.usd <= cap
    with FakeProvider() as api:
        cap = 1.5 * one
        assert run(api, "collect", "all", "--max-usd", f"{cap:.6f}", "--quiet", "--runs-dir", "third") == 3
        assert one < api.usd <= cap
        assert f"of ${cap:.6g} spent" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("role", ["cheap", "strong"])
def test_recorded_replies_beside_a_paid_model_are_read_and_are_no_money(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], role: str
) -> None:
    """Whichever of the two comes from a file, and however dear its model would be."""
    wanted = {"model": "any", "logprobs": True, "top_logprobs": 4}
    with (tmp_path / "replies.jsonl").open("w") as file:
        for i in range(ROWS):
            body = completion({**wanted, "messages": [{"role": "user", "content": f"mail {i}."}]})
            file.write(json.dumps({"custom_id": f"m{i}", "response": {"status_code": 200, "body": body}}) + "\n")
    mixed = [
        f"--set={role}.provider=recorded",
        f"--set={role}.replies=../replies.jsonl",
        f"--set={role}.usd_per_million_tokens.input=100000",
    ]
    with FakeProvider() as api:
        assert run(api, "estimate", "first", "--json", "--quiet", *mixed) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["roles"][role]["usd_at_most"] == 0 < told["usd"] <= told["usd_at_most"] < 0.02
        assert run(api, "collect", "first", "--max-usd", "0.02", *mixed) == 0
        progress_line = capsys.readouterr().err.splitlines()[-1]
        assert re.search(r"[$]0[.]00\d\d spent", progress_line), progress_line
        assert len(api.posts) == ROWS
        assert run(api, "measure", "first", "--quiet", *mixed) == 0
        assert len(api.posts) == ROWS, "nothing is asked again"
    (graded,) = (tmp_path / "runs").rglob("graded.parquet")
    frame = pd.read_parquet(graded)
    assert frame["cheap_correct"].all()
    assert frame["strong_correct"].all()
    assert frame["cheap_correct"].count() == frame["strong_correct"].count() == ROWS


@pytest.mark.parametrize("sample", ["all", "0.25"])
def test_nothing_is_paid_beside_recorded_replies_that_are_too_few(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], sample: str
) -> None:
    body = completion({"model": "any", "logprobs": 4, "messages": [{"role": "user", "content": "mail 0."}]})
    (tmp_path / "replies.jsonl").write_text(json.dumps({"custom_id": "m0", "response": {"body": body}}) + "\n")
    mixed = ["--set=cheap.provider=recorded", "--set=cheap.replies=../replies.jsonl", f"--set=strong.sample={sample}"]
    with FakeProvider() as api:
        assert run(api, "collect", "first", "--quiet", *mixed) == 4
        assert len(api.posts) <= 1, "no more than the call that tries the model"
    assert f"lacks {ROWS - 1} of {ROWS} rows (such as 'm1'), more than max_failure_rate 0.01" in capsys.readouterr().err


def test_row_46_tasks_that_are_dear_together_ask_first(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    dear = [f"--set={role}.usd_per_million_tokens.input=1500" for role in ("cheap", "strong")]
    with FakeProvider() as api:
        assert run(api, "estimate", "all", "--json", "--quiet", *dear) == 0
        estimates = [one["usd"] for one in json.loads(capsys.readouterr().out)]
        assert max(estimates) < 5 < sum(estimates)
        assert run(api, "collect", "all", "--quiet", *dear) == 2
        assert f"${sum(estimates):.2f}" in capsys.readouterr().err
        assert not api.posts
        assert run(api, "collect", "first", "--quiet", *dear) == 0
        assert run(api, "collect", "all", "--quiet", "--yes", *dear) == 0


def test_a_doctor_keeps_to_the_cap(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeProvider() as api:
        assert run(api, "doctor", "first", "--max-usd", "0.0000001", "--quiet") == 3
        assert "stopped before the cap" in capsys.readouterr().err
        assert not api.posts


@pytest.mark.parametrize("command", ["collect", "doctor"])
def test_rows_in_an_open_batch_are_not_asked_one_by_one_not_even_to_try_a_model(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(ResponseStore, "in_batches", lambda store, task, roles: 7)
    with FakeProvider() as api:
        assert run(api, command, "first", "--quiet") == 2
        assert "7 requests of first lie in a batch" in capsys.readouterr().err
        assert not api.posts


def test_a_refused_second_run_leaves_the_record_of_the_first_alone(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from filelock import FileLock

    with FakeProvider() as api:
        assert run(api, "collect", "first", "--quiet") == 0
        (record,) = tmp_path.glob("runs/first/*/run.json")
        before = record.read_bytes()
        with FileLock(tmp_path / "runs" / ".first.lock"):
            for command in ("collect", "evaluate"):
                assert run(api, command, "first", "--quiet") == 2
        assert "is in use by" in capsys.readouterr().err
        assert record.read_bytes() == before


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as parent:
        yield parent


def hanging(post: Post) -> Step | None:
    return hang(60)


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_row_72_a_signal_during_the_first_call_ends_with_the_command_that_resumes(
    run: Run, zygote: Zygote, tmp_path: Path, signum: int, code: int
) -> None:
    import os

    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with FakeProvider(hanging) as api:
        config = str(tmp_path / "configs" / "first.yaml")
        words = ["pipeline", "collect", config, "--runs-dir", str(tmp_path / "r"), "--reports-dir", str(tmp_path / "p")]
        process = zygote.start(words, environment | {"TOGETHER_BASE_URL": api.url, "TOGETHER_API_KEY": KEY})
        while not api.posts:
            assert process.poll() is None
            time.sleep(0.02)
        begun = time.monotonic()
        process.send_signal(signum)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert time.monotonic() - begun < 30
        assert "resume with" in err
        assert f"collect {config}" in err
    assert not (tmp_path / "r" / ".first.holder").exists()


class Gone(io.TextIOBase):
    """Standard error whose reader has left, as in `2>&1 | head -1`."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def isatty(self) -> bool:
        return False


def test_row_69_a_run_whose_messages_nobody_reads_goes_on_to_its_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    with FakeProvider() as api, contextlib.redirect_stderr(Gone()):
        assert run(api, "collect", "first") == 0
        assert len({(p.body["model"], p.text) for p in api.posts}) == len(api.posts) > ROWS
        assert run(api, "collect", "no_such_task") == 2
