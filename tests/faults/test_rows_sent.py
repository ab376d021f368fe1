"""Rows of the fault matrix about what a service does to a run, through the real command, each with its invariants."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from fake_provider import FakeProvider, Post, Step, completion, cut, drip, hang, http, ok, raw, redirect, reset
from fault_run import FaultRun, invariants


@pytest.fixture
def run(tmp_path: Path) -> FaultRun:
    return FaultRun(tmp_path / "project")


def on(script: dict[str, Step], role: str = "small") -> Any:
    """The first POST of a role whose mail is named gets that step; anything else is answered well."""
    left = dict(script)

    def answer(post: Post) -> Step | None:
        return left.pop(post.text, None) if post.body["model"] == role else None

    return answer


def always(script: dict[str, Step], role: str = "small") -> Any:
    return lambda post: script.get(post.text) if post.body["model"] == role else None


def choices(text: Any, logprobs: Any = None, finish: str = "stop", **message: Any) -> list[dict[str, Any]]:
    shown = {"role": "assistant", "content": text, **message}
    return [{"index": 0, "finish_reason": finish, "message": shown, "logprobs": logprobs}]


def usual(post: Post) -> tuple[str, Any]:
    choice = completion(post.body)["choices"][0]
    return choice["message"]["content"], choice["logprobs"]


TRANSIENT = {
    "row_01": {"mail 3.": http(429, {"Retry-After": "0.2"}), "mail 7.": http(429, {"retry-after-ms": "150"})},
    "row_04": {"mail 3.": http(500), "mail 5.": http(502), "mail 7.": http(503, {"Retry-After": "0"}), "mail 9.": http(504)},
    "row_06": {"mail 3.": reset(), "mail 7.": cut()},
    "row_08": {"mail 3.": raw(b'{"choices": [{"mess'), "mail 7.": raw(b"\xff\xfe\x00nonsense")},
    "row_09": {
        "mail 3.": raw(b"<!DOCTYPE html><html>Bad gateway</html>", content_type="text/html"),
        "mail 7.": raw(b'{"error": {"message": "upstream"}}'),
    },
    "row_10": {"mail 3.": ok(choices=[]), "mail 7.": ok(choices=choices(None)), "mail 9.": ok(choices=choices(""))},
    "row_64": {"mail 3.": ok(choices=choices("spam", finish="error")), "mail 7.": ok(choices=choices("wo", finish="abort"))},
}  # fmt: skip
"""Faults that one more try mends: the same artefacts as without them."""


@pytest.mark.parametrize("row", TRANSIENT)
def test_rows_01_04_06_08_09_10_64_a_fault_that_passes_leaves_every_row_answered(run: FaultRun, row: str) -> None:
    with FakeProvider(on(TRANSIENT[row])) as api:
        ended = run(api, "collect")
        assert (ended.code, ended.err) == (0, "")
        assert len(api.posts) == 2 * run.rows + len(TRANSIENT[row])
        assert {r["cheap_status"] for r in run.table("graded.parquet")} == {"ok"}
        spending = run.record()["spending"]
        assert sum(spending["cheap"]["troubles"].values()) == len(TRANSIENT[row])
        assert spending["cheap"]["maybe_paid"] == (len(TRANSIENT[row]) if row == "row_06" else 0)
        invariants(run, api)


@pytest.mark.parametrize("step", [hang(30), drip(0.2)], ids=["nothing comes", "a byte now and then"])
def test_row_07_a_reply_that_does_not_end_is_perhaps_paid_and_asked_once_more(
    run: FaultRun, step: Step
) -> None:
    run.deadline = 0.5
    with FakeProvider(on({"mail 30.": step})) as api:
        assert run(api, "collect").code == 0
        assert sum(p.text == "mail 30." and p.body["model"] == "small" for p in api.posts) == 2
        assert run.record()["spending"]["cheap"]["maybe_paid"] == 1
        assert [(s, r) for s, r, _, _ in run.attempts("state='unknown'")] == [("unknown", "timeout")]
        invariants(run, api)
