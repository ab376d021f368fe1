"""Collection of strong answers that the coin samples, bought block by block down to the first threshold that fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.collect import collection
from pipeline.collect.request import Request
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.store.response_store import CHUNK, ResponseStore, chunks
from pipeline.collect.task_input import TaskInput
from pipeline.config.strong_answers import StrongAnswers
from pipeline.engine import confidence, reading
from pipeline.engine.reading import Graded, Reading
from pipeline.engine.sampled_answers import SampledAnswers
from pipeline.engine.shard_plan import planned
from pipeline.errors import CapReached

TOLD = ("strong_answer", "strong_status", "strong_correct")
"""What the walk needs of a strong answer."""


def sampled(task: TaskInput) -> bool:
    """Whether the task's strong answers are bought by the coin, block by block."""
    said = task.config.strong
    if task.table is not None or not isinstance(said, StrongAnswers) or task.is_read_from_file("strong"):
        return False
    certify = task.dataset.examples.split_counts["certify"]
    return said.rate(certify, task.config.requests_per_year) < 1


def settled(store: ResponseStore, requests: Mapping[str, Request]) -> set[str]:
    """Ids of the rows whose request was answered, or refused for good: it is not sent again."""
    out: set[str] = set()
    for part in chunks(requests.items(), CHUNK):
        known, _ = store.known([request.request_id for _, request in part])
        out |= {name for name, request in part if request.request_id in known}
    return out


def asked_before(store: ResponseStore, requests: Mapping[str, Request]) -> set[str]:
    """Ids of the rows whose request was sent by some run, whatever came of it."""
    out = settled(store, requests)
    for part in chunks([(name, request) for name, request in requests.items() if name not in out], CHUNK):
        tried = store.tries([request.request_id for _, request in part])
        out |= {name for name, request in part if tried.get(request.request_id)}
    return out


def read(task: TaskInput) -> Graded:
    """The rows with the strong answers that were bought so far; nothing is sent."""
    with ResponseStore(task.store_path) as store:
        asked = asked_before(store, _eligible(task))
    return reading.read(task, task.run, strong=asked)


def collect(task: TaskInput, allowance: Allowance) -> Graded:
    """Buy all cheap answers, then the strong ones that the walk wants, a block at a time; resumes where it was stopped.

    Reaching --max-usd on the way down is no failure: what was not bought counts against the promise, so the threshold is valid
    and higher; the result says why it stopped.
    """
    requests, note = _eligible(task), _Sum(task)
    stopped: CapReached | None = None
    with ResponseStore(task.store_path) as store:
        collection.prepare(task, store, allowance, task.run.update)
        collection.send(task, store, allowance, note, {"cheap": task.requests("cheap")})
        with planned(task, task.run) as plan:
            replies, asked = Reading(task, task.run, plan), settled(store, requests)
            replies.read(asked)
            found = confidence.with_signal(task, replies.graded())
            frame, walk = found.frame.set_index("example_id", drop=False), SampledAnswers.of(task, found)
            assert walk is not None
            while stopped is None:
                step = walk.purchase(frame, asked=np.array([name in asked for name in frame.index], dtype=bool))
                if step.complete:
                    break
                wanted = frame.index[step.missing]
                block = {name: requests[name] for name in wanted if name in requests}
                try:
                    collection.send(task, store, allowance, note, {"strong": list(block.values())})
                    asked |= set(wanted)
                except CapReached as error:
                    stopped, block = error, {name: block[name] for name in settled(store, block)}
                    asked |= set(block)
                came = replies.more_strong(block).select(["example_id", *TOLD]).to_pandas().set_index("example_id")
                for column in TOLD:
                    frame[column] = frame[column].astype(object)
                    frame.loc[came.index, column] = came[column]
            return replace(replies.written(), stopped=stopped)


def _eligible(task: TaskInput) -> dict[str, Request]:
    return {request.example_id: request for request in task.requests("strong")}


class _Sum:
    """Adds up what each block took, and writes the total to run.json."""

    def __init__(self, task: TaskInput) -> None:
        self._task = task
        self._total: dict[str, dict[str, Any]] = {}

    def __call__(self, *, spending: Mapping[str, Mapping[str, Any]]) -> None:
        for role, record in spending.items():
            past = self._total.get(role, {})
            self._total[role] = {name: _plus(past.get(name), value) for name, value in record.items()}
        self._task.run.update(spending=self._total)


def _plus(a: Any, b: Any) -> Any:
    if a is None:
        return b
    return dict(Counter(a) + Counter(b)) if isinstance(b, dict) else a + b
