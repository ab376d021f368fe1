"""Row 25 of the fault matrix: batches that fail, expire, lose lines or are gone, and what they cost; through the real command."""

from __future__ import annotations

import functools
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_batch import Ending, FakeBatchApi, answer, complete, error, errors_only, partly
from fault_run import FaultRun, artefacts_match_their_schemas, no_canary, rows_are_accounted_for

from pipeline.collect.providers import bounded

BATCH = ("--provider", "together-batch")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultRun:
    from pipeline.collect.sending import batch_sender

    monkeypatch.setitem(batch_sender.send_batches.__kwdefaults__, "poll", 0.01)
    monkeypatch.setitem(batch_sender.send_batches.__kwdefaults__, "looks", (0.0, 0.01))
    return FaultRun(tmp_path / "project")


def usd(run: FaultRun, api: FakeBatchApi) -> float:
    return sum(group["usd"] or 0.0 for group in run(api, "status", "--json").json["store"])


def bill(api: FakeBatchApi) -> float:
    """What the service's own output files come to, at 1 and 2 dollars per million tokens."""
    total = 0.0
    for name, content in api.files.items():
        if name.endswith("-output"):
            lines = [json.loads(line) for line in content.splitlines() if line.startswith(b'{"custom_id"')]
            answered = {
                line["custom_id"]: line["response"]["body"]["usage"]
                for line in lines
                if line["response"]["status_code"] == 200
            }
            total += sum(u["prompt_tokens"] + 2 * u["completion_tokens"] for u in answered.values()) / 1e6
    return total


def torn(seed: int) -> Ending:
    """An ending with lost, repeated, unknown, broken and failed lines, in any terminal state."""
    chance = random.Random(seed)

    def end(lines: list) -> tuple:
        out, wrong = [], []
        for line in lines:
            fate = chance.random()
            if fate < 0.8:
                out += [answer(line)] * (1 + (fate < 0.1))
            elif fate < 0.9:
                wrong.append(error(line))
        out += [
            b"{cut",
            {
                "custom_id": "nobody",
                "response": {"status_code": 200, "body": {"usage": {"prompt_tokens": 0, "completion_tokens": 0}}},
            },
        ]
        return chance.choice(["COMPLETED", "EXPIRED", "CANCELLED", "FAILED"]), out, wrong or None

    return end


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_row_25_dollars_of_torn_batches_are_those_of_the_lines_that_came(run: FaultRun, seed: int) -> None:
    script = [complete(), torn(seed), torn(seed + 10), torn(seed + 20), complete(), torn(seed + 30), torn(seed + 40)]
    with FakeBatchApi(script=script, polls=0) as api:
        ended = run(api, "collect", *BATCH, "--set", "max_failure_rate=0.5")
        assert ended.code == 0, ended.err
        rows_are_accounted_for(run)
        assert usd(run, api) == pytest.approx(bill(api), rel=1e-9)
        artefacts_match_their_schemas(run.folder)
        no_canary(run.folder)


def test_row_25_two_runs_in_one_cap_never_pass_it(run: FaultRun) -> None:
    with FakeBatchApi(script=[complete(), partly("EXPIRED", 0.5), errors_only()], polls=0) as api:
        cap = 0.0009
        ended = run(api, "collect", *BATCH, "--max-usd", str(cap))
        assert ended.code == 3, ended.err
        assert bill(api) <= cap
        assert run(api, "collect", *BATCH, "--max-usd", "1").code == 0
        assert usd(run, api) == pytest.approx(bill(api), rel=1e-9)


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("what", ["/v1/batches/", "-output/content"], ids=["the batch", "its output"])
def test_row_25_a_batch_whose_result_is_gone_is_asked_again_with_a_word_and_counts_as_perhaps_paid(
    run: FaultRun, status: int, what: str
) -> None:
    with FakeBatchApi(script=[complete(), complete()], polls=0) as api:
        gone = False

        def refuse(method: str, path: str) -> int | None:
            nonlocal gone
            mine = what in path and method == "GET" and "-1" in path
            gone = gone or (mine and len(api.submitted) == 2)
            return status if mine and gone and len(api.submitted) == 2 else None

        api.refuse = refuse
        ended = run(api, "collect", *BATCH)
        assert ended.code == 2
        assert "--resend-lost" in ended.err
        assert "55 requests, which may have been paid for" in ended.err
        asked = api.asked()
        assert run(api, "collect", *BATCH).code == 2, "not without the word"
        assert api.asked() == asked
        assert run(api, "collect").code == 2, "nor by the chat API"
        ended = run(api, "collect", *BATCH, "--resend-lost")
        assert ended.code == 0, ended.err
        assert api.asked() == asked + 55 + run.rows
        assert len(run.attempts("state='unknown' AND reason='batch_lost'")) == 55
        assert sum(group["maybe_paid"] for group in run(api, "status", "--json").json["store"]) == 55
        assert run(api, "collect", *BATCH).code == 0
        assert api.asked() == asked + 55 + run.rows
        rows_are_accounted_for(run)


