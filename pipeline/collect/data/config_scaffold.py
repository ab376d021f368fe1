"""ConfigScaffold: a commented config for a user's table, with what to check before trusting it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_threshold.label_text import fold
from pipeline.collect.data import predictions_config
from pipeline.collect.data.category_rows import (
    APPLIES,
    CATEGORY,
    GROUP,
    Told,
    category_rows,
    label_column,
    told_by_flags,
    told_by_lists,
)
from pipeline.collect.data.column_roles import (
    GROUP_NAMES,
    ID_NAMES,
    LABEL_NAMES,
    MOST_LABELS,
    chosen_from,
    flags_of,
    roles_of,
)
from pipeline.collect.data.table_columns import Column, column_of, columns_of, kept_out, named
from pipeline.collect.data.table_reader import TableFile, is_storable
from pipeline.config.prompt import AS_JSON
from pipeline.errors import DataError, UsageError

WITHIN = (0.02, 0.03, 0.05, 0.1, 0.2)
"""Losses against the strong model that a proposal may promise to stay within."""


@dataclass(frozen=True)
class Proposal:
    """The config's text, and what a person should check."""

    text: str
    checks: list[str]
    rows: bytes | None = None
    """Rows to be written to `rows_file`, where the table itself has another form than a task needs."""


def rows_file(name: str, config_folder: Path) -> Path:
    """Where rows go that a proposal makes of a table."""
    return config_folder.parent / "datasets" / f"{name}.jsonl"


def propose(
    name: str,
    source: str,
    config_folder: Path,
    *,
    fewest: Callable[[float], int],
    label: str | None = None,
    text: Sequence[str] = (),
) -> Proposal:
    """Look at a labeled table and propose a config for it, whose dataset path is relative to `config_folder`.

    `fewest(within)` says how many rows, or groups of them, a promise needs at least; the one proposed is such that it can be kept.
    `label` and `text` name the columns where they are not to be guessed. A table of predictions (a confidence, and whether
    the answer was right) gives a config with `predictions`.

    Raises UsageError for an invalid name, DataError when the table has no closed set of answers.
    """
    if not re.fullmatch(r"[a-z0-9_]{1,64}", name):
        raise UsageError(f"{name!r}: a task's name is made of a-z, 0-9 and _ only, at most 64 of them")
    path = _from(source, config_folder)
    if label is None and not text and (given := predictions_config.propose(name, source, path)) is not None:
        return Proposal(*given)
    every = columns_of(TableFile(source, delimiters=""))
    columns = [c for c in every if c.name and not c.name.startswith("Unnamed:")]
    _require_whole_characters(source, columns)
    for wanted in (label, *text):
        if wanted is not None and all(c.name != wanted for c in columns):
            raise DataError(f"{source}: no column {wanted!r}; columns here: {', '.join(repr(c.name) for c in columns)}")
    table = [row for _, row in TableFile(source, delimiters="").rows()]
    if (lists := label_column(table, label)) is not None and not chosen_from(columns, lists, label):
        said = f"column {lists!r} of {Path(path).name} holds lists"
        held = told_by_lists(table, lists)
        return _of_categories(name, config_folder, said, columns, table, [lists], held, text, fewest)
    if label is None and (flags := flags_of(columns, text)):
        shown = ", ".join(map(repr, flags[:6])) + (", ..." if len(flags) > 6 else "")
        said = f"columns {shown} of {Path(path).name} are yes or no (if one of them is the label, name it with --label)"
        held = told_by_flags(table, flags)
        return _of_categories(name, config_folder, said, columns, table, flags, held, text, fewest)
    rows = columns[0].rows
    roles = roles_of(columns, label, text)
    if "label" not in roles:
        shown = "; ".join(f"{c.name}: {len(c.distinct)} distinct values" for c in columns[:8])
        raise DataError(
            f"{source}: no column looks like a label with a closed set of answers ({shown}). A label column has at most {MOST_LABELS} "
            f"distinct values and is named for example {', '.join(LABEL_NAMES[:5])}. Open-ended generation has no answer set to calibrate"
        )
    if not roles["texts"]:
        raise DataError(
            f"{source}: no column looks like the text to classify (columns here: {', '.join(repr(c.name) for c in columns)}; numbers, ids, times "
            "and constants are kept out): name it with --text"
        )
    units = _units(rows, roles)
    within = _within(units, fewest)
    checks = [*_suspicions(columns), *_checks(rows, columns, roles), _promise(units, rows, within, fewest)]
    return Proposal(_config(name, path, columns, roles, within), checks)


