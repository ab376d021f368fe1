"""What is noticed about config and rows before anything is paid for, through the real commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_provider import FakeProvider, ok

from pipeline.__main__ import main

PRICE = "{input: 1, output: 2, as_of: 2026-11-01, source: test}"


def written(folder: Path, kind: str, rows: list[dict[str, Any]], *, user: str, more: str, top: int = 5) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    config = folder / "c.yaml"
    config.write_text(
        f"task: t\nkind: {kind}\nprompt: {{system: Answer., user: '{user}'}}\nprovider: together\n"
        f"cheap: {{model: m, usd_per_million_tokens: {PRICE}, top_logprobs: {top}, params: {{temperature: 0, max_tokens: 8}}}}\n"
        f"strong: {{model: S, usd_per_million_tokens: {PRICE}, params: {{temperature: 0, max_tokens: 8}}}}\n"
        f"target: {{kind: budget, escalation_rate: 0.3}}\n{more}"
    )
    return config


def judged(folder: Path, group: str = "") -> Path:
    rows = [
        {"q": f"query {i // 5}", "p": f"passage number {i}", "label": ("yes", "no")[i % 3 == 0]} for i in range(100)
    ]
    more = f"labels: [yes, no]\ndataset: {{path: rows.jsonl, label: label{group}}}\n"
    return written(folder, "judge", rows, user="{q} and {p}", more=more)


def chosen(folder: Path, *, twice: bool, top: int) -> Path:
    options = [f"option {k}" for k in range(6)]
    rows = [
        {"x": f"text {i}", "options": [*options[:5], options[4]] if twice and i < 3 else options, "label": "A"}
        for i in range(60)
    ]
    dataset = "dataset: {path: rows.jsonl, label: label, options: options}\n"
    return written(folder, "choose", rows, user="{x} {options}", more=dataset, top=top)


def estimated(config: Path, capsys: pytest.CaptureFixture[str]) -> str:
    folder = config.parent
    capsys.readouterr()
    assert main(["estimate", str(config), "--runs-dir", str(folder / "runs"), "--reports-dir", str(folder / "r")]) == 0
    return capsys.readouterr().out


def test_a_judges_query_that_repeats_asks_for_its_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "set dataset.group: q," in estimated(judged(tmp_path), capsys)
    assert "dataset.group" not in estimated(judged(tmp_path, ", group: q"), capsys)


def test_too_few_alternatives_and_an_option_twice_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = estimated(chosen(tmp_path, twice=True, top=5), capsys)
    assert "set cheap.top_logprobs to 6" in said
    assert "3 rows hold an option twice" in said
    assert "warning" not in estimated(chosen(tmp_path, twice=False, top=6), capsys)
    config = chosen(tmp_path, twice=False, top=1)
    config.write_text(config.read_text() + "signal: first_token\n")
    assert "warning" not in estimated(config, capsys)


def test_doctor_and_the_start_of_a_paid_run_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = judged(tmp_path)
    answer = {
        "index": 0,
        "message": {"role": "assistant", "content": "yes"},
        "finish_reason": "stop",
        "logprobs": {
            "content": [
                {
                    "token": "yes",
                    "bytes": list(b"yes"),
                    "logprob": -0.1,
                    "top_logprobs": [
                        {"token": "yes", "bytes": list(b"yes"), "logprob": -0.1},
                        {"token": "no", "bytes": list(b"no"), "logprob": -3.0},
                    ],
                }
            ]
        },
    }
    with FakeProvider(lambda post: ok(choices=[answer])) as api:
        monkeypatch.setenv("TOGETHER_API_KEY", "canary-123456")
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        folders = ["--runs-dir", str(tmp_path / "runs"), "--reports-dir", str(tmp_path / "r")]
        assert main(["doctor", str(config), *folders]) == 0
        assert "set dataset.group: q," in capsys.readouterr().out
        assert main(["collect", str(config), *folders, "--yes"]) == 0
        said = capsys.readouterr().err
        assert said.index("set dataset.group: q,") < said.index("to send")
