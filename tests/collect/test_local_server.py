"""The same code against real inference servers of the same wire format, found through TOGETHER_BASE_URL.

    .venv/bin/python scripts/local_servers.py run .venv/bin/python -m pytest -m slow tests/collect/test_local_server.py

builds and starts llama.cpp's own server and llama-cpp-python's with this repository's tiny models. For servers of your
own (vLLM, SGLang, Ollama): LOCAL_LLM_URLS=http://127.0.0.1:8000 LOCAL_LLM_MODELS=cheap,strong python -m pytest ...; the first
model needs logprobs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from asking import request

from cascade_threshold.answers import AnswerSet
from cascade_threshold.pricing import Price
from cascade_threshold.signals import measure
from pipeline.__main__ import main
from pipeline.collect.preflight import probe
from pipeline.collect.providers import together
from pipeline.collect.request import messages
from pipeline.collect.sending.sender import send
from pipeline.collect.task_input import TaskInput
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.demo.tiny_lm import TinyLM

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = ROOT / "configs" / "email_triage.yaml"
pytest_plugins = ("asking_fixtures",)
pytestmark = pytest.mark.slow
URLS = [url for url in os.environ.get("LOCAL_LLM_URLS", "").split(",") if url]
CHEAP, _, STRONG = os.environ.get("LOCAL_LLM_MODELS", "tiny-cheap,tiny-strong").partition(",")
WEIGHTS = os.environ.get("LOCAL_LLM_WEIGHTS", "")
ANSWERS = AnswerSet.classify(("work", "personal", "spam", "other"))
PARAMS = {"temperature": 0, "max_tokens": 8, "reasoning": {"enabled": False}}
ROWS = 40


@pytest.fixture(params=URLS or [None])
def server(request, monkeypatch):
    if request.param is None:
        pytest.skip("no local inference server: run this by `python scripts/local_servers.py run ...`")
    monkeypatch.setenv("TOGETHER_BASE_URL", request.param)
    return request.param


@pytest.fixture(scope="module")
def conversations() -> list[tuple[dict[str, str], ...]]:
    """What the bundled task asks about its first rows."""
    job = TaskInput(yaml_file.load(CONFIG), Options())
    assert job.config.prompt is not None
    return [messages(job.config.prompt, job.dataset.fields(e)) for e in job.dataset.examples[:ROWS]]


def asked(conversations: list[Any], model: str, role: str) -> list:
    return [
        request(
            str(i), role=role, model=model, params=PARAMS, top_logprobs=5 if role == "cheap" else None, messages=said
        )
        for i, said in enumerate(conversations)
    ]


def test_the_probe_finds_the_form_that_works_and_every_reply_carries_genuine_logprobs(server, store, conversations):
    cheap, strong = asked(conversations, CHEAP, "cheap"), asked(conversations, STRONG, "strong")
    price = Price(input=1.0, output=1.0)
    found = probe.probe(cheap[:1], together.from_environment(concurrency=1), store, task="local", price=price)
    assert found["usable"], found
    assert found["usage"]
    assert found["alternatives"] >= 5
    store.remember(probe.key(found["host"], cheap[0]), found)
    for requests in (cheap, strong):
        provider = together.from_environment(concurrency=4, forms=probe.forms(store, found["host"]))
        report = send(requests, provider, store, task="local", concurrency=4, price=price, progress=False)
        assert (report.failed, report.maybe_paid, report.unknown_usd) == (0, 0, 0)
        assert report.troubles["other_form"] == 0, "the form was known from the probe"
    replies = list(store.replies(r.request_id for r in cheap))
    assert len(replies) == ROWS
    assert {reply.wire_form for reply in replies} == {found["form"]}
    measured = [measure(reply.body, ANSWERS) for reply in replies]
    assert all(m.reply.tokens and m.reply.input_tokens for m in measured)
    assert sum(m.status == "ok" for m in measured) >= 0.9 * ROWS
    confident = [m.signals["label_sequence"] for m in measured if m.status == "ok"]
    assert all(0 < c <= 1 for c in confident)
    assert len(set(confident)) > len(confident) / 2
    assert send(cheap, together.from_environment(concurrency=4), store, task="local", progress=False).sent == 0


def test_a_model_that_is_not_there_costs_one_post_or_is_visible_in_the_reply(server, store, conversations):
    """Some servers answer with another model, and one of them under the asked name: then only the provenance tells."""
    try:
        found = probe.probe(
            asked(conversations, "no-such-model", "cheap")[:1],
            together.from_environment(concurrency=1),
            store,
            task="local",
        )
    except Exception as error:
        assert "no-such-model" in str(error) or "model" in str(error)  # noqa: PT017
    else:
        assert not found["usable"] or json.dumps(found["response_model"])


@pytest.mark.parametrize(("model", "role"), [(CHEAP, "cheap"), (STRONG, "strong")])
def test_another_implementation_reads_the_same_confidence_from_the_same_weights(
    server, store, conversations, model, role
):
    """llama.cpp's inference against ours in numpy: tokens alike, log-probabilities within what half-precision keys allow."""
    if not WEIGHTS:
        pytest.skip("LOCAL_LLM_WEIGHTS is not set: these servers have other models than this repository's")
    mine = TinyLM.load(Path(WEIGHTS) / f"{role}.npz")
    requests = asked(conversations, model, "cheap")
    forms = {model: "boolean"}  # the one that both servers understand
    send(requests, together.from_environment(concurrency=4, forms=forms), store, task="local", progress=False)
    compared = 0
    for said, reply in zip(conversations, store.replies(r.request_id for r in requests), strict=True):
        theirs, ours = measure(reply.body, ANSWERS), mine.generate(said, 8, 5)
        assert theirs.reply.input_tokens is not None
        if abs(theirs.reply.input_tokens - ours.prompt_tokens) or theirs.status != "ok":
            continue  # their tokeniser cuts runs of digits and signs otherwise
        assert theirs.reply.text is not None
        assert theirs.reply.text.encode() == b"".join(token.bytes for token in ours.tokens)
        tokens = [token for token in theirs.reply.tokens or () if token.token]
        assert [token.logprob for token in tokens] == pytest.approx([token.logprob for token in ours.tokens], abs=0.02)
        alternatives = {a.token: a.logprob for a in tokens[0].alternatives}
        for piece in ours.tokens[0].alternatives:
            if piece.logprob > -6 and (text := piece.bytes.decode("utf-8", "replace")) in alternatives:
                assert alternatives[text] == pytest.approx(piece.logprob, abs=0.05)
        compared += 1
    assert compared >= ROWS / 4


