"""Rows as the pipeline has them, made from a population with known truth."""

import numpy as np
from populations import Population

from pipeline.decide.predictions import Rows


def texts(values) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def evaluated(
    n=2000, *, population="S1", seed=0, shares=(0.3, 0.5, 0.2), groups=None, cheap_usd=2e-4, strong_usd=1e-3
) -> Rows:
    rng = np.random.default_rng(seed)
    drawn = Population(population).draw(n, rng, groups=groups)
    names = [f"row-{i}" for i in range(n)]
    labels = rng.choice(["work", "spam"], n, p=[0.8, 0.2])
    other = np.where(labels == "work", "spam", "work")
    return Rows(
        example_id=texts(names),
        split=texts(rng.choice(["fit", "certify", "test"], n, p=shares)),
        group=texts([f"g{g}" for g in drawn.group]),
        segment=texts([None] * n),
        label=texts(labels),
        cheap_answer=texts(np.where(drawn.cheap == 1, labels, other)),
        strong_answer=texts(np.where(drawn.strong == 1, labels, other)),
        confidence=drawn.confidence,
        cheap_correct=drawn.cheap,
        strong_correct=drawn.strong,
        cheap_usd=np.full(n, cheap_usd),
        strong_usd=np.full(n, strong_usd),
        cheap_s=rng.gamma(4, 0.05, n),
        strong_s=rng.gamma(4, 0.2, n),
    )
