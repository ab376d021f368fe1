"""Collection of strong answers that the coin samples, bought block by block down to the first threshold that fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.collect import collection
from pipeline.collect.request import Request
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.store.response_store import CHUNK, ResponseStore, chunks
from pipeline.collect.task_input import TaskInput
from pipeline.config.strong_answers import StrongAnswers
from pipeline.engine import confidence, reading
from pipeline.engine.reading import Graded
from pipeline.engine.sampled_answers import SampledAnswers
from pipeline.errors import CapReached


def sampled(task: TaskInput) -> bool:
    """Whether the task's strong answers are bought by the coin, block by block."""
    said = task.config.strong
    if task.table is not None or not isinstance(said, StrongAnswers) or task.is_read_from_file("strong"):
        return False
    certify = sum(e.split == "certify" for e in task.dataset.examples)
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
        asked = settled(store, requests)
        found = confidence.with_signal(task, reading.read(task, task.run, strong=asked))
        frame, walk = found.frame.set_index("example_id", drop=False), SampledAnswers.of(task, found)
        assert walk is not None
        while True:
            step = walk.purchase(frame, asked=np.array([name in asked for name in frame.index], dtype=bool))
            if step.complete:
                break
            block = [requests[name] for name in frame.index[step.missing] if name in requests]
            try:
                collection.send(task, store, allowance, note, {"strong": block})
            except CapReached as error:
                stopped = error
            came = reading.strong_answers(task, store, block)
            for column, values in zip(
                ("strong_answer", "strong_status", "strong_correct"), _columns(came), strict=True
            ):
                frame[column] = frame[column].astype(object)
                frame.loc[list(came), column] = values
            asked |= set(frame.index[step.missing]) if stopped is None else set(came)
            if stopped is not None:
                break
    graded = reading.read(task, task.run, strong=asked)
    return Graded(graded.frame, graded.facts, graded.replies, stopped)


def _columns(came: Mapping[str, tuple[Any, ...]]) -> list[list[Any]]:
    return [[row[i] for row in came.values()] for i in range(3)]


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