DEEP: Any = functools.reduce(lambda inner, _: [inner], range(940), 0)
ODD_LINES: list[Callable[[dict[str, Any]], Any]] = [
    lambda a: a["response"].update(status_code="²"),
    lambda a: a["response"].update(status_code=10**30),
    lambda a: a["response"].update(status_code=True),
    lambda a: a["response"]["body"].update(created=DEEP),
    lambda a: a["response"].update(body="not JSON"),
    lambda a: a["response"].update(body=None),
    lambda a: a.update(response=None, error={"message": "no", "code": "²"}),
    lambda a: a.update(response=None, error={"code": "9" * 5000}),
    lambda a: a.update(response="text", error=7),
    lambda a: a["response"]["body"].update(usage={"prompt_tokens": 10**30, "completion_tokens": 1}),
    lambda a: a["response"]["body"].update(model="\ud800", id=["\x1b[31m"]),
    lambda a: a["response"]["body"].update(choices=[{"message": {"content": 7}}]),
    lambda a: a.update(custom_id=[a["custom_id"]]),
    lambda a: a.update(custom_id=10**30),
]


def test_row_25_odd_lines_of_a_result_file_cost_their_own_row_at_most(run: FaultRun) -> None:
    def odd(lines: list[Any]) -> tuple[str, list[Any], None]:
        answers = [answer(line) for line in lines]
        for change, one in zip(ODD_LINES, answers, strict=False):
            change(one)
        cut = json.dumps(answers[-1]).encode()[:-40]
        return "COMPLETED", [*answers[:-1], cut, *(b"[]", b"7", b"\xff" * 9, b"[" * 9000, b'{"custom_id": {}}')], None

    with FakeBatchApi(script=[complete(), odd], polls=0) as api:
        ended = run(api, "collect", *BATCH, "--set", "max_failure_rate=0.5")
        assert ended.code == 0, ended.err
        assert len(run.attempts("state='invalid' AND reason='not_json'")) == 4, (
            "cut off, beyond the limit of depth, text, null"
        )
        rows_are_accounted_for(run)
        asked = api.asked()
        assert run(api, "collect", *BATCH, "--set", "max_failure_rate=0.5").code == 0
        assert api.asked() == asked
    statuses = [row["cheap_status"] for row in run.table("graded.parquet")]
    assert statuses.count("ok") >= run.rows - 2, "all but the unreadable ones were asked again"
    no_canary(run.folder)


def test_row_56_the_id_of_a_result_file_makes_no_path(run: FaultRun) -> None:
    with FakeBatchApi(polls=0) as api:
        evil = f"..%2f..{'/..' * 9}{run.folder}/evil"

        def renamed(method: str, path: str) -> tuple[bytes, dict[str, str]] | None:
            if path.endswith("/content"):
                (job,) = [j for j in api.jobs.values() if j.output and j.polls][-1:]
                return api.files[job.output or ""], {}
            if method == "GET" and "/v1/batches/" in path:
                job = api.jobs[path.rpartition("/")[2]]
                told = {
                    "id": job.id,
                    "status": job.status,
                    "input_file_id": job.file_id,
                    "output_file_id": job.output and evil,
                }
                return json.dumps(told).encode(), {}
            return None

        api.instead = renamed
        assert run(api, "collect", *BATCH).code == 0
    assert not list(run.folder.rglob("*evil*"))
    assert not [p for p in run.folder.parent.rglob("*") if "evil" in p.name]