def _require_whole_characters(source: str, columns: Sequence[Column]) -> None:
    """Raise DataError for a column's name or a value that may become a label and that no config can hold."""
    for column in columns:
        if not is_storable(column.name):
            raise DataError(
                f"{source}: the column's name {column.name!r} holds half a character (a lone surrogate); write the character itself"
            )
        half = next((v for v in column.distinct if not is_storable(v)), None)
        if half is not None and len(column.distinct) <= MOST_LABELS:
            table = TableFile(source, delimiters="")
            rows = ((table.where(number), str(row.get(column.name))) for number, row in table.rows())
            place = next((where for where, said in rows if not is_storable(said)), source)
            raise DataError(
                f"{place}: {column.name!r} is {half[:80]!r}, which holds half a character (a lone surrogate); write the character itself"
            )


def _from(source: str, config_folder: Path) -> str:
    """The table's path as the config says it."""
    if "://" in source:
        return source
    return Path(os.path.relpath(Path(source).resolve(), config_folder.resolve())).as_posix()


def _units(rows: int, roles: dict[str, Any]) -> int:
    """How many independent rows there are: groups, else rows without copies of one text."""
    if "group" in roles:
        return len(roles["group"].distinct) + int(roles["group"].blank)
    texts = roles["texts"]
    return len(texts[0].distinct) + int(texts[0].blank > 0) if len(texts) == 1 else rows


def _within(units: int, fewest: Callable[[float], int]) -> float:
    """The least usual loss that so many rows or groups could show to be kept; the usual one where none could."""
    return next((within for within in WITHIN if fewest(within) <= units), WITHIN[0])


def _promise(units: int, rows: int, within: float, fewest: Callable[[float], int]) -> str:
    what = "rows" if units == rows else "groups or different texts"
    said = f"all {rows:,} rows will certify" + ("" if units == rows else f", which are {units:,} {what}")
    if fewest(within) > units:
        return f"{said}: too few for any promise (within {WITHIN[-1]:g} needs {fewest(WITHIN[-1])} of them): label more before a run"
    if within > WITHIN[0]:
        said += f", too few for within {WITHIN[0]:g}, which needs at least {fewest(WITHIN[0])}: within {within:g} is proposed"
    elif rows >= 500 and units == rows:
        return said
    return f"{said}; within {within:g} at 90 % certainty needs at least {fewest(within)} of them, and in practice several times as many"


def _of_categories(
    name: str,
    config_folder: Path,
    said: str,
    columns: list[Column],
    table: list[dict[str, Any]],
    labels: Sequence[str],
    told: Sequence[Told | None],
    texts: Sequence[str],
    fewest: Callable[[float], int],
) -> Proposal:
    """One yes/no row per text and category, with the text as group; `said` is how the table tells the categories."""
    left = [c for c in columns if c.name not in labels]
    ids, group = named(left, ID_NAMES, set()), named(left, GROUP_NAMES, set())
    identity = ids.name if ids is not None and ids.unique else None
    of = None if group is None else group.name
    shown = list(texts) or _prose([c for c in left if c.name not in (identity, of)])
    if not shown:
        raise DataError(f"{said}, and no other column holds a text: name it with --text{_or_predictions(left, labels)}")
    made = category_rows(table, told, labels, identity=identity, group=of)
    rows = [column_of(column, [row.get(column) for row in made.rows]) for column in made.rows[0]]
    by_name = {c.name: c for c in rows}
    what = "\n\n".join(f"{{{c}}}" for c in shown)
    roles: dict[str, Any] = {
        "kind": "judge",
        "id": by_name["id"],
        "label": by_name[APPLIES],
        "group": by_name[GROUP],
        "segment": by_name[CATEGORY],
        "texts": [by_name[c] for c in (*shown, CATEGORY)],
        "asks": "Does the text fall under the category? Answer yes or no.",
        "user": f"Category: {{{CATEGORY}}}\n\n{what}",
    }
    path = Path(os.path.relpath(rows_file(name, config_folder).resolve(), config_folder.resolve())).as_posix()
    within = _within(made.groups, fewest)
    config = _config(name, path, rows, roles, within)
    common = ", ".join(f"{category!r} {n}" for category, n in made.counts.most_common(6))
    checks = [
        f"{said}: each of {made.texts:,} texts is asked about each of {len(made.categories)} categories ({common}), "
        f"{len(made.rows):,} yes/no rows with the text as group, written to {path}",
        f"the promise counts the {made.groups:,} groups of these",
        _promise(made.groups, len(made.rows), within, fewest),
    ]
    if made.blank:
        checks.append(
            f"{made.blank:,} rows say nothing of the categories and are left out; an empty list means that no category applies"
        )
    if rare := [category for category, n in made.counts.items() if n < 20]:
        checks.append(
            f"too few texts to say anything about the category one by one, fewer than 20: {', '.join(rare[:6])}"
        )
    return Proposal(config, checks, made.file())


