"""The certificate on recorded replies of two real models, against figures of a reference implementation."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.decide.certify import certify_match_strong
from pipeline.decide.thresholds import candidate_levels

FOLDER = Path(os.environ.get("REAL_DATA_DIR", "")) / "recorded" / "mmlu_gpt4o"
pytestmark = pytest.mark.skipif(
    not os.environ.get("REAL_DATA_DIR") or not FOLDER.is_dir(),
    reason="REAL_DATA_DIR is not set: no recorded replies to read",
)


@pytest.fixture(scope="module")
def answers():
    def replies(name):
        found = {}
        for line in (FOLDER / name).read_text("utf-8").strip().split("\n"):
            record = json.loads(line)
            choice = record["response"]["body"]["choices"][0]
            tokens = (choice.get("logprobs") or {}).get("content") or [{"logprob": np.nan}]
            found[record["custom_id"]] = (choice["message"]["content"].strip(), tokens[0]["logprob"])
        return found

    cheap, strong = replies("cheap.jsonl"), replies("strong.jsonl")
    examples = [json.loads(line) for line in (FOLDER / "examples.jsonl").read_text("utf-8").strip().split("\n")]
    confidence = np.exp([cheap[e["id"]][1] for e in examples])
    right = [np.array([float(side[e["id"]][0] == e["label"]) for e in examples]) for side in (cheap, strong)]
    return confidence, *right


@pytest.mark.slow
@pytest.mark.parametrize(("within", "reference"), [(0.03, 0.355), (0.02, 0.409)])
def test_escalation_on_908_random_rows_is_that_of_the_reference_or_less(answers, within, reference):
    confidence, cheap, strong = answers
    rates = []
    for half in range(40):
        order = np.random.default_rng(half).permutation(len(confidence))
        held, fit = order[:908], order[908:]
        levels = candidate_levels(confidence[fit])
        found = certify_match_strong(
            confidence[held], cheap[held], strong[held], within=within, delta=0.1, levels=levels
        )
        rates.append(found.escalation_rate)
    assert np.mean(rates) <= reference + 0.02
    assert np.mean(rates) >= reference - 0.06  # much less would be too good to be true
