"""lm-evaluation-harness: the samples file of --log_samples, one JSON object a document.

A multiple-choice document carries the log-likelihood of each choice: the confidence is the most likely choice's share of
their probabilities. A generated answer comes without logprobs, so it has no confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum
from pathlib import Path
from typing import Any

from pipeline.collect.imports.answer import Answer, json_lines, truth
from pipeline.errors import DataError

METRICS = ("acc", "exact_match", "acc_norm", "em")


def read(path: Path, labels: Sequence[str] | None) -> list[Answer]:
    """The answers of a samples file. A choice is named as `target` names it: by its text, or by its place from 0.

    Raises DataError for a file that holds the answers of several filters: each grades the same document again.
    """
    out = []
    filters: dict[str, None] = {}
    for number, line in json_lines(path):
        if "doc_id" not in line or "filtered_resps" not in line:
            raise DataError(
                f"{path}:{number}: no doc_id and filtered_resps; this is not a samples file of --log_samples"
            )
        filters[str(line.get("filter", "none"))] = None
        if len(filters) > 1:
            kept = next(iter(filters))
            raise DataError(
                f"{path}:{number}: answers of the filters {', '.join(map(repr, filters))}, one line of a document for each; keep those "
                f'of one: grep \'"filter": "{kept}"\' {path}'
            )
        likelihoods = _likelihoods(line["filtered_resps"])
        correct = next((truth(line[name]) for name in METRICS if name in line), None)
        target = line.get("target")
        label = str(target) if isinstance(target, str | int) else None
        if likelihoods is None:
            text = (
                line["filtered_resps"][0]
                if isinstance(line["filtered_resps"], list) and line["filtered_resps"]
                else None
            )
            if isinstance(text, list) and len(text) == 1:
                text = text[0]
            out.append(Answer(str(line["doc_id"]), "", text if isinstance(text, str) else None, None, correct, label))
            continue
        best = max(range(len(likelihoods)), key=lambda i: likelihoods[i])
        share = 1 / fsum(exp(v - likelihoods[best]) for v in likelihoods)
        choices = _choices(line, len(likelihoods))
        by_text = choices is not None and isinstance(target, str) and target in choices  # a number is always a place
        named = choices[best] if choices is not None and by_text else str(best)
        if correct is None and label is not None:
            correct = label == named
        out.append(Answer(str(line["doc_id"]), "", named, share, correct, label))
    return out


def _likelihoods(found: Any) -> list[float] | None:
    """Log-likelihoods of the choices: [[-1.2, false], ...], numbers as text in some versions; None for generated text."""
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(r, list | tuple) and r for r in found):
        return None
    try:
        return [float(r[0]) for r in found]
    except (TypeError, ValueError):
        return None


def _choices(line: dict[str, Any], count: int) -> list[str] | None:
    """The texts of the choices, which the log keeps as what was to be continued with; None where it does not.

    Today's logs name each request and its parts, older ones list [context, continuation].
    """
    asked = line.get("arguments")
    if isinstance(asked, dict):
        named = [asked.get(f"gen_args_{i}") for i in range(count)]
        found = [a.get("arg_1") if isinstance(a, dict) else None for a in named]
    elif isinstance(asked, list) and len(asked) == count:
        found = [a[1] if isinstance(a, list) and len(a) == 2 else None for a in asked]
    else:
        return None
    texts = [text.strip() for text in found if isinstance(text, str)]
    return texts if len(texts) == count else None
