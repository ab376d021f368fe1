"""Rows with known make-up for the tests of the decision room."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from pipeline.decide.predictions import Rows


def made(n: int, seed: int, *, digits: int | None = None, gaps: float = 0.0, **columns: Any) -> Rows:
    """Random rows; `digits` makes ties; a share `gaps` of every number is unknown. `columns` replace what is drawn."""
    rng = np.random.default_rng(seed)
    z = rng.normal(2, 2, n)
    right = rng.random(n) < expit(0.3 + 0.6 * z)
    frame = pd.DataFrame(
        {
            "example_id": [f"e{i}" for i in range(n)],
            "split": rng.choice(["fit", "certify", "test"], n, p=[0.2, 0.5, 0.3]),
            "group": [f"g{i}" for i in range(n)],
            "confidence": expit(z) if digits is None else np.round(expit(z), digits),
            "cheap_correct": right.astype(float),
            "strong_correct": (rng.random(n) < np.where(right, 0.97, 0.6)).astype(float),
            "cheap_usd": rng.gamma(5, 1e-6, n),
            "strong_usd": rng.gamma(5, 1e-5, n),
            "cheap_s": rng.gamma(4, 0.1, n),
            "strong_s": rng.gamma(4, 0.4, n),
        }
    )
    numbers = frame.columns[3:]
    frame[numbers] = frame[numbers].mask(rng.random((n, len(numbers))) < gaps)
    return Rows.from_frame(frame.assign(**columns))