def _prose(columns: list[Column]) -> list[str]:
    """The columns that hold texts, without those that are short beside the longest."""
    prose = [c for c in columns if not c.is_list and c.length >= 3 and not kept_out(c)]
    longest = max((c.length for c in prose), default=0)
    return [c.name for c in prose if c.length >= 0.05 * longest]


def _or_predictions(columns: Sequence[Column], flags: Sequence[str]) -> str:
    """What to write where a table may be one of predictions whose columns have names of their own."""
    confidence = next((c.name for c in columns if len(c.distinct) > 2 and all(map(_is_share, c.distinct))), None)
    if confidence is None:
        return ""
    columns_told = {
        "confidence": confidence,
        "cheap_correct": flags[0],
        **({"strong_correct": flags[1]} if len(flags) > 1 else {}),
    }
    told = ", ".join(f"{ours}: {json.dumps(theirs, ensure_ascii=False)}" for ours, theirs in columns_told.items())
    return f". If these are predictions that were graded, write a config with task, kind, target and predictions: {{path: ..., columns: {{{told}}}}}"


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _suspicions(columns: list[Column]) -> list[str]:
    """What looks like a file without a header: a column that is named like one of its own values."""
    values = [c.name for c in columns if c.name in c.distinct]
    if values or any(len(c.name) > 60 for c in columns):
        shown = values[0] if values else max((c.name for c in columns), key=len)[:40]
        return [
            f"the first line looks like a row, not a header ({shown!r} names a column): if so, put a line with the columns' names before it"
        ]
    return []


def _spellings(label: Column) -> dict[str, list[str]]:
    """The labels, the commonest first, each with the other spellings of it (white space at the ends, capitals)."""
    found: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    if all(
        re.fullmatch(r"\s*[+-]?\d+\.0+\s*", value) for value in label.distinct
    ):  # 5.0 is read as 5, and 5 is easier to say
        return {value.strip().split(".")[0]: [value] for value, _ in label.distinct.most_common()}
    for value, _ in label.distinct.most_common():
        first = shown.setdefault(fold(value.strip(), "casefold"), value.strip())
        found.setdefault(first, []).extend([value] if value.strip() != first else [])
    return found


def _placed(column: str) -> str:
    """The column in braces; one whose name ends like the mark of a JSON text is written as one."""
    return f"{{{column}{AS_JSON if column.endswith(AS_JSON) else ''}}}"


def _prompt(kind: str, labels: list[str], roles: dict[str, Any]) -> tuple[str, str]:
    """What the model is told, and what it is asked about each row."""
    asks = {
        "classify": f"Answer with exactly one of these labels: {', '.join(labels)}.",
        "choose": "Choose the best option. Answer with its letter.",
        "judge": "Does the passage answer the query? Answer yes or no.",
    }
    texts = roles["texts"]
    shown = [
        _placed(c.name)
        if len(texts) == 1
        else f"{c.name[:1].upper() + c.name[1:].replace('_', ' ')}: {_placed(c.name)}"
        for c in texts
    ]
    if kind == "choose":
        shown.append(f"{{{roles['options'].name}}}")
    return roles.get("asks") or asks[kind], roles.get("user") or "\n\n".join(shown)


