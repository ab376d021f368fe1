"""Examples over tables: lm-evaluation-harness's samples to a certificate, and DuckDB over what that run wrote."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
ROWS = 900
pytestmark = pytest.mark.slow


def samples(path: Path, seed: int, *, sure: bool) -> int:
    """Multiple choice as the harness logs it; returns how many answers are right."""
    draw, lines, right = random.Random(seed), [], 0
    for i in range(ROWS):
        confidence = draw.random()
        correct = draw.random() < (0.95 if sure else 0.55 + 0.44 * confidence)
        right += correct
        choice = i % 4 if correct else (i + 1) % 4
        scores = [[4 * confidence - 4 if j == choice else -4.0, j == choice] for j in range(4)]
        lines.append(
            {
                "doc_id": i,
                "doc": {},
                "target": i % 4,
                "arguments": [],
                "resps": [[s] for s in scores],
                "filtered_resps": scores,
                "acc": float(correct),
            }
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return right


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, int]:
    """The folder in which the example ran, what it printed, and how many of the small model's answers are right."""
    folder = tmp_path_factory.mktemp("harness")
    right = samples(folder / "samples_small.jsonl", 1, sure=False)
    samples(folder / "samples_large.jsonl", 2, sure=True)
    done = subprocess.run(
        ["sh", str(ROOT / "examples" / "lm_eval.sh"), "samples_small.jsonl", "samples_large.jsonl", "arc"],
        cwd=folder,
        text=True,
        env=os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "WITHIN": "0.05"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, right


def test_samples_of_the_harness_become_a_certificate(evaluated: tuple[Path, str, int]) -> None:
    folder, said, right = evaluated
    assert "CERTIFIED: Escalate when confidence is below" in said
    assert "then: python -m pipeline evaluate arc" in said
    assert "pipeline estimate" not in said, "there is nothing to send"
    (policy,) = (folder / "reports" / "arc").glob("*/*/policy.json")
    assert json.loads(policy.read_text())["verdict"] == "certified"
    assert pd.read_parquet(folder / "arc.parquet")["cheap_correct"].sum() == right


def test_each_query_answers_as_pandas_does(evaluated: tuple[Path, str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _, right = evaluated
    monkeypatch.chdir(folder)
    text = re.sub(r"^--.*$", "", (ROOT / "examples" / "queries.sql").read_text("utf-8"), flags=re.MULTILINE)
    mistakes, confusion, doubted, curve = [duckdb.sql(query).df() for query in text.split(";") if query.strip()]
    (rows,) = [pd.read_parquet(path) for path in Path("runs/arc").glob("*/*/predictions.parquet")]
    wrong = rows[~rows["cheap_correct"].astype(bool)]
    assert len(wrong) == ROWS - right
    assert len(mistakes) == 20
    assert mistakes["confidence"].tolist() == wrong["confidence"].nlargest(20).tolist()
    assert confusion["n"].sum() == len(wrong)
    assert set(doubted["example_id"]) == set(wrong[wrong["cheap_answer"] == wrong["strong_answer"]]["example_id"])
    assert curve["escalated"].is_monotonic_increasing
    assert curve["accuracy"].iloc[0] == pytest.approx(right / ROWS, abs=0.02)
