"""Which configs a command without TASK takes, and what `all` asks before it spends: seen from the folder of a stranger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from asking import KEY
from fake_provider import FakeProvider, label_of

from pipeline.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
PAID = """\
task: {name}
kind: classify
dataset: {{path: ../rows.jsonl, id: id, label: label}}
labels: [work, personal, spam, other]
prompt: {{user: "{{text}}"}}
provider: together
cheap: {{model: small, usd_per_million_tokens: {price}, top_logprobs: 4, params: {{temperature: 0, max_tokens: 8}}}}
strong: {{model: large, usd_per_million_tokens: {price}, params: {{temperature: 0, max_tokens: 8}}}}
target: {{kind: match_strong, within: 0.05}}
"""
PRICE = '{input: 1, output: 2, as_of: 2026-11-22, source: "made up"}'


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One embedded config, one for the API, one that asks the API for its strong side only, one that is broken."""
    folder = tmp_path / "configs"
    folder.mkdir()
    bundled = (ROOT / "configs" / "email_triage.yaml").read_text()
    (folder / "mail.yaml").write_text(bundled.replace("../datasets", str(ROOT / "datasets")))
    (folder / "mixed.yaml").write_text(
        bundled.replace("../datasets", str(ROOT / "datasets")).replace("strong:\n", "strong:\n  provider: together\n")
    )
    (folder / "paid.yaml").write_text(PAID.format(name="paid", price=PRICE))
    rows = [{"id": f"m{i}", "text": f"mail {i}.", "label": label_of(f"mail {i}.")[0]} for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.slow
def test_without_task_only_embedded_configs_run_and_nothing_is_sent(
    configs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    with FakeProvider() as api:
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        assert main(["evaluate", "--limit", "30", "--json"]) == 0
        assert not api.posts
    out, err = capsys.readouterr()
    assert [found["task"] for found in json.loads(out)] == ["email_triage"]
    assert "mixed" in err
    assert "paid (together)" in err


def test_another_provider_makes_a_command_without_task_refuse(
    configs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    with FakeProvider() as api:
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        assert main(["evaluate", "--provider", "together", "--limit", "30", "--yes"]) == 2
        assert not api.posts
    assert "name one, or `all`" in capsys.readouterr().err


def test_all_names_each_cost_and_asks_however_small_it_is(
    configs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (configs / "mixed.yaml").unlink()
    (configs / "second.yaml").write_text(PAID.format(name="second", price=PRICE))
    (configs / "broken.yaml").write_text("task: broken\nkind: clasify\n")
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    with FakeProvider() as api:
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        assert main(["collect", "all", "--limit", "30", "--quiet"]) == 2
        assert not api.posts
        assert not list(Path("runs").glob("*/*/replies.parquet")), "no config runs before the question is answered"
        err = capsys.readouterr().err
        assert {line.split(":")[0] for line in err.splitlines() if "about $0.00" in line} >= {"paid", "second"}
        assert "--yes" in err
        assert main(["collect", "all", "--limit", "30", "--yes", "--quiet"]) == 2, "the broken config is told"
        assert {post.body["model"] for post in api.posts} == {"small", "large"}
        sent = len(api.posts)
    err = capsys.readouterr().err
    assert "error: broken: " in err
    assert "clasify" in err
    assert {path.parent.parent.name for path in Path("runs").glob("*/*/graded.parquet")} == {
        "email_triage",
        "paid",
        "second",
    }
    assert sent > 30


@pytest.mark.parametrize("task", [[], ["all"]])
def test_a_file_of_one_task_is_not_taken_for_several(
    configs: Path, capsys: pytest.CaptureFixture[str], task: list[str]
) -> None:
    """Each task's export would overwrite the one before, and a table would be every task's."""
    assert main(["export", *task, "--allow-demo", "--output", "policy.json"]) == 2
    assert "--output policy.json applies to one task only" in capsys.readouterr().err
    assert main(["evaluate", *task, "--predictions", "table.csv"]) == 2
    assert "--predictions table.csv applies to one task only" in capsys.readouterr().err
