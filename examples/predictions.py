"""From a DataFrame of predictions to a policy file, without a notebook: python examples/predictions.py [POLICY]

The rows are made up: a cheap model whose confidence is the chance that it is right, and a strong one that is right in 95 %.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import cascade_threshold
import pipeline


def rows(n: int = 2000) -> pd.DataFrame:
    """One row per example, as a table of one's own would have them."""
    draw = np.random.default_rng(7)
    confidence = draw.uniform(0.5, 1, n).round(3)
    return pd.DataFrame(
        {
            "confidence": confidence,
            "cheap_correct": draw.uniform(size=n) < confidence,
            "strong_correct": draw.uniform(size=n) < 0.95,
            "cheap_usd": 1e-5,
            "strong_usd": 1e-3,
        }
    )


def main(path: str = "policy.json") -> None:
    """Evaluate, say what came out, write the policy, and decide with it."""
    found = pipeline.evaluate(rows(), target={"kind": "match_strong", "within": 0.05})
    sys.stdout.write(f"{found.verdict}: {found.sentence}\n{found.note}\n")
    Path(path).write_text(json.dumps(found.policy.document), encoding="utf-8")
    policy = cascade_threshold.load(path)
    for confidence in (0.99, 0.55, None):
        sys.stdout.write(f"{confidence}: {policy.decide_confidence(confidence).action}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