def _config(name: str, path: str, columns: list[Column], roles: dict[str, Any], within: float) -> str:
    quote = json.dumps
    longest = max((len(v.encode()) for v in roles["label"].distinct), default=0) if roles["kind"] == "classify" else 0
    params = f"{{temperature: 0, max_tokens: {max(8, longest // 3 + 4)}, reasoning: {{enabled: false}}}}"
    kind = roles["kind"]
    labels = list(_spellings(roles["label"]))
    notes = {
        "classify": "one of a fixed set of labels",
        "choose": "options differ per row",
        "judge": "does the passage answer the query, yes or no",
    }
    if kind == "judge" and ("grades" in roles or "asks" in roles):
        notes["judge"] = (
            "how well the passage answers the query" if "grades" in roles else "does the category apply, yes or no"
        )
    columns_told = ("id", "label", "options", "group", "segment")
    lines = [
        f"# Proposed from {Path(path).name}. Check every line marked CHECK, then: python -m pipeline estimate {name}",
        f"task: {name}",
        f"{f'kind: {kind}':<35}# {notes[kind]}",
        "description: CHECK say in one sentence what is decided",
        "dataset:",
        f"  path: {quote(path, ensure_ascii=False)}",
        *[f"  {role}: {quote(roles[role].name, ensure_ascii=False)}" for role in columns_told if role in roles],
    ]
    if "group" not in roles:
        lines.append(
            "  # group: column        # rows of one user or thread belong together; the promise is then about groups"
        )
    lines.append("  split: pooled                      # all rows certify; {certify: 0.8, test: 0.2} holds a fifth out")
    if kind == "classify":
        lines.append(
            f"labels: [{', '.join(quote(v, ensure_ascii=False) for v in labels)}]   # CHECK spelled as the model is to answer"
        )
    if "grades" in roles:
        gains = ", ".join(f'"{grade}": {grade}' for grade in roles["grades"])
        lines.append(f"judge: {{grades: {{{gains}}}}}   # CHECK what each grade is worth; the largest means yes")
    asks, user = _prompt(kind, labels, roles)
    lines += [
        "prompt:                            # CHECK {column} is replaced by the row's text; double literal braces",
        f"  system: {quote(asks.replace('{', '{{').replace('}', '}}'), ensure_ascii=False)}",
        f"  user: {quote(user, ensure_ascii=False)}",
        "provider: together                 # costs money; `estimate` says how much and sends nothing",
        "cheap:                             # CHECK models and prices: `doctor` holds them against the API",
        "  model: Qwen/Qwen3.5-9B",
        '  usd_per_million_tokens: {input: 0.17, output: 0.25, as_of: 2026-11-22, source: "third-party price list, CHECK"}',
        "  top_logprobs: 5",
        f"  params: {params}",
        "strong:",
        "  model: deepseek-ai/DeepSeek-V4-Pro-0813",
        '  usd_per_million_tokens: {input: 1.32, output: 3.96, as_of: 2026-11-22, source: "third-party price list, CHECK"}',
        f"  params: {params}",
        f"target: {{kind: match_strong, within: {within:g}, certainty: 0.9}}   # at most {100 * within:g} points worse than the strong model",
    ]
    return "\n".join(lines) + "\n"


def _checks(rows: int, columns: list[Column], roles: dict[str, Any]) -> list[str]:
    label = roles["label"]
    spellings = _spellings(label)
    common = ", ".join(f"{v!r} {n}" for v, n in label.distinct.most_common(6))
    texts = ", ".join(c.name for c in roles["texts"]) or "none found: name the columns in prompt.user"
    unused = [
        c.name
        for c in columns
        if c.name not in {*(r.name for r in roles.values() if isinstance(r, Column)), *(c.name for c in roles["texts"])}
    ]
    said = [
        f"{rows:,} rows; kind {roles['kind']}; text from: {texts}",
        f"label column {label.name!r}: {len(label.distinct)} values ({common})",
    ]
    also = [f"{other!r} as {first!r}" for first, others in spellings.items() for other in others]
    if also and roles["kind"] == "classify":
        said.append(
            f"spellings that are read as one label: {', '.join(also[:6])}; list both under labels if they are two"
        )
    if label.blank:
        said.append(f"{label.blank:,} rows have a blank label: label them or leave them out, a run refuses them")
    counts = {
        first: sum(n for v, n in label.distinct.items() if v.strip() == first or v in others)
        for first, others in spellings.items()
    }
    rare = [v for v, n in counts.items() if n < 20]
    if rare and roles["kind"] == "classify":
        said.append(
            f"fewer than 20 rows have the label {', '.join(map(repr, rare[:6]))}: nothing can be said about these one by one"
        )
    repeated = [sum(n - 1 for n in c.distinct.values()) for c in roles["texts"]]
    copies = repeated[0] if len(repeated) == 1 else 0  # of several columns together a run counts them
    if copies:
        said.append(f"{copies:,} texts occur more than once; copies stay in one split and count once for the promise")
    if "group" not in roles:
        said.append(
            "no group column: if several rows come from one user or thread, name it under dataset.group, or the promise is too optimistic"
        )
    if unused:
        said.append(f"not used: {', '.join(unused)}")
    return said
