"""Pooled rows whose strong answers are bought by the coin, as the pipeline buys them."""

from dataclasses import replace
from functools import cache

import numpy as np
from decide.evaluated import texts
from populations import Population

from pipeline.decide.predictions import Rows
from pipeline.decide.purchase import Purchase, purchase
from pipeline.decide.sampling import Sampling, coins
from pipeline.decide.target import Goal

GOAL = Goal("match_strong", 0.1, within=0.02)


@cache
def s1() -> Population:
    return Population("S1")


def pooled(n: int, rng: np.random.Generator, population: Population | None = None, labels=None) -> Rows:
    """Rows that all certify, with both models' answers; of S1, unless another population is given."""
    drawn = (population or s1()).draw(n, rng)
    label = texts(["yes"] * n if labels is None else labels)
    return Rows(
        example_id=texts([f"row-{i}" for i in range(n)]),
        split=texts(["certify"] * n),
        group=texts([f"g{i}" for i in range(n)]),
        segment=texts([None] * n),
        label=label,
        cheap_answer=texts([y if c else f"not {y}" for y, c in zip(label, drawn.cheap, strict=True)]),
        strong_answer=texts([y if s else f"not {y}" for y, s in zip(label, drawn.strong, strict=True)]),
        confidence=drawn.confidence,
        cheap_correct=drawn.cheap,
        strong_correct=drawn.strong,
        cheap_usd=np.full(n, 1e-4),
        strong_usd=np.full(n, 1e-3),
        cheap_s=np.full(n, 0.1),
        strong_s=np.full(n, 0.5),
        strong_status=texts(["ok"] * n),
    )


def rates(q: float, q_e: float | None = None) -> Sampling:
    return Sampling(q, max(q, 0.25) if q_e is None else q_e, f"{q:g}")


def tossed(n: int, rng: np.random.Generator) -> np.ndarray:
    """Coins of rows with contents of their own."""
    return coins(f"content {rng.integers(1 << 60)}" for _ in range(n))


def bought(rows: Rows, coin: np.ndarray, sampling: Sampling, goal: Goal = GOAL, **how) -> tuple[Purchase, Rows]:
    """The purchase, and the rows as every later stage sees them."""
    done = purchase(rows, coin, sampling, goal, **how)
    wanted = np.array([why is not None for why in done.wanted])
    seen = replace(rows.with_strong_of(wanted), drawn=done.drawn, strong_weight=np.nan_to_num(done.weight, nan=0.0))
    return done, seen
