"""ConfigScaffold: a commented config for a user's table, with what to check before trusting it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_threshold.label_text import NO_NAMES, YES_NAMES, fold
from pipeline.collect.data.category_rows import APPLIES, CATEGORY, GROUP, category_rows, label_column
from pipeline.collect.data.table_columns import Column, column_of, columns_of, identifies, kept_out, named
from pipeline.collect.data.table_reader import TableFile
from pipeline.errors import DataError, UsageError

MOST_LABELS = 200
LABEL_NAMES = ("label", "category", "class", "target", "intent", "gold", "answer", "relevance", "folder", "y")
ID_NAMES = ("id", "example_id", "uid", "uuid", "key")
GROUP_NAMES = (
    "thread",
    "thread_id",
    "query_id",
    "user",
    "user_id",
    "session",
    "conversation",
    "conversation_id",
    "customer",
    "group",
    "author",
)
GIVEN_NAMES = {
    "confidence": ("score", "prob", "probability", "p", "conf", "cheap_confidence"),
    "cheap_correct": ("correct", "ok", "is_correct", "right"),
    "cheap_answer": ("answer", "prediction", "predicted", "pred", "output"),
    "label": ("gold", "target", "expected", "truth", "y"),
    "strong_correct": (), "strong_answer": (), "cheap_usd": (), "strong_usd": (), "example_id": ("id",), "group": (), "segment": (),
}  # fmt: skip
"""Names under which columns of a table of predictions go."""
SEGMENT_NAMES = ("segment", "language", "lang", "source", "channel", "region", "style", "country")
QUERY_NAMES = ("query", "question", "search")
PASSAGE_NAMES = ("passage", "document", "doc", "text", "content", "snippet", "context", "answer_text")


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
    name: str, source: str, config_folder: Path, *, label: str | None = None, text: Sequence[str] = ()
) -> Proposal:
    """Look at a labeled table and propose a config for it, whose dataset path is relative to `config_folder`.

    `label` and `text` name the columns where they are not to be guessed. A table of predictions (a confidence, and whether
    the answer was right) gives a config with `predictions`.

    Raises UsageError for an invalid name, DataError when the table has no closed set of answers.
    """
    if not re.fullmatch(r"[a-z0-9_]{1,64}", name):
        raise UsageError(f"{name!r}: a task's name is made of a-z, 0-9 and _ only")
    every = columns_of(TableFile(source, delimiters=""))
    columns = [c for c in every if c.name and not c.name.startswith("Unnamed:")]
    for wanted in (label, *text):
        if wanted is not None and all(c.name != wanted for c in columns):
            raise DataError(f"{source}: no column {wanted!r}; columns here: {', '.join(repr(c.name) for c in columns)}")
    path = (
        source if "://" in source else Path(os.path.relpath(Path(source).resolve(), config_folder.resolve())).as_posix()
    )
    if label is None and not text and (given := _given(columns)) is not None:
        return _given_config(name, path, given, columns[0].rows)
    table = [row for _, row in TableFile(source, delimiters="").rows()]
    if (lists := label_column(table, label)) is not None and not _chosen_from(columns, lists, label):
        return _of_categories(name, config_folder, Path(path).name, columns, table, lists, text)
    rows = columns[0].rows
    roles = _roles(columns, label, text)
    if "label" not in roles:
        shown = "; ".join(f"{c.name}: {len(c.distinct)} distinct values" for c in columns[:8])
        raise DataError(
            f"{source}: no column looks like a label with a closed set of answers ({shown}). A label column has at most {MOST_LABELS} "
            f"distinct values and is named for example {', '.join(LABEL_NAMES[:5])}. Open-ended generation has no answer set to calibrate"
        )
    return Proposal(_config(name, path, columns, roles), _suspicions(columns) + _checks(rows, columns, roles))


def _chosen_from(columns: list[Column], lists: str, label: str | None) -> bool:
    """Whether another column names one entry of each list, so that the list holds options."""
    if label is not None:
        return False
    others = [c for c in columns if c.name != lists and c.name.casefold() in LABEL_NAMES and not c.is_list]
    return bool(others)


def _of_categories(
    name: str,
    config_folder: Path,
    source: str,
    columns: list[Column],
    table: list[dict[str, Any]],
    lists: str,
    texts: Sequence[str],
) -> Proposal:
    """One yes/no row per text and category, with the text as group."""
    left = [c for c in columns if c.name != lists]
    identity, group = named(left, ID_NAMES, set()), named(left, GROUP_NAMES, set())
    identity = identity if identity is not None and identity.unique else None
    known = {c.name for c in (identity, group) if c is not None}
    prose = [c for c in left if c.name not in known and not c.is_list and c.length >= 3 and not kept_out(c)]
    longest = max((c.length for c in prose), default=0)
    shown = list(texts) or [c.name for c in prose if c.length >= 0.05 * longest]
    if not shown:
        raise DataError(
            f"column {lists!r} holds lists of labels, and no other column holds a text: name it with --text"
        )
    made = category_rows(
        table, lists, identity=None if identity is None else identity.name, group=None if group is None else group.name
    )
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
    config = _config(name, path, rows, roles)
    common = ", ".join(f"{category!r} {n}" for category, n in made.counts.most_common(6))
    checks = [
        f"column {lists!r} of {source} holds lists: each of {made.texts:,} texts is asked about each of {len(made.categories)} categories ({common}), "
        f"{len(made.rows):,} yes/no rows with the text as group, written to {path}",
        f"the promise counts {made.groups:,} groups of these",
    ]
    if made.blank:
        checks.append(
            f"{made.blank:,} rows hold no list and are left out; an empty list means that no category applies"
        )
    if rare := [category for category, n in made.counts.items() if n < 20]:
        checks.append(
            f"too few texts to say anything about the category one by one, fewer than 20: {', '.join(rare[:6])}"
        )
    return Proposal(config, checks, made.file())


def _worded(columns: list[Column]) -> Column | None:
    """The column one of whose name's words is that of a label ("Class Name", "airline-sentiment")."""
    words = {*LABEL_NAMES, "sentiment"} - {"y"}
    return next((c for c in columns if words & set(re.split(r"[\W_]+", c.name.casefold()))), None)


