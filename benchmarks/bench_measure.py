"""Replies per second on one core, from raw JSON to signals and to tokens.parquet, compared with plain json and pandas in the same run.

    python benchmarks/bench_measure.py [replies]

Bodies are invented: one-token labels, five alternatives, values rounded as 16-bit logits are. Only the ratios mean anything
elsewhere; the machine's own speed is shown by what json.loads alone takes. From the store, replies are found by their keys,
checked and unpacked; with "keys", as `collect` and `measure` do it, requests are built and digested anew and replies.parquet
or the predictions are made too. The goals are 20,000 replies/s from the store to tokens.parquet, 100,000 from tokens to signals. Ids that
count up cost next to nothing, those of the store are 32 random bytes a reply, which a reply of one token cannot share.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from figure import Figure

from cascade_threshold.answers import AnswerSet
from cascade_threshold.completion import parse
from cascade_threshold.signals import measure, token_rows
from pipeline.collect.providers.provider import Attempt
from pipeline.collect.sending.response_class import judge
from pipeline.collect.store.response_store import ResponseStore, ending, opening
from pipeline.collect.task_input import TaskInput
from pipeline.config.options import Options
from pipeline.config.yaml_file import load
from pipeline.engine import reading
from pipeline.run import schemas

LABELS = ["work", "spam", "personal", "other"]
SPELLINGS = [
    " work",
    "Work",
    "spam",
    " Spam",
    "personal",
    " Personal",
    "other",
    "work",
    "The",
    "\n",
    "Label",
    "oth",
    "per",
]


def body(number: int) -> str:
    draw = random.Random(number)
    answer = draw.choice(LABELS)
    others = draw.sample([spelling for spelling in SPELLINGS if spelling != answer], 4)
    logits = np.sort([draw.gauss(0, 4) for _ in range(5)])[::-1]
    logprobs = np.float16(logits - np.log(np.exp(logits).sum() * 1.01))
    top = [
        {"token": token, "logprob": float(logprob), "bytes": list(token.encode())}
        for token, logprob in zip([answer, *others], logprobs, strict=True)
    ]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": answer, "tool_calls": []},
        "logprobs": {"content": [{**top[0], "top_logprobs": top}]},
    }
    usage = {"prompt_tokens": 200, "completion_tokens": 1, "total_tokens": 201}
    return json.dumps(
        {
            "id": f"r{number}",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
    )


def with_pandas(bodies: list[str]) -> pd.DataFrame:
    """What a notebook would do: a frame of alternatives, grouped by reply."""
    rows = []
    for number, text in enumerate(bodies):
        choice = json.loads(text)["choices"][0]
        first = choice["logprobs"]["content"][0]
        for other in first["top_logprobs"]:
            rows.append({"reply": number, "text": choice["message"]["content"], "chosen": first["logprob"], **other})
    frame = pd.DataFrame(rows)
    frame["p"] = np.exp(frame["logprob"])
    frame["token"] = frame["token"].str.strip().str.casefold()
    frame["label"] = frame["token"].map(lambda token: next((y for y in LABELS if token and y.startswith(token)), None))
    frame["plogp"] = frame["p"] * frame["logprob"]
    by_reply = frame.groupby("reply")
    out = by_reply.agg(text=("text", "first"), chosen=("chosen", "first"), seen=("p", "sum"), plogp=("plogp", "sum"))
    mass = frame.groupby(["reply", "label"])["p"].sum().unstack(fill_value=0.0)
    out["label_probability"] = mass.to_numpy()[np.arange(len(mass)), mass.columns.get_indexer(out["text"])] / mass.sum(
        axis=1
    )
    rest = (1 - out["seen"]).clip(lower=0)
    out["entropy"] = np.exp(out["plogp"] + rest * np.log(rest.where(rest > 0, 1)))
    two = by_reply["logprob"].nlargest(2).groupby(level=0)
    out["margin"] = 1 - np.exp(two.min() - two.max())
    for name in ("first_token", "label_sequence", "mean", "minimum"):
        out[name] = np.exp(out["chosen"])
    return out


def tokens_with_pandas(bodies: list[str], path: Path) -> None:
    rows = []
    for number, text in enumerate(bodies):
        for position, token in enumerate(json.loads(text)["choices"][0]["logprobs"]["content"]):
            rows.append(
                {"request_id": f"{number:064x}", "example_id": f"e{number}", "role": "cheap", "position": position}
                | token
            )
    pd.DataFrame(rows).to_parquet(path)


def tokens_of_ours(bodies: list[str], answers: AnswerSet, path: Path) -> None:
    with schemas.table_writer(path, schemas.TOKENS, {}) as table:
        for number, text in enumerate(bodies):
            reply = parse(text)
            ids = (f"{number:064x}", f"e{number}", "cheap")
            table.add([(*ids, *row) for row in token_rows(measure(reply, answers, only="first_token"))])


def bytes_a_token(per_reply: int, path: Path, replies: int = 4_000) -> float:
    """Size of tokens.parquet for replies of so many tokens, with request ids as they are: random."""
    with schemas.table_writer(path, schemas.TOKENS, {}) as table:
        for number in range(replies):
            ids = (hashlib.sha256(str(number).encode()).hexdigest(), f"e{number}", "cheap")
            for position in range(per_reply):
                (token,) = parse(body(number * 50 + position)).tokens or ()
                table.add([(*ids, position, token.token, token.bytes, token.logprob, True, token.alternatives)])
    return path.stat().st_size / replies / per_reply


CONFIG = """
task: bench
kind: classify
description: Sort texts.
dataset: {path: rows.jsonl, id: id, label: label}
labels: [work, spam, personal, other]
prompt: {system: "Answer with one label.", user: "{text}"}
provider: together
cheap:
  model: a/b
  usd_per_million_tokens: {input: 0.1, output: 0.1, as_of: 2026-11-22, source: invented}
  params: {temperature: 0, max_tokens: 4}
  top_logprobs: 5
