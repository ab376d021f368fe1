"""Inputs after public bug reports that cost somebody money or a job: each through the real command, with its right value."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main

PRICES = "{{input: {}, output: {}, as_of: 2026-11-01, source: test}}"


def written(
    folder: Path,
    *,
    provider: str,
    rows: int = 400,
    labels: Sequence[str] = ("positive", "negative"),
    cheap: str = PRICES.format(0.2, 0.4),
    strong: str = PRICES.format(2.0, 4.0),
    target: str = "{kind: match_strong, within: 0.05, certainty: 0.9}",
    text: Callable[[int], str] = "message number {}".format,
    more: str = "",
) -> Path:
    """A config and its rows, whose labels are those that `answers` mostly gives."""
    rng = random.Random(7)
    lines = [{"id": f"r{i}", "text": text(i), "label": labels[rng.random() < 0.5]} for i in range(rows)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    config = folder / "c.yaml"
    config.write_text(
        "task: t\nkind: classify\ndataset: {path: rows.jsonl, id: id, label: label}\n"
        f"labels: {json.dumps(list(labels))}\nprompt: {{system: Answer with a label., user: '{{text}}'}}\nprovider: {provider}\n"
        f"cheap: {{model: m, usd_per_million_tokens: {cheap}, top_logprobs: 5, params: {{temperature: 0, max_tokens: 8}}, replies: cheap.jsonl}}\n"
        f"strong: {{model: S, usd_per_million_tokens: {strong}, params: {{temperature: 0, max_tokens: 8}}, replies: strong.jsonl}}\n"
        f"target: {target}\n{more}"
    )
    return config


def answers(folder: Path, role: str, right: float, usage: dict[str, Any]) -> None:
    """A file of recorded replies that are right this often."""
    rng = random.Random(role)
    with (folder / f"{role}.jsonl").open("w") as out:
        for line in (folder / "rows.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            other = "negative" if row["label"] == "positive" else "positive"
            text, p = (row["label"] if rng.random() < right else other), rng.uniform(0.55, 0.999)
            top = [{"token": t, "bytes": list(t.encode()), "logprob": q} for t, q in ((text, -1 + p), (other, -3.0))]
            choice: dict[str, Any] = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
            if role == "cheap":
                choice["logprobs"] = {"content": [top[0] | {"top_logprobs": top}]}
            body = {"model": "m" if role == "cheap" else "S", "choices": [choice], "usage": usage}
            out.write(json.dumps({"custom_id": row["id"], "response": {"status_code": 200, "body": body}}) + "\n")


def run(folder: Path, *arguments: str) -> int:
    return main([*arguments, "--runs-dir", str(folder / "runs"), "--reports-dir", str(folder / "reports"), "--quiet"])


def artefact(folder: Path, name: str) -> Any:
    (path,) = (folder / "runs").rglob(name)
    return json.loads(path.read_text("utf-8"))


def test_case_06_tokens_beyond_prompt_and_completion_are_billed_as_output(tmp_path: Path) -> None:
    config = written(tmp_path, provider="recorded")
    answers(tmp_path, "cheap", 0.95, {"prompt_tokens": 50, "completion_tokens": 1, "total_tokens": 51})
    apart = {"prompt_tokens": 50, "completion_tokens": 1, "total_tokens": 851}
    answers(tmp_path, "strong", 0.97, apart | {"completion_tokens_details": {"reasoning_tokens": 800}})
    assert run(tmp_path, "evaluate", str(config)) == 0
    found = artefact(tmp_path, "recommendation.json")
    assert found["expected"]["strong_usd_per_1000"]["value"] == pytest.approx(1000 * (50 * 2 + 801 * 4) / 1e6)


def test_cached_prompts_are_priced_and_the_cost_without_caching_stands_beside_it(tmp_path: Path) -> None:
    config = written(
        tmp_path, provider="recorded", strong="{input: 2, cached_input: 0.2, output: 4, as_of: 2026-11-01, source: x}"
    )
    answers(tmp_path, "cheap", 0.95, {"prompt_tokens": 1600, "completion_tokens": 1})
    prefix = {"prompt_tokens": 1600, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1500}}
    answers(tmp_path, "strong", 0.97, prefix)
    assert run(tmp_path, "evaluate", str(config)) == 0
    found, policy = artefact(tmp_path, "recommendation.json"), artefact(tmp_path, "policy.json")
    measured, uncached = 1000 * (100 * 2 + 1500 * 0.2 + 4) / 1e6, 1000 * (1600 * 2 + 4) / 1e6
    strong = found["caching"]["strong_usd_per_1000"]
    assert (strong["measured"], strong["uncached"]) == (pytest.approx(measured), pytest.approx(uncached))
    cascade, rate = found["caching"]["usd_per_1000"], found["expected"]["escalation_rate"]["value"]
    assert cascade["measured"] == found["expected"]["usd_per_1000"]["value"]
    assert cascade["uncached"] - cascade["measured"] == pytest.approx(rate * (uncached - measured))
    assert found["caching"]["cached_share"] == {"cheap": None, "strong": 1500 / 1600}
    assert policy["strong"]["usd_per_million_tokens"]["cached_input"] == 0.2
    assert policy["strong"]["cached_share"] == 1500 / 1600
