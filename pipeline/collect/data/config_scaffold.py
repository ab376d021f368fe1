"""Proposal: a commented config for somebody's own table, with what to check before trusting it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_threshold.label_text import NO_NAMES, YES_NAMES
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
SEGMENT_NAMES = ("segment", "language", "lang", "source", "channel", "region", "style", "country")
QUERY_NAMES = ("query", "question", "search")
PASSAGE_NAMES = ("passage", "document", "doc", "text", "content", "snippet", "context", "answer_text")


@dataclass(frozen=True)
class Column:
    """What a column holds."""

    name: str
    blank: int
    distinct: Counter[str]
    is_list: bool
    length: float
    """Mean characters."""

    @property
    def rows(self) -> int:
        """Rows of the table, blank ones included."""
        return self.blank + sum(self.distinct.values())

    @property
    def unique(self) -> bool:
        """Whether every row has a value of its own."""
        return self.blank == 0 and len(self.distinct) == self.rows


@dataclass(frozen=True)
class Proposal:
    """The config's text, and what a person should check."""

    text: str
    checks: list[str]


def propose(name: str, source: str, config_folder: Path) -> Proposal:
    """Look at a labeled table and propose a config for it, whose dataset path is relative to `config_folder`.

    Raises UsageError for a name that is none, DataError when the table has no closed set of answers.
    """
    if not re.fullmatch(r"[a-z0-9_]{1,64}", name):
        raise UsageError(f"{name!r}: a task's name is made of a-z, 0-9 and _ only")
    columns = _columns(TableFile(source))
    rows = columns[0].rows
    roles = _roles(columns)
    if "label" not in roles:
        shown = "; ".join(f"{c.name}: {len(c.distinct)} distinct values" for c in columns[:8])
        raise DataError(
            f"{source}: no column looks like a label with a closed set of answers ({shown}). A label column has at most {MOST_LABELS} "
            f"distinct values and is named for example {', '.join(LABEL_NAMES[:5])}. Open-ended generation has no answer set to calibrate"
        )
    path = (
        source if "://" in source else Path(os.path.relpath(Path(source).resolve(), config_folder.resolve())).as_posix()
    )
    return Proposal(_config(name, path, columns, roles), _checks(rows, columns, roles))


def _columns(table: TableFile) -> list[Column]:
    seen: dict[str, list[Any]] = {}
    count = 0
    for _, row in table.rows():
        for column, value in row.items():
            seen.setdefault(column, [None] * count).append(value)
        count += 1
        for values in seen.values():
            values.extend([None] * (count - len(values)))
    if not count:
        raise DataError(f"{table.path}: no rows; a proposal needs labeled rows")
    return [_column(name, values) for name, values in seen.items()]


def _column(name: str, values: list[Any]) -> Column:
    lists = [v for v in values if isinstance(v, list) or (isinstance(v, str) and v.startswith("[") and _list(v))]
    texts = [
        v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values if v is not None and v != ""
    ]
    mean = sum(map(len, texts)) / len(texts) if texts else 0.0
    return Column(name, len(values) - len(texts), Counter(texts), len(lists) > 0.9 * len(values), mean)


def _list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


def _named(columns: list[Column], names: tuple[str, ...], taken: set[str]) -> Column | None:
    found = [c for c in columns if c.name.casefold() in names and c.name not in taken]
    return min(found, key=lambda c: names.index(c.name.casefold()), default=None)


