"""The commands of docs/weekly.md, run week by week in a plain shell against a server that counts what it is asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import KEY
from fake_provider import LABELS, FakeProvider, Post, Step, label_of, ok

from pipeline.config.task import TaskConfig
from pipeline.decide.testing.paired_score import PairedTest, gamma_for
from pipeline.deliver.report import index

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "weekly.md").read_text()
STEPS = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.S))
SHOWN = "\n".join(re.findall(r"```yaml\n(.*?)```", TEXT, re.S))
CONFIG = """\
task: mine
kind: classify
dataset: {path: ../data/mine.jsonl, id: id, label: label, split: pooled}
labels: [work, personal, spam, other]
prompt: {user: "{text}"}
provider: together
signal: label_probability
cheap: {model: small, usd_per_million_tokens: PRICE, top_logprobs: 4, params: {temperature: 0, max_tokens: 8}}
strong: {model: large, usd_per_million_tokens: DEAR, params: {temperature: 0, max_tokens: 8}}
"""
PRICE = '{input: 1, output: 2, as_of: 2026-11-22, source: "made up"}'
DEAR = PRICE.replace("input: 1, output: 2", "input: 20, output: 40")
EACH_WEEK = 150


def answer(post: Post) -> Step | None:
    """The small model is wrong on half of the texts that it is unsure of."""
    label, logprob = label_of(post.text)
    if post.body["model"] == "large" or logprob > -1.2 or len(post.text) % 2:
        return None
    wrong = LABELS[(LABELS.index(label) + 1) % 4]
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": wrong}}
    entries = [
        {"token": t, "bytes": list(t.encode()), "logprob": lp} for t, lp in ((wrong, logprob), (label, logprob - 1))
    ]
    return ok(choices=[choice | {"logprobs": {"content": [{**entries[0], "top_logprobs": entries}]}}])


def week(project: Path, number: int, url: str) -> None:
    """Run the steps with new rows."""
    texts = [f"mail {number}-{i}{'.' * (i % 2)}" for i in range(EACH_WEEK)]
    rows = [{"id": f"w{number}-{i}", "text": text, "label": label_of(text)[0]} for i, text in enumerate(texts)]
    (project / "this-week.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    python = project / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    env = os.environ | {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TASK": "configs/mine.yaml",
        "ROWS": "data/mine.jsonl",
        "NEW": "this-week.jsonl",
        "POLICY": "policies/mine.json",
        "TOGETHER_API_KEY": KEY,
        "TOGETHER_BASE_URL": url,
    }
    done = subprocess.run(["sh", "-e", "-c", STEPS], cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_planned_looks_share_the_chance_of_error() -> None:
    config = TaskConfig.model_validate(
        {"task": "t", "kind": "classify", "looks": {"planned": 12}, "target": {"kind": "match_strong", "within": 0.05}}
    )
    assert config.target.delta == pytest.approx(0.1)
    assert 12 * config.tested_target.delta == pytest.approx(config.target.delta)


@pytest.mark.slow
def test_weeks_pay_for_their_own_rows_count_their_looks_and_show_a_trend(tmp_path: Path) -> None:
    for name in ("configs", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text(CONFIG.replace("PRICE", PRICE).replace("DEAR", DEAR) + SHOWN)
    asked = []
    with FakeProvider(answer) as api:
        for number in range(2):
            before = len(api.posts)
            week(tmp_path, number, api.url)
            asked.append(len(api.posts) - before)
    assert all(2 * EACH_WEEK <= n <= 2 * EACH_WEEK + 10 for n in asked), "new rows only, and a few trial questions"
    found = index.collect(tmp_path / "reports")[0][0]
    assert len(found["runs"]) == 2
    reports = [json.loads((tmp_path / "reports" / r["name"] / "report.json").read_text()) for r in found["runs"][::-1]]
    certificates = [r["verdict"]["certificate"] for r in reports]
    assert [c["look"] for c in certificates] == [1, 2]
    assert [c["delta"] for c in certificates] == pytest.approx([0.1 / 12] * 2)
    assert [c["n"] for c in certificates] == [EACH_WEEK * k for k in (1, 2)]
    assert not any(w["code"] == "looks" for r in reports for w in r["warnings"])
    assert "look 2 of 12 planned" in reports[-1]["verdict"]["promise"]
    assert len(found["trend"]["panels"][0]["line"].split()) == 2
    assert "over time" in (tmp_path / "reports" / "index.html").read_text("utf-8")
    policy = json.loads((tmp_path / "policies" / "mine.json").read_text())
    assert policy["decision_id"] == reports[-1]["decision_id"]
    assert f"of {EACH_WEEK} and {2 * EACH_WEEK} rows" in (tmp_path / "reports" / "this-week.html").read_text("utf-8")


@pytest.mark.slow
def test_planned_looks_keep_one_promise_over_all_looks_at_growing_rows() -> None:
    """Everything is kept and loses exactly what is promised at most, so whatever passes breaks the promise. 4,000 draws."""
    looks, step, within, delta, runs = 12, 100, 0.05, 0.1, 4000
    drawn = np.random.default_rng(1).multinomial(step, [0.06, 0.01, 0.93], size=(runs, looks)).cumsum(axis=1)

    def broken(level: float) -> float:
        tests = [PairedTest(step * (j + 1), within, gamma=gamma_for(level)) for j in range(looks)]
        passed = [t.p_values(drawn[:, j, 0], drawn[:, j, 1]) <= level for j, t in enumerate(tests)]
        return float(np.any(passed, axis=0).mean())

    error = 3 * (delta * (1 - delta) / runs) ** 0.5
    assert broken(delta / looks) <= delta + error
    assert broken(delta) > 0.2  # each look at the whole chance of error is another matter
