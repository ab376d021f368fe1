"""Inputs after public bug reports that cost somebody money or a job: each through the real command, with its right value."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_provider import FakeProvider, http, ok, raw

from pipeline.__main__ import main
from pipeline.collect.sending import sender

PRICES = "{{input: {}, output: {}, as_of: 2026-11-01, source: test}}"


def written(
    folder: Path,
    *,
    provider: str,
    rows: int = 400,
    labels: Sequence[str] = ("positive", "negative"),
    cheap: str = PRICES.format(0.2, 0.4),
    strong: str = PRICES.format(2.0, 4.0),
    target: str = "{kind: match_strong, within: 0.05, certainty: 0.9}",
    text: Callable[[int], str] = "message number {}".format,
    more: str = "",
) -> Path:
    """A config and its rows, whose labels are those that `answers` mostly gives."""
    rng = random.Random(7)
    lines = [{"id": f"r{i}", "text": text(i), "label": labels[rng.random() < 0.5]} for i in range(rows)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    config = folder / "c.yaml"
    config.write_text(
        "task: t\nkind: classify\ndataset: {path: rows.jsonl, id: id, label: label}\n"
        f"labels: {json.dumps(list(labels))}\nprompt: {{system: Answer with a label., user: '{{text}}'}}\nprovider: {provider}\n"
        f"cheap: {{model: m, usd_per_million_tokens: {cheap}, top_logprobs: 5, params: {{temperature: 0, max_tokens: 8}}, replies: cheap.jsonl}}\n"
        f"strong: {{model: S, usd_per_million_tokens: {strong}, params: {{temperature: 0, max_tokens: 8}}, replies: strong.jsonl}}\n"
        f"target: {target}\n{more}"
    )
    return config


def answers(folder: Path, role: str, right: float, usage: dict[str, Any]) -> None:
    """A file of recorded replies that are right this often."""
    rng = random.Random(role)
    with (folder / f"{role}.jsonl").open("w") as out:
        for line in (folder / "rows.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            other = "negative" if row["label"] == "positive" else "positive"
            text, p = (row["label"] if rng.random() < right else other), rng.uniform(0.55, 0.999)
            top = [{"token": t, "bytes": list(t.encode()), "logprob": q} for t, q in ((text, -1 + p), (other, -3.0))]
            choice: dict[str, Any] = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
            if role == "cheap":
                choice["logprobs"] = {"content": [top[0] | {"top_logprobs": top}]}
            body = {"model": "m" if role == "cheap" else "S", "choices": [choice], "usage": usage}
            out.write(json.dumps({"custom_id": row["id"], "response": {"status_code": 200, "body": body}}) + "\n")


def run(folder: Path, *arguments: str) -> int:
    return main([*arguments, "--runs-dir", str(folder / "runs"), "--reports-dir", str(folder / "reports"), "--quiet"])


def artefact(folder: Path, name: str) -> Any:
    (path,) = (folder / "runs").rglob(name)
    return json.loads(path.read_text("utf-8"))


def test_case_06_tokens_beyond_prompt_and_completion_are_billed_as_output(tmp_path: Path) -> None:
    config = written(tmp_path, provider="recorded")
    answers(tmp_path, "cheap", 0.95, {"prompt_tokens": 50, "completion_tokens": 1, "total_tokens": 51})
    apart = {"prompt_tokens": 50, "completion_tokens": 1, "total_tokens": 851}
    answers(tmp_path, "strong", 0.97, apart | {"completion_tokens_details": {"reasoning_tokens": 800}})
    assert run(tmp_path, "evaluate", str(config)) == 0
    found = artefact(tmp_path, "recommendation.json")
    assert found["expected"]["strong_usd_per_1000"]["value"] == pytest.approx(1000 * (50 * 2 + 801 * 4) / 1e6)


@pytest.mark.slow
def test_cached_prompts_are_priced_and_the_cost_without_caching_stands_beside_it(tmp_path: Path) -> None:
    config = written(
        tmp_path, provider="recorded", strong="{input: 2, cached_input: 0.2, output: 4, as_of: 2026-11-01, source: x}"
    )
    answers(tmp_path, "cheap", 0.95, {"prompt_tokens": 1600, "completion_tokens": 1})
    prefix = {"prompt_tokens": 1600, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1500}}
    answers(tmp_path, "strong", 0.97, prefix)
    assert run(tmp_path, "evaluate", str(config)) == 0
    found, policy = artefact(tmp_path, "recommendation.json"), artefact(tmp_path, "policy.json")
    measured, uncached = 1000 * (100 * 2 + 1500 * 0.2 + 4) / 1e6, 1000 * (1600 * 2 + 4) / 1e6
    strong = found["caching"]["strong_usd_per_1000"]
    assert (strong["measured"], strong["uncached"]) == (pytest.approx(measured), pytest.approx(uncached))
    cascade, rate = found["caching"]["usd_per_1000"], found["expected"]["escalation_rate"]["value"]
    assert cascade["measured"] == found["expected"]["usd_per_1000"]["value"]
    assert cascade["uncached"] - cascade["measured"] == pytest.approx(rate * (uncached - measured))
    assert found["caching"]["cached_share"] == {"cheap": None, "strong": 1500 / 1600}
    assert policy["strong"]["usd_per_million_tokens"]["cached_input"] == 0.2
    assert policy["strong"]["cached_share"] == 1500 / 1600


def labelled(post: Any) -> Any:
    """A good answer of one of the two labels."""
    return ok(
        choices=[
            {
                "index": 0,
                "message": {"role": "assistant", "content": "positive"},
                "finish_reason": "stop",
                "logprobs": {
                    "content": [
                        {
                            "token": "positive",
                            "bytes": list(b"positive"),
                            "logprob": -0.1,
                            "top_logprobs": [
                                {"token": "positive", "bytes": list(b"positive"), "logprob": -0.1},
                                {"token": "negative", "bytes": list(b"negative"), "logprob": -3.0},
                            ],
                        }
                    ]
                },
            }
        ]
    )


def text(words: str) -> Any:
    return ok(
        choices=[
            {
                "index": 0,
                "message": {"role": "assistant", "content": words},
                "finish_reason": "stop",
                "logprobs": {
                    "content": [{"token": words, "bytes": list(words.encode()), "logprob": -0.1, "top_logprobs": []}]
                },
            }
        ]
    )


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Path, Path]]:
    def make(api: Any, **settings: Any) -> tuple[Path, Path]:
        monkeypatch.setenv("TOGETHER_API_KEY", "canary-123456")
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        monkeypatch.setattr(sender, "TRIES", 3)
        settings = {
            "target": "{kind: budget, escalation_rate: 0.3}",
            "text": lambda i: f"message number {i}.",
        } | settings
        return tmp_path, written(tmp_path, provider="together", **settings)

    return make


def of(api: Any, model: str) -> list[Any]:
    return [post for post in api.posts if post.body["model"] == model]


def test_row_65_case_03_answers_that_are_no_label_stop_the_run_after_the_first_and_fail_doctor(
    served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeProvider(lambda post: text("I would say upbeat")) as api:
        folder, config = served(api, rows=200)
        assert run(folder, "doctor", str(config)) == 2
        assert "'I would say upbeat', is none of the labels" in "".join(capsys.readouterr())
        asked = len(api.posts)
        assert run(folder, "evaluate", str(config), "--yes") == 2
        said = capsys.readouterr().err
        assert (
            "20 of the first 20 replies of the cheap model m are none of the labels ('I would say upbeat' 20 times)"
            in said
        )
        assert len(of(api, "m")) <= 20 + asked
        assert len(of(api, "S")) <= 1
        before = len(api.posts)
        assert run(folder, "collect", str(config)) == 2
        assert len(api.posts) == before, "the kept replies say it"
        assert run(folder, "collect", str(config), "--set", "max_unreadable=1") == 0
        assert len({post.text for post in of(api, "m")}) == 200


@pytest.mark.parametrize("status", [403, 404, 500])
def test_row_63_cases_04_and_05_a_refusal_that_follows_a_row_is_the_rows(
    served: Any, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    def answer(post: Any) -> Any:
        poisoned = post.text.endswith("7.") and post.body["model"] == "m"
        return raw(b"<html>blocked</html>", status, "text/html") if poisoned else labelled(post)

    with FakeProvider(answer) as api:
        folder, config = served(api, rows=60)
        assert run(folder, "collect", str(config)) == 4, (
            "6 of 60 fail, which is said before the strong model is paid for"
        )
        assert f"6 http_{status}" in capsys.readouterr().err
        assert len(of(api, "S")) <= 1
        more = ("collect", str(config), "--set", "max_failure_rate=0.2")
        assert run(folder, *more) == 0
        assert len({post.text for post in of(api, "S")}) == 60
        before = len(api.posts)
        assert run(folder, *more) == 0
        assert len(api.posts) == before, "the rows have had their tries"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_case_04_a_first_refusal_still_stops_at_once(served: Any, status: int) -> None:
    with FakeProvider(lambda post: http(status)) as api:
        folder, config = served(api, rows=60)
        assert run(folder, "collect", str(config)) == 2
        assert len(api.posts) == 1


def test_case_05_a_model_that_is_gone_midway_stops_the_run(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeProvider(lambda post: labelled(post) if post.number <= 40 else http(404)) as api:
        folder, config = served(api, rows=100)
        assert run(folder, "collect", str(config), "--concurrency", "4") == 2
        assert "knows no model" in capsys.readouterr().err
        assert len(api.posts) <= 40 + 2 * 4 + 2


@pytest.mark.parametrize(
    "choice", [{"finish_reason": "error"}, {"finish_reason": "abort"}, {"error": {"code": 502, "message": "gone"}}]
)
def test_row_64_a_choice_that_broke_off_is_asked_again_whatever_text_it_holds(
    served: Any, choice: dict[str, Any]
) -> None:
    broken = {
        "index": 0,
        "message": {"role": "assistant", "content": "positive"},
        "finish_reason": "stop",
        "logprobs": None,
    }

    def answer(post: Any) -> Any:
        once = (
            post.text.endswith("7.")
            and sum(p.text == post.text and p.body["model"] == post.body["model"] for p in api.posts) <= 1
        )
        return ok(choices=[broken | choice]) if once else labelled(post)

    with FakeProvider(answer) as api:
        folder, config = served(api, rows=30)
        assert run(folder, "collect", str(config)) == 0
        assert len(api.posts) == 2 * 30 + 2 * 3


def test_case_16_a_refused_set_leaves_no_unfinished_run_and_nothing_was_asked(
    served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeProvider(labelled) as api:
        folder, config = served(api, rows=300, target="{kind: match_strong, within: 0.05, certainty: 0.9}")
        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
        lines = [json.dumps(row | {"lang": ("de", "en", "fr")[i % 3]}) + "\n" for i, row in enumerate(rows)]
        (folder / "rows.jsonl").write_text("".join(lines), "utf-8")
        config.write_text(config.read_text("utf-8").replace("label: label}", "label: label, group: lang}"), "utf-8")
        assert run(folder, "evaluate", str(config), "--yes") == 2
        said = capsys.readouterr().err
        assert "nothing was spent" in said
        assert api.posts == []
        assert list((folder / "runs").rglob("run.json")) == []
        assert run(folder, "status", str(config)) == 0
        assert "unfinished" not in "".join(capsys.readouterr()).lower()


@pytest.mark.parametrize(
    ("rows", "target", "more", "said"),
    [
        (
            60,
            "{kind: match_strong, within: 0.02, certainty: 0.9}",
            "",
            "60 rows, and target match_strong needs at least 115",
        ),
        (100, "{kind: match_strong, within: 0.05, certainty: 0.9}", "looks: {planned: 400}\n", "100 rows"),
        (20, "{kind: accepted_accuracy, at_least: 0.95, certainty: 0.9}", "", "needs at least 45"),
        (
            60,
            "{kind: match_strong, within: 0.05, certainty: 0.9, label_floors: {positive: 0.97}}",
            "",
            "floor of 0.97 for positive",
        ),
    ],
)
def test_rows_that_no_answers_could_certify_are_refused_before_anything_is_asked(
    served: Any, capsys: pytest.CaptureFixture[str], rows: int, target: str, more: str, said: str
) -> None:
    with FakeProvider(labelled) as api:
        folder, config = served(api, rows=rows, target=target, more=more)
        for command in ("estimate", "evaluate"):
            assert run(folder, command, str(config), *(["--yes"] if command == "evaluate" else [])) == 2
            error = capsys.readouterr().err
            assert said in error
            assert "nothing was spent" in error
        assert api.posts == []
        assert run(folder, "collect", str(config), "--yes", "--limit", "5") == 0, "a trial asks for no promise"
        assert api.posts


@pytest.mark.parametrize(
    ("words", "tokens", "params"),
    [
        ("positive", 1, ""),
        ("a label of several words", 6, ""),
        ("positive", 1, ", reasoning: {enabled: false}"),
        ("positive", 1, ", reasoning_effort: none"),
    ],
)
def test_the_estimate_is_within_a_factor_of_1_3_of_what_is_then_spent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    tokens: int,
    params: str,
) -> None:
    """Replies are labels: of one token, and of several; a token of the prompt is about four bytes."""

    def answer(post: Any) -> Any:
        prompt = sum(len(m["content"]) for m in post.body["messages"]) // 4 + 12
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": words},
            "finish_reason": "stop",
            "logprobs": {
                "content": [{"token": words, "bytes": list(words.encode()), "logprob": -0.1, "top_logprobs": []}]
            },
        }
        usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
        return ok(choices=[choice], usage=usage)

    with FakeProvider(answer) as api:
        monkeypatch.setenv("TOGETHER_API_KEY", "canary-123456")
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        config = written(
            tmp_path,
            provider="together",
            rows=120,
            labels=(words, words[::-1]),
            target="{kind: budget, escalation_rate: 0.3}",
            text=lambda i: f"message number {i} about something. " * 4,
        )
        config.write_text(config.read_text("utf-8").replace("max_tokens: 8}", f"max_tokens: 8{params}}}"), "utf-8")
        folders = ["--runs-dir", str(tmp_path / "runs"), "--reports-dir", str(tmp_path / "reports")]
        assert main(["estimate", str(config), "--json", *folders]) == 0
        before = json.loads(capsys.readouterr().out)["usd"]
        assert main(["doctor", str(config), *folders]) == 0
        capsys.readouterr()
        assert main(["estimate", str(config), "--json", *folders]) == 0
        trial = json.loads(capsys.readouterr().out)["usd"]
        assert run(tmp_path, "collect", str(config), "--yes") == 0
        (path,) = (tmp_path / "runs").rglob("run.json")
        spent = sum(role["usd"] for role in json.loads(path.read_text("utf-8"))["spending"].values())
        assert 1 / 1.3 <= before / spent <= 1.3
        assert 1 / 1.1 <= trial / spent <= 1.1, "after the trial the replies' length is known"
