"""Five ways to start, from an empty folder: what docs/journeys.md and docs/ci.md show is what is run here."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_blocks import ROOT, Block, blocks
from fake_provider import FakeProvider, completion, label_of
from ruamel.yaml import YAML
from test_weekly import answer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
NAMES = ("new", "config", "evaluate", "frame", "service")
BLOCKS = dict(zip(NAMES, blocks("docs/journeys.md"), strict=True))
"""The blocks of docs/journeys.md in their order."""


def run(folder: Path, code: str, *command: str, path: str = str(ROOT)) -> subprocess.CompletedProcess[str]:
    """A command whose last argument is the code, where `python` is this one and keys are out of reach."""
    bin_ = folder / ".bin"
    bin_.mkdir(exist_ok=True)
    (bin_ / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (bin_ / "python").chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    env = kept | {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([*command, code], cwd=folder, env=env, capture_output=True, text=True, check=False)


def shell(folder: Path, block: Block) -> str:
    done = run(folder, block.text, "sh", "-e", "-c")
    assert done.returncode == 0, f"{block.where}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def asked(subject: str, message: str) -> str:
    """The message that the proposed prompt makes of a row."""
    return f"Subject line: {subject}\n\nMessage: {message}"


def messy(path: Path) -> None:
    """900 rows as a ticket system writes them; a label is what the strong model answers, in two spellings."""
    with path.open("w", newline="", encoding="utf-8-sig") as out:
        rows = csv.writer(out)
        rows.writerow(["Ticket No", "Subject line", "Message", "Team", "Notes"])
        for i in range(900):
            subject = f"Betreff {i}" if i % 7 else ""
            message = f'Grüße, "quoted" {i}; and\na second line' if i % 5 == 0 else f"plain message {i}"
            label = label_of(asked(subject, message))[0]
            rows.writerow(
                [f"T{i}", subject, message, f" {label.title()} " if i % 11 == 0 else label, "n/a" if i % 3 else ""]
            )


@pytest.fixture(scope="module")
def engineer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, FakeProvider]]:
    """The ML engineer's folder after her journey, and her server."""
    folder = tmp_path_factory.mktemp("engineer")
    messy(folder / "tickets.csv")

    with FakeProvider(answer) as api:
        said = shell(folder, BLOCKS["new"])
        assert "' Work ' as 'work'" in said
        config = folder / "configs" / "tickets.yaml"
        proposed = YAML(typ="safe").load(config.read_text("utf-8"))
        assert sorted(proposed["labels"]) == ["other", "personal", "spam", "work"]
        assert proposed["dataset"]["id"] == "Ticket No"
        edited = YAML(typ="safe").load(
            BLOCKS["config"].text.replace("http://127.0.0.1:8000", api.url.removesuffix("/v1"))
        )
        with config.open("w", encoding="utf-8") as out:
            YAML(typ="safe").dump(proposed | edited, out)
        shell(folder, BLOCKS["evaluate"])
        yield folder, api


def test_an_engineer_gets_from_a_messy_csv_and_her_own_server_to_a_certified_policy(
    engineer: tuple[Path, FakeProvider],
) -> None:
    folder, api = engineer
    policy = json.loads((folder / "policy.json").read_text())
    assert policy["verdict"] == "certified"
    assert policy["labels"] == ["other", "spam", "personal", "work"] or sorted(policy["labels"]) == [
        "other",
        "personal",
        "spam",
        "work",
    ]
    small = [post for post in api.posts if post.body["model"] == "small"]
    assert {asked("", 'Grüße, "quoted" 0; and\na second line')} <= {post.text for post in small}
    assert 900 <= len(small) <= 910, "each row once, and a few trial questions"


def table(path: Path, sure: float = 0.97) -> None:
    """1,200 predictions; `sure` is the accuracy where the cheap model is confident."""
    draw = random.Random(1)
    lines = ["example_id,confidence,cheap_correct,strong_correct,cheap_usd,strong_usd"]
    for i in range(1200):
        confidence = 1 - (i % 97) / 200
        right = int(draw.random() < (sure if confidence > 0.7 else 0.6))
        lines.append(f"r{i},{confidence},{right},{int(draw.random() < 0.95)},0.00001,0.001")
    path.write_text("\n".join(lines) + "\n")


