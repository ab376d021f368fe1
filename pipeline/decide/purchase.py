"""Purchase: which strong answers a sampled certificate and its figures need, block by block from the most confident row down.

A pure function of what is there: it says which answers are missing for the next step, and once none is, which are wanted in
all. The answers of a block are those of its wrong cheap answers, whatever the coin says, and of the rows that the coin drew. It
ends with the block that holds the first threshold that fails; then come the rows that the figures need at the last one passed.
Order and end never touch validity: what is not known counts as a loss, and never as a win.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.decide.arrays import Flags, Floats
from pipeline.decide.certify import certify
from pipeline.decide.predictions import Rows
from pipeline.decide.sampling import Sampling, draw
from pipeline.decide.target import Goal
from pipeline.decide.testing import threshold_search
from pipeline.decide.thresholds import accepted

BLOCK = 0.05
"""Share of the certify rows that is bought before the test decides whether to go on."""


@dataclass(frozen=True)
class Purchase:
    """`missing` (n,): rows whose strong answer is to be asked for next; none: the purchase is complete.

    wanted (n,)    why a row's answer is wanted: "all" (whatever the coin says), "coin", "escalated", or None
    weight (n,)    how many rows the answer stands for in figures; NaN where none may use it
    drawn (n,)     1 where the coin drew the row for the certificate, else 0
    unit (n,)      rows that a coin can draw: not those of fit, nor those that another row of their group stands for
    threshold      the last that passed, None where none did
    stopped_at     share of the certify rows, surest first, down to which answers were bought for the test
    """

    missing: Flags
    wanted: npt.NDArray[np.object_]
    weight: Floats
    drawn: Floats
    unit: Flags
    threshold: float | None
    stopped_at: float

    @property
    def complete(self) -> bool:
        """Whether nothing more is to be asked for."""
        return not self.missing.any()


def purchase(
    rows: Rows,
    coin: Floats,
    sampling: Sampling,
    goal: Goal,
    *,
    asked: Flags | None = None,
    blocks: tuple[float, ...] = (),
    seed: int = 0,
) -> Purchase:
    """Walk down the certify rows as far as answers are there.

    rows    all rows; strong answers beyond the walk are not looked at
    coin    (n,) the rows' coins
    asked   (n,) rows whose strong answer was asked for already, whatever came of it; None: nothing more can be had
    blocks  shares of the rows at which the first blocks end; later blocks have 5 % each
    """
    drawn = draw(rows, coin, sampling, goal)
    certain = drawn.unit & ~(rows.cheap_correct == 1) if goal.kind != "agree_with_strong" else np.zeros(len(rows), bool)
    wanted = _floored(rows, goal) & drawn.unit
    if not rows.label.known.any() and np.isnan(rows.cheap_correct).all():
        wanted = wanted | (rows.split == "fit")  # without labels the signal is chosen by agreement
    told = np.ones(len(rows), dtype=bool) if asked is None else asked
    flags = drawn.kept.astype(np.float64)
    held = np.flatnonzero((rows.split == "certify") & drawn.unit)
    surest = held[np.argsort(-rows.confidence[held], kind="stable")]
    surest = surest[~np.isnan(rows.confidence[surest])]
    ends = iter(blocks)
    until, threshold = 0, None
    if goal.paired and len(held):
        while True:
            wanted[surest[:until]] |= (certain | drawn.kept)[surest[:until]]
            if (missing := wanted & ~told).any():
                return _unfinished(missing, flags, drawn.unit, until / len(held))
            trial = _trial(replace(rows.with_strong_of(wanted), drawn=flags), goal, sampling)
            failed = np.flatnonzero(~(trial.found.p_values <= goal.delta))
            reach = int(trial.laid.n_accepted[failed[0]]) if len(failed) else len(surest)
            if reach <= until or until >= len(surest):
                break
            until = _end_of_block(rows.confidence[surest], until, next(ends, None), len(held))
        found = trial.certificate()
        says_something = found.n_accepted > goal.limit * found.n
        threshold = found.threshold if says_something else None
    elif len(held):
        threshold = certify(rows.of("certify"), goal, fit=rows.of("fit"), seed=seed).threshold
    kept = accepted(rows.confidence, threshold)
    weight = drawn.weights(kept, certain)
    why = np.full(len(rows), None, dtype=object)
    why[wanted & drawn.kept & ~certain] = "coin"
    why[~kept & ~np.isnan(weight)] = "escalated"
    why[kept & drawn.kept] = "coin"
    why[(wanted & ~drawn.kept) | (certain & (kept | wanted)) | (wanted & _floored(rows, goal))] = "all"
    why[~wanted & np.isnan(weight)] = None
    missing = np.array([w is not None for w in why], dtype=bool) & ~told
    reached = until / len(held) if len(held) else 0.0
    return Purchase(missing, why, _calibrated(rows, kept, weight, flags), flags, drawn.unit, threshold, reached)


def _calibrated(rows: Rows, kept: Flags, weight: Floats, flags: Floats) -> Floats:
    """The weights (n,), so that those of each class add up to its rows (`Rows.calibrated`); a coin has decided how many it drew."""
    nothing_lost = np.zeros(len(rows))
    drawn = replace(rows, strong_correct=nothing_lost, strong_weight=np.nan_to_num(weight, nan=0.0), drawn=flags)
    return np.where(np.isnan(weight), np.nan, drawn.calibrated(kept).strong_weight)


def _trial(rows: Rows, goal: Goal, sampling: Sampling) -> threshold_search.Trial:
    held, fit = rows.of("certify"), rows.of("fit")
    return threshold_search.of_sample(
        threshold_search.sample(held, goal, fit=fit, human=False),
        goal,
        fit=fit,
        weight=1 / sampling.q if sampling.q else 0,
    )


def _floored(rows: Rows, goal: Goal) -> Flags:
    """Rows that a floor of a label or of a segment is about, of the certify rows: all of them are asked about."""
    names = set(goal.label_floors or ())
    members = {label for name in names for label in (goal.label_groups or {}).get(name, (name,))}
    named = rows.label.isin(members)
    for segment, label, _ in goal.floors_by_segment.values():
        mine = rows.segment == segment
        named |= mine if label is None else mine & (rows.label == label)
    return named & (rows.split == "certify")


def _end_of_block(surest: Floats, until: int, wanted: float | None, n: int) -> int:
    """Where the next block ends: at a share of all rows, moved out to the end of its tie block."""
    share = wanted if wanted is not None else until / n + BLOCK
    last = min(max(int(np.ceil(share * n - 1e-9)), until + 1), len(surest))
    return int(np.searchsorted(-surest, -surest[last - 1], side="right"))


def _unfinished(missing: Flags, flags: Floats, unit: Flags, reached: float) -> Purchase:
    nothing = np.full(len(missing), None, dtype=object)
    return Purchase(missing, nothing, np.full(len(missing), np.nan), flags, unit, None, reached)
