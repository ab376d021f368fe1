"""ReportRows: a run's predictions as coded columns, counted for the page. A million rows take about a second."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cascade_threshold.answers import NO_WHOLE_ANSWER
from pipeline.decide.curves.at_threshold import mix_factors
from pipeline.decide.held_out import level_of
from pipeline.decide.predictions import agreement
from pipeline.decide.testing.intervals import clopper_pearson
from pipeline.decide.testing.paired_interval import paired_difference
from pipeline.decide.testing.share_interval import share_interval
from pipeline.decide.thresholds import accepted
from pipeline.deliver.report.formatting import cut

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

FEW_ROWS = 30
MOST_GROUPS = 80
MOST_MISTAKES = 50

TEXTS = ("split", "segment", "label", "cheap_answer", "strong_answer", "cheap_status", "strong_status")
_NUMBERS = ("confidence", "cheap_correct", "strong_correct", "cheap_usd", "strong_usd", "coin", "strong_weight")
COLUMNS = ("example_id", "group", *TEXTS, *_NUMBERS)


@dataclass(frozen=True)
class Coded:
    """A text column as codes into its sorted distinct values; -1 is null."""

    codes: Codes
    values: tuple[str, ...]

    def is_(self, value: str) -> npt.NDArray[np.bool_]:
        """Which rows hold the value."""
        return self.codes == self.values.index(value) if value in self.values else np.zeros(len(self.codes), dtype=bool)


@dataclass(frozen=True)
class ReportRows:
    """predictions.parquet as the page needs it. Numbers are NaN where unknown; a column the file lacks is all unknown."""

    example_ids: pa.ChunkedArray | None
    texts: Mapping[str, Coded]
    numbers: Mapping[str, Floats]
    group: Codes | None = None
    """The number of each row's group, which intervals are over; None where each row is one by itself."""

    @classmethod
    def of_table(cls, table: pa.Table) -> ReportRows:
        """From predictions.parquet, of which COLUMNS are needed."""
        n, have = table.num_rows, set(table.column_names)
        texts = {c: _coded(table[c]) if c in have else Coded(np.full(n, -1), ()) for c in TEXTS}
        numbers = {c: _floats(table[c]) if c in have else np.full(n, np.nan) for c in _NUMBERS}
        ids = table["example_id"].cast(pa.string()) if "example_id" in have else None
        return cls(ids, texts, numbers, _groups(table["group"]) if "group" in have else None)

    def __len__(self) -> int:
        return len(self.numbers["confidence"])

    def of(self, split: str) -> npt.NDArray[np.bool_]:
        """Which rows belong to a split; `all` gives every row."""
        return np.ones(len(self), dtype=bool) if split == "all" else self.texts["split"].is_(split)

    def kept(self, threshold: float | None) -> npt.NDArray[np.bool_]:
        """Which rows the cheap model keeps."""
        return accepted(self.numbers["confidence"], threshold)

    def weights(self, split: str, prevalence: Mapping[str, float] | None) -> Floats:
        """How much each row of a split counts, mean 1: production's label mix over that of the rows; else all alike."""
        codes, values = self.texts["label"].codes[self.of(split)], self.texts["label"].values
        if not prevalence:
            return np.ones(len(codes))
        counts = np.bincount(codes[codes >= 0], minlength=len(values)).tolist()
        factors = mix_factors(dict(zip(values, counts, strict=True)), len(codes), prevalence)
        return np.array([*(factors.get(value, 0.0) for value in values), 0.0])[codes]

    @property
    def agree(self) -> Floats:
        """Whether both models gave the same answer, shape (n,); see `agreement`."""
        cheap, strong, status = (self.texts[name] for name in ("cheap_answer", "strong_answer", "strong_status"))
        places = {v: i for i, v in enumerate(cheap.values)}
        same = cheap.codes == np.array([places.get(v, -2) for v in strong.values] + [-3])[strong.codes]
        unreadable = np.any([status.is_(name) for name in NO_WHOLE_ANSWER], axis=0)
        return agreement(same, cheap.codes >= 0, strong.codes >= 0, unreadable)

    def agreement_of_cheap(self, split: str) -> dict[str, Any]:
        """How often the cheap model alone answers as the strong one does, of the rows of a split with a strong answer.

        A cheap reply without an answer is not the strong model's. Unknown where strong answers were sampled.
        """
        same = np.where(self.texts["cheap_answer"].codes < 0, 0.0, self.agree)
        known = (self.texts["strong_answer"].codes >= 0) & self.of(split) & (not self.sampled)
        return share(np.where(known, same, np.nan), self.group, split)

    @property
    def right(self) -> Floats:
        """Whether the cheap answer is right; where no row has a label, whether the strong model gave the same."""
        return self.numbers["cheap_correct"] if self.gold else self.agree

    @property
    def sampled(self) -> bool:
        """Whether strong answers were sampled, so that the available ones do not represent all rows."""
        return bool(np.isfinite(self.numbers["coin"]).any())

    @property
    def stands_for(self) -> Floats:
        """How many rows a strong answer stands for in figures, 0 where they may not use it; 1 where every one is bought."""
        return np.nan_to_num(self.numbers["strong_weight"], nan=0.0) if self.sampled else np.ones(len(self))

    @property
    def gold(self) -> bool:
        """Whether any answer is graded by a label."""
        return bool(np.isfinite(self.numbers["cheap_correct"]).any())

    def ids(self, at: Codes) -> list[str]:
        """Example ids of a few rows."""
        if self.example_ids is None:
            return [f"row {i}" for i in at]
        return [str(v) for v in self.example_ids.take(pa.array(at)).to_pylist()]


