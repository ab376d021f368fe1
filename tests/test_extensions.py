"""docs/extending.md kept true: what it adds, added to a copy of the project, works from config to export."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_provider import LABELS, FakeProvider

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
KEY = "acme-secret-0123456789abcdef"
BLOCK = re.compile(r"```python\n# ([^\n]*)\n(.*?)```", re.DOTALL)


def extend(project: Path) -> dict[str, int]:
    """Do what the document says. Returns how many lines each listing grew by."""
    grown = {}
    for head, code in BLOCK.findall((ROOT / "docs" / "extending.md").read_text("utf-8")):
        if head.startswith("new file: "):
            path = project / head.removeprefix("new file: ")
            assert not path.exists(), path
            path.write_text(code, "utf-8")
            continue
        name, listing = re.fullmatch(r"(\S+), in (\w+)", head).groups()
        path = project / name
        lines = path.read_text("utf-8").splitlines()
        imports = [line for line in code.splitlines() if line.startswith(("from ", "import "))]
        entries = [line for line in code.splitlines() if line.startswith("    ")]
        assert len(entries) == 1, "one line where it is listed"
        at = next(i for i, line in enumerate(lines) if re.match(rf"{listing}\b.*[({{]$", line)) + 1
        lines[at:at] = entries
        at = lines.index("from __future__ import annotations") + 1
        lines[at:at] = imports
        path.write_text("\n".join(lines) + "\n", "utf-8")
        grown[listing] = len(entries) + len(imports)
    return grown


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the two packages with all four examples, and a task that uses each."""
    project = tmp_path_factory.mktemp("extended")
    for package in ("cascade_threshold", "pipeline"):
        shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert set(extend(project)) == {"_EACH_BY_ITSELF", "FORMS", "PROVIDERS", "FORMATS"}
    (project / "configs").mkdir()
    price = "{input: 1, output: 1, as_of: 2026-11-22, source: made}"
    (project / "configs" / "mail.yaml").write_text(
        f"""task: mail
kind: classify
description: Mail by what it is about.
dataset: {{path: rows.jsonl, id: id, label: label}}
labels: [{", ".join(LABELS)}]
prompt: {{user: "{{text}}"}}
provider: acme
cheap: {{model: a, top_logprobs: 5, params: {{max_tokens: 4, temperature: 0}}, usd_per_million_tokens: {price}}}
strong: {{model: b, params: {{max_tokens: 4, temperature: 0}}, usd_per_million_tokens: {price}}}
signal: last_token
calibration: cloglog
target: {{kind: budget, escalation_rate: 0.3}}
""",
        "utf-8",
    )
    rows = [{"id": f"m{i}", "text": f"row {i}", "label": LABELS[i % 4]} for i in range(120)]
    (project / "configs" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return project


def run(project: Path, *arguments: str, url: str = "http://127.0.0.1:9") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), "ACME_BASE_URL": url, "ACME_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_of_each_runs_from_config_to_export(extended: Path) -> None:
    with FakeProvider() as api:
        done = run(extended, "evaluate", "mail", "--yes", "--quiet", url=api.url)
        assert done.returncode == 0, done.stderr
        assert api.count() == 240
        assert {post.headers["authorization"] for post in api.posts} == {f"Bearer {KEY}"}
        again = run(extended, "status", "mail", url=api.url)
        assert again.returncode == 0, again.stderr
        assert again.stdout.count("requests 120 · kept 120 · failed 0") == 2
        assert api.count() == 240
        exported = run(extended, "export", "mail", "--format", "properties", "--allow-uncertified", url=api.url)
    assert exported.returncode == 0, exported.stderr
    assert "cascade.mail.signal=last_token\n" in exported.stdout
    (policy_file,) = extended.glob("runs/mail/*/*/policy.json")
    policy = json.loads(policy_file.read_text("utf-8"))
    assert policy["signal"]["name"] == "last_token"
    assert policy["calibrator"]["kind"] == "cloglog"
    assert {policy[role]["provider"] for role in ("cheap", "strong")} == {"acme"}
    import pyarrow.parquet as pq

    (graded,) = extended.glob("runs/mail/*/graded.parquet")
    columns = pq.read_table(graded).to_pydict()
    # one token an answer in this fake: the last token is the first
    assert columns["signal_last_token"] == columns["signal_first_token"]
    assert None not in columns["signal_last_token"]


def test_the_new_providers_key_is_hidden_like_any_other(extended: Path) -> None:
    from fake_provider import http

    with FakeProvider(lambda post: http(401, message=f"bad key {KEY}")) as api:
        refused = run(extended, "evaluate", "mail", "--yes", "--limit", "60", url=api.url)
    assert refused.returncode == 2, refused.stdout
    assert "ACME_API_KEY" in refused.stdout + refused.stderr
    assert KEY not in refused.stdout + refused.stderr
    for path in extended.rglob("*"):
        if path.is_file() and path.name.partition(".")[0] != "acme":
            assert KEY.encode() not in path.read_bytes(), path
    missing = subprocess.run(
        [sys.executable, "-m", "pipeline", "evaluate", "mail", "--yes"],
        cwd=extended,
        env={k: v for k, v in os.environ.items() if not k.startswith("ACME")} | {"PYTHONPATH": str(extended)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert missing.returncode == 2
    assert "ACME_API_KEY" in missing.stderr


def test_a_misspelled_name_is_told_from_the_new_ones(extended: Path) -> None:
    refused = run(extended, "evaluate", "mail", "--set", "signal=last_tokn")
    assert refused.returncode == 2
    assert "did you mean 'last_token'?" in refused.stderr
    refused = run(extended, "export", "mail", "--format", "propertie")
    assert refused.returncode == 2
    assert "properties" in refused.stderr
