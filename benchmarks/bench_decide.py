"""CPU time of one decision in production, and of importing what it needs.

Goals: under 100 microseconds for a one-token label, under 100 ms of CPU for the import on top of bare Python.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from figure import Figure

from cascade_threshold.policy import Policy
from cascade_threshold.signals import SIGNALS
from pipeline.deliver.formats.policy_document import policy_document

LABELS = ["work", "personal", "spam", "other"]
MODEL = "some/model"


def policy(signal: str) -> Policy:
    side = {"model": MODEL, "response_models_seen": [MODEL]}
    return Policy(
        policy_document(
            task="bench",
            kind="classify",
            provider="together",
            verdict="certified",
            threshold=0.9,
            labels=LABELS,
            signal={"name": signal, "version": SIGNALS[signal].version, "params": {}},
            calibrator={"kind": "platt", "slope": 0.8, "intercept": 0.1},
            cheap=side,
            strong=side,
            prompt_sha256=None,
            dataset_sha256=None,
            expected=None,
            certificate=None,
            monitor=None,
            versions={},
        )
    )


def completion(pieces: list[str]) -> dict[str, Any]:
    def entry(token: str, p: float) -> dict[str, Any]:
        return {"token": token, "bytes": list(token.encode()), "logprob": math.log(p)}

    others = [entry(t, p) for t, p in (("work", 0.03), ("other", 0.01), (" spam", 0.005), ("person", 0.002))]
    content = [{**entry(t, 0.95), "top_logprobs": [entry(t, 0.95), *others]} for t in pieces]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "".join(pieces)},
        "logprobs": {"content": content},
    }
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [choice],
        "usage": {"prompt_tokens": 90, "completion_tokens": 1},
    }


def microseconds(work: Callable[[], object], calls: int = 2000, repeats: int = 7) -> float:
    """Median over repeats of the CPU time of one call."""
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        for _ in range(calls):
            work()
        times.append((time.process_time() - begun) / calls * 1e6)
    return statistics.median(times)


def import_milliseconds(module: str) -> float:
    """CPU milliseconds of a fresh Python that imports a module, less those of one that imports nothing; best of 7."""

    def cpu(code: str) -> float:
        script = f"{code}\nimport time; print(time.process_time())"
        runs = [
            float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
            for _ in range(7)
        ]
        return min(runs)

    return (cpu(f"import {module}") - cpu("pass")) * 1000


def main() -> list[Figure]:
    figures = []
    one, three = completion(["spam"]), completion(["per", "son", "al"])
    text = json.dumps(one)
    print(f"{'signal':20} {'one token':>10} {'three tokens':>13}   microseconds of CPU a decision")
    for name in SIGNALS:
        if name == "learned":
            continue
        ready = policy(name)
        assert ready.decide(one).confidence is not None
        short, long = microseconds(lambda p=ready: p.decide(one)), microseconds(lambda p=ready: p.decide(three))
        print(f"{name:20} {short:10.1f} {long:13.1f}")
        figures.append(Figure(f"one decision on a one-token label, signal {name}", short, "µs of CPU", at_most=100))
    ready = policy("label_probability")
    plain = microseconds(lambda: json.loads(text))
    print(
        f"from JSON text       {microseconds(lambda: ready.decide(text)):10.1f}   of which json.loads alone {plain:.1f}"
    )
    took, numpy = import_milliseconds("cascade_threshold.policy"), import_milliseconds("numpy")
    print(f"import cascade_threshold.policy: {took:.0f} ms of CPU; numpy alone: {numpy:.0f} ms")
    return [
        *figures,
        Figure("importing the runtime, in addition to starting Python", took, "ms of CPU", at_most=100),
        Figure("importing numpy, relative to importing the runtime", numpy / took, "times"),
    ]


if __name__ == "__main__":
    main()
