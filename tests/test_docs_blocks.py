"""Every command and code block of README and docs is run, page by page, in a copy of the project.

`doc_blocks` says what becomes of each language. What a page takes for granted (a table, a policy, a log) is made by its entry
in PREPARE before the first block; names that a Python block takes for granted are set by GIVEN.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import PAGES, ROOT, RUN_BY, TRACKED, Block, blocks
from ruamel.yaml import YAML

from pipeline.config import yaml_file
from pipeline.config.task import TaskConfig

POLICY = """
import json, pathlib, sys
sys.path.insert(0, "tests")
from deliver.policies import document, one_token, write
write(pathlib.Path("policy.json"), document())
lines = [{"completion": one_token(0.95), "label": "spam", "time": i, "id": str(i)} for i in range(100)]
pathlib.Path("logs").mkdir(exist_ok=True)
for name in ("logs/decisions.jsonl", "decisions.jsonl"):
    pathlib.Path(name).write_text("".join(json.dumps(line) + "\\n" for line in lines))
"""
RECORDED = """
import pathlib
text = pathlib.Path("configs/email_triage.yaml").read_text().replace("provider: embedded", "provider: recorded")
for role in ("cheap", "strong"):
    text = text.replace(f"weights: ../datasets/email_triage/models/{role}.npz", f"replies: ../replies/{role}.jsonl")
pathlib.Path("configs/email_triage_ci.yaml").write_text(text.replace("task: email_triage", "task: email_triage_ci"))
"""
TICKETS = """
import csv, pathlib
with open("tickets.csv", "w", newline="") as f:
    out = csv.writer(f)
    out.writerow(["id", "subject", "body", "team"])
    for i in range(60):
        out.writerow([f"T-{i}", f"Question {i}", f"What about invoice {i}?" if i % 2 else f"Login {i} fails.", "billing" if i % 2 else "account"])
"""
TABLE = """
import random
draw = random.Random(1)
lines = ["example_id,confidence,cheap_correct,strong_correct,cheap_usd,strong_usd"]
for i in range(1200):
    c = 1 - (i % 97) / 200
    lines.append(f"r{i},{c},{int(draw.random() < (0.97 if c > 0.7 else 0.6))},{int(draw.random() < 0.95)},0.00001,0.001")
open("table.csv", "w").write("\\n".join(lines) + "\\n")
open("configs/mine.yaml", "w").write("task: mine\\nkind: classify\\ntarget: {kind: match_strong, within: 0.05}\\n")
"""
OUTPUTS = """
import json, math
def body(text, logprob):
    token = {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
    return {"model": "small", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}, "logprobs": {"content": [token]}}]}
def line(i, text): return json.dumps({"custom_id": f"r{i}", "response": {"status_code": 200, "body": body(text, -0.1 - i / 100)}})
open("cheap_output.jsonl", "w").write("\\n".join(line(i, "spam" if i % 2 else "work") for i in range(20)))
open("strong_output.jsonl", "w").write("\\n".join(line(i, "spam" if i % 3 else "work") for i in range(20)))
open("rows.csv", "w").write("id,label\\n" + "".join(f"r{i},{'spam' if i % 2 else 'work'}\\n" for i in range(20)))
rows = [{"testIdx": i, "promptIdx": 0, "provider": {"id": f"openai:{size}"}, "success": i % 4 != 0, "vars": {"t": str(i)},
         "response": {"output": "spam", "logProbs": [-0.2]}, "testCase": {"vars": {"t": str(i)}}} for i in range(20) for size in ("small", "large")]
open("results.json", "w").write(json.dumps({"evalId": "e", "results": {"version": 3, "results": rows}}))
"""
ROWS = """
import pathlib
lines = pathlib.Path("datasets/email_triage/examples.jsonl").read_text().splitlines()[:300]
import json, csv
with open("my_rows.csv", "w", newline="") as f:
    out = csv.DictWriter(f, ["subject", "body", "label"], extrasaction="ignore")
    out.writeheader()
    out.writerows(json.loads(line) for line in lines)
"""
POSTS = """
import json
with open("posts.jsonl", "w") as f:
    for i in range(300):
        f.write(json.dumps({"id": f"p{i}", "text": f"Post {i} says so.", "categories": [c for k, c in enumerate(("spam", "threat"), 2) if i % k == 0]}) + "\\n")