def _coded(column: pa.ChunkedArray) -> Coded:
    kind = column.type
    text = column if pa.types.is_string(kind) or pa.types.is_dictionary(kind) else column.cast(pa.string())
    encoded = (
        text.unify_dictionaries().combine_chunks()
        if pa.types.is_dictionary(text.type)
        else text.combine_chunks().dictionary_encode()
    )
    values = [str(v) for v in encoded.dictionary.to_pylist()]
    order = sorted(range(len(values)), key=lambda i: values[i])
    place = np.empty(len(values) + 1, dtype=np.int64)
    place[order] = np.arange(len(values))
    place[-1] = -1
    codes = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return Coded(place[codes], tuple(values[i] for i in order))


def _groups(column: pa.ChunkedArray) -> Codes | None:
    coded = _coded(column).codes
    alone = coded < 0
    if (~alone).sum() == coded.max(initial=-1) + 1:
        return None
    return np.where(alone, coded.max() + np.cumsum(alone), coded)


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(pc.cast(column, pa.float64()).to_numpy(), dtype=np.float64)


def rate(hits: float, n: float, split: str) -> dict[str, Any]:
    """A counted share with its exact (Clopper-Pearson) interval; unknown when nothing was counted."""
    level = level_of(split)
    if n <= 0:
        return {"value": None, "lower": None, "upper": None, "level": level, "n": 0, "split": split}
    lower, upper = (float(end) for end in clopper_pearson(hits, n, level))
    return {"value": hits / n, "lower": lower, "upper": upper, "level": level, "n": int(n), "split": split}


def share(x: Floats, group: Codes | None, split: str) -> dict[str, Any]:
    """The share of `x` (n,), 1, 0 or NaN (unknown), over the known rows; its interval is over groups where there are any."""
    known = ~np.isnan(x)
    counted = rate(float(x[known].sum()), float(known.sum()), split)
    if group is None or counted["value"] is None:
        return counted
    lower, upper = share_interval(np.nan_to_num(x), known, group=group, level=counted["level"])
    return counted | {"lower": lower, "upper": upper}


def groups(
    rows: ReportRows,
    by: str,
    split: str,
    threshold: float | None,
    floors: Mapping[str, float] | None = None,
    margin: float | None = None,
) -> dict[str, Any]:
    """Results by label or by segment on one split, with intervals (`share`): worst against the strong model first.

    `margin`: how much worse than the strong model the whole may be; a group beyond it is flagged.
    """
    column, inside = rows.texts[by], rows.of(split) & (rows.texts[by].codes >= 0)
    codes, size = column.codes[inside], len(column.values)
    kept = rows.kept(threshold)[inside]
    cheap, strong = rows.numbers["cheap_correct"][inside], rows.numbers["strong_correct"][inside]
    cascade = np.where(kept, cheap, strong)
    if rows.sampled:  # a group of which some answers were not bought tells nothing that needs them
        strong, cascade = (
            np.where(np.bincount(codes, np.isnan(x), size)[codes] > 0, np.nan, x) for x in (strong, cascade)
        )

    kept_wrong = np.where(kept, 1 - cheap, np.nan)
    cluster = None if rows.group is None else rows.group[inside]
    n = np.bincount(codes, minlength=size)
    order = sorted(np.flatnonzero(n), key=lambda g: (-n[g], column.values[g]))
    out = []
    for g in order[:MOST_GROUPS]:
        name, floor, here = column.values[g], (floors or {}).get(column.values[g]), codes == g
        mine = None if cluster is None else cluster[here]
        figures = {"cheap_accuracy": cheap, "strong_accuracy": strong, "cascade_accuracy": cascade, "escalation_rate": (~kept).astype(float), "accepted_error": kept_wrong}  # fmt: skip
        entry: dict[str, Any] = {"name": name, "n": int(n[g]), "floor": floor, "accepted": int(kept[here].sum())}
        entry |= {key: share(x[here], mine, split) for key, x in figures.items()}
        entry["accepted_wrong"] = int(np.nansum(kept_wrong[here]))
        entry["difference"] = paired_difference(
            cascade[here], strong[here], level=level_of(split), split=split, group=mine
        ).to_json()
        value, behind = entry["cascade_accuracy"]["value"], entry["difference"]["value"]
        entry["flags"] = (["few"] if n[g] < FEW_ROWS else []) + (
            ["floor"] if floor is not None and value is not None and value < floor else []
        )
        if margin is not None and threshold is not None and behind is not None and behind < -margin:
            entry["flags"].append("margin")
        out.append(entry)
    if threshold is not None:
        out.sort(key=lambda e: math.inf if e["difference"]["value"] is None else e["difference"]["value"])
    return {"by": by, "split": split, "rows": out, "left_out": max(0, len(order) - MOST_GROUPS)}


