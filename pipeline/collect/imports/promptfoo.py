"""promptfoo: the JSON of `promptfoo eval --output results.json`, which may hold several providers' answers to the same tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.collect.imports.answer import Answer, json_file, probability, truth
from pipeline.errors import DataError


def read(path: Path, labels: Sequence[str] | None) -> list[Answer]:
    """The answers of all providers; the id is the test's number (with the prompt's, where there are several)."""
    value = json_file(path)
    outer = value.get("results")
    results = outer.get("results") if isinstance(outer, dict) else outer
    if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise DataError(f"{path}: no results.results; write it with `promptfoo eval --output results.json`")
    several = len({str(r.get("promptIdx", 0)) for r in results}) > 1
    out = []
    for place, result in enumerate(results):
        test = result.get("testIdx", place)
        provider = result.get("provider")
        name = provider.get("label") or provider.get("id") if isinstance(provider, dict) else provider
        response = result.get("response")
        response = response if isinstance(response, dict) else {}
        output = response.get("output")
        cost = result.get("cost", response.get("cost"))
        out.append(
            Answer(
                f"{test}/{result.get('promptIdx', 0)}" if several else str(test),
                str(name or ""),
                output.strip() if isinstance(output, str) else None,
                probability(response.get("logProbs")),
                truth(result.get("success")),
                None,
                str(test) if several else None,
                float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) and cost > 0 else None,
            )
        )
    return out