strong:
  human: true
  usd_per_request: 0.1
target: {kind: match_strong, within: 0.02, certainty: 0.9}
"""


def stored(bodies: list[str], folder: Path) -> TaskInput:
    """A job whose store holds a reply to each of its requests."""
    with (folder / "rows.jsonl").open("w") as rows:
        for number in range(len(bodies)):
            text = f"Text {number}: " + "the usual words of a short message " * 8
            rows.write(json.dumps({"id": f"e{number}", "text": text, "label": LABELS[number % 4]}) + "\n")
    (folder / "bench.yaml").write_text(CONFIG)
    job = TaskInput(load(folder / "bench.yaml"), Options(runs_dir=folder / "runs", quiet=True))
    with ResponseStore(job.store_path) as store:
        ended = []
        for number, (request, text) in enumerate(zip(job.requests("cheap"), bodies, strict=True)):
            reply = Attempt("reply", 200, text.encode(), seconds=0.2)
            ended.append(ending(opening(number, "bench", request.request_id, request), reply, judge(reply)))
        store.durably(lambda: store.note((), ended))
    return job


def tokens_of_store(job: TaskInput, ids: list[str], path: Path) -> None:
    """Kept replies by their ids, checked, unpacked, read, and their tokens written."""
    assert job.answers is not None
    with ResponseStore(job.store_path) as store, schemas.table_writer(path, schemas.TOKENS, {}) as table:
        for reply in store.replies(ids):
            found = measure(reply.body, job.answers, only="first_token")
            table.add([(reply.request_id, reply.example_id, reply.role, *row) for row in token_rows(found)])


def rates(works: dict[str, Callable[[], Any]], replies: int, rounds: int) -> dict[str, float]:
    """Replies per second of CPU time; the works take turns, and the best round of each counts: the others were disturbed."""
    best = dict.fromkeys(works, math.inf)
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - start)
    return {name: replies / seconds for name, seconds in best.items()}


def each(function: Callable[[Any], Any], values: list[Any]) -> Callable[[], None]:
    def work() -> None:
        for value in values:
            function(value)

    return work


def agreement(bodies: list[str], answers: AnswerSet) -> float:
    """Share of replies on which both ways give the same label probability; the other signals must be the same for all."""
    ours = pd.DataFrame([measure(text, answers).signals for text in bodies])
    theirs = with_pandas(bodies)
    for name in ("first_token", "margin", "entropy"):
        assert np.allclose(ours[name], theirs[name], atol=1e-12), name
    return float(np.isclose(ours["label_probability"], theirs["label_probability"], atol=1e-12).mean())


def main(count: int = 10_000) -> list[Figure]:
    answers = AnswerSet.classify(LABELS)
    bodies = [body(number) for number in range(count)]
    parsed = [parse(text) for text in bodies]
    print(
        f"{count} replies, one token, five alternatives; label probabilities agree on {agreement(bodies, answers):.1%}"
    )

    notebook, ours = "json + pandas, same signals", "JSON text to all signals"
    found = rates(
        {
            "json.loads alone": each(json.loads, bodies),
            ours: each(lambda text: measure(text, answers), bodies),
            "JSON text to one confidence": each(lambda text: measure(text, answers, only="label_probability"), bodies),
            "token rows to all signals": each(lambda reply: measure(reply, answers), parsed),
            notebook: lambda: with_pandas(bodies),
        },
        count,
        rounds=5,
    )
    for name, speed in found.items():
        print(f"{name:32}{speed:10,.0f} replies/s {1e6 / speed:8.1f} us {speed / found[notebook]:6.1f} x pandas")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = stored(bodies, folder)
        ids = [request.request_id for request in job.requests("cheap")]
        text, store, plain = "JSON text to tokens.parquet", "store to tokens.parquet", "json + pandas to Parquet"
        paths = {text: folder / "ours", plain: folder / "pandas", store: folder / "stored"}
        written = rates(
            {
                text: lambda: tokens_of_ours(bodies, answers, paths[text]),
                store: lambda: tokens_of_store(job, ids, paths[store]),
                "keys, store to all tables": lambda: reading.read(TaskInput(job.config, job.options), job.run),
                plain: lambda: tokens_with_pandas(bodies, paths[plain]),
            },
            count,
            rounds=5,
        )
        for name, speed in written.items():
            size = f"{paths[name].stat().st_size / count:8.1f} bytes a token" if name in paths else " " * 23
            print(f"{name:32}{speed:10,.0f} replies/s {size} {speed / written[plain]:6.1f} x pandas")
        sizes = {n: bytes_a_token(n, folder / "sized") for n in (1, 3, 8)}
    print("bytes a token, by tokens a reply:", ", ".join(f"{n}: {size:.1f}" for n, size in sizes.items()))
    return [
        Figure("replies from JSON text to all signals", found[ours], "per second"),
        Figure("speed-up over a pandas notebook, JSON text to all signals", found[ours] / found[notebook], "times"),
        Figure(
            "replies from token rows to all signals", found["token rows to all signals"], "per second", at_least=100_000
        ),
        Figure("replies from the store to tokens.parquet", written[store], "per second", at_least=20_000),
        Figure("replies from JSON text to tokens.parquet", written[text], "per second"),
        Figure("speed-up over pandas, JSON text to tokens.parquet", written[text] / written[plain], "times"),
        *(
            Figure(f"size of tokens.parquet, {counted} per reply, random ids", sizes[n], "bytes per token")
            for n, counted in ((1, "1 token"), (3, "3 tokens"), (8, "8 tokens"))
        ),
    ]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("replies", nargs="?", type=int, default=10_000)
    main(arguments.parse_args().replies)
