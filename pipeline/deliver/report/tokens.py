"""ReportTokens: replies as strips of their tokens with what else might have come, from tokens.parquet. At most 60 replies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.deliver.report.formatting import cut
from pipeline.run.directory import read_parquet

MOST_REPLIES = 20
"""Per set, of which there are three."""
MOST_TOKENS = 16
MOST_ALTERNATIVES = 5
LONGEST_TOKEN = 40
SETS = ("kept_wrong", "rescued", "for_nothing")


def strips(rows: CodedRows, path: Path, threshold: float | None) -> dict[str, Any]:
    """Three sets of replies of the cheap model, surest first where it was kept, else by falling confidence too.

    kept_wrong   kept and wrong
    rescued      escalated; the cheap answer was wrong and the strong one right
    for_nothing  escalated although the cheap answer was right
    Without labels "right" is the strong model's answer, so nothing can be rescued that was not different.
    """
    kept, right = rows.kept(threshold), rows.right
    strong = rows.numbers["strong_correct"] if rows.gold else np.where(np.isnan(rows.agree), np.nan, 1.0)
    confident = ~np.isnan(rows.numbers["confidence"])
    members = {
        "kept_wrong": kept & (right == 0),
        "rescued": confident & ~kept & (right == 0) & (strong == 1),
        "for_nothing": confident & ~kept & (right == 1),
    }
    chosen = {name: _surest(rows, which) for name, which in members.items()}
    every = np.concatenate(list(chosen.values()))
    ids = rows.ids(every)
    found = _tokens(path, ids)
    out: dict[str, Any] = {"sets": [], "most": MOST_REPLIES}
    place = 0
    for name in SETS:
        replies = []
        for i in chosen[name]:
            example_id, place = ids[place], place + 1
            text = {k: (c.values[c.codes[i]] if c.codes[i] >= 0 else None) for k, c in rows.texts.items()}
            told = found.get(example_id, [])
            replies.append(
                {
                    "example_id": example_id,
                    "label": text["label"],
                    "segment": text["segment"],
                    "cheap_answer": text["cheap_answer"],
                    "strong_answer": text["strong_answer"],
                    "confidence": float(rows.numbers["confidence"][i]),
                    "tokens": told[:MOST_TOKENS],
                    "left_out": max(0, len(told) - MOST_TOKENS),
                }
            )
        out["sets"].append({"name": name, "n": int(members[name].sum()), "replies": replies})
    return out


def _surest(rows: CodedRows, which: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    at = np.flatnonzero(which)
    return at[np.argsort(-rows.numbers["confidence"][at], kind="stable")][:MOST_REPLIES]


def _tokens(path: Path, ids: list[str]) -> Mapping[str, list[dict[str, Any]]]:
    """The cheap model's tokens of these examples, in order, with probabilities and alternatives."""
    if not ids:
        return {}
    wanted = ["example_id", "position", "token", "logprob", "in_answer", "alternatives"]
    among = (pc.field("example_id").isin(pa.array(ids))) & (pc.field("role") == "cheap")
    table = read_parquet(path, wanted, among=among)
    out: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(table.to_pylist(), key=lambda r: (r["example_id"], r["position"])):
        out.setdefault(row["example_id"], []).append(
            {
                "token": cut(row["token"] or "", LONGEST_TOKEN),
                "probability": _probability(row["logprob"]),
                "in_answer": bool(row["in_answer"]),
                "alternatives": [
                    {"token": cut(a["token"] or "", LONGEST_TOKEN), "probability": _probability(a["logprob"])}
                    for a in (row["alternatives"] or [])[:MOST_ALTERNATIVES]
                ],
            }
        )
    return out


def _probability(logprob: float | None) -> float | None:
    return None if logprob is None else min(1.0, math.exp(logprob))
