"""Kinds: files of other tools that become a table of predictions. One file and one line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cascade_threshold.answer_set import AnswerSet
from cascade_threshold.label_text import fold, label_text
from pipeline.collect.data.table_answers import known_set
from pipeline.collect.data.table_answers import label as read_label
from pipeline.collect.data.table_reader import TableFile, columns_shown
from pipeline.collect.imports import batch_output, decision_log, inspect_log, lm_eval, promptfoo
from pipeline.collect.imports.answer import MOST_LABELS, Answer
from pipeline.errors import DataError
from pipeline.run import csv_text
from pipeline.run.atomic import is_stdout
from pipeline.run.schemas import utf8

KINDS: dict[str, Callable[[Path, Sequence[str] | None], list[Answer]]] = {
    "batch": batch_output.read,
    "lm-eval": lm_eval.read,
    "inspect": inspect_log.read,
    "promptfoo": promptfoo.read,
    "decisions": decision_log.read,
}


@dataclass(frozen=True)
class Imported:
    """A table of predictions, with notes for the user."""

    frame: pd.DataFrame
    """example_id, confidence, cheap_answer, and where known cheap_correct, strong_answer, strong_correct, label, group, cheap_usd, strong_usd."""
    notes: tuple[str, ...]


def read(
    kind: str,
    path: Path,
    *,
    strong: Path | None = None,
    models: Sequence[str] = (),
    answers: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Imported:
    """The table of a file.

    `strong`: a second file with the strong model's answers to the same rows; `models`: the cheap and the strong model's
    name where one file holds several; `answers`: the closed set of answers; `labels`: right answers by id.
    Raises DataError for a file of another form, an unknown model, duplicate ids, rows without any confidence.
    """
    answers = answers or _closed(labels or {})
    found = KINDS[kind](path, answers)
    if not found:
        raise DataError(f"{path}: holds no rows")
    sides = _sides(path, found, models)
    if strong is not None:
        sides = [sides[0], KINDS[kind](strong, answers)]
    cheap = _by_id(path, sides[0])
    other = _by_id(strong or path, sides[1]) if len(sides) > 1 else {}
    if all(a.confidence is None for a in cheap.values()):
        raise DataError(f"{path}: no row carries a confidence: {_cause(cheap.values(), answers)}")
    frame = _table(cheap, other, labels or {})
    if frame.get("cheap_correct") is None and "strong_answer" not in frame and "strong_correct" not in frame:
        raise DataError(
            f"{path}: nothing tells whether an answer is right: give the right answers (--labels-from), or the strong model's (--strong)"
        )
    return Imported(frame, tuple(_notes(cheap, other, labels)))


def _cause(cheap: Iterable[Answer], answers: Sequence[str] | None) -> str:
    """Why no row carries a confidence, and the remedy."""
    texts = Counter(a.unread for a in cheap if a.unread is not None)
    if not texts:
        return (
            "the file holds no logprobs of the cheap model's answers. Ask for them (logprobs: true) and run it again; without them no "
            "threshold can be set"
        )
    seen = ", ".join(f"{text[:60]!r} {n:,} times" for text, n in texts.most_common(3))
    known = "" if answers is None else f" {', '.join(map(repr, answers[:10]))}"
    closed = f"none of the answers{known}" if answers is not None else "no closed set of answers"
    return f"{texts.total():,} replies with logprobs are {closed}: {seen}; name the answers as the model writes them with --answers A,B,C"


def _closed(labels: Mapping[str, str]) -> list[str] | None:
    """The right answers that were given as the closed set, where they can be one: replies are then read as replies are."""
    texts = sorted({label.strip() for label in labels.values()})
    return texts if 2 <= len(texts) <= MOST_LABELS and known_set(texts) is not None else None


def _sides(path: Path, found: list[Answer], models: Sequence[str]) -> list[list[Answer]]:
    names = list(dict.fromkeys(a.model for a in found))
    ids = Counter((a.example_id, a.model) for a in found)
    together = len({a.example_id for a in found}) == len(found) and max(ids.values()) == 1
    if models:
        unknown = [m for m in models if m not in names]
        if unknown:
            raise DataError(
                f"{path}: no answers of {unknown[0]!r}; this file has those of {', '.join(map(repr, names))}"
            )
        names = list(models)
    elif together:  # a single model, whatever name its replies carry
        return [found]
    elif len(names) > 2:
        raise DataError(
            f"{path}: answers of {len(names)} models: say which two with --models CHEAP,STRONG: {', '.join(map(repr, names))}"
        )
    return [[a for a in found if a.model == name] for name in names[:2]]


def _by_id(path: Path, side: list[Answer]) -> dict[str, Answer]:
    twice = [name for name, n in Counter(a.example_id for a in side).items() if n > 1]
    if twice:
        raise DataError(
            f"{path}: {len(twice)} ids occur more than once, for example {twice[0]!r}; keep one line of each"
        )
    return {a.example_id: a for a in side}


def _table(cheap: Mapping[str, Answer], strong: Mapping[str, Answer], labels: Mapping[str, str]) -> pd.DataFrame:
    rows = []
    told = {name: labels.get(name) or a.label or getattr(strong.get(name), "label", None) for name, a in cheap.items()}
    spelling = known_set(list(dict.fromkeys(label.strip() for label in told.values() if label is not None)))
    for name, a in cheap.items():
        s, label = strong.get(name), told[name]
        rows.append(
            {
                "example_id": utf8(name),
                "group": _text(a.group),
                "label": _text(label),
                "confidence": a.confidence,
                "cheap_answer": _text(a.answer),
                "cheap_correct": _graded(a, label, name in labels, spelling),
                "cheap_usd": a.usd,
                "strong_answer": _text(s.answer) if s else None,
                "strong_correct": _graded(s, label, name in labels, spelling)
                if s and (s.answer or s.correct is not None)
                else None,
                "strong_usd": s.usd if s else None,
            }
        )
    frame = pd.DataFrame(rows)
    for column in ("cheap_correct", "strong_correct"):
        frame[column] = frame[column].astype("boolean")
    return frame.drop(columns=[c for c in frame if frame[c].isna().all()])


def _text(text: str | None) -> str | None:
    return None if text is None else utf8(text)


def _graded(a: Answer, label: str | None, given: bool, spelling: AnswerSet | None) -> bool | None:
    """The tool's grade, unless right answers were given; None where nothing tells. Texts are compared as everywhere."""
    if a.correct is not None and not given:
        return a.correct
    if label is None or a.answer is None:
        return None if label is None else False
    if spelling is None:
        return fold(a.answer, "loose").strip() == fold(label, "loose").strip()
    said = read_label(a.answer, spelling)
    return said is not None and said == read_label(label, spelling)