def recall_floors(
    rows: ReportRows,
    split: str,
    threshold: float | None,
    floors: Mapping[str, float],
    members: Mapping[str, Sequence[str]],
    segments: Mapping[str, tuple[str, str | None, float]],
) -> list[dict[str, Any]]:
    """How often rows of a label, or of one of several, get an answer among them, beside the least that was asked for.

    `segments`: by name, floors of a segment's rows (with a label, of its rows of that label): how often these are right.
    """
    inside, kept = rows.of(split), rows.kept(threshold)
    out = []
    for name, floor in floors.items():
        labels = tuple(members.get(name, (name,)))

        def among(column: str, labels: Sequence[str] = labels) -> npt.NDArray[np.bool_]:
            coded = rows.texts[column]
            return np.isin(coded.codes, [i for i, v in enumerate(coded.values) if v in labels])

        told = np.where(kept, among("cheap_answer"), among("strong_answer"))
        mine = inside & among("label")
        recall = share(told[mine].astype(float), None if rows.group is None else rows.group[mine], split)
        broken = recall["value"] is not None and recall["value"] < floor
        out.append({"name": name, "labels": list(labels), "floor": floor, "recall": recall, "broken": broken})
    right = np.where(kept, rows.numbers["cheap_correct"], rows.numbers["strong_correct"])
    for name, (segment, label, floor) in segments.items():
        mine = inside & rows.texts["segment"].is_(segment)
        if label is not None:
            mine &= rows.texts["label"].is_(label)
        held = share(right[mine], None if rows.group is None else rows.group[mine], split)
        broken = held["value"] is not None and held["value"] < floor
        out.append(
            {"name": name, "labels": [] if label is None else [label], "floor": floor, "recall": held, "broken": broken}
        )
    return out


def confusion(rows: ReportRows, split: str, threshold: float | None, at_most: int = 12) -> dict[str, Any] | None:
    """Accepted answers only: label against answer. A full matrix for few labels, else the commonest confusions.

    Labels that begin alike for as long as a column's head shows them cannot be told apart there: no matrix either.
    """
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
    whole = size <= at_most and len({cut(name, 30) for name in names}) == size
    return {
        "split": split,
        "n": int(inside.sum()),
        "labels": list(names) if whole else None,
        "table": table.tolist() if whole else None,
        "commonest": [{"label": a, "answer": b, "n": n} for n, a, b in wrong[:20]],
    }


def mistakes(
    rows: ReportRows, threshold: float | None, texts: Mapping[str, str] | None, at_most: int = 25
) -> list[dict[str, Any]]:
    """The most confident wrong answers that the cheap model would keep, over all splits."""
    at = np.flatnonzero(
        (rows.numbers["cheap_correct"] == 0)
        & (rows.kept(threshold) if threshold is not None else ~np.isnan(rows.numbers["confidence"]))
    )
    confidence = rows.numbers["confidence"][at]
    at = at[np.argsort(-confidence, kind="stable")][: min(at_most, MOST_MISTAKES)]
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
                "text": None if texts is None or example_id not in texts else cut(texts[example_id]),
            }
        )
    return out


def label_noise(rows: ReportRows, split: str, threshold: float | None) -> dict[str, Any]:
    """Where the kept answer is wrong: how often the strong model is wrong too, and how often both say the same against the label."""
    wrong = rows.of(split) & rows.kept(threshold) & (rows.numbers["cheap_correct"] == 0)
    strong = rows.numbers["strong_correct"][wrong]
    same, group = rows.agree[wrong], None if rows.group is None else rows.group[wrong]
    return {
        "n": int(wrong.sum()),
        "strong_wrong_too": share(1 - strong, group, split),
        "same_answer": share(same, group, split),
    }
