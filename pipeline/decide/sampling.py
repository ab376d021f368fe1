"""Sampling: before any strong answer is seen, a coin per row decides which rows the strong model may be asked about.

A coin is a hash of the row's content, so it cannot be tossed again, and coins are nested: a larger rate draws what a smaller one
drew, and more. Exactly the nearest whole number to rate x rows is drawn, the smallest coins first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.decide.arrays import Flags, Floats
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing import clusters
from pipeline.decide.thresholds import accepted

FEWEST_ESCALATED = 0.25
"""Rate of the escalated rows, which serve the figures alone, at the least."""


@dataclass(frozen=True)
class Sampling:
    """`q`: rate of the coin where the cheap answer is kept and right; `q_e`: where the row escalates; `rule`: as configured."""

    q: float
    q_e: float
    rule: str


def coins(contents: Iterable[str]) -> Floats:
    """A number in [0, 1) for each content, shape (n,): the coin of a row that falls below the rate is drawn."""
    return np.array([_coin(content) for content in contents], dtype=np.float64)


def _coin(content: str) -> float:
    digest = hashlib.sha256(f"strong sample:{content}".encode("utf-8", "surrogatepass")).hexdigest()
    return int(digest[:13], 16) / 16.0**13


@dataclass(frozen=True)
class Drawn:
    """Which rows the coin drew, (n,) each: at the rate of kept rows and at that of escalated ones, and what each stands for.

    Of a group that is represented by one row the others are never drawn, and that row stands for them. `unit` marks the rows
    that can be drawn at all; rows that neither certify nor test are none.
    """

    kept: Flags
    escalated: Flags
    weight_if_kept: Floats
    weight_if_escalated: Floats
    unit: Flags
    size: Floats

    def weights(self, accepted: Flags, certain: Flags) -> Floats:
        """How many rows each strong answer stands for at a threshold, NaN for answers that no figure may use.

        `certain` rows are asked about whatever the coin says, where they are `accepted`.
        """
        sure = accepted & certain & self.unit
        out = np.where(accepted & self.kept, self.weight_if_kept, np.nan)
        out = np.where(sure, self.size, out)
        return np.where(~accepted & self.escalated, self.weight_if_escalated, out)


def draw(rows: Rows, coin: Floats, sampling: Sampling, goal: Goal) -> Drawn:
    """Draw in the certify and in the test rows, each part by itself. `coin` (n,) as `coins` gives them.

    Where groups have several rows one row of each is drawn first, and the coin is that row's; where group means are tested
    every row has its own coin, which is drawn below the rate, so that coins of different groups are independent.
    """
    n, fit = len(rows), rows.of("fit")
    kept, escalated, unit = (np.zeros(n, dtype=bool) for _ in range(3))
    weights = [np.full(n, np.nan), np.full(n, np.nan)]
    size = np.ones(n)
    for split in ("certify", "test"):
        where = np.flatnonzero(rows.split == split)
        if not len(where):
            continue
        part = rows.take(where)
        plan = clusters.plan(part, goal, fit)
        if plan.way == clusters.ONE_ROW:
            size[where] = np.bincount(plan.group)[plan.group]
            where = where[clusters.one_row_each(plan.group, part.example_id)]
        unit[where] = True
        for rate, drawn, weight in zip((sampling.q, sampling.q_e), (kept, escalated), weights, strict=True):
            if plan.way == clusters.MEANS:
                mine, each = where[coin[where] < rate], 1 / rate if rate else np.nan
            else:
                count = max(round(rate * len(where)), 1) if rate else 0
                mine = where[np.argsort(coin[where], kind="stable")[:count]]
                each = len(where) / count if count else np.nan
            drawn[mine] = True
            weight[mine] = each * size[mine]
    return Drawn(kept, escalated, weights[0], weights[1], unit, size)


def counts(rows: Rows, threshold: float | None, sampling: Sampling, goal: Goal) -> dict[str, Any]:
    """What a certificate says of sampled certify rows: {q, losses, wins_seen, win_weight, bought, unbought_counted_as_loss}.

    `rows` are those that are tested, one of each group where one stands for it; losses and wins are those kept at `threshold`.
    Of agree_with_strong a loss is another answer among the rows drawn, and there are no wins.
    """
    kept = accepted(rows.confidence, threshold)
    strong, wrong, drawn = rows.strong_read, ~(rows.cheap_correct == 1), rows.drawn == 1
    asked = ~np.isnan(rows.strong_correct) | rows.strong_answer.known
    agreement = goal.kind == "agree_with_strong"
    told = kept & drawn if agreement else kept & wrong
    lost = ~(rows.agree == 1) if agreement else ~(strong == 0)
    weighed = drawn.any() and not agreement
    return {
        "q": sampling.q,
        "losses": int((told & lost).sum()),
        "wins_seen": None if agreement else int((kept & drawn & ~wrong & (strong == 0)).sum()),
        "win_weight": len(rows) / int(drawn.sum()) if weighed else None,
        "bought": int(asked.sum()),
        "unbought_counted_as_loss": int((told & ~asked).sum()),
    }