def test_the_main_job_runs_on_a_local_server_with_no_key(server, tmp_path, capsys):
    """The command of the guide: the bundled task, its models named as the server names them."""
    words = [
        "evaluate",
        str(CONFIG),
        "--provider",
        "together",
        "--limit",
        "300",
        "--concurrency",
        "4",
        "--yes",
        "--json",
        "--quiet",
        "--set",
        f"cheap.model={CHEAP}",
        "--set",
        f"strong.model={STRONG}",
        "--runs-dir",
        str(tmp_path / "runs"),
        "--reports-dir",
        str(tmp_path / "reports"),
    ]
    assert main(words) == 0, capsys.readouterr().err
    result = json.loads(capsys.readouterr().out)
    page = Path(result["report"]).read_text()
    assert server in page, "the page names the address that was asked"
    assert CHEAP in page
    assert main(words) == 0
    record = json.loads((tmp_path / "runs" / "email_triage" / result["run_id"] / "run.json").read_text())
    assert record["spending"]["cheap"]["sent"] == record["spending"]["strong"]["sent"] == 0


def test_one_task_with_each_side_on_a_server_of_its_own(tmp_path, capsys, monkeypatch):
    """Two implementations with different dialects at once, each asked as it wants."""
    if len(URLS) < 2:
        pytest.skip("needs two local inference servers: run this by `python scripts/local_servers.py run ...`")
    monkeypatch.delenv("TOGETHER_BASE_URL", raising=False)
    words = [
        "evaluate",
        str(CONFIG),
        "--limit",
        "100",
        "--concurrency",
        "4",
        "--yes",
        "--json",
        "--quiet",
        "--set",
        f"cheap.model={CHEAP}",
        "--set",
        f"strong.model={STRONG}",
        "--set",
        "cheap.provider=openai-compatible",
        "--set",
        "strong.provider=together",
        "--set",
        f"cheap.base_url={URLS[0]}",
        "--set",
        f"strong.base_url={URLS[1]}",
        "--runs-dir",
        str(tmp_path / "runs"),
        "--reports-dir",
        str(tmp_path / "reports"),
    ]
    assert main(words) == 0, capsys.readouterr().err
    policy = json.loads(Path(json.loads(capsys.readouterr().out)["policy"]).read_text())
    assert (policy["cheap"]["service"], policy["strong"]["service"]) == (URLS[0], URLS[1])
