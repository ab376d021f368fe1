"""LabelMix: the share of each label, beside its share in an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.decide.breakdown.coded_rows import CodedRows

MOST_LABELS = 100


@dataclass(frozen=True)
class LabelShare:
    """One label: its rows, their share of all labeled rows, and that share in the earlier run (None: not in it)."""

    label: str
    n: int
    share: float
    previous_share: float | None


def label_mix(rows: CodedRows, before: Mapping[str, int]) -> list[LabelShare]:
    """The commonest labels of both runs, those of this run first; empty where no row has a label.

    before  rows by label in the earlier run; empty where there was none
    """
    now = rows.counts("label")
    total, old_total = sum(now.values()), sum(before.values())
    if not total:
        return []
    names = sorted(set(now) | set(before), key=lambda label: (-now.get(label, 0), label))[:MOST_LABELS]
    return [
        LabelShare(
            name,
            now.get(name, 0),
            now.get(name, 0) / total,
            before[name] / old_total if name in before and old_total else None,
        )
        for name in names
    ]
