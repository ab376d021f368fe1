"""Real recorded replies, through the recorded provider, give the figures that were computed without this project."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_folder import RunFolder

from pipeline.__main__ import main
from pipeline.decide.certify import certify_match_strong
from pipeline.decide.predictions import Rows
from pipeline.decide.sweep import sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmlu_gpt4o", "mmlu_llama"])
def test_a_recorded_run_equals_its_reference(
    name: str, folder: Path, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = real_data / "recorded" / name
    reference = json.loads((source / "reference.json").read_text())
    arguments = ["--runs-dir", str(folder / "runs"), "--reports-dir", str(folder / "reports"), "--json", "--quiet"]
    assert main(["evaluate", str(source / "config.yaml"), *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    run = RunFolder(folder / "runs", result)
    frame = pd.read_parquet(run / "predictions.parquet")
    assert len(frame) == reference["n"]
    assert frame["cheap_correct"].mean() == pytest.approx(reference["cheap_accuracy"], abs=1e-12)
    assert frame["strong_correct"].mean() == pytest.approx(reference["strong_accuracy"], abs=1e-12)
    assert frame["cheap_usd"].sum() == pytest.approx(reference["cheap_usd"], abs=1e-9)
    assert frame["strong_usd"].sum() == pytest.approx(reference["strong_usd"], abs=1e-9)
    assert (frame["cheap_status"] == "out_of_set").sum() == reference["out_of_set_cheap"]
    brier = ((frame["confidence"] - frame["cheap_correct"].astype(float)) ** 2).mean()
    assert brier == pytest.approx(reference["brier_first_token"], abs=1e-9)
    rows = Rows.from_frame(frame)
    levels = [point["threshold"] for point in reference["sweep_all_rows"]]
    table = sweep(rows, levels, replicates=10, seed=1).query("split == 'all'").set_index("threshold")
    for point in reference["sweep_all_rows"]:
        for column in ("escalation_rate", "system_accuracy", "usd_per_1000"):
            assert table.loc[point["threshold"], column] == pytest.approx(point[column], abs=1e-9)
    assert Path(result["report"]).is_file()
    assert Path(result["policy"]).is_file()
    assert main(["evaluate", str(source / "config.yaml"), *arguments]) == 0
    assert json.loads(capsys.readouterr().out) == result


@pytest.mark.slow
def test_the_certificate_escalates_no_more_than_the_yardstick(real_data: Path) -> None:
    """Mean escalation over 40 random halves: a reference implementation had 35.5 % for 0.03 and 40.9 % for 0.02."""
    source = real_data / "recorded" / "mmlu_gpt4o"
    labels = [json.loads(line)["label"] for line in (source / "examples.jsonl").read_text("utf-8").split("\n") if line]
    bodies = {
        role: [
            json.loads(line)["response"]["body"]
            for line in (source / f"{role}.jsonl").read_text("utf-8").split("\n")
            if line
        ]
        for role in ("cheap", "strong")
    }
    right = {
        r: np.array(
            [b["choices"][0]["message"]["content"].strip() == y for b, y in zip(bodies[r], labels, strict=True)], float
        )
        for r in bodies
    }
    confidence = np.array([np.exp(b["choices"][0]["logprobs"]["content"][0]["logprob"]) for b in bodies["cheap"]])
    rng = np.random.default_rng(0)
    for within, yardstick in ((0.03, 0.355), (0.02, 0.409)):
        rates = []
        for _ in range(40):
            half = rng.permutation(len(labels))[:908]
            found = certify_match_strong(
                confidence[half], right["cheap"][half], right["strong"][half], within=within, delta=0.1
            )
            rates.append(found.escalation_rate)
        assert abs(np.mean(rates) - yardstick) < 0.02