def test_a_data_scientist_gets_from_a_frame_to_a_certificate_and_a_page(tmp_path: Path) -> None:
    table(tmp_path / "table.csv")
    done = run(tmp_path, BLOCKS["frame"].text, sys.executable, "-c")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("certified 0.")
    assert "<html" in (tmp_path / "page.html").read_text("utf-8")
    assert {p.name for p in tmp_path.iterdir()} == {"table.csv", "page.html", ".bin"}, "nothing else was written"


def test_a_platform_engineer_decides_in_a_service_that_has_a_pipeline_folder_of_its_own(
    engineer: tuple[Path, FakeProvider], tmp_path: Path
) -> None:
    folder, api = engineer
    service, site = tmp_path / "service", tmp_path / "site"
    (service / "pipeline").mkdir(parents=True)
    (service / "pipeline" / "__init__.py").write_text('OURS = "ours"\n')
    shutil.copytree(
        ROOT / "cascade_threshold", site / "cascade_threshold", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(folder / "policy.json", service)
    policy = json.loads((folder / "policy.json").read_text())
    texts = [post for post in api.posts if post.body["model"] == "small"]
    sure = next(p for p in texts if label_of(p.text)[1] > -0.1)
    seen = {"sure": completion(sure.body), "strange": completion(sure.body) | {"model": "another"}}
    for name, action in (("sure", "accept"), ("strange", "escalate")):
        code = f"import json\ncompletion = json.loads({json.dumps(json.dumps(seen[name]))})\n{BLOCKS['service'].text}"
        done = run(
            service, f"import sys; sys.path[:0] = ['.', {str(site)!r}]\n{code}", sys.executable, "-I", "-S", "-c"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[:2] == ["ours", action], policy["threshold"]


def test_a_product_owner_reads_what_to_do_and_asks_for_his_own_volume(engineer: tuple[Path, FakeProvider]) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine: `make browser` installs it")
    (report,) = (engineer[0] / "reports" / "tickets").rglob("report.html")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(report.as_uri())
        first = page.locator("main, body").first.inner_text()
        assert re.search(r"certified", first, re.I)
        assert re.search(r"points", first)
        field = page.locator("input[type=number], input[inputmode=numeric]").first
        before = page.url
        field.fill("250000")
        field.press("Tab")
        page.wait_for_timeout(200)
        assert "250000" in page.url
        assert page.url != before
        again = browser.new_page()
        again.goto(page.url)
        assert again.locator("input[type=number], input[inputmode=numeric]").first.input_value() == "250000"
        browser.close()


def test_a_team_gates_every_change_in_ci_and_is_told_which_limit_it_breaks(tmp_path: Path) -> None:
    variables, *steps = [block.text for block in blocks("docs/ci.md") if block.language == "sh"]
    (tmp_path / "configs").mkdir()
    (tmp_path / "policies").mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text(
        "task: mine\nkind: classify\ntarget: {kind: match_strong, within: 0.05}\n"
    )
    week = "\n".join([variables.replace("--max-escalation 0.4", "--max-escalation 0.8"), *steps])
    table(tmp_path / "table.csv")
    done = run(tmp_path, week, "sh", "-e", "-c")
    assert done.returncode == 0, done.stderr
    (tmp_path / "policy.json").rename(tmp_path / "policies" / "mine.json")
    table(tmp_path / "table.csv", sure=0.8)
    done = run(tmp_path, week, "sh", "-e", "-c")
    comment = (tmp_path / "comment.md").read_text("utf-8")
    assert done.returncode == 5, done.stderr
    assert done.stderr.strip().splitlines()[-1].removeprefix("error: ")[:60] in comment
    assert not (tmp_path / "policy.json").exists()
