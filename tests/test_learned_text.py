"""A learned signal that reads the request's words: calibrated on recorded replies, decided on in production."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from deliver.policies import body
from tickets import CONFIG

from cascade_threshold.policy import load
from pipeline.__main__ import main

pytestmark = pytest.mark.slow
ROWS = 700


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[str, dict[str, Any]]]]:
    """The cheap model is as sure of contracts as of anything, and errs there in half of the rows."""
    folder, rng, kept = tmp_path_factory.mktemp("learned"), np.random.default_rng(8), {}
    rows, replies = ["id,text,label"], {"cheap": [], "strong": []}
    for i in range(ROWS):
        label, hard = str(rng.choice(["billing", "account"])), rng.random() < 0.3
        text = f"{'contract clause' if hard else 'password reset'} number {i}"
        other = {"billing": "account", "account": "billing"}[label]
        said = other if rng.random() < (0.5 if hard else 0.02) else label
        rows.append(f"r{i},{text},{label}")
        for role, answer in (("cheap", said), ("strong", label)):
            reply = body(
                answer, [(answer, float(-rng.exponential(0.1)))], model={"cheap": "small", "strong": "large"}[role]
            )
            line = {"custom_id": f"r{i}", "response": {"status_code": 200, "body": reply}}
            replies[role].append(json.dumps(line))
            if role == "cheap":
                kept[f"r{i}"] = (text, reply)
    (folder / "tickets.yaml").write_text(CONFIG, "utf-8")
    (folder / "rows.csv").write_text("\n".join(rows) + "\n", "utf-8")
    for role, lines in replies.items():
        (folder / f"{role}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    where = ["--runs-dir", str(folder / "runs"), "--reports-dir", str(folder / "reports"), "--quiet"]
    assert main(["evaluate", str(folder / "tickets.yaml"), "--set", "signal=learned", *where]) == 0
    return folder, kept


def test_production_decides_on_the_very_confidence_that_was_certified(
    evaluated: tuple[Path, dict[str, tuple[str, dict[str, Any]]]],
) -> None:
    folder, kept = evaluated
    (path,) = folder.glob("runs/tickets/*/*/policy.json")
    policy = load(path)
    assert policy.reads_text
    table = pd.read_parquet(path.with_name("predictions.parquet")).set_index("example_id")
    for example, (text, reply) in kept.items():
        assert policy.decide(reply, text=text).confidence == table.loc[example, "confidence"]
    hard = np.array(["contract" in kept[example][0] for example in table.index])
    assert policy.threshold is not None
    escalated = table["confidence"] < policy.threshold
    assert escalated[hard].mean() > 0.9
    assert escalated[~hard].mean() < 0.4


def test_without_the_text_everything_escalates_and_says_why(
    evaluated: tuple[Path, dict[str, tuple[str, dict[str, Any]]]],
) -> None:
    folder, kept = evaluated
    (path,) = folder.glob("runs/tickets/*/*/policy.json")
    for _, reply in list(kept.values())[:20]:
        decision = load(path).decide(reply)
        assert (decision.action, decision.status, decision.confidence) == ("escalate", "no_text", None)
        assert "text" in decision.reason
