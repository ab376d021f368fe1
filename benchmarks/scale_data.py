"""Invented rows, recorded replies and tables of predictions of any size, for bench_scale.py: a seed decides every value."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

LABELS = ("billing", "shipping", "returns", "other")
CHUNK = 10_000
"""Rows drawn at once; part of the seed's meaning."""

CONFIG = """
task: scale
kind: classify
description: Sort tickets.
dataset: {path: rows.jsonl, id: id, label: label}
labels: [billing, shipping, returns, other]
prompt: {system: "Answer with one label.", user: "{text}"}
provider: recorded
cheap: {model: cheap, top_logprobs: 5, params: {temperature: 0, max_tokens: 4}, replies: cheap.jsonl, usd_per_million_tokens: {input: 0.1, output: 0.1, as_of: 2026-11-22, source: invented}}
strong: {model: strong, params: {temperature: 0, max_tokens: 4}, replies: strong.jsonl, usd_per_million_tokens: {input: 2, output: 8, as_of: 2026-11-22, source: invented}}
signal: label_probability
target: {kind: match_strong, within: 0.02, certainty: 0.9}
"""

TABLE_CONFIG = """
task: scale_table
kind: classify
description: Sort tickets.
target: {kind: match_strong, within: 0.02, certainty: 0.9}
"""


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence of the cheap answer, rounded as a 16-bit logprob is, and whether each model is right; n of each."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(2.2, 1.8, n)
    p = 1 / (1 + np.exp(-logit))
    cheap = rng.random(n) < p
    strong = np.where(rng.random(n) < 0.5, rng.random(n) < 0.93, cheap | (rng.random(n) < 0.85))
    return p, cheap, strong


def write_replies(folder: Path, n: int, seed: int = 7) -> Path:
    """rows.jsonl, cheap.jsonl, strong.jsonl and the config that reads them; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / "rows.jsonl").open("w") as rows,
        (folder / "cheap.jsonl").open("w") as cheap_file,
        (folder / "strong.jsonl").open("w") as strong_file,
    ):
        for start in range(0, n, CHUNK):
            count = min(CHUNK, n - start)
            p, cheap, strong = drawn(count, seed + start)
            rng = np.random.default_rng([seed, start])
            label = rng.integers(0, 4, count)
            wrong = (label[:, None] + rng.integers(1, 4, (count, 2))) % 4
            tails = rng.dirichlet(np.ones(4), count)
            for i in range(count):
                name = f"r{start + i}"
                said = LABELS[label[i] if cheap[i] else wrong[i, 0]]
                text = (
                    f"Ticket {start + i}: the usual words of a short message about an order {int(rng.integers(10**6))}"
                )
                rows.write(json.dumps({"id": name, "text": text, "label": LABELS[label[i]]}) + "\n")
                cheap_file.write(json.dumps(_line(name, _cheap(said, float(p[i]), tails[i]))) + "\n")
                answer = LABELS[label[i] if strong[i] else wrong[i, 1]]
                strong_file.write(json.dumps(_line(name, _body("strong", _choice(answer)))) + "\n")
    path = folder / "scale.yaml"
    path.write_text(CONFIG)
    return path


def _line(name: str, body: dict[str, object]) -> dict[str, object]:
    return {"custom_id": name, "response": {"status_code": 200, "body": body}}


def _choice(answer: str) -> dict[str, object]:
    return {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer, "tool_calls": []}}


def _body(model: str, choice: dict[str, object]) -> dict[str, object]:
    usage = {"prompt_tokens": 120, "completion_tokens": 1, "total_tokens": 121}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


def _cheap(said: str, p: float, tail: np.ndarray) -> dict[str, object]:
    """A reply of one token: its probability on top, the rest shared by the other labels and a word that is none."""
    others = [label for label in LABELS if label != said] + ["The"]
    shares = [p, *(float(t) * (1 - p) * 0.99 for t in tail)]
    top = [
        {"token": token, "logprob": float(np.float16(np.log(max(share, 1e-6)))), "bytes": list(token.encode())}
        for token, share in zip([said, *others], shares, strict=True)
    ]
    top[1:] = sorted(top[1:], key=lambda one: -float(str(one["logprob"])))
    return _body("cheap", {**_choice(said), "logprobs": {"content": [{**top[0], "top_logprobs": top}]}})


def write_predictions(folder: Path, n: int, seed: int = 7) -> Path:
    """table.parquet with n rows of predictions, and a config; the table's path."""
    folder.mkdir(parents=True, exist_ok=True)
    p, cheap, strong = drawn(n, seed)
    frame = pd.DataFrame(
        {
            "example_id": [f"r{i}" for i in range(n)],
            "confidence": np.exp(np.float16(np.log(p)).astype(float)).clip(0, 1),
            "cheap_correct": cheap,
            "strong_correct": strong,
            "cheap_usd": 1.2e-5,
            "strong_usd": 2.5e-4,
        }
    )
    frame.to_parquet(folder / "table.parquet", row_group_size=1 << 17)
    (folder / "scale_table.yaml").write_text(TABLE_CONFIG)
    return folder / "table.parquet"
