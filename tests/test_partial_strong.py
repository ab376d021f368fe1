"""Tables with strong answers for a part of the rows: every figure says of which rows it is, in the terminal, the files and the page."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path

import pytest

from pipeline.__main__ import main


def test_both_models_alone_are_of_the_rows_with_a_strong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Strong answers only where it escalated, the harder rows: the cheap model looks better on all of them than it is beside."""
    rng, rows = random.Random(5), []
    for i in range(900):
        confidence = rng.uniform(0.5, 1)
        cheap = rng.random() < confidence
        asked = confidence < 0.8
        strong = int(rng.random() < 0.85) if asked else ""
        rows.append((f"e{i}", round(confidence, 4), int(cheap), strong, 0.001, 0.01 if asked else ""))
    monkeypatch.chdir(tmp_path)
    with Path("t.csv").open("w", newline="") as out:
        names = ("example_id", "confidence", "cheap_correct", "strong_correct", "cheap_usd", "strong_usd")
        csv.writer(out).writerows([names, *rows])
    Path("c.yaml").write_text(
        "task: t\nkind: classify\npredictions: {path: t.csv}\ntarget: {kind: budget, escalation_rate: 0.3}\n"
    )
    assert main(["evaluate", "c.yaml"]) == 0
    told = capsys.readouterr().out.replace("\u00a0", " ")
    (path,) = Path("runs").rglob("recommendation.json")
    figures = json.loads(path.read_text("utf-8"))["expected"]
    both = [(row[2], row[3]) for row in rows if row[3] != ""]
    cheap, strong = (sum(side) / len(both) for side in zip(*both, strict=True))
    assert figures["cheap_accuracy"]["n"] == figures["strong_accuracy"]["n"] == len(both) < 900
    assert figures["cheap_accuracy"]["value"] == pytest.approx(cheap)
    assert figures["strong_accuracy"]["value"] == pytest.approx(strong)
    assert (
        f"on the {len(both)} rows that have an answer of the strong model it is right in {100 * strong:.1f} %" in told
    )
    (page,) = Path("reports").rglob("report.html")
    bars = re.search(r'<table class="bars">.*?</table>', page.read_text("utf-8"), re.DOTALL)
    assert bars is not None
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bars[0]).replace("&nbsp;", " ").replace("\u00a0", " "))
    assert "Not all on the same rows" in words
    assert words.count(f"n = {len(both)}") == 2
    assert "n = 900" in words