def _given(columns: list[Column]) -> dict[str, str] | None:
    """Our names of the columns of a table of predictions, and the table's own; None for any other table."""
    found: dict[str, str] = {}
    for ours, names in GIVEN_NAMES.items():
        column = named(columns, (ours, *names), set(found.values()))
        if column is not None:
            found[ours] = column.name
    graded = "cheap_correct" in found or {"cheap_answer", "label"} <= found.keys()
    return found if "confidence" in found and graded else None


def _given_config(name: str, path: str, given: dict[str, str], rows: int) -> Proposal:
    renamed = {ours: theirs for ours, theirs in given.items() if ours != theirs}
    columns = ", ".join(f"{ours}: {json.dumps(theirs, ensure_ascii=False)}" for ours, theirs in renamed.items())
    strong = "strong_correct" in given or {"strong_answer", "label"} <= given.keys()
    target = "match_strong, within: 0.02" if strong else "accepted_accuracy, at_least: 0.95"
    text = (
        f"task: {name}\nkind: classify\n"
        f"predictions: {{path: {json.dumps(path, ensure_ascii=False)}{f', columns: {{{columns}}}' if columns else ''}}}\n"
        f"target: {{kind: {target}, certainty: 0.9}}   # CHECK\n"
    )
    return Proposal(
        text,
        [f"{rows:,} rows of predictions; confidence from {given['confidence']!r}"],
    )


def _suspicions(columns: list[Column]) -> list[str]:
    """What looks like a file without a header: a column that is named like one of its own values."""
    values = [c.name for c in columns if c.name in c.distinct]
    if values or any(len(c.name) > 60 for c in columns):
        shown = values[0] if values else max((c.name for c in columns), key=len)[:40]
        return [
            f"the first line looks like a row, not a header ({shown!r} names a column): if so, put a line with the columns' names before it"
        ]
    return []


