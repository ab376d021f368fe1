"""The steps of docs/ci.md are those of action.yml, and a plain shell runs them."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.__main__ import main
from pipeline.deliver import summary

ROOT = Path(__file__).resolve().parent.parent
VARIABLES, *SHOWN = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.S)


def test_the_action_runs_what_the_page_shows() -> None:
    action = YAML(typ="safe").load((ROOT / "action.yml").read_text())
    steps = {step["name"]: step for step in action["runs"]["steps"]}
    assert [steps[name]["run"] for name in ("replay", "compare", "gate")] == SHOWN
    given = set(action["inputs"])
    for step in steps.values():
        assert set(re.findall(r"inputs\.(\w+)", json.dumps(step))) <= given
        assert "${{" not in step["run"], "an input that is pasted into a script can be a script"
    assert summary.MARKER in steps["comment"]["run"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    draw = random.Random(1)
    lines = ["example_id,confidence,cheap_correct,strong_correct,cheap_usd,strong_usd"]
    for i in range(1200):
        confidence = 1 - (i % 97) / 200
        right = int(draw.random() < (0.97 if confidence > 0.7 else 0.6))
        lines.append(f"r{i},{confidence},{right},{int(draw.random() < 0.95)},0.00001,0.001")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "mine.yaml").write_text("task: mine\nkind: classify\ntarget: {kind: match_strong, within: 0.05}\n")
    return tmp_path


def shell(project: Path, gate: str, previous: str = "") -> subprocess.CompletedProcess[str]:
    python = project / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    env = os.environ | {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TASK": "mine.yaml",
        "OPTIONS": "--predictions table.csv",
        "GATE": gate,
        "PREVIOUS": previous,
    }
    return subprocess.run(
        ["sh", "-e", "-c", "\n".join(SHOWN)], cwd=project, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_shell_steps_release_refuse_and_write_one_comment(project: Path) -> None:
    done = shell(project, "--require certified --max-escalation 0.4")
    assert done.returncode == 0, done.stderr
    policy = json.loads((project / "policy.json").read_text())
    text = (project / "comment.md").read_text()
    assert text.startswith(summary.MARKER)
    assert "### mine: certified" in text
    assert "Promise: at most 5 points worse" in text
    accuracy = policy["expected"]["system_accuracy"]["value"]
    cascade = next(line for line in text.splitlines() if line.startswith("cascade "))
    assert f"{100 * accuracy:.1f} %" in cascade
    assert cascade.count("█") == round(20 * accuracy)
    paths = re.findall(r"- (?:Report|Policy): `(.*)`", text)
    assert len(paths) == 2
    assert all((project / path).is_file() for path in paths)
    (project / "policy.json").rename(project / "previous.json")
    done = shell(project, "--require certified --max-escalation 0.01", "previous.json")
    assert done.returncode == 5
    assert "above the 1 % of --max-escalation" in done.stderr
    text = (project / "comment.md").read_text()
    assert text.count(summary.MARKER) == 1
    assert "above the 1 % of --max-escalation" in text
    assert "| accuracy |" in text
    assert not (project / "policy.json").exists()


def test_a_task_that_fails_is_in_the_comment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    Path("table.csv").write_text("example_id,confidence,cheap_correct\na,1.5,1\n")
    code = main(["evaluate", "mine.yaml", "--predictions", "table.csv", "--quiet", "--markdown", "c.md"])
    assert code == 2
    assert "### mine: no decision" in Path("c.md").read_text()
    assert "1.5" in Path("c.md").read_text()


def test_a_text_cannot_speak_to_people_or_write_tags() -> None:
    assert summary.text("<b>@you</b>\n# `x`") == "&lt;b>&#64;you&lt;/b> # &#96;x&#96;"
