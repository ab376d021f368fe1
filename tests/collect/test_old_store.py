"""A store that the version before wrote (eight rows, two models, a server on loopback, temperature 0.0) is used as it is."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from asking import request

from pipeline.__main__ import main

HERE = Path(__file__).parent
PRICE = "{input: 0.2, output: 0.4, as_of: 2026-11-01, source: test}"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"r{i}", "text": f"message {i}", "label": ("positive", "negative")[i % 2]} for i in range(8)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("c.yaml").write_text(
        "task: old\nkind: classify\ndataset: {path: rows.jsonl, id: id, label: label}\nlabels: [positive, negative]\n"
        "prompt: {system: Answer with a label., user: '{text}'}\nprovider: together\n"
        f"cheap: {{model: m, usd_per_million_tokens: {PRICE}, top_logprobs: 5, params: {{temperature: 0.0, max_tokens: 8}}}}\n"
        f"strong: {{model: S, usd_per_million_tokens: {PRICE}, params: {{temperature: 0.0, max_tokens: 8}}}}\n"
        "target: {kind: budget, escalation_rate: 0.3}\n"
    )
    Path("runs").mkdir()
    connection = sqlite3.connect("runs/responses.sqlite")
    connection.executescript((HERE / "store_format_1.sql").read_text("utf-8"))
    connection.close()
    return tmp_path


def to_send(capsys: pytest.CaptureFixture[str], *more: str) -> int:
    capsys.readouterr()
    assert main(["estimate", "c.yaml", "--json", "--quiet", *more]) == 0
    return int(json.loads(capsys.readouterr().out)["to_send"])


def test_its_replies_answer_the_server_that_gave_them_and_no_other(
    old: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", "canary-123456")
    monkeypatch.setenv("TOGETHER_BASE_URL", "http://127.0.0.1:18132")
    assert to_send(capsys) == 16, "another server"
    monkeypatch.delenv("TOGETHER_BASE_URL")
    assert to_send(capsys) == 16, "Together's own"
    monkeypatch.setenv("TOGETHER_BASE_URL", "http://127.0.0.1:18131/v1")
    integers = [f"--set={role}.params={{temperature: 0, max_tokens: 8}}" for role in ("cheap", "strong")]
    assert to_send(capsys, *integers) == 0
    assert to_send(capsys) == 0
    assert main(["collect", "c.yaml", "--quiet"]) == 0, "nothing listens there, and nothing needs to"
    monkeypatch.setenv("TOGETHER_BASE_URL", "http://127.0.0.1:18132")
    assert to_send(capsys) == 16


def test_zero_is_one_number_and_a_place_is_part_of_the_key() -> None:
    one = request("row", params={"temperature": 0, "top_p": 1, "nested": [1.0, {"x": -0.0}], "max_tokens": 8})
    same = replace(one, params={"temperature": 0.0, "top_p": 1.0, "nested": [1, {"x": 0}], "max_tokens": 8})
    assert one.request_id == same.request_id
    assert replace(one, params={**one.params, "temperature": False}).request_id != one.request_id
    assert (
        replace(one, service="http://127.0.0.1:1").request_id != replace(one, service="http://127.0.0.1:2").request_id
    )
