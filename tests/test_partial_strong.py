"""Tables with strong answers for a part of the rows: every figure says of which rows it is, in the terminal, the files and the page."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path

import pytest

from pipeline.__main__ import main


@pytest.mark.slow
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
    assert f"on the {len(both)} rows that have graded answers the strong model is right in {100 * strong:.1f} %" in told
    (page,) = Path("reports").rglob("report.html")
    bars = re.search(r'<table class="bars">.*?</table>', page.read_text("utf-8"), re.DOTALL)
    assert bars is not None
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bars[0]).replace("&nbsp;", " ").replace("\u00a0", " "))
    assert "Not all on the same rows" in words
    assert words.count(f"n = {len(both)}") == 2
    assert "n = 900" in words


@pytest.mark.slow
def test_unlabeled_rows_in_a_table_leave_both_models_on_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth of the cheap answers has no label, the hard ones; and a table may say that neither model costs anything."""
    rng, lines = random.Random(6), ["confidence,cheap_correct,strong_correct,cheap_usd,strong_usd"]
    graded = []
    for i in range(500):
        confidence, strong = round(rng.uniform(0.5, 1), 4), int(rng.random() < (0.6 if i % 5 == 0 else 0.95))
        cheap = "" if i % 5 == 0 else int(rng.random() < confidence)
        lines.append(f"{confidence},{cheap},{strong},0,0")
        graded += [] if cheap == "" else [(cheap, strong)]
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("\n".join(lines) + "\n")
    Path("c.yaml").write_text(
        "task: t\nkind: classify\npredictions: {path: t.csv}\ntarget: {kind: budget, escalation_rate: 0.3}\n"
    )
    assert main(["evaluate", "c.yaml"]) == 0
    (path,) = Path("runs").rglob("recommendation.json")
    found = json.loads(path.read_text("utf-8"))
    cheap, strong = (sum(side) / len(graded) for side in zip(*graded, strict=True))
    for name, value in (("cheap_accuracy", cheap), ("strong_accuracy", strong)):
        assert (found["expected"][name]["n"], found["expected"][name]["value"]) == (400, pytest.approx(value))
    assert "cheap_partly" in [w["code"] for w in found["warnings"]]
    assert found["expected"]["usd_per_1000"]["value"] == 0.0
    (page,) = Path("reports").rglob("report.html")
    assert "$0" in page.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("config", ["labels: [spam, ham, other]\n", ""])
def test_answers_in_a_table_are_read_as_replies_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    """The same table with bare labels, and with labels as models write them, gives the same decision."""
    rng, rows = random.Random(6), []
    for i in range(400):
        label, confidence = rng.choice(("spam", "ham")), rng.uniform(0.5, 1)
        other = "ham" if label == "spam" else "spam"
        right = rng.random() < confidence, rng.random() < 0.95
        rows.append((f"e{i}", round(confidence, 4), label, *(label if good else other for good in right)))
    forms = ("{}", "\\boxed{{{}}}", "{}.", "**{}**", '{{"label": "{}"}}', "<think>ham? spam?</think>{}")
    monkeypatch.chdir(tmp_path)
    text = f"task: t\nkind: classify\n{config}predictions: {{path: t.csv}}\ntarget: {{kind: KIND, within: 0.1, certainty: 0.9}}\n"
    for kind in ("match_strong", "agree_with_strong"):
        Path(f"{kind}.yaml").write_text(text.replace("KIND", kind).replace("task: t", f"task: {kind}"))
    seen = []
    for written in (False, True):
        shown = [
            (
                *row[:3],
                *(
                    forms[(i + k) % len(forms)].format(answer.upper()) if written else answer
                    for k, answer in enumerate(row[3:])
                ),
            )
            for i, row in enumerate(rows)
        ]
        with Path("t.csv").open("w", newline="") as out:
            csv.writer(out).writerows([("example_id", "confidence", "label", "cheap_answer", "strong_answer"), *shown])
        for kind in ("match_strong", "agree_with_strong"):
            out = [f"--{place}-dir={tmp_path / f'{place}-{kind}-{written}'}" for place in ("runs", "reports")]
            assert main(["evaluate", f"{kind}.yaml", "--quiet", "--json", *out]) == 0
            told = json.loads(capsys.readouterr().out)
            seen.append((kind, told["verdict"], told["threshold"], told["sentence"]))
    assert seen[:2] == seen[2:]
    strong = sum(row[4] == row[2] for row in rows) / len(rows)
    assert f"{100 * strong:.1f} % for the strong model" in seen[0][3].replace("\u00a0", " ")


@pytest.mark.slow
def test_strong_answers_in_a_table_that_are_no_label_are_unreadable_and_a_side_without_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(
        "task: t\nkind: classify\nlabels: [spam, ham]\npredictions: {path: t.csv}\ntarget: {kind: match_strong, within: 0.1}\n"
    )

    def evaluated(every: int) -> int:
        lines = [
            f"{0.5 + i / 801},{'spam' if i % 2 else 'ham'},{'spam' if i % 2 else 'ham'},{'It seems fine' if i % every == 0 else 'spam' if i % 2 else 'ham'}"
            for i in range(400)
        ]
        Path("t.csv").write_text("\n".join(["confidence,label,cheap_answer,strong_answer", *lines]) + "\n")
        return main(["evaluate", "c.yaml"])

    assert evaluated(10) == 0
    told = capsys.readouterr().out.replace("\u00a0", " ")
    assert "UNCERTIFIED" in told
    assert "10.0 % of the strong model's replies (40 of 400) are no readable answer" in told.replace("10 %", "10.0 %")
    assert evaluated(1) == 2
    assert (
        "400 of 400 answers in strong_answer are none of the labels: 'It seems fine' 400 times"
        in capsys.readouterr().err
    )
