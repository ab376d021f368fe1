"""Strong answers sampled by the coin, through the real command: bought in blocks, never twice, and a cap that stops them early."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from asking import KEY
from fake_batch import FakeBatchApi
from fake_provider import FakeProvider, Post, Step, completion, http, label_of, ok

from cascade_threshold import signals as signals_module
from pipeline import stages
from pipeline.__main__ import main
from pipeline.collect import request as request_module
from pipeline.collect.sending import batch_sender
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.task_input import TaskInput
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.engine import local, shards
from pipeline.run import schemas

ROWS = 300
WRONG = {f"mail {i}." for i in range(ROWS) if i % 3 == 0 and label_of(f"mail {i}.")[1] < -0.9}
Run = Callable[..., int]


def gold(text: str) -> str:
    """The cheap model errs on some texts of which it is not sure; the strong one is always right."""
    label = label_of(text)[0]
    return ("spam" if label != "spam" else "work") if text in WRONG else label


def service(post: Post) -> Step | None:
    if post.body["model"] != "large":
        return None
    return ok(
        choices=[{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": gold(post.text)}}]
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "configs").mkdir()
    texts = [f"mail {i}." for i in range(ROWS)]
    rows = [{"id": f"m{i}", "text": text, "label": gold(text)} for i, text in enumerate(texts)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    price = '{input: 1, output: 2, as_of: 2026-11-22, source: "made up"}'
    (tmp_path / "configs" / "mail.yaml").write_text(
        "task: mail\nkind: classify\ndataset: {path: ../rows.jsonl, id: id, label: label, split: pooled}\n"
        'labels: [work, personal, spam, other]\nprompt: {user: "{text}"}\nprovider: together\nsignal: first_token\n'
        f"cheap: {{model: small, usd_per_million_tokens: {price}, top_logprobs: 4, params: {{temperature: 0, max_tokens: 8}}}}\n"
        f"strong: {{model: large, usd_per_million_tokens: {price.replace('input: 1', 'input: 20')}, params: {{temperature: 0, max_tokens: 8}}, sample: 0.25}}\n"
        "target: {kind: match_strong, within: 0.05}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)

    def command(api: FakeProvider, *arguments: str) -> int:
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        return main(
            [
                arguments[0] if arguments and arguments[0] == "collect" else "evaluate",
                "mail",
                "--yes",
                "--quiet",
                *(a for a in arguments if a != "collect"),
            ]
        )

    return command


def asked(api: FakeProvider, model: str = "large") -> list[str]:
    return [post.text for post in api.posts if post.body["model"] == model]


def records() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(Path("runs").glob("mail/*/*/recommendation.json"))]


def the_run() -> dict[str, Any]:
    (path,) = Path("runs").glob("mail/*/run.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.slow
def test_a_quarter_of_the_coin_buys_a_part_of_the_answers_and_a_second_run_none(run: Run) -> None:
    with FakeProvider(service) as api:
        assert run(api) == 0
        first = asked(api)
        assert run(api, "collect") == 0
        assert len(asked(api)) == len(first)
    (decided,) = records()
    details, sampling = decided["certificate"]["details"], the_run()["strong_sampling"]
    assert decided["verdict"] == "certified"
    assert len(first) == len(set(first))
    # one call proves beforehand that the model answers; its row may be one that nobody wants
    assert details["bought"] in (len(first), len(first) - 1)
    assert details["bought"] == sampling["bought"]
    assert sampling["saved"] == ROWS - sampling["bought"]
    assert len(first) < 0.7 * ROWS
    assert (sampling["q"], sampling["q_e"], sampling["n"], sampling["block"]) == (0.25, 0.25, ROWS, 0.05)
    assert details["unbought_counted_as_loss"] == 0
    assert decided["certificate"]["look"] == 1
    assert any(f"{details['bought']:,} of {ROWS} strong answers were bought" in w["text"] for w in decided["warnings"])


@pytest.mark.slow
def test_another_rate_on_the_same_rows_is_another_look_and_uses_what_was_bought(run: Run) -> None:
    with FakeProvider(service) as api:
        assert run(api) == 0
        before = set(asked(api))
        assert run(api, "--set", "strong.sample=0.5") == 0
        after = asked(api)
    assert len(after) == len(set(after))
    assert len(before) < len(after)
    assert sorted(r["certificate"]["look"] for r in records()) == [1, 2]


@pytest.mark.slow
def test_a_cap_on_the_way_down_leaves_a_valid_higher_threshold_and_the_next_run_goes_on(run: Run) -> None:
    with FakeProvider(service) as api:
        assert run(api, "--max-usd", "0.02") == 3
        stopped = records()[0]
        assert run(api) == 0
        texts = asked(api)
        assert len(texts) == len(set(texts))
    complete = max(records(), key=lambda r: r["certificate"]["details"]["bought"])
    few, many = (r["certificate"]["details"] for r in (stopped, complete))
    assert few["bought"] < many["bought"]
    assert few["unbought_counted_as_loss"] >= 0
    assert stopped["threshold"] is None or stopped["threshold"] >= complete["threshold"]


@pytest.mark.slow
def test_failing_strong_calls_never_lower_the_threshold(run: Run) -> None:
    with FakeProvider(service) as api:
        assert run(api) == 0
    (whole,) = records()

    def failing(post: Post) -> Step | None:
        lost = post.body["model"] == "large" and sum(post.text.encode()) % 5 == 0
        return http(400) if lost else service(post)

    with FakeProvider(failing) as api:
        folders = ("--runs-dir", "other", "--reports-dir", "others")
        assert run(api, *folders, "--set", "max_failure_rate=0.5") == 0
    (path,) = Path("other").glob("mail/*/*/recommendation.json")
    lossy = json.loads(path.read_text())
    assert lossy["threshold"] is None or lossy["threshold"] >= whole["threshold"]
    assert "missing_strong" in {w["code"] for w in lossy["warnings"]}


def test_each_reply_is_parsed_once_whenever_it_was_bought_and_one_reading_of_all_leaves_the_same_bytes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from outside; shards and row groups are small, so that a block's answers lie in several of them."""
    for owner, name, value in (
        (shards, "SHARD", 60),
        (schemas, "ROW_GROUP", 96),
        (schemas, "BATCH", 16),
        (local, "processors", lambda: 1),
    ):
        monkeypatch.setattr(owner, name, value)
    counts: Counter[str] = Counter()
    rows = 150

    def counted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def stand_in(*given: Any) -> Any:
            counts[name] += 1
            return original(*given)

        monkeypatch.setattr(owner, name, stand_in)

    counted(request_module, "messages")
    counted(request_module, "digest")
    counted(signals_module, "parse")
    with FakeProvider(service) as api:
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        task = TaskInput(yaml_file.load(Path("configs/mail.yaml")), Options(yes=True, quiet=True, limit=rows))
        collected = stages.collect(task, Allowance())
        bought = len(asked(api))
    artefacts = ("replies.parquet", "tokens.parquet", "graded.parquet")
    tables = [task.run.path(name).read_bytes() for name in artefacts]
    replies = pd.read_parquet(task.run.path("replies.parquet"))
    of_strong = int((replies["role"] == "strong").sum())
    assert 0.2 * rows < of_strong == bought < 0.7 * rows
    assert counts["parse"] == len(replies) == rows + of_strong
    assert counts["messages"] == counts["digest"] == 2 * rows
    read = stages.graded(task)
    assert counts["parse"] == 2 * len(replies)
    assert [task.run.path(name).read_bytes() for name in artefacts] == tables
    assert read.facts == collected.facts
    pd.testing.assert_frame_equal(read.frame, collected.frame)


def test_a_batch_api_gets_one_file_as_far_down_as_is_expected_and_few_more(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def ending(lines: list[dict[str, Any]]) -> tuple[str, list[Any], None]:
        out = []
        for line in lines:
            body, text = completion(line["body"]), str(line["body"]["messages"][-1]["content"])
            if line["body"]["model"] == "large":
                body["choices"][0]["message"]["content"] = gold(text)
            out.append({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}})
        if lines[0]["body"]["model"] == "large":
            asked.append([str(line["body"]["messages"][-1]["content"]) for line in lines])
        return "COMPLETED", out, None

    monkeypatch.setitem(batch_sender.send_batches.__kwdefaults__, "poll", 0.01)
    with FakeBatchApi(script=[ending] * 12) as api:
        assert run(api, "collect", "--provider", "together-batch") == 0  # type: ignore[arg-type]
    texts = [text for file in asked for text in file]
    assert len(texts) == len(set(texts)) < 0.75 * ROWS
    # a file as far down as is expected, one to the end if nothing failed, one for the figures
    assert 1 <= len([file for file in asked if len(file) > batch_sender.CANARY]) <= 3
