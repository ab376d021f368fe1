"""The cascade behind the clients that services have, over transports that answer in process; and logs that cannot be written."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from deliver.policies import CHEAP, STRONG, body, document, one_token

from cascade_threshold import Cascade, Policy, collect_stream
from cascade_threshold.decision_log import DecisionLogWarning, appender
from cascade_threshold.errors import UsageError

openai = pytest.importorskip("openai")
ASK = [{"role": "user", "content": "Subject: hello"}]


class Service:
    """Answers each model; keeps what was asked."""

    def __init__(self, confidence: float = 0.95) -> None:
        self.replies = {
            CHEAP: one_token(confidence),
            STRONG: body("work", [("work", 0.0)], model=STRONG, logprobs=False),
        }
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(json.loads(request.content))
        return httpx.Response(200, json=self.replies[self.asked[-1]["model"].removeprefix("together_ai/")])


def boolean_form() -> dict[str, Any]:
    made = document()
    return document(cheap={**made["cheap"], "logprobs_form": "boolean"})


@pytest.mark.parametrize("made", [document(), boolean_form()], ids=["integer", "boolean"])
@pytest.mark.parametrize(("confidence", "route"), [(0.95, "cheap"), (0.5, "strong")])
def test_openais_client_and_its_async_form_send_what_was_calibrated(
    made: dict[str, Any], confidence: float, route: str
) -> None:
    policy, service = Policy(made), Service(confidence)

    async def later() -> Any:
        async with openai.AsyncOpenAI(
            api_key="k",
            base_url="http://x/v1",
            max_retries=0,
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(service)),
        ) as client:
            return await Cascade(policy, client).answer_async(ASK)

    with openai.OpenAI(
        api_key="k",
        base_url="http://x/v1",
        max_retries=0,
        http_client=httpx.Client(transport=httpx.MockTransport(service)),
    ) as client:
        found = Cascade(policy, client).answer(ASK)
    again = asyncio.run(later())
    assert (found.answer, found.route, found.usd) == (again.answer, again.route, again.usd)
    assert (found.route, found.answer) == (route, {"cheap": "spam", "strong": "work"}[route])
    for asked in service.asked:
        role = "cheap" if asked["model"] == CHEAP else "strong"
        assert {k: v for k, v in asked.items() if k != "messages"} == policy.request(role)


class LiteLLM:
    """The shape of the module litellm and of its Router, and the objects that they give."""

    def __init__(self, service: Service) -> None:
        self.service, self.asked = service, []

    def completion(self, model: str, messages: list[Any], **body_: Any) -> Any:
        self.asked.append({"model": model, **body_})
        found = self.service.replies[model.removeprefix("together_ai/")]
        return SimpleNamespace(model_dump=lambda: {**found, "model": model})

    async def acompletion(self, **asked: Any) -> Any:
        return self.completion(**asked)


def test_litellm_is_asked_in_its_own_dialect_and_its_prefix_and_our_alias_are_known_models() -> None:
    client, policy = LiteLLM(Service()), Policy(document())
    cascade = Cascade(policy, client, models={"cheap": f"together_ai/{CHEAP}", "strong": f"together_ai/{STRONG}"})
    found = cascade.answer(ASK)
    assert (found.answer, found.route) == ("spam", "cheap")
    assert asyncio.run(cascade.answer_async(ASK)).answer == "spam"
    assert client.asked[0]["logprobs"] is True
    assert client.asked[0]["top_logprobs"] == 5
    for name in (CHEAP, f"together_ai/{CHEAP}", "email_triage-cheap"):
        assert policy.decide(one_token(0.95, model=name)).action == "accept"
    for name in ("other", f"other/{CHEAP}", "email_triage-strong", "together_ai/other", None):
        assert policy.decide(one_token(0.95, model=name)).action == "escalate"


def test_a_function_is_a_client_and_anything_else_is_refused() -> None:
    service = Service()
    found = Cascade(Policy(document()), lambda messages, model, **_: json.dumps(service.replies[model])).answer(ASK)
    assert found.answer == "spam"
    with pytest.raises(TypeError, match="neither chat"):
        Cascade(Policy(document()), object())


def test_each_dialect_asks_for_the_same_alternatives_in_its_own_fields() -> None:
    policy = Policy(document())
    assert policy.request(dialect="together")["logprobs"] == 5
    for dialect in ("openai", "litellm"):
        assert (policy.request(dialect=dialect)["logprobs"], policy.request(dialect=dialect)["top_logprobs"]) == (
            True,
            5,
        )
    assert policy.request(dialect="openai")["max_completion_tokens"] == policy.request()["max_tokens"]
    assert "logprobs" not in policy.request("strong", dialect="openai")
    with pytest.raises(UsageError, match="dialect 'soap' is unknown"):
        policy.request(dialect="soap")


# ---- streams


def chunks(whole: dict[str, Any], *, legacy: bool = False) -> Iterator[dict[str, Any]]:
    """A completion as services stream it: a role, one chunk a token, a reason to finish, the usage."""
    choice = whole["choices"][0]

    def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "id": "x",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": whole["model"],
            "choices": [{"index": 0, "delta": delta, "finish_reason": None, "logprobs": None, **more}],
        }

    yield chunk({"role": "assistant", "content": ""})
    for entry in choice["logprobs"]["content"]:
        yield chunk({"content": entry["token"]}, logprobs={"content": [entry]})
    yield chunk({}, finish_reason=choice["finish_reason"])
    yield {"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": whole["usage"]}


@pytest.mark.parametrize("form", ["mappings", "objects", "lines"])
def test_streamed_chunks_decide_as_the_whole_reply_does(form: str) -> None:
    whole = body("spam", [("sp", -0.01), ("am", -0.02)])
    parts: list[Any] = list(chunks(whole))
    if form == "objects":
        parts = [SimpleNamespace(model_dump=lambda c=c: c) for c in parts]
    if form == "lines":
        parts = [": keep-alive", *[f"data: {json.dumps(c)}" for c in parts], "data: [DONE]"]
    policy = Policy(document())
    assert policy.decide(collect_stream(parts)) == policy.decide(whole)
    assert collect_stream(parts)["usage"] == whole["usage"]


def streamed(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "model": "small", "choices": list(choices), **more}


def other_streams(whole: dict[str, Any]) -> dict[str, Any]:
    """The same reply as services other than the first write it."""
    entry, stop = whole["choices"][0]["logprobs"]["content"][0], {"finish_reason": "stop"}
    said = {"delta": {"content": entry["token"]}, "logprobs": {"content": [entry]}}
    second = {"index": 1, "delta": {"content": "ham"}, **stop}
    thought = {**entry, "token": "hm", "bytes": list(b"hm")}
    return {
        "two choices a chunk, the first behind": [streamed(second, {"index": 0, **said, **stop})],
        "the whole message at the end": [streamed(said), streamed({"message": whole["choices"][0]["message"], **stop})],
        "an empty message at the end": [streamed(said), streamed({"message": {"content": ""}, **stop})],
        "logprobs as a list": [streamed({**said, "logprobs": [entry], **stop})],
        "content in parts": [
            streamed({"delta": {"content": [{"type": "thinking", "thinking": "ham"}]}}),
            streamed({**said, "delta": {"content": [{"type": "text", "text": entry["token"]}]}, **stop}),
        ],
        "thoughts with logprobs of their own": [
            streamed({"delta": {"thinking": "hm"}, "logprobs": {"content": [thought]}}),
            streamed({**said, **stop}),
        ],
        "the whole event stream as text": f"data: {json.dumps(streamed({**said, **stop}))}\n\ndata: [DONE]\n",
    }


@pytest.mark.parametrize("form", other_streams(body("spam", [("spam", -0.01)])))
def test_streams_of_other_shapes_decide_as_the_whole_reply_does(form: str) -> None:
    whole, policy = body("spam", [("spam", -0.01)]), Policy(document())
    told = collect_stream(other_streams(whole)[form]) | {"model": whole["model"]}
    assert policy.decide(told) == policy.decide(whole)
    assert policy.decide(whole).status == "ok"


def test_a_streamed_tool_call_is_read_and_a_streamed_error_never_is() -> None:
    whole = body("spam", [("spam", -0.01)])
    said = {"delta": {"content": "spam"}, "logprobs": whole["choices"][0]["logprobs"], "finish_reason": "stop"}
    pieces = ['{"label"', ': "spam"}']
    calls = [streamed({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": p}}]}}) for p in pieces]
    older = [streamed({"delta": {"function_call": {"name": "f", "arguments": p}}}) for p in pieces]
    end = streamed({"delta": {}, "finish_reason": "tool_calls"})
    for call in (calls, older):
        assert Policy(document()).decide(collect_stream([*call, end])).answer == "spam"
    two = [*calls, streamed({"delta": {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}}), end]
    assert Policy(document()).decide(collect_stream(two)).answer is None
    for late in (streamed({**said, "error": {"code": 502}}), streamed(said, error={"message": "overloaded"})):
        decision = Policy(document()).decide(collect_stream([late]))
        assert (decision.action, decision.status) == ("escalate", "failed")


def test_a_stream_that_breaks_off_escalates_and_a_streaming_function_is_a_client() -> None:
    whole, policy = one_token(0.95), Policy(document())
    broken = collect_stream(list(chunks(whole))[:2])
    assert (policy.decide(broken).action, policy.decide(broken).status) == ("escalate", "failed")
    assert Cascade(policy, lambda messages, **_: chunks(whole)).answer(ASK).answer == "spam"

    async def stream() -> AsyncIterator[dict[str, Any]]:
        for chunk in chunks(whole):
            yield chunk

    assert asyncio.run(Cascade(policy, lambda messages, **_: stream()).answer_async(ASK)).answer == "spam"


# ---- the log


def broken_pipe(line: str) -> None:
    raise BrokenPipeError("log pipe closed")


@pytest.mark.parametrize(
    "log", ["/dev/full", "nowhere/decisions.jsonl", ".", broken_pipe], ids=["full", "gone", "folder", "function"]
)
def test_a_log_that_cannot_be_written_costs_no_answer_is_warned_of_once_and_counted(
    log: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if log == "/dev/full" and not Path(log).exists():
        pytest.skip("no /dev/full")
    client = LiteLLM(Service())
    cascade = Cascade(Policy(document()), client, log=log)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        answers = [cascade.answer(ASK).answer for _ in range(3)]
    assert answers == ["spam"] * 3
    assert [w.category for w in seen] == [DecisionLogWarning]
    assert cascade.log_failures == 3
    assert cascade.answer(ASK).answer == "spam"  # although warnings are errors here
    with pytest.raises((OSError, BrokenPipeError)):
        Cascade(Policy(document()), client, log=log, log_errors="raise").answer(ASK)


def test_after_a_torn_line_the_next_one_begins_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for i in range(5):
        with path.open("ab") as handle:
            handle.write(b'{"torn": ')
        appender(path)(json.dumps({"n": i}) + "\n")
    whole = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    assert whole == [{"n": i} for i in range(5)]


def test_two_equal_decisions_are_told_apart_in_the_log() -> None:
    lines: list[str] = []
    cascade = Cascade(Policy(document()), LiteLLM(Service()), log=lines.append)
    for _ in range(3):
        cascade.answer(ASK, request_id="same")
    assert len({json.loads(line)["event"] for line in lines}) == 3
