"""promptfoo: the JSON of `promptfoo eval --output results.json`, which may hold several providers' answers to the same tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.collect.imports.answer import Answer, json_file, probability, truth
from pipeline.errors import DataError


def read(path: Path, labels: Sequence[str] | None) -> list[Answer]:
    """The answers of all providers; the id is the test's number (with the prompt's, where there are several)."""
    value = json_file(path)
    outer = value.get("results")
    results = outer.get("results") if isinstance(outer, dict) else outer
    if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise DataError(f"{path}: no results.results; write it with `promptfoo eval --output results.json`")
    prompts = list(dict.fromkeys(_prompt(r) for r in results))
    several = len(prompts) > 1
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
                f"{test}/{prompts.index(_prompt(result))}" if several else str(test),
                str(name or ""),
                output.strip() if isinstance(output, str) else None,
                probability(response.get("logProbs")),
                truth(result.get("success"))
                if output is not None
                else None,  # a call that failed is not a wrong answer
                None,
                str(test) if several else None,
                float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) and cost > 0 else None,
            )
        )
    return out


def _prompt(result: Mapping[str, Any]) -> str:
    """Which prompt a result is of. `promptIdx` does not tell: it counts the pairs of a prompt and a provider."""
    prompt = result.get("prompt")
    label = prompt.get("label") if isinstance(prompt, dict) else None
    return str(label or result.get("promptId") or "")
