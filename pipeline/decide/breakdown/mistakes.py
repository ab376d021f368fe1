"""Mistakes: which wrong answers the cheap model would keep, and what they have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.decide.arrays import Ints
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.breakdown.groups import share


def confusion(rows: CodedRows, split: str, threshold: float | None, at_most: int = 12) -> dict[str, Any] | None:
    """Accepted answers only: label against answer. A full matrix for few labels, and the commonest confusions."""
    label, answer = rows.texts["label"], rows.texts["cheap_answer"]
    inside = rows.of(split) & rows.kept(threshold) & (label.codes >= 0) & (answer.codes >= 0)
    if not inside.any():
        return None
    names = tuple(
        sorted(
            {label.values[c] for c in np.unique(label.codes[inside])}
            | {answer.values[c] for c in np.unique(answer.codes[inside])}
        )
    )
    place = {v: i for i, v in enumerate(names)}
    rows_at = np.array([place.get(v, 0) for v in label.values])[label.codes[inside]]
    columns_at = np.array([place.get(v, 0) for v in answer.values])[answer.codes[inside]]
    size = len(names)
    table = np.bincount(rows_at * size + columns_at, minlength=size * size).reshape(size, size)
    wrong = [(int(table[i, j]), names[i], names[j]) for i in range(size) for j in range(size) if i != j and table[i, j]]
    wrong.sort(key=lambda item: (-item[0], item[1], item[2]))
    whole = size <= at_most
    return {
        "split": split,
        "n": int(inside.sum()),
        "labels": list(names) if whole else None,
        "table": table.tolist() if whole else None,
        "commonest": [{"label": a, "answer": b, "n": n} for n, a, b in wrong[:20]],
    }


def mistakes(rows: CodedRows, threshold: float | None, at_most: int = 25) -> list[dict[str, Any]]:
    """The most confident wrong answers that the cheap model would keep, over all splits."""
    at = np.flatnonzero(
        (rows.numbers["cheap_correct"] == 0)
        & (rows.kept(threshold) if threshold is not None else ~np.isnan(rows.numbers["confidence"]))
    )
    confidence = rows.numbers["confidence"][at]
    at = at[np.argsort(-confidence, kind="stable")][:at_most]
    out = []
    for i, example_id in zip(at, rows.ids(at), strict=True):
        strong = rows.numbers["strong_correct"][i]
        value = {k: (c.values[c.codes[i]] if c.codes[i] >= 0 else None) for k, c in rows.texts.items()}
        out.append(
            {
                "example_id": example_id,
                "split": value["split"],
                "confidence": float(rows.numbers["confidence"][i]),
                "label": value["label"],
                "cheap_answer": value["cheap_answer"],
                "strong_answer": value["strong_answer"],
                "strong_correct": None if np.isnan(strong) else bool(strong),
            }
        )
    return out


def label_noise(rows: CodedRows, split: str, threshold: float | None) -> dict[str, Any]:
    """Where the kept answer is wrong: how often the strong model is wrong too, and how often both say the same against the label."""
    wrong = rows.of(split) & rows.kept(threshold) & (rows.numbers["cheap_correct"] == 0)
    strong = rows.numbers["strong_correct"][wrong]
    same, group = rows.agree[wrong], None if rows.group is None else rows.group[wrong]
    return {
        "n": int(wrong.sum()),
        "strong_wrong_too": share(1 - strong, group, split).to_json(),
        "same_answer": share(same, group, split).to_json(),
    }


@dataclass(frozen=True)
class ReplySet:
    """Rows of one kind: how many there are, and the places of the surest of them, by falling confidence."""

    name: str
    n: int
    surest: Ints


def reply_sets(rows: CodedRows, threshold: float | None, at_most: int) -> tuple[ReplySet, ...]:
    """Three kinds of rows, over all splits, each with at most `at_most` of its surest.

    kept_wrong   kept and wrong
    rescued      escalated; the cheap answer was wrong and the strong one right
    for_nothing  escalated although the cheap answer was right
    Without labels "right" is the strong model's answer, so nothing can be rescued that was not different.
    """
    kept, right, confidence = rows.kept(threshold), rows.right, rows.numbers["confidence"]
    strong = rows.numbers["strong_correct"] if rows.gold else np.where(np.isnan(rows.agree), np.nan, 1.0)
    confident = ~np.isnan(confidence)
    members = {
        "kept_wrong": kept & (right == 0),
        "rescued": confident & ~kept & (right == 0) & (strong == 1),
        "for_nothing": confident & ~kept & (right == 1),
    }
    places = {name: np.flatnonzero(which) for name, which in members.items()}
    return tuple(
        ReplySet(name, len(at), at[np.argsort(-confidence[at], kind="stable")][:at_most]) for name, at in places.items()
    )