def _roles(columns: list[Column], named_label: str | None = None, named_texts: Sequence[str] = ()) -> dict[str, Any]:
    """Which column plays which part; the longest remaining text columns are the prompt's."""
    roles: dict[str, Any] = {}
    taken: set[str] = set()

    def take(role: str, column: Column | None) -> None:
        if column is not None:
            roles[role] = column
            taken.add(column.name)

    chosen = {c.name: c for c in columns}
    if named_label is not None:
        take("label", chosen[named_label])
    take("options", next((c for c in columns if c.is_list and c.name not in taken and c.name not in named_texts), None))
    few = [
        c
        for c in columns
        if c.name not in taken and 2 <= len(c.distinct) <= min(MOST_LABELS, max(2, c.rows // 3)) and c.length < 60
    ]
    letters = (
        [c for c in columns if c.name.casefold() in LABEL_NAMES and c.name not in taken] if "options" in roles else []
    )
    few = [c for c in few if c.name not in named_texts and len(c.distinct) > 1]
    if named_label is None:
        take(
            "label",
            named(few, LABEL_NAMES, taken)
            or _worded(few)
            or (letters[0] if letters else None)
            or (few[-1] if few else None),
        )
    identity = named(columns, ID_NAMES, taken)
    named_so = next((c for c in columns if c.name not in {*taken, *named_texts} and identifies(c)), None)
    take("id", identity if identity is not None and identity.unique else named_so)
    take("group", named(columns, GROUP_NAMES, taken))
    segment = named(columns, SEGMENT_NAMES, taken)
    take("segment", segment if segment is not None and len(segment.distinct) <= 30 else None)
    texts = [c for c in columns if c.name not in taken and not c.is_list and c.length >= 3 and not kept_out(c)]
    if named_texts:
        roles |= {
            "kind": "choose" if "options" in roles else "classify",
            "texts": [chosen[name] for name in named_texts],
        }
        return roles
    query, passage = named(texts, QUERY_NAMES, taken), named(texts, PASSAGE_NAMES, taken)
    label = roles.get("label")
    graded = label is not None and {v.strip('"').casefold() for v in label.distinct} <= YES_NAMES | NO_NAMES
    if query is not None and passage is not None and graded and "options" not in roles:
        roles |= {"kind": "judge", "texts": [query, passage]}
        roles.setdefault("group", query)  # passages of one query belong together
        return roles
    roles["kind"] = "choose" if "options" in roles else "classify"
    longest = max((c.length for c in texts), default=0)
    roles["texts"] = [c for c in texts if c.length >= 0.05 * longest or c.name.casefold() in ("subject", "title")]
    return roles


def _spellings(label: Column) -> dict[str, list[str]]:
    """The labels, the commonest first, each with the other spellings of it (white space at the ends, capitals)."""
    found: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for value, _ in label.distinct.most_common():
        first = shown.setdefault(fold(value.strip(), "casefold"), value.strip())
        found.setdefault(first, []).extend([value] if value.strip() != first else [])
    return found


def _config(name: str, path: str, columns: list[Column], roles: dict[str, Any]) -> str:
    quote = json.dumps
    longest = max((len(v.encode()) for v in roles["label"].distinct), default=0) if roles["kind"] == "classify" else 0
    params = f"{{temperature: 0, max_tokens: {max(8, longest // 3 + 4)}, reasoning: {{enabled: false}}}}"
    kind, texts = roles["kind"], roles["texts"]
    labels = list(_spellings(roles["label"]))
    lines = [
        f"# Proposed from {Path(path).name}. Check every line marked CHECK, then: python -m pipeline estimate {name}",
        f"task: {name}",
        f"kind: {kind}" + {"classify": "                     # one of a fixed set of labels", "choose": "                       # options differ per row",
                            "judge": "                        # " + ("does the category apply, yes or no" if "asks" in roles else "does the passage answer the query, yes or no")}[kind],
        "description: CHECK say in one sentence what is decided",
        "dataset:",
        f"  path: {quote(path, ensure_ascii=False)}",
        *[f"  {role}: {quote(roles[role].name, ensure_ascii=False)}" for role in ("id", "label", "options", "group", "segment") if role in roles],
    ]  # fmt: skip
    if "group" not in roles:
        lines.append(
            "  # group: column        # rows of one user or thread belong together; the promise is then about groups"
        )
    lines.append("  split: pooled                      # all rows certify; {certify: 0.8, test: 0.2} holds a fifth out")
    if kind == "classify":
        lines.append(
            f"labels: [{', '.join(quote(v, ensure_ascii=False) for v in labels)}]   # CHECK spelled as the model is to answer"
        )
    asks = (
        roles.get("asks")
        or {
            "classify": f"Answer with exactly one of these labels: {', '.join(labels)}.",
            "choose": "Choose the best option. Answer with its letter.",
            "judge": "Does the passage answer the query? Answer yes or no.",
        }[kind]
    )
    shown = [
        f"{{{c.name}}}" if len(texts) == 1 else f"{c.name[:1].upper() + c.name[1:].replace('_', ' ')}: {{{c.name}}}"
        for c in texts
    ]
    if kind == "choose":
        shown.append(f"{{{roles['options'].name}}}")
    user = roles.get("user") or "\n\n".join(shown)
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
        "target: {kind: match_strong, within: 0.02, certainty: 0.9}   # at most 2 points worse than the strong model",
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
        first: sum(n for v, n in label.distinct.items() if fold(v.strip(), "casefold") == fold(first, "casefold"))
        for first in spellings
    }
    rare = [v for v, n in counts.items() if n < 20]
    if rare and roles["kind"] == "classify":
        said.append(f"{len(rare)} labels have fewer than 20 rows: nothing can be said about them one by one")
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
    said.append(
        f"all {rows:,} rows will certify; within 0.02 at 90 % certainty needs at least 115 of them, and in practice about 500 or more"
        if rows < 500
        else f"all {rows:,} rows will certify"
    )
    return said