"""
PREPARE: dict[str, tuple[str, ...]] = {
    "README.md": (ROWS, POLICY),
    "docs/ci.md": (TABLE,),
    "docs/moderation.md": (POSTS,),
    "docs/monitoring.md": (POLICY,),
    "docs/production.md": (POLICY, RECORDED),
    "docs/your-own-data.md": (TICKETS, OUTPUTS),
}
"""Python run before a page's first block."""
_EVALUATED = "test -d runs/email_triage || python -m pipeline evaluate email_triage --quiet"
FIRST = {"docs/production.md": _EVALUATED, "docs/scale.md": _EVALUATED}
"""A command run before a page's first block."""
GIVEN = (
    "import sys; sys.path.insert(0, 'tests')\nfrom deliver.policies import one_token\ncompletion = one_token(0.95)\n"
)
"""What a Python block may take for granted."""
LABELS = {"docs/moderation.md": ["safe", "spam", "threat", "self_harm"]}
"""The labels that a page's YAML speaks of, in place of the bundled ones."""
BEFORE_OTHERS = ("docs/quick-start.md",)
"""Pages whose runs the others use, so that nothing is computed twice."""
RUN = [page for page in PAGES if page not in RUN_BY and any(block.language != "text" for block in blocks(page))]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with an environment that `make` takes for finished."""
    folder = tmp_path_factory.mktemp("project")
    for name in TRACKED:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    subprocess.run(["git", "init", "-q", str(folder)], check=True, env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull})
    environment = folder / ".venv"
    environment.mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name not in ("ready", "ready-dev"):
            (environment / part.name).symlink_to(part)
    for name in ("ready", "ready-dev"):
        (environment / name).touch()
    return folder


def environment(project: Path) -> dict[str, str]:
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.endswith("_API_KEY") and not k.startswith(("GIT_", "PYTEST", "MAKE"))
    }
    return kept | {
        "PATH": f"{project}/.venv/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(project),
        "HOME": str(project),
    }


def run(project: Path, where: str, *command: str) -> str:
    done = subprocess.run(
        command,
        cwd=project,
        env=environment(project),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{where}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def shell(project: Path, block: Block) -> None:
    """Run a block; its variables are those of the page's next blocks too."""
    kept = project / f".variables-{block.page.replace('/', '-')}"
    script = f"set -ea; test ! -f {kept} || . {kept}\n{block.text}\nexport -p > {kept}\n"
    run(project, block.where, "bash", "-c", script)


def console(project: Path, block: Block) -> None:
    """Run each command, and hold its output against what the page shows."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        printed = run(project, block.where, "bash", "-c", f"{command} 2>&1")
        pattern = r"\s+".join(".*?".join(map(re.escape, word.split("..."))) for word in shown.split())
        assert re.search(f"^{pattern}", " ".join(printed.split())), f"{block.where}: printed\n{printed}"


def config(project: Path, block: Block, folder: Path) -> None:
    """Lay the keys over a bundled config, and load what comes out."""
    keys = YAML(typ="safe").load(block.text)
    if not set(keys) & set(TaskConfig.model_fields):
        keys = {"cheap": keys}
    assert set(keys) <= set(TaskConfig.model_fields), (
        f"{block.where}: no key of a config: {set(keys) - set(TaskConfig.model_fields)}"
    )
    judge = keys.get("kind") == "judge"
    base = project / "configs" / ("retrieval_relevance.yaml" if judge else "email_triage.yaml")
    tree: dict[str, Any] = YAML(typ="safe").load(base.read_text("utf-8"))
    if block.page in LABELS and not judge:
        tree |= {"labels": LABELS[block.page], "target": {"kind": "match_strong", "within": 0.02}}
    for key, value in keys.items():
        within = key in ("cheap", "strong", "dataset") and isinstance(value, dict) and "human" not in value
        tree[key] = tree[key] | value if within else value
    path = folder / "laid_over.yaml"
    with path.open("w", encoding="utf-8") as out:
        YAML(typ="safe").dump(tree, out)
    yaml_file.load(path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", sorted(RUN, key=lambda page: (page not in BEFORE_OTHERS, page)))
def test_the_blocks_of_a_page_do_what_it_says(page: str, project: Path, tmp_path: Path) -> None:
    python = str(project / ".venv" / "bin" / "python")
    if page in FIRST:
        run(project, page, "bash", "-c", FIRST[page])
    for code in PREPARE.get(page, ()):
        run(project, page, python, "-c", code)
    for block in blocks(page):
        if block.language == "json":
            json.loads(block.text)
        elif block.not_run is not None or block.language == "text":
            continue
        elif block.language == "sh":
            shell(project, block)
        elif block.language == "console":
            console(project, block)
        elif block.language == "python":
            run(project, block.where, python, "-W", "error", "-c", GIVEN + block.text)
        elif block.language == "yaml":
            config(project, block, tmp_path)