def _notes(cheap: Mapping[str, Answer], strong: Mapping[str, Answer], labels: Mapping[str, str] | None) -> list[str]:
    said = [f"{len(cheap):,} rows"]
    blank = sum(a.confidence is None for a in cheap.values())
    if blank:
        said.append(f"{blank:,} without a confidence; they escalate")
    if strong:
        missing = len(cheap.keys() - strong.keys())
        if unread := sum(a.answer is None and a.correct is None for a in strong.values()):
            said.append(f"{unread:,} strong replies are no readable answer; they count as missing, against the promise")
        said.append(f"{len(strong):,} strong answers" + (f"; {missing:,} rows have none" if missing else ""))
        if extra := len(strong.keys() - cheap.keys()):
            said.append(f"{extra:,} strong answers belong to no row and are left out")
    if labels is not None and (unlabeled := len(cheap.keys() - labels.keys())):
        said.append(f"{unlabeled:,} rows have no label in the given file")
    return said


def labels_of(path: Path, id_column: str, label_column: str) -> dict[str, str]:
    """Right answers by id from a table. Raises DataError naming a column that is missing."""
    out: dict[str, str] = {}
    table = TableFile(str(path))
    for number, row in table.rows():
        for column in (id_column, label_column):
            if column not in row:
                raise DataError(
                    f"{table.where(number)}: no column {column!r} (--id, --label); columns here: {columns_shown(row)}"
                )
        if row[label_column] not in (None, ""):
            out[_value(row, id_column, table.where(number))] = _value(row, label_column, table.where(number))
    return out


def _value(row: Mapping[str, object], column: str, place: str) -> str:
    try:
        return label_text(row[column]) or ""
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: {column} is {str(row[column])[:80]}: {error}; write it as text") from None


def encoded(frame: pd.DataFrame, path: Path) -> bytes:
    """The table in the format that the file's name asks for, CSV for a device or a pipe. Raises DataError for another."""
    if path.suffix == ".parquet":
        return bytes(frame.to_parquet(None, index=False))
    if path.suffix == ".csv" or (path.exists() and not path.is_file()) or is_stdout(path):
        rows = frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)
        return csv_text.encoded(list(frame.columns), rows)
    if path.suffix == ".jsonl":
        return frame.to_json(None, orient="records", lines=True, force_ascii=False, double_precision=15).encode()
    raise DataError(f"{path}: a table can be written as .parquet, .csv or .jsonl; choose such a name")
