"""SampledAnswers: which strong answers a task's coin and its walk need, given the rows so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.collect.preflight import sampled_calls
from pipeline.collect.task_input import TaskInput
from pipeline.config.strong_answers import StrongAnswers
from pipeline.decide.arrays import Flags, Floats
from pipeline.decide.predictions import Rows
from pipeline.decide.purchase import BLOCK, Purchase, purchase
from pipeline.decide.sampling import FEWEST_ESCALATED, Sampling, coins
from pipeline.decide.target import Goal
from pipeline.run.predictions import Predictions


@dataclass(frozen=True)
class SampledAnswers:
    """The rates, fixed before any strong answer is seen, and the coins of the rows."""

    sampling: Sampling
    coin: Floats
    goal: Goal
    blocks: tuple[float, ...] = ()
    """Shares of the certify rows at which the first blocks end; later ones have 5 % each."""

    @classmethod
    def of(cls, task: TaskInput, found: Predictions) -> SampledAnswers | None:
        """What `strong.sample` means for these rows; None where every strong answer is bought."""
        said = task.config.strong
        if not isinstance(said, StrongAnswers):
            return None
        certify = int((found.frame["split"] == "certify").sum())
        q = said.rate(certify, task.config.requests_per_year)
        if q == 1:
            return None
        sampling = Sampling(q, max(q, FEWEST_ESCALATED), said.sample if isinstance(said.sample, str) else f"{q:g}")
        return cls(
            sampling, coins(_contents(task, found)), Goal.of(task.config.tested_target), first_blocks(task, certify, q)
        )

    def purchase(self, frame: pd.DataFrame, asked: Flags | None = None) -> Purchase:
        """The walk over the rows, as far as answers are there; see `pipeline.decide.purchase`."""
        return purchase(Rows.from_frame(frame), self.coin, self.sampling, self.goal, asked=asked, blocks=self.blocks)

    def applied(self, found: Predictions) -> Predictions:
        """The rows with what the walk wants of the strong answers that are there, and the record of it."""
        done = self.purchase(found.frame)
        coin = np.where(done.unit, self.coin, np.nan)
        split, drawn = found.frame["split"].to_numpy(), done.drawn == 1
        status = (
            found.frame["strong_status"].notna().to_numpy()
            if "strong_status" in found.frame
            else np.zeros(len(coin), bool)
        )
        bought = int((status & np.array([why is not None for why in done.wanted])).sum())
        rows = int((split != "fit").sum())
        record: dict[str, Any] = {
            "q": self.sampling.q,
            "q_e": self.sampling.q_e,
            "rule": self.sampling.rule,
            "n": int((split == "certify").sum()),
            "block": BLOCK,
            "stopped_at": done.stopped_at,
            "bought": bought,
            "saved": rows - bought,
            "drawn_up_to": {
                str(name): float(coin[drawn & (split == name)].max())
                for name in ("certify", "test")
                if (drawn & (split == name)).any()
            },
        }
        return found.sampled(coin, done.wanted, done.weight, record)


def first_blocks(task: TaskInput, certify: int, q: float) -> tuple[float, ...]:
    """How far down each file of a batch API goes: as far as is expected and ten points, then to the end; others: 5 % each."""
    if task.table is not None or "strong" not in task.services or not task.services["strong"].batch:
        return ()
    return min(1.0, 1 - sampled_calls.expected(certify, q).escalation + 0.1), 1.0


def sampling_of(found: Predictions) -> Sampling | None:
    """The rates by which the rows' strong answers were sampled; None where every one is bought."""
    record = found.strong_sampling
    return None if record is None else Sampling(float(record["q"]), float(record["q_e"]), str(record["rule"]))


def _contents(task: TaskInput, found: Predictions) -> list[str]:
    """The text that a row's coin hashes: its normalised content, or its id if it has none."""
    ids = [str(name) for name in found.frame["example_id"]]
    if task.table is not None:
        return ids
    return [content or name for content, name in zip(task.contents(ids), ids, strict=True)]
