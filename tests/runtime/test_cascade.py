"""The cascade through the real SDK, over a transport that answers in process and counts the calls."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import together
from deliver.policies import CHEAP, STRONG, body, document, one_token
from together import AsyncTogether, Together

from cascade_threshold.cascade import Answer, Cascade
from cascade_threshold.policy import Policy
from pipeline.deliver.monitoring.monitor import check

ASK = [{"role": "user", "content": "Subject: hello"}]


class Service:
    """Answers each model with a body, a status, or raw text; keeps what was asked."""

    def __init__(self, cheap: Any, strong: Any = None) -> None:
        self.replies = {
            CHEAP: cheap,
            STRONG: strong
            if strong is not None
            else body("work", [("work", 0.0)], model=STRONG, logprobs=False, usage=(90, 2)),
        }
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        self.asked.append(asked)
        reply = self.replies[asked["model"]]
        if isinstance(reply, int):
            return httpx.Response(reply, json={"error": {"message": "no, Bearer secret-key"}})
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(200, text=reply) if isinstance(reply, str) else httpx.Response(200, json=reply)

    @property
    def calls(self) -> Counter[str]:
        return Counter(asked["model"] for asked in self.asked)

    def ask(self, made: dict[str, Any] | None = None, *, cascade: dict[str, Any] | None = None, **more: Any) -> Answer:
        with Together(
            api_key="k", max_retries=0, http_client=httpx.Client(transport=httpx.MockTransport(self))
        ) as client:
            return Cascade(Policy(made or document()), client, **(cascade or {})).answer(ASK, **more)

    def ask_async(self, made: dict[str, Any] | None = None, **more: Any) -> Answer:
        async def go() -> Answer:
            async with AsyncTogether(
                api_key="k", max_retries=0, http_client=httpx.AsyncClient(transport=httpx.MockTransport(self))
            ) as client:
                return await Cascade(Policy(made or document()), client).answer_async(ASK, **more)

        return asyncio.run(go())


def test_a_sure_answer_costs_one_call() -> None:
    service = Service(one_token(0.95))
    found = service.ask()
    assert (found.answer, found.route, found.text) == ("spam", "cheap", "spam")
    assert service.calls == {CHEAP: 1}
    assert found.usd == pytest.approx((100 * 0.17 + 1 * 0.25) / 1e6, rel=1e-12)


def test_a_sure_answer_stays_with_the_cheap_model_when_the_requests_text_is_given() -> None:
    service = Service(one_token(0.95))
    assert service.ask(text="Dear all, ...").route == "cheap"
    assert service.calls == {CHEAP: 1}


def test_an_unsure_answer_is_replaced_by_the_strong_models() -> None:
    service = Service(one_token(0.5))
    found = service.ask()
    assert (found.answer, found.route, found.confidence) == ("work", "strong", pytest.approx(0.5))
    assert service.calls == {CHEAP: 1, STRONG: 1}
    assert found.usd == pytest.approx((100 * 0.17 + 0.25 + 90 * 1.32 + 2 * 3.96) / 1e6, rel=1e-12)


def test_the_asynchronous_client_gives_the_same() -> None:
    for confidence in (0.95, 0.5):
        assert Service(one_token(confidence)).ask_async() == Service(one_token(confidence)).ask()


def test_what_is_sent_is_what_was_calibrated() -> None:
    service = Service(one_token(0.5))
    made = document(cheap={**document()["cheap"], "logprobs_form": "boolean"})
    service.ask(made)
    cheap, strong = service.asked
    assert cheap == {
        "messages": ASK,
        "model": CHEAP,
        "temperature": 0,
        "max_tokens": 8,
        "reasoning": {"enabled": False},
        "logprobs": True,
        "top_logprobs": 5,
    }
    assert strong == {"messages": ASK, "model": STRONG, "temperature": 0, "max_tokens": 8}


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        ("<html>bad gateway</html>", "failed"),
        ('{"choices": [{"mess', "failed"),
        (503, "InternalServerError"),
        (429, "RateLimitError"),
        (httpx.ReadTimeout("slow"), "APITimeoutError"),
        (one_token(0.99, model="other"), "not seen"),
        (body(logprobs=False), "no_logprobs"),
    ],
)
def test_whatever_goes_wrong_with_the_cheap_model_escalates(reply: Any, word: str) -> None:
    for ask in (Service(reply).ask, Service(reply).ask_async):
        found = ask()
        assert (found.answer, found.route) == ("work", "strong")
        assert word in found.decision.reason
        assert "secret" not in repr(found)


def test_dollars_are_unknown_when_a_reply_does_not_say_its_tokens() -> None:
    assert Service(one_token(0.95, usage=None)).ask().usd is None
    assert Service(503).ask().usd is None
    found = Service(one_token(0.5), body("work", model=STRONG, usage=None)).ask()
    assert (found.answer, found.usd) == ("work", None)


def test_a_strong_call_that_fails_raises_because_nobody_is_left_to_ask() -> None:
    with pytest.raises(together.APIStatusError):
        Service(one_token(0.5), 503).ask()


def test_a_strong_reply_outside_the_set_gives_its_text_and_no_answer() -> None:
    found = Service(one_token(0.5), body("I cannot say", model=STRONG)).ask()
    assert (found.answer, found.text, found.route) == (None, "I cannot say", "strong")


def test_a_policy_without_threshold_asks_the_strong_model_at_once() -> None:
    service = Service(one_token(0.99))
    found = service.ask(document(verdict="strong_only", threshold=None))
    assert (found.answer, found.confidence) == ("work", None)
    assert service.calls == {STRONG: 1}


def test_people_as_the_strong_side_are_named_and_paid_and_not_called() -> None:
    service = Service(one_token(0.5))
    found = service.ask(document(strong={"human": True, "usd_per_request": 0.4}))
    assert (found.answer, found.route) == (None, "human")
    assert found.usd == pytest.approx(0.4 + (100 * 0.17 + 0.25) / 1e6)
    assert service.calls == {CHEAP: 1}


def test_options_of_the_row_make_the_answer_set_of_both_models() -> None:
    made = document(kind="choose", labels=None)
    assert Service(one_token(0.99, "B")).ask(made, options=["x", "y"]).answer == "B"
    found = Service(one_token(0.4, "B"), body("A.", model=STRONG)).ask(made, options=["x", "y"])
    assert (found.answer, found.route) == ("A", "strong")


def test_another_prompt_escalates() -> None:
    assert Service(one_token(0.99)).ask(prompt_sha256="00" * 32).route == "strong"


def test_every_answer_writes_one_line_without_the_text_and_monitor_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    made = document()
    for confidence in (0.95, 0.5):
        Service(one_token(confidence)).ask(made, cascade={"log": path}, request_id="r1")
    Service(503).ask(made, cascade={"log": str(path)})
    lines = path.read_text().splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["accept", "escalate", "escalate"]
    assert json.loads(lines[0])["id"] == "r1"
    assert "hello" not in path.read_text()
    report = check(Policy(made), lines)
    assert (report["lines"]["judged"], report["lines"]["bad"], report["verdict"]) == (3, 0, "untested")


def test_shadow_asks_the_strong_model_about_accepted_answers_and_logs_what_it_said() -> None:
    lines: list[str] = []
    service = Service(one_token(0.95))
    made = document()
    for seed in range(20):
        found = service.ask(made, cascade={"log": lines.append, "shadow": 0.5, "seed": seed})
        assert (found.answer, found.route) == ("spam", "cheap")
    shadowed = [json.loads(line) for line in lines if json.loads(line)["strong_answer"] == "work"]
    assert service.calls[STRONG] == len(shadowed)
    assert 4 <= len(shadowed) <= 16
    evidence = check(Policy(made), lines)["evidence"][1]
    assert (evidence["labels"], evidence["errors"]) == (len(shadowed), len(shadowed))


def test_a_shadow_call_that_fails_leaves_the_cheap_answer() -> None:
    found = Service(one_token(0.95), 503).ask(cascade={"shadow": 1.0})
    assert (found.answer, found.route, found.usd) == ("spam", "cheap", None)


def test_a_shadow_share_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        Cascade(Policy(document()), None, shadow=1.5)
