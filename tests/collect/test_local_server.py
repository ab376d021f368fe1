"""The same code against real inference servers of the same wire format, found through TOGETHER_BASE_URL.

    LOCAL_LLM_URLS=http://127.0.0.1:8131,http://127.0.0.1:8111 LOCAL_LLM_MODELS=cheap,strong \
        python -m pytest -m slow tests/collect/test_local_server.py

The servers may be vLLM, SGLang, llama.cpp's or any other; the first model needs logprobs.
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from asking import request

from pipeline.collect import probe
from pipeline.collect.providers import together
from pipeline.collect.send import send
from pipeline.measure.answers import AnswerSet
from pipeline.measure.confidence import measure

pytest_plugins = ("asking_fixtures",)
pytestmark = pytest.mark.slow
URLS = [url for url in os.environ.get("LOCAL_LLM_URLS", "").split(",") if url]
CHEAP, _, STRONG = os.environ.get("LOCAL_LLM_MODELS", "tiny-cheap,tiny-strong").partition(",")
ANSWERS = AnswerSet.classify(("work", "personal", "spam", "other"))
SYSTEM = "You sort e-mail. Answer with exactly one of these labels: work, personal, spam, other."
MAILS = [
    f"Subject: {subject}\n\n{body}"
    for subject in ("Quarterly numbers", "Dinner on Sunday?", "You have won a prize", "Parking lot closed")
    for body in ("Please send me the report by Friday.", "Shall I bring the cake? Love, Mum", "Click here to claim your money now!!!", "The lift is out of order.")
]  # fmt: skip


@pytest.fixture(params=URLS or [None])
def server(request, monkeypatch):
    if request.param is None:
        pytest.skip("LOCAL_LLM_URLS is not set: no local inference server to ask")
    monkeypatch.setenv("TOGETHER_BASE_URL", request.param)
    return request.param


def asked(model: str, role: str) -> list:
    params = {"temperature": 0, "max_tokens": 8, "reasoning": {"enabled": False}}
    return [
        request(mail, role=role, model=model, params=params, top_logprobs=5 if role == "cheap" else None, example_id=str(i),
                messages=({"role": "system", "content": SYSTEM}, {"role": "user", "content": mail}))
        for i, mail in enumerate(MAILS)
    ]  # fmt: skip


def test_the_probe_finds_the_form_that_works_and_every_reply_carries_genuine_logprobs(server, store):
    cheap, strong = asked(CHEAP, "cheap"), asked(STRONG, "strong")
    price = SimpleNamespace(input=1.0, output=1.0)
    found = probe.probe(cheap[0], together.from_environment(concurrency=1), store, task="local", price=price)
    assert found["usable"], found
    assert found["usage"]
    assert found["alternatives"] >= 5
    store.remember(probe.key(found["host"], cheap[0]), found)
    print({k: found[k] for k in ("host", "form", "shape", "alternatives", "tokens", "exact_zero_share", "text")})
    for requests in (cheap, strong):
        provider = together.from_environment(concurrency=4, forms=probe.forms(store, found["host"]))
        report = send(requests, provider, store, task="local", concurrency=4, price=price, progress=False)
        assert (report.failed, report.maybe_paid, report.unknown_usd) == (0, 0, 0)
        assert report.troubles["other_form"] == 0, "the form was known from the probe"
    replies = list(store.replies(r.request_id for r in cheap))
    assert len(replies) == len(MAILS)
    assert {reply.wire_form for reply in replies} == {found["form"]}
    measured = [measure(reply.body, ANSWERS) for reply in replies]
    assert all(m.reply.tokens and m.reply.input_tokens for m in measured)
    assert sum(m.status == "ok" for m in measured) >= 0.9 * len(MAILS)
    confident = [m.signals["label_sequence"] for m in measured if m.status == "ok"]
    assert all(0 < c <= 1 for c in confident)
    assert len(set(confident)) > len(confident) / 2
    assert send(cheap, together.from_environment(concurrency=4), store, task="local", progress=False).sent == 0


def test_a_model_that_is_not_there_costs_one_post_or_is_visible_in_the_reply(server, store):
    """Some servers answer with another model, and one of them under the asked name: then only the provenance tells."""
    try:
        found = probe.probe(
            asked("no-such-model", "cheap")[0], together.from_environment(concurrency=1), store, task="local"
        )
    except Exception as error:
        assert "no-such-model" in str(error) or "model" in str(error)  # noqa: PT017
    else:
        assert not found["usable"] or json.dumps(found["response_model"])
