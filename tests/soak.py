"""Two evaluations at once in one store, killed again and again, while one reply in twenty fails: what is lost, paid twice, or different?

python tests/soak.py --requests 10000 --kills 20 --seed 1
python tests/soak.py --batches 50 --seed 1     # the batch API instead, so many times with a small task: see batch_chaos.py
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from artefact_values import artefacts  # noqa: E402
from batch_chaos import Chaos, chaos  # noqa: E402
from fake_provider import LABELS, FakeProvider, Post, Step, cut, http, label_of, ok, raw, reset  # noqa: E402
from fault_run import FaultRun, invariants, no_canary, rows_are_accounted_for  # noqa: E402
from zygote import Forked, Zygote  # noqa: E402

TASKS = ("first", "second")
CONCURRENCY = 16
UNANSWERED = "request_id NOT IN (SELECT request_id FROM attempt WHERE state='ok')"
FAULTS: tuple[Step, ...] = (
    http(429, {"Retry-After": "0.05"}),
    http(500),
    http(502),
    http(503, {"Retry-After": "0.05"}),
    reset(),
    cut(),
    raw(b'{"choices": [{"mess'),
    raw(b"<!DOCTYPE html><html>Bad gateway</html>", content_type="text/html"),
    raw(b'{"error": {"message": "upstream"}}'),
    ok(choices=[]),
    ok(
        choices=[
            {
                "index": 0,
                "finish_reason": "error",
                "message": {"role": "assistant", "content": "spam"},
                "logprobs": None,
            }
        ]
    ),
)


def key(post: Post) -> tuple[str, str, str]:
    return post.body["model"], post.body["messages"][0]["content"], post.text


@dataclass
class Faulty:
    """One request in twenty gets a fault the first time; `share` 0: none does."""

    share: int = 20
    seen: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    good: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def __call__(self, post: Post) -> Step | None:
        name = key(post)
        self.seen[name] += 1
        number = int.from_bytes(hashlib.sha256("|".join(name).encode()).digest()[:8], "big")
        if self.seen[name] == 1 and self.share and number % self.share == 0:
            return FAULTS[number // self.share % len(FAULTS)]
        self.good[name] += 1
        return None


@dataclass
class Soaked:
    """What a soak came to."""

    requests: int
    kills: int
    posts: int
    faults: int
    repeats: int
    """Requests that were answered well more than once."""
    different: list[str]
    """Artefacts that are not those of a run that nothing disturbed."""
    seconds: float


def made(folder: Path, task: str, rows: int) -> FaultRun:
    """A task with rows of its own: looks at the same rows would be counted over both tasks, in the order in which they end."""
    run = FaultRun(folder, task)
    texts = [f"{task} mail {i}." for i in range(rows)]
    labels = [label_of(text)[0] if i % 5 else LABELS[i % 4] for i, text in enumerate(texts)]
    run.write_rows([{"id": f"m{i}", "text": text, "label": labels[i]} for i, text in enumerate(texts)])
    return run


def soak(folder: Path, *, requests: int, kills: int, seed: int) -> Soaked:
    """Run it. Raises AssertionError where rows are lost or an invariant does not hold."""
    begun, chance = time.monotonic(), random.Random(seed)
    runs = {task: made(folder / "project", task, requests // (2 * len(TASKS))) for task in TASKS}
    faulty, done = Faulty(), 0
    with Zygote() as zygote, FakeProvider(faulty, latency=0.01) as api:

        def start(task: str, on: FakeProvider = api) -> Forked:
            words = runs[task].words("evaluate", "--quiet", "--concurrency", str(CONCURRENCY))
            return zygote.start(["pipeline", *words], runs[task].environment(on))

        going = {task: start(task) for task in TASKS}
        for number in range(kills):
            goal = (number + chance.random()) * requests / (kills + 1)
            while len(faulty.good) < goal and any(process.poll() is None for process in going.values()):
                time.sleep(0.005)
            alive = [task for task, process in going.items() if process.poll() is None]
            if not alive:
                break
            task = chance.choice(alive)
            going[task].kill()
            going[task].communicate()
            done += going[task].returncode == -signal.SIGKILL
            going[task] = start(task)
        finish(going)
        posts = len(api.posts)
        for run in runs.values():
            rows_are_accounted_for(run)
            lost = [(state, reason) for state, reason, *_ in run.attempts(UNANSWERED)]
            assert not lost, f"rows are lost: {lost}"
            odd = [
                (row["example_id"], row["cheap_status"])
                for row in run.table("graded.parquet")
                if row["cheap_status"] != "ok"
            ]
            assert not odd, (odd[:5], run.attempts(f"example_id='{odd[0][0]}' AND role='cheap'"))
        invariants(runs[TASKS[0]])
        no_canary(folder)
        finish({task: start(task) for task in TASKS})
        assert len(api.posts) == posts, "once more sends nothing"
        port = api.port
    disturbed = {task: dict(artefacts(run.run_folder)) for task, run in runs.items()}
    calm = {task: made(folder / "calm", task, runs[task].rows) for task in TASKS}
    with Zygote() as zygote, FakeProvider(port=port) as api:
        words = {task: run.words("evaluate", "--quiet") for task, run in calm.items()}
        finish({task: zygote.start(["pipeline", *words[task]], calm[task].environment(api)) for task in TASKS})
    different = [
        f"{task}/{name}{where}"
        for task, run in calm.items()
        for name, value in artefacts(run.run_folder)
        for where in differing(disturbed[task][name], value)
    ]
    good = sum(faulty.good.values())
    return Soaked(
        len(faulty.good),
        done,
        posts,
        posts - good,
        good - len(faulty.good),
        different,
        round(time.monotonic() - begun, 1),
    )


def differing(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two values differ, each place with both."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [p for k in one.keys() | other.keys() for p in differing(one.get(k), other.get(k), f"{place}/{k}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [p for i, (a, b) in enumerate(zip(one, other, strict=True)) for p in differing(a, b, f"{place}/{i}")]
    return [] if one == other else [f"{place}: {str(one)[:80]} / {str(other)[:80]}"]


def finish(going: dict[str, Forked]) -> None:
    for task, process in going.items():
        _, err = process.communicate(timeout=1200)
        assert process.returncode == 0, (task, err)


def batches(seeds: Iterable[int]) -> int:
    """A small task through the batch API for each seed; 1 when one of them does not keep what is promised."""
    wrong = 0
    with Zygote() as zygote:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found: Chaos | AssertionError = chaos(Path(folder), seed, zygote)
                except AssertionError as error:
                    found = error
            wrong += isinstance(found, AssertionError) or bool(found.different)
            print(seed, found, flush=True)
    return int(wrong > 0)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--batches", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options: Any = parser.parse_args(arguments)
    if options.batches:
        return batches(range(options.seed, options.seed + options.batches))
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), requests=options.requests, kills=options.kills, seed=options.seed)
    print(found)
    return int(found.repeats > found.kills * CONCURRENCY or bool(found.different))


if __name__ == "__main__":
    sys.exit(main())
