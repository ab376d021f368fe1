"""PredictionsFile: reads a user's table of predictions into the columns of predictions.parquet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import exp, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cascade_threshold.answer_set import AnswerSet
from cascade_threshold.answers import STATUSES
from cascade_threshold.label_text import fold, label_text, truth_of
from pipeline.collect.data import table_answers, typed_predictions
from pipeline.collect.data.dataset import split_of
from pipeline.collect.data.table_reader import TableFile, columns_shown, is_storable
from pipeline.config.limits import MOST_DOLLARS, MOST_SECONDS
from pipeline.config.split import Split
from pipeline.config.vocabulary import ROLES, SPLITS
from pipeline.errors import DataError
from pipeline.run.csv_text import unguarded

SIGNAL: dict[str, Any] = {"name": "given", "version": None, "params": {}}
COLUMNS = (
    "example_id",
    "confidence",
    "cheap_correct",
    "cheap_answer",
    "label",
    "strong_correct",
    "strong_answer",
    "cheap_usd",
    "strong_usd",
    "group",
    "segment",
    "split",
)
"""Columns that are used where they are there; `predictions.columns` of the config maps other names to them."""
FURTHER = ("cheap_s", "strong_s", "cheap_status", "strong_status")
"""Used too: seconds, and statuses where they are ours. Whatever else a table holds is left out."""
PARTS = ("certify", "fit", "test")
MISSING = {"nan", "<na>"}
"""Texts that pandas makes of a missing value."""
AMOUNTS = {
    "cheap_usd": ("dollars", MOST_DOLLARS),
    "strong_usd": ("dollars", MOST_DOLLARS),
    "cheap_s": ("seconds", MOST_SECONDS),
    "strong_s": ("seconds", MOST_SECONDS),
}
"""The unit and the largest value of each column of amounts."""
_DOLLAR_SIGN = re.compile(r"\A(?:US\$|\$|USD)\s*|\s*(?:\$|USD)\Z", re.IGNORECASE)
ROUNDING = 1e-6
"""A probability at most this far outside [0, 1] is a rounding error, and clipped."""
SCALE = 10
"""Confidences up to here that are not on [0, 1] are ratings, and no per cents."""
Numbers = np.ndarray[Any, np.dtype[np.float64]]
AT_ONCE = 1 << 20
"""Rows that are counted at a time."""
ENOUGH = 50
"""Rows of either kind from which on a confidence that is higher where the answer is wrong is called inverted."""


def read(
    path: Path,
    split: Split,
    answers: AnswerSet | None = None,
    *,
    confidence: str = "probability",
    columns: Mapping[str, str] | None = None,
    labeled: bool = False,
) -> pd.DataFrame:
    """Read and check a table of predictions. Needs confidence, and cheap_correct (or cheap_answer and label); unless it must be
    `labeled`, both answers do.

    example_id (else the row's number), strong_correct (or strong_answer), cheap_usd, strong_usd, cheap_s, strong_s, group, segment
    and split are used where they are there; rows without a split are placed by the hash of their group. `confidence`: how it is
    written, "probability", "percent" or "logprob"; `columns`: the table's own name of a column, by ours; `answers`: the
    closed set, else the labels that occur. Raises DataError with row, value, rule and remedy.
    """
    plain = typed_predictions.table(path, columns or {}) if confidence == "probability" else None
    if plain is not None:
        frame, plain = typed_predictions.frame(plain), None
        _check_direction(frame, path)
        return _grouped(frame, split, str(path))
    frame, places, decimal = _table(path, columns or {})
    _require_columns(frame, path, labeled)
    frame = frame[[c for c in frame.columns if c in COLUMNS or (c in FURTHER and _is_ours(c, frame[c]))]].copy()
    if "example_id" not in frame:
        frame.insert(0, "example_id", [f"row-{number}" for number in range(1, len(frame) + 1)])
    frame["example_id"] = [_text(v, "example_id", place) for v, place in zip(frame["example_id"], places, strict=True)]
    twice = frame["example_id"][frame["example_id"].duplicated()]
    if len(twice):
        raise DataError(
            f"{path}: {len(twice)} duplicate ids in example_id, for example {twice.iloc[0]!r}; ids must be unique"
        )
    for column in ("confidence", *AMOUNTS):
        if column in frame:
            frame[column] = [number(v, column, place, decimal) for v, place in zip(frame[column], places, strict=True)]
    _check_amounts(frame, places)
    frame["confidence"] = _probabilities(frame["confidence"].to_numpy(np.float64), confidence, places)
    spelling = _spelled(frame, answers, places, path)
    for role in ROLES:
        _correct(frame, role, places, path, spelling)
    _check_direction(frame, path)
    return _placed(frame, split, places)


def _table(path: Path, columns: Mapping[str, str]) -> tuple[pd.DataFrame, list[str], bool]:
    """The rows, the place of each, and whether numbers may have a decimal comma."""
    table = TableFile(str(path), delimiters=";\t|")
    numbered = list(table.rows())
    if not numbered:
        raise DataError(f"{path}: no rows; --predictions needs a table with confidence and cheap_correct")
    if table.suffix == ".csv":  # as `import` and spreadsheets write what begins like a formula
        numbered = [(number, {column: unguarded(v) for column, v in row.items()}) for number, row in numbered]
    frame = pd.DataFrame([row for _, row in numbered], dtype=object)
    for ours, theirs in columns.items():
        if ours not in COLUMNS:
            raise DataError(f"{path}: predictions.columns names {ours!r}, which is none of {', '.join(COLUMNS)}")
        if theirs not in frame:
            raise DataError(
                f"{path}: no column {theirs!r}, which predictions.columns names; columns here: {columns_shown(frame.columns, '{}')}"
            )
    named = {theirs: ours for ours, theirs in columns.items()}
    frame = frame.drop(columns=[ours for ours in columns if ours in frame and ours not in named]).rename(columns=named)
    return frame, [table.where(number) for number, _ in numbered], table.delimiter == ";"


def _require_columns(frame: pd.DataFrame, path: Path, labeled: bool) -> None:
    here = columns_shown([c for c in frame.columns if c], "{}")
    if "confidence" not in frame:
        raise DataError(
            f"{path}: no column 'confidence'; columns here: {here}; "
            "name it with predictions: {columns: {confidence: ...}} in the config"
        )
    known = frame.columns.intersection(["cheap_correct", "cheap_answer", "label", "strong_answer"])
    graded = "cheap_correct" in known or {"cheap_answer", "label"} <= set(known)
    if not graded and (labeled or not {"cheap_answer", "strong_answer"} <= set(known)):
        agree = " (for the target agree_with_strong the two answers are enough)" if labeled else ""
        raise DataError(
            f"{path}: needs a column cheap_correct, or cheap_answer together with label{agree}; columns here: {here}; "
            "name it with predictions: {columns: ...} in the config"
        )


def _is_ours(column: str, values: pd.Series) -> bool:
    """Whether a further column is what its name means here: a status that is none of ours is another tool's."""
    return column.endswith("_s") or all(_blank(value) or value in STATUSES for value in values)


def _blank(value: Any, *, label: bool = False) -> bool:
    """Whether a cell says nothing, as an empty one or as pandas writes a missing value; `label`: a text that may be one's name."""
    if isinstance(value, str):
        return not value.strip() or (not label and value.strip().casefold() in MISSING)
    return value is None or (isinstance(value, float) and isnan(value))


def _text(value: Any, column: str, place: str) -> str:
    try:
        text = label_text(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: {column} is {str(value)[:80]}: {error}; write it as text") from None
    if text is None or not text.strip():
        raise DataError(f"{place}: {column} is blank; every row needs one, or leave the column out")
    if not is_storable(text):
        raise DataError(
            f"{place}: {column} holds half a character (a lone surrogate), which no table can store; fix the row"
        )
    return text


def number(value: Any, column: str, place: str, decimal_comma: bool) -> float:
    """A cell of a column of numbers; NaN where it is blank. Raises DataError for anything else."""
    if _blank(value):
        return nan
    text = value
    if isinstance(value, str):
        text = value.strip()
        if column == "confidence":
            text = text.removesuffix("%").strip()
        elif column.endswith("_usd"):
            text = _DOLLAR_SIGN.sub("", text)
        if (decimal_comma or column == "confidence") and text.count(",") == 1 and "." not in text:
            text = text.replace(",", ".")  # no confidence has thousands
    try:
        return float(text)
    except (TypeError, ValueError, OverflowError):
        of = f" of {AMOUNTS[column][0]}" if column in AMOUNTS else ""
        raise DataError(
            f"{place}: {column} is {value!r}, not a number{of}; leave it blank where it is unknown"
        ) from None


def _check_amounts(frame: pd.DataFrame, places: list[str]) -> None:
    for column, (unit, most) in AMOUNTS.items():
        for value, place in zip(frame.get(column, ()), places, strict=False):
            if value < 0 or value > most:
                raise DataError(
                    f"{place}: {column} is {value!r}; {unit} are not below 0 and at most {most:,}, or blank where unknown"
                )


def _probabilities(values: Numbers, written: str, places: list[str]) -> list[float]:
    """Confidences on [0, 1] from how they are written; what is rounding is clipped, and what is another scale named."""
    known = values[~np.isnan(values)]
    if written == "percent" and len(known) and 0 < known.max() <= 1:
        raise DataError(
            f"{places[int(np.nanargmax(values))]}: confidence is {float(known.max())!r}, the largest of the table, although predictions.confidence "
            "says percent: these look like probabilities already; leave predictions.confidence out"
        )
    if written == "percent":
        values = values / 100
    elif written == "logprob":
        values = np.array([v if isnan(v) else exp(v) if v <= ROUNDING else 1.0 + v for v in values])
    elif (scale := scale_of(known)) != "probability":
        worst = int(np.nanargmax(values) if scale == "percent" else np.nanargmin(values))
        raise DataError(
            f"{places[worst]}: confidence is {float(values[worst])!r}: these look like {'per cents' if scale == 'percent' else 'logprobs'}, "
            f"and must lie in [0, 1]; predictions: {{confidence: {scale}}} in the config, or --set predictions.confidence={scale}, converts them"
        )
    found = []
    for value, place in zip(values, places, strict=True):
        if not (isnan(value) or -ROUNDING <= value <= 1 + ROUNDING):
            raise DataError(
                f"{place}: confidence is {float(value)!r}{'' if written == 'probability' else f', read as {written}'}; it must lie in [0, 1] "
                "(divide a rating by the top of its scale, map a margin m to 1 - exp(-m)), or be blank"
            )
        found.append(float(min(max(value, 0.0), 1.0)) if not isnan(value) else nan)
    return found


def scale_of(known: Numbers) -> str:
    """How confidences (n,) seem to be written: "probability", "percent" or "logprob"."""
    if len(known) and known.min() >= -ROUNDING and SCALE < known.max() <= 100 and (known > 1 + ROUNDING).mean() > 0.5:
        return "percent"
    if len(known) and known.max() <= ROUNDING and (known < -ROUNDING).mean() > 0.5:
        return "logprob"
    return "probability"


def _spelled(frame: pd.DataFrame, answers: AnswerSet | None, places: list[str], path: Path) -> AnswerSet | None:
    """Labels and answers as texts, spelled as the closed set, else as the labels that occur, spell them; that set."""
    for column in {"label", "cheap_answer", "strong_answer"} & set(frame.columns):
        said = column == "label" or (answers is not None and MISSING & set(map(answers.fold, answers.labels)))
        frame[column] = [
            None if _blank(v, label=bool(said)) else _text(v, column, p)
            for v, p in zip(frame[column], places, strict=True)
        ]
    occur = list(dict.fromkeys(v.strip() for v in frame.get("label", ()) if isinstance(v, str)))
    spelling = answers or table_answers.known_set(occur)
    if spelling is not None:
        table_answers.spell(frame, spelling, closed=answers is not None, path=str(path))
    if answers is not None:
        _require_known(frame.get("label", ()), answers, places)
    return spelling


def _require_known(labels: Iterable[Any], answers: AnswerSet, places: list[str]) -> None:
    for value, place in zip(labels, places, strict=False):
        if isinstance(value, str) and value not in answers.labels:
            raise DataError(
                f"{place}: the label is {value[:80]!r}, which is none of {', '.join(map(repr, answers.labels[:10]))}; add it to `labels`, "
                "or fix the row"
            )


def _correct(frame: pd.DataFrame, role: str, places: list[str], path: Path, spelling: AnswerSet | None) -> None:
    name, answer = f"{role}_correct", f"{role}_answer"
    folded = (lambda text: fold(text, "loose").strip()) if spelling is None else spelling.fold
    if name in frame:
        found = [_truth(v, name, place) for v, place in zip(frame[name], places, strict=True)]
        if answer in frame and "label" in frame:
            texts = zip(frame[answer], frame["label"], strict=True)
            same = [isinstance(a, str) and isinstance(y, str) and folded(a) == folded(y) for a, y in texts]
            graded = [right for right, alike in zip(found, same, strict=True) if alike and right is not None]
            if len(graded) >= table_answers.ENOUGH and sum(graded) < len(graded) / 2:
                raise DataError(
                    f"{path}: {name} says wrong in {len(graded) - sum(graded):,} of the {len(graded):,} rows whose {answer} is the label: "
                    "it seems to be inverted; give 1 - value, or leave the column out"
                )
    elif answer in frame and "label" in frame:
        status = frame.get(f"{role}_status", pd.Series([None] * len(frame)))
        found = [
            None
            if not isinstance(y, str) or (not isinstance(a, str) and not isinstance(said, str))
            else isinstance(a, str) and folded(a) == folded(y)
            for a, y, said in zip(frame[answer], frame["label"], status, strict=True)
        ]
    else:
        return
    frame[name] = pd.array(found, dtype="boolean")


def _truth(value: Any, column: str, place: str) -> bool | None:
    if _blank(value):
        return None
    found = truth_of(_text(value, column, place))
    if found is not None:
        return found
    raise DataError(
        f"{place}: {column} is {value!r}; write 1 or 0 (or correct, incorrect), or leave it blank where it is unknown"
    )


def _check_direction(frame: pd.DataFrame, path: Path) -> None:
    """Raise DataError for a confidence that is clearly higher where the answer is wrong: it was written the other way round."""
    if "cheap_correct" not in frame:
        return
    rows, right_rows = _counted(frame)
    good, bad = int(right_rows.sum()), int((rows - right_rows).sum())
    if min(good, bad) < ENOUGH:
        return
    rank = np.cumsum(rows) - (rows - 1) / 2  # the mean one of rows that tie
    auroc = ((right_rows * rank).sum() - good * (good + 1) / 2) / (good * bad)
    noise = np.sqrt((good + bad + 1) / (12 * good * bad))  # of random order (Mann and Whitney)
    if auroc < 0.4 and auroc < 0.5 - 5 * noise:
        raise DataError(
            f"{path}: the confidence is inverted: it is higher where the cheap answer is wrong (a right answer has the larger one in only "
            f"{auroc:.0%} of pairs); larger must mean surer, so give 1 - value, or the probability of the answer itself"
        )


def _counted(frame: pd.DataFrame) -> tuple[Numbers, Numbers]:
    """Graded rows, and right ones among them, of each distinct confidence in ascending order."""
    parts = []
    for start in range(0, max(1, len(frame)), AT_ONCE):
        part = frame[["confidence", "cheap_correct"]].iloc[start : start + AT_ONCE].dropna().astype("float64")
        cell, value = pd.factorize(part["confidence"].to_numpy())
        right = np.bincount(cell, part["cheap_correct"].to_numpy(), len(value))
        parts.append(pd.DataFrame({"value": value, "rows": np.bincount(cell, minlength=len(value)), "right": right}))
    found = pd.concat(parts).groupby("value", sort=True)[["rows", "right"]].sum()
    return found["rows"].to_numpy(np.float64), found["right"].to_numpy(np.float64)


def _placed(frame: pd.DataFrame, split: Split, places: list[str]) -> pd.DataFrame:
    if "group" in frame:
        frame["group"] = [
            e if _blank(g, label=True) else _text(g, "group", p)
            for g, e, p in zip(frame["group"], frame["example_id"], places, strict=True)
        ]
    if "segment" in frame:
        frame["segment"] = [
            None if _blank(v, label=True) else _text(v, "segment", p)
            for v, p in zip(frame["segment"], places, strict=True)
        ]
    for value, place in zip(frame.get("split", ()), places, strict=False):
        if value not in SPLITS:
            raise DataError(f"{place}: split is {value!r}; it must be {', '.join(SPLITS)}, or the column left out")
    return _grouped(frame, split, places[0].split(",")[0].rsplit(":", 1)[0])


def _grouped(frame: pd.DataFrame, split: Split, where: str) -> pd.DataFrame:
    """Rows with group, split and the statuses that follow from what is known of them."""
    alone = "group" not in frame
    if "group" not in frame:
        frame["group"] = frame["example_id"]
    if "split" not in frame:
        part = (
            np.zeros(len(frame), dtype=np.int8)
            if split.certify == 1
            else [PARTS.index(split_of(g, split)) for g in frame["group"]]
        )
        frame["split"] = pd.Categorical.from_codes(np.asarray(part, dtype=np.int8), categories=pd.Index(PARTS))
    across = pd.Series(dtype=np.int64) if alone else frame.groupby("group")["split"].nunique()
    if (across > 1).any():
        raise DataError(
            f"{where}: group {across.idxmax()!r} lies in more than one split; rows of a group belong together"
        )
    for role in ROLES:
        if f"{role}_status" not in frame:
            known = frame.get(f"{role}_correct", pd.Series([None] * len(frame))).notna()
            answered = frame[f"{role}_answer"].map(lambda v: not _blank(v)) if f"{role}_answer" in frame else known
            came = (known | answered).to_numpy(dtype=bool)
            frame[f"{role}_status"] = pd.Categorical.from_codes(
                np.where(came, 0, -1).astype(np.int8), categories=pd.Index(["ok"])
            )
    if (
        "strong_wanted" not in frame
    ):  # a row without a strong answer was not asked about, so no figure blames a model for it
        frame["strong_wanted"] = frame["strong_status"].notna()
    return frame
