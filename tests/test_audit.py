"""`make audit`: what is known is told and fails, what cannot be asked is said; a stand-in takes pip-audit's place."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parent.parent / "scripts" / "audit.py"
SPEC = importlib.util.spec_from_file_location("audit", PATH)
assert SPEC is not None
assert SPEC.loader is not None
audit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

SOUND = {"dependencies": [{"name": "six", "version": "1.16.0", "vulns": []}], "fixes": []}
KNOWN = {
    "dependencies": [{"name": "six", "version": "1.16.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}],
    "fixes": [],
}


@pytest.mark.parametrize(
    ("found", "options", "code", "said"),
    [
        (json.dumps(SOUND), [], 0, "1 packages, 0 known"),
        (json.dumps(KNOWN), [], 1, "six 1.16.0: PYSEC-1, fixed in 2"),
        ("", [], 0, "cannot be had: no route"),
        ("", ["--strict"], 3, "cannot be had: no route"),
    ],
)
def test_an_audit_tells_what_it_knows_and_what_it_does_not(monkeypatch, capsys, found, options, code, said) -> None:
    asked: list[list[str]] = []

    def run(words, **_):
        asked.append(words)
        return subprocess.CompletedProcess(words, 1, found, "Traceback ...\nno route\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["audit.py", *options])
    assert audit.main() == code
    assert said in capsys.readouterr().out
    assert [Path(words[words.index("-r") + 1]).name for words in asked] == ["run.txt", "dev.txt"]
    assert all(Path(words[words.index("-r") + 1]).is_file() for words in asked)


def test_every_test_that_the_security_page_names_is_there() -> None:
    import re

    root = PATH.parent.parent
    text = (root / "SECURITY.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)`", text)
    assert len(named) > 8
    assert not [name for name in named if not (root / name).is_file()]
