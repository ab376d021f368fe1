"""What `make` offers: every command has a target that explains itself, and `make clean` keeps what was certified."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PINNED = [
    "help",
    "setup",
    "evaluate",
    "doctor",
    "estimate",
    "collect",
    "measure",
    "calibrate",
    "sweep",
    "recommend",
    "report",
    "export",
    "monitor",
    "route",
    "status",
    "new",
    "purge",
    "compare",
    "test",
    "test-slow",
    "lint",
    "types",
    "check",
    "docs",
    "bench",
    "audit",
    "fuzz",
    "clean",
]


def make(*arguments: str, folder: Path = ROOT) -> str:
    done = subprocess.run(["make", "--no-print-directory", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_help_lists_every_pinned_target_and_they_are_real() -> None:
    listed = dict(re.findall(r"^  make (\S+) +(\S.*)$", make("help"), re.M))
    assert set(PINNED) <= set(listed)
    assert all(listed.values())
    phony = re.search(r"\.PHONY:((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text())
    assert phony is not None
    assert set(listed) <= set(phony.group(1).split())


@pytest.mark.parametrize("target", ["evaluate", "collect", "estimate", "export", "status", "purge"])
def test_without_task_the_command_decides(target: str) -> None:
    line = make("-n", "-o", ".venv/ready", target).strip().splitlines()[-1].split()
    assert line == [".venv/bin/python", "-m", "pipeline", target]
    assert target in COMMANDS


def test_task_provider_and_arguments_are_passed_on() -> None:
    line = make("-n", "-o", ".venv/ready", "collect", "TASK=mail", "PROVIDER=together", "ARGS=--max-usd 5").split()
    assert line[-6:] == ["collect", "mail", "--provider", "together", "--max-usd", "5"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with decisions of every kind, a store, and the looks that were counted."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "scripts" / "clean.py", tmp_path / "scripts")
    for top in ("runs", "reports"):
        for decision, verdict in (("aaaa/1111", "certified"), ("aaaa/2222", "uncertified"), ("bbbb/3333", "optimized")):
            folder = tmp_path / top / "mail" / decision
            folder.mkdir(parents=True)
            (folder / "policy.json").write_text(json.dumps({"verdict": verdict}))
            (folder.parent / "graded.parquet").write_text("rows")
        damaged = tmp_path / top / "other" / "cccc" / "4444"
        damaged.mkdir(parents=True)
        (damaged / "policy.json").write_text('{"verdict": "cert')
        (tmp_path / top / "third" / "dddd").mkdir(parents=True)
    (tmp_path / "reports" / "mail" / "latest.json").write_text('{"run_id": "bbbb", "decision_id": "3333"}')
    for name in ("runs/responses.sqlite", "runs/looks.jsonl", "reports/README.md"):
        (tmp_path / name).write_text("kept")
    return tmp_path


def left(project: Path) -> set[str]:
    return {str(p.relative_to(project)) for t in ("runs", "reports") for p in (project / t).rglob("*") if p.is_file()}


ALWAYS = {"runs/responses.sqlite", "runs/looks.jsonl", "reports/README.md"}


def test_clean_keeps_what_was_certified_and_what_nobody_can_read(project: Path) -> None:
    said = make("clean", folder=project)
    assert left(project) - {"reports/index.html"} == ALWAYS | {
        f"{top}/{name}"
        for top in ("runs", "reports")
        for name in ("mail/aaaa/1111/policy.json", "mail/aaaa/graded.parquet", "other/cccc/4444/policy.json")
    }
    assert "kept 2 certified decisions" in said
    assert "ALL=1" in said


def test_clean_all_keeps_the_replies_and_the_looks_alone(project: Path) -> None:
    make("clean", "ALL=1", folder=project)
    assert left(project) == ALWAYS
