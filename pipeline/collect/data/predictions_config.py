"""PredictionsConfig: a config for a user's table of predictions, whose columns may have names of their own."""

from __future__ import annotations

import json

import numpy as np

from pipeline.collect.data.predictions_file import number, scale_of
from pipeline.collect.data.table_columns import Column, columns_of, named
from pipeline.collect.data.table_reader import TableFile

GIVEN_NAMES = {
    "confidence": (
        "score",
        "prob",
        "probability",
        "p",
        "conf",
        "cheap_confidence",
        "cheap_score",
        "cheap_probability",
        "cheap_prob",
    ),
    "cheap_correct": ("correct", "ok", "is_correct", "right", "cheap_ok", "cheap_right"),
    "cheap_answer": (
        "answer",
        "prediction",
        "predicted",
        "pred",
        "output",
        "cheap_prediction",
        "cheap_pred",
        "cheap_label",
    ),
    "label": ("gold", "target", "expected", "truth", "y"),
    "strong_correct": ("strong_ok", "strong_right"),
    "strong_answer": ("strong_prediction", "strong_pred", "strong_label"),
    "cheap_usd": (),
    "strong_usd": (),
    "example_id": ("id",),
    "group": (),
    "segment": (),
}
"""Names under which columns of a table of predictions go."""


def propose(name: str, source: str, path: str) -> tuple[str, list[str]] | None:
    """The config's text for a table of predictions, and what to check; None for any other table.

    `source`: the table; `path`: as the config says it. Fields may be separated as `--predictions` allows. Raises DataError for
    a table without rows, or a confidence that is not a number.
    """
    table = TableFile(source, delimiters=";\t|")
    columns = columns_of(table)
    given = _given([c for c in columns if c.name and not c.name.startswith("Unnamed:")])
    return None if given is None else _config(name, path, given, columns, table.delimiter == ";")


def _given(columns: list[Column]) -> dict[str, str] | None:
    """Our names of the columns of a table of predictions, and the table's own; None for any other table.

    An id that occurs several times is a group.
    """
    found: dict[str, str] = {}
    for ours, names in GIVEN_NAMES.items():
        column = named(columns, (ours, *names), set(found.values()))
        if column is not None:
            found[ours] = column.name
    identity = next((c for c in columns if c.name == found.get("example_id")), None)
    if identity is not None and identity.name != "example_id" and not identity.unique:
        del found["example_id"]
        found.setdefault("group", identity.name)
    graded = "cheap_correct" in found or {"cheap_answer", "label"} <= found.keys()
    return found if "confidence" in found and graded else None


def _config(
    name: str, path: str, given: dict[str, str], columns_here: list[Column], decimal_comma: bool
) -> tuple[str, list[str]]:
    rows = columns_here[0].rows
    told = next(c for c in columns_here if c.name == given["confidence"]).distinct.elements()
    scale = scale_of(np.array([number(v, "confidence", path, decimal_comma) for v in told]))
    renamed = {ours: theirs for ours, theirs in given.items() if ours != theirs}
    columns = ", ".join(f"{ours}: {json.dumps(theirs, ensure_ascii=False)}" for ours, theirs in renamed.items())
    strong = "strong_correct" in given or {"strong_answer", "label"} <= given.keys()
    target = "match_strong, within: 0.02" if strong else "accepted_accuracy, at_least: 0.95"
    text = (
        f"task: {name}\nkind: classify\n"
        f"predictions: {{path: {json.dumps(path, ensure_ascii=False)}"
        f"{'' if scale == 'probability' else f', confidence: {scale}'}{f', columns: {{{columns}}}' if columns else ''}}}\n"
        f"target: {{kind: {target}, certainty: 0.9}}   # CHECK\n"
    )
    checks = [f"{rows:,} rows of predictions; confidence from {given['confidence']!r}"]
    if scale != "probability":
        checks.append(f"the confidence looks like {'per cents' if scale == 'percent' else 'logprobs'} and is converted")
    return text, checks