def _roles(columns: list[Column]) -> dict[str, Any]:
    """Which column plays which part; the longest remaining text columns are the prompt's."""
    roles: dict[str, Any] = {}
    taken: set[str] = set()

    def take(role: str, column: Column | None) -> None:
        if column is not None:
            roles[role] = column
            taken.add(column.name)

    take("options", next((c for c in columns if c.is_list), None))
    few = [
        c
        for c in columns
        if c.name not in taken and 2 <= len(c.distinct) <= min(MOST_LABELS, max(2, c.rows // 3)) and c.length < 60
    ]
    letters = (
        [c for c in columns if c.name.casefold() in LABEL_NAMES and c.name not in taken] if "options" in roles else []
    )
    take("label", _named(few, LABEL_NAMES, taken) or (letters[0] if letters else None) or (few[-1] if few else None))
    identity = _named(columns, ID_NAMES, taken)
    take("id", identity if identity is not None and identity.unique else None)
    take("group", _named(columns, GROUP_NAMES, taken))
    segment = _named(columns, SEGMENT_NAMES, taken)
    take("segment", segment if segment is not None and len(segment.distinct) <= 30 else None)
    texts = [c for c in columns if c.name not in taken and not c.is_list and c.length >= 3]
    query, passage = _named(texts, QUERY_NAMES, taken), _named(texts, PASSAGE_NAMES, taken)
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


def _config(name: str, path: str, columns: list[Column], roles: dict[str, Any]) -> str:
    quote = json.dumps
    longest = max((len(v.encode()) for v in roles["label"].distinct), default=0) if roles["kind"] == "classify" else 0
    params = f"{{temperature: 0, max_tokens: {max(8, longest // 3 + 4)}, reasoning: {{enabled: false}}}}"
    kind, texts = roles["kind"], roles["texts"]
    labels = sorted(roles["label"].distinct, key=lambda v: -roles["label"].distinct[v])
    lines = [
        f"# Proposed from {Path(path).name}. Check every line marked CHECK, then: python -m pipeline estimate {name}",
        f"task: {name}",
        f"kind: {kind}" + {"classify": "                     # one of a fixed set of labels", "choose": "                       # options differ per row",
                            "judge": "                        # does the passage answer the query, yes or no"}[kind],
        "description: CHECK say in one sentence what is decided",
        "dataset:",
        f"  path: {quote(path, ensure_ascii=False)}",
        *[f"  {role}: {quote(roles[role].name, ensure_ascii=False)}" for role in ("id", "label", "options", "group", "segment") if role in roles],
    ]  # fmt: skip
    if "group" not in roles:
        lines.append(
            "  # group: column        # rows of one user or thread belong together; the promise is then about groups"
        )
    lines.append("  split: {fit: 0.3, certify: 0.5, test: 0.2}   # certify decides how tight a promise can be")
    if kind == "classify":
        lines.append(
            f"labels: [{', '.join(quote(v, ensure_ascii=False) for v in labels)}]   # CHECK spelled as the model is to answer"
        )
    asks = {
        "classify": f"Answer with exactly one of these labels: {', '.join(labels)}.",
        "choose": "Choose the best option. Answer with its letter.",
        "judge": "Does the passage answer the query? Answer yes or no.",
    }[kind]
    shown = [
        f"{{{c.name}}}" if len(texts) == 1 else f"{c.name[:1].upper() + c.name[1:].replace('_', ' ')}: {{{c.name}}}"
        for c in texts
    ]
    if kind == "choose":
        shown.append(f"{{{roles['options'].name}}}")
    user = "\n\n".join(shown)
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
        "  splits: [certify, test]          # fit rows need no strong answer",
        "target: {kind: match_strong, within: 0.02, certainty: 0.9}   # at most 2 points worse than the strong model",
    ]
    return "\n".join(lines) + "\n"


def _checks(rows: int, columns: list[Column], roles: dict[str, Any]) -> list[str]:
    label = roles["label"]
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
    if label.blank:
        said.append(f"{label.blank:,} rows have a blank label: label them or leave them out, a run refuses them")
    rare = [v for v, n in label.distinct.items() if n < 20]
    if rare and roles["kind"] == "classify":
        said.append(f"{len(rare)} labels have fewer than 20 rows: nothing can be said about them one by one")
    copies = sum(n - 1 for c in roles["texts"][-1:] for n in c.distinct.values())
    if copies:
        said.append(f"{copies:,} texts occur more than once; copies stay in one split and count once for the promise")
    if "group" not in roles:
        said.append(
            "no group column: if several rows come from one user or thread, name it under dataset.group, or the promise is too optimistic"
        )
    if unused:
        said.append(f"not used: {', '.join(unused)}")
    certify = int(rows * 0.5)
    said.append(
        f"about {certify:,} rows will certify; within 0.02 at 90 % certainty needs at least 115 of them, and in practice about a thousand"
        if certify < 1000
        else f"about {certify:,} rows will certify"
    )
    return said
