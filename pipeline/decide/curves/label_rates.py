"""Label rates: precision, recall and flag rate of the cascade for each label, and for groups of labels, at production's mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.decide.arrays import Flags, Floats
from pipeline.decide.curves.bootstrap import blocks_of
from pipeline.decide.held_out import level_of
from pipeline.decide.predictions import Rows
from pipeline.decide.testing.share_interval import share_interval

MOST_LABELS = 50


def label_rates(
    part: Rows,
    kept: Flags,
    *,
    split: str,
    human: bool,
    weights: Floats | None,
    groups: Mapping[str, Sequence[str]] | None,
) -> list[dict[str, Any]]:
    """One entry per label, then per group of labels: {name, members, precision, recall, flag_rate}, each with its interval.

    precision   of the answers that name the label, how many are right (any member of a group for one)
    recall      of the rows that carry it, how many are told for it; unreadable answers miss it
    flag_rate   share of all requests that are told for it

    `weights` (n,) re-weight the rows to production's mix. A row whose final answer never came counts in none of the three.
    `n` is how many rows a figure rests on. Empty where no row has a label, or there are more than 50 labels.
    """
    names = sorted(part.label.present)
    if not names or len(names) > MOST_LABELS:
        return []
    strong = part.label if human else part.strong_answer
    came = kept | strong.known | part.strong_unreadable
    labeled = came & part.label.known
    block = blocks_of(part.group, seed=0, at_most=max(1, len(part)))
    out = []
    for name, members in [*((n, (n,)) for n in names), *(groups or {}).items()]:
        told = np.where(kept, part.cheap_answer.isin(members), strong.isin(members))
        carries = part.label.isin(members)
        right = told & carries

        def figure(hits: Flags, among: Flags) -> dict[str, Any]:
            n, weight = int(among.sum()), np.ones(len(part)) if weights is None else weights
            mass = float(weight[among].sum())
            if mass <= 0:
                return {"value": None, "lower": None, "upper": None, "level": level_of(split), "n": n, "split": split}
            lower, upper = share_interval(
                hits.astype(np.float64), among, weights=weights, group=block, level=level_of(split)
            )
            value = float(weight[among & hits].sum() / mass)
            return {"value": value, "lower": lower, "upper": upper, "level": level_of(split), "n": n, "split": split}

        out.append(
            {
                "name": name,
                "members": list(members),
                "precision": figure(right, labeled & told),
                "recall": figure(right, labeled & carries),
                "flag_rate": figure(told, came),
            }
        )
    return out
