"""Row 25 of the fault matrix: batches that fail, expire, lose lines or are gone, and what they cost; through the real command."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from fake_batch import Ending, FakeBatchApi, answer, complete, error, errors_only, partly
from fault_run import FaultRun, artefacts_match_their_schemas, no_canary, rows_are_accounted_for

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
