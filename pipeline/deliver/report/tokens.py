"""ReportTokens: replies as strips of their tokens with what else might have come, from tokens.parquet. At most 60 replies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascade_threshold.answers import POSITIVE_TOLERANCE
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.breakdown.mistakes import ReplySet, reply_sets
from pipeline.deliver.report.formatting import cut
from pipeline.run.directory import read_parquet

MOST_REPLIES = 20
"""Per set, of which there are three."""
MOST_TOKENS = 16
MOST_ALTERNATIVES = 5
LONGEST_TOKEN = 40


def strips(rows: CodedRows, path: Path, threshold: float | None) -> dict[str, Any]:
    """The sets of `reply_sets`, each with the tokens of its surest replies."""
    sets = reply_sets(rows, threshold, MOST_REPLIES)
    found = _tokens(path, rows.ids(np.concatenate([of.surest for of in sets])))
    return {
        "sets": [{"name": of.name, "n": of.n, "replies": _replies(rows, of, found)} for of in sets],
        "most": MOST_REPLIES,
    }


def _replies(rows: CodedRows, of: ReplySet, found: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    out = []
    for i, example_id in zip(of.surest, rows.ids(of.surest), strict=True):
        text = {k: (c.values[c.codes[i]] if c.codes[i] >= 0 else None) for k, c in rows.texts.items()}
        told = found.get(example_id, [])
        out.append(
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
    return out


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
    """None for what is no logprob of a probability: NaN, or above 0 by more than rounding."""
    return None if logprob is None or not logprob <= POSITIVE_TOLERANCE else min(1.0, math.exp(logprob))
