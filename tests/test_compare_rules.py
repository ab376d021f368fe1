"""The claim of scripts/compare_rules.py, in small: rules that look good break the promise, the certified threshold does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from populations import Population

ROOT = Path(__file__).resolve().parent.parent
RESAMPLES = 60


@pytest.mark.slow
def test_the_rules_are_told_apart_by_the_truth(tmp_path: Path) -> None:
    out, picture = tmp_path / "rules.json", tmp_path / "rules.svg"
    done = subprocess.run(
        [
            sys.executable,
            "scripts/compare_rules.py",
            "S1",
            "S4",
            "--resamples",
            str(RESAMPLES),
            "--workers",
            "1",
            "--json",
            str(out),
            "--svg",
            str(picture),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {(r["case"], r["rule"]): r for r in json.loads(out.read_text("utf-8"))}
    for case in ("S1", "S4"):
        assert found[case, "certified"]["broken"] <= 0.1 + 3 * np.sqrt(0.09 / RESAMPLES)
        assert found[case, "best-looking threshold"]["broken"] > 0.3
        assert found[case, "certified"]["escalation"] < found[case, "MAPIE risk control"]["escalation"]
        # an independent truth: the population's own integrals
        fixed, exact = found[case, "fixed 0.85"], Population(case)
        assert fixed["escalation"] == pytest.approx(exact.escalated(0.85), abs=0.01)
        assert fixed["accuracy"] == pytest.approx(exact.system_accuracy(0.85), abs=0.005)
    dots = sum(r[1] != "text-only router" for r in found)
    assert picture.read_text("utf-8").count("<use ") >= dots
    assert "| certified |" in done.stdout