BOMB = gzip.compress(b" " * 40_000_000, 1)
ANSWERS = {
    "html": (b"<html>Bad gateway</html>", {}),
    "cut": (b'{"id": "x', {}),
    "number": (b"7", {}),
    "list": (b"[7]", {}),
    "null": (b"null", {}),
    "types": (b'{"id": 7, "status": [], "job": 5, "progress": "x", "output_file_id": {}, "bytes": "x"}', {}),
    "no_gzip": (b"{}", {"Content-Encoding": "gzip"}),
    "bomb": (BOMB, {"Content-Encoding": "gzip"}),
    "deep": (b"[" * 90_000, {}),
    "escape": (b'{"id": "\\u001b[31m", "status": "\\u001b]0;x"}', {}),
}
CALLS = {"upload": ("POST", "/preprocess"), "create": ("POST", "/v1/batches"), "status": ("GET", "/v1/batches/")}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("form", [pytest.param(f, marks=() if f == "types" else pytest.mark.slow) for f in ANSWERS])
def test_row_25_an_answer_of_the_batch_api_in_an_unknown_form_stops_resumably_and_nothing_is_paid_twice(
    run: FaultRun, call: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from together import AsyncTogether

    monkeypatch.setattr(AsyncTogether, "_calculate_retry_timeout", lambda *_, **__: 0.01)
    (verb, part), broken = CALLS[call], True

    def instead(method: str, path: str) -> tuple[bytes, dict[str, str]] | None:
        return ANSWERS[form] if broken and method == verb and part in path else None

    with FakeBatchApi(polls=0) as api:
        api.instead = instead
        ended = run(api, "collect", *BATCH)
        assert ended.code in (2, 3), ended.err
        assert "127.0.0.1" in ended.err
        assert "Traceback" not in ended.err
        assert "\x1b" not in ended.err
        broken = False
        ended = run(api, "collect", *BATCH)
        assert ended.code == 0, ended.err
        asked = [custom_id for ids in api.submitted for custom_id in ids]
        assert len(asked) == len(set(asked)) == 2 * run.rows
        rows_are_accounted_for(run)


def test_row_67_results_that_unpack_to_gigabytes_are_bounded_and_want_a_word(
    run: FaultRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MOST_BYTES", 200_000)
    bomb = True

    def instead(method: str, path: str) -> tuple[bytes, dict[str, str]] | None:
        return (BOMB, {"Content-Encoding": "gzip"}) if bomb and path.endswith("/content") else None

    with FakeBatchApi(polls=0) as api:
        api.instead = instead
        ended = run(api, "collect", *BATCH)
        assert ended.code == 2
        assert "more than 1 MB as the results of a batch" in ended.err
        assert "--resend-lost" in ended.err
        bomb = False
        assert run(api, "collect", *BATCH).code == 0, "what is sent well the next time counts"
        assert api.asked() == 2 * run.rows


def test_row_67_a_line_that_is_longer_than_a_reply_fails_its_row(
    run: FaultRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MOST_BYTES", 20_000)

    def long(lines: list[Any]) -> tuple[str, list[Any], None]:
        answers = [answer(line) for line in lines]
        answers[3]["response"]["body"]["id"] = "x" * 50_000
        return "COMPLETED", answers, None

    with FakeBatchApi(script=[complete(), long], polls=0) as api:
        assert run(api, "collect", *BATCH).code == 0
        assert [reason for _, reason, *_ in run.attempts("state='invalid'")] == ["not_json"]
        assert api.asked() == 2 * run.rows + 1
        rows_are_accounted_for(run)
