"""Each role at its own service: other dialects, addresses, keys and constraints, through the real command on real sockets."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_batch import FakeBatchApi
from fake_provider import FakeProvider, Post, Step, completion, http, label_of, ok, raw, redirect

import cascade_threshold
from pipeline.__main__ import main
from pipeline.collect.providers import address
from pipeline.collect.providers.wire_form import WireForm
from pipeline.collect.request import Request
from pipeline.config import yaml_file
from pipeline.config.providers import PROVIDERS
from pipeline.errors import ConfigError, UsageError

TOGETHER_KEY, OTHER_KEY = "canary-together-0123456789", "canary-other-9876543210"
LABELS = ("work", "personal", "spam", "other")
PRICE = '{input: 1, output: 2, as_of: 2026-11-22, source: "made up"}'
ROWS = 120


def openai_dialect(post: Post) -> Step | None:
    """A server that wants max_completion_tokens, a boolean for logprobs and a JSON schema, and says so one at a time."""
    body = post.body
    if "max_tokens" in body:
        return http(
            400,
            message="Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        )
    if body.get("logprobs") not in (None, True):
        return http(400, message="Invalid type for 'logprobs': expected a boolean, but got an integer instead.")
    form = body.get("response_format")
    if form is not None and form["type"] != "json_schema":
        return http(
            400, body={"error": {"message": f"Invalid value: '{form['type']}'.", "param": "response_format.type"}}
        )
    if form is not None:
        return raw(json.dumps(in_json(completion(body))).encode())
    return None


def in_json(body: dict[str, Any]) -> dict[str, Any]:
    """A completion whose answer stands in the object that the schema asks for."""
    choice = body["choices"][0]
    label = choice["message"]["content"]
    choice["message"]["content"] = json.dumps({"label": label})
    if choice["logprobs"] is not None:
        around = [
            {"token": t, "bytes": list(t.encode()), "logprob": 0.0, "top_logprobs": []} for t in ('{"label": "', '"}')
        ]
        choice["logprobs"]["content"] = [around[0], *choice["logprobs"]["content"], around[1]]
    return body


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with labeled rows, both keys in the environment."""
    rows = [{"id": f"m{i}", "text": f"mail {i}.", "label": label_of(f"mail {i}.")[0]} for i in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOGETHER_API_KEY", TOGETHER_KEY)
    monkeypatch.setenv("MY_KEY", OTHER_KEY)
    for name in ("TOGETHER_BASE_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def config(folder: Path, cheap: str, strong: str, more: str = "") -> str:
    (folder / "pair.yaml").write_text(
        "task: pair\nkind: classify\ndataset: {path: rows.jsonl, id: id, label: label}\nlabels: [work, personal, spam, other]\n"
        f'prompt: {{user: "{{text}}"}}\nprovider: together\n{more}'
        f"cheap: {{model: small, usd_per_million_tokens: {PRICE}, top_logprobs: 4, params: {{temperature: 0, max_tokens: 8}}, {cheap}}}\n"
        f"strong: {{model: large, usd_per_million_tokens: {PRICE}, params: {{temperature: 0, max_tokens: 8}}, {strong}}}\n"
        "signal: first_token\ntarget: {kind: agree_with_strong, within: 0.3}\n"
    )
    return str(folder / "pair.yaml")


def everything_written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.slow
def test_two_servers_of_other_dialects_answer_one_task_each_with_its_own_key(project, monkeypatch, capsys):
    with FakeProvider(openai_dialect) as cheap, FakeProvider() as strong:
        monkeypatch.setenv("TOGETHER_BASE_URL", strong.url)
        path = config(
            project,
            f"provider: openai-compatible, base_url: '{cheap.url}', api_key_env: MY_KEY, constrain: answers",
            "constrain: answers",
        )
        assert main(["evaluate", path, "--quiet"]) == 0, capsys.readouterr().err
        posts = len(cheap.posts), len(strong.posts)
        assert main(["collect", path, "--quiet"]) == 0
        assert (len(cheap.posts), len(strong.posts)) == posts, "a second run sends nothing"
    assert {p.headers.get("authorization") for p in cheap.posts} == {f"Bearer {OTHER_KEY}"}
    assert {p.headers.get("authorization") for p in strong.posts} == {f"Bearer {TOGETHER_KEY}"}
    assert posts == (ROWS + 2, ROWS), (
        "each refusal is one free POST, once: boolean logprobs are what this provider asks for first"
    )
    asked = cheap.posts[-1].body
    assert (asked["logprobs"], asked["top_logprobs"], asked["max_completion_tokens"], "max_tokens" in asked) == (
        True,
        4,
        8,
        False,
    )
    schema = asked["response_format"]["json_schema"]
    assert (schema["strict"], schema["schema"]["properties"]["label"]["enum"]) == (True, list(LABELS))
    plain = strong.posts[-1].body
    assert (plain["max_tokens"], plain["response_format"]) == (
        8,
        {"type": "regex", "pattern": "(work|personal|spam|other)"},
    )
    assert "logprobs" not in plain
    policy_path = next((project / "reports" / "pair").rglob("policy.json"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        policy = cascade_threshold.load(policy_path)
    for role, last in (("cheap", asked), ("strong", plain)):
        sent = {k: v for k, v in last.items() if k != "messages"}
        assert policy.request(role) == sent
    assert policy.document["cheap"]["service"] == cheap.url
    assert policy.document["strong"]["service"] == strong.url
    assert "shares among what was allowed" in next((project / "reports" / "pair").rglob("report.json")).read_text()
    written = everything_written(project)
    assert TOGETHER_KEY.encode() not in written
    assert OTHER_KEY.encode() not in written
    assert cheap.url.encode() in written


def test_one_side_goes_through_batches_and_the_other_does_not(project, monkeypatch, capsys):
    with FakeProvider(openai_dialect) as cheap, FakeBatchApi(polls=0) as strong:
        monkeypatch.setenv("TOGETHER_BASE_URL", strong.url)
        path = config(project, f"provider: openai-compatible, base_url: '{cheap.url}'", "provider: together-batch")
        for _ in range(2):
            assert main(["collect", path, "--quiet"]) == 0, capsys.readouterr().err
        assert len(cheap.posts) == ROWS + 1
        assert sum(len(ids) for ids in strong.submitted) == ROWS, "and a second run submits nothing"
    store = next(project.rglob("replies.parquet"))
    providers = pd.read_parquet(store).groupby("role")["provider"].unique().map(list).to_dict()
    assert providers == {"cheap": ["openai-compatible"], "strong": ["together-batch"]}


def test_one_servers_replies_are_never_used_for_another(project, capsys):
    with FakeProvider() as first, FakeProvider() as second:
        for api in (first, second):
            path = config(project, f"base_url: '{api.url}/v1'", f"base_url: '{api.url}'")
            assert main(["collect", path, "--quiet"]) == 0, capsys.readouterr().err
    assert len(first.posts) == len(second.posts) == 2 * ROWS
    assert not any("authorization" in p.headers for p in (*first.posts, *second.posts)), (
        "an address of a config gets no key that it does not name"
    )


def test_a_redirect_takes_no_key_along(project, capsys):
    with (
        FakeProvider() as elsewhere,
        FakeProvider(lambda post: redirect(f"{elsewhere.url}/v1/chat/completions")) as api,
    ):
        path = config(project, *(2 * [f"provider: openai-compatible, base_url: '{api.url}', api_key_env: MY_KEY"]))
        assert main(["collect", path, "--quiet"]) != 0
        assert not elsewhere.posts
    assert OTHER_KEY not in capsys.readouterr().err


def test_a_server_that_repeats_the_key_of_the_other_role_leaves_it_nowhere(project, monkeypatch, capsys):
    with (
        FakeProvider() as cheap,
        FakeProvider(lambda post: http(401, message=f"no such key {TOGETHER_KEY} {OTHER_KEY}")) as strong,
    ):
        monkeypatch.setenv("TOGETHER_BASE_URL", cheap.url)
        path = config(
            project,
            "top_logprobs: 4".replace("top_logprobs: 4", "provider: together"),
            f"base_url: '{strong.url}', api_key_env: MY_KEY",
        )
        assert main(["collect", path, "--quiet"]) == 2
    said = capsys.readouterr().err
    for key in (TOGETHER_KEY, OTHER_KEY):
        assert key not in said
        assert key.encode() not in everything_written(project)


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("base_url: 'https://user:hunter2@x.example'", "user name"),
        ("base_url: 'https://x.example/v1?sig=hunter2'", "query"),
        ("base_url: 'x.example'", "https://host"),
        ("api_key_env: 'sk-hunter2'", "name of an environment variable"),
        ("provider: opena", "choose from embedded, together"),
        ("constrain: labels", "answers"),
        ("constrain: answers, params: {response_format: {type: text}}", "remove it from params"),
    ],
)
def test_what_is_no_service_is_refused_without_showing_a_secret(tmp_path, role, said):
    path = config(tmp_path, role, "top_logprobs: 3").replace(
        "params: {temperature: 0, max_tokens: 8}, constrain", "constrain"
    )
    if "params" in role:
        Path(path).write_text(
            Path(path).read_text().replace("params: {temperature: 0, max_tokens: 8}, constrain", "constrain")
        )
    with pytest.raises(ConfigError, match=said) as refused:
        yaml_file.load(Path(path))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "variable", "insecure", "outcome"),
    [
        ("https://api.openai.com/v1", None, False, "OPENAI_API_KEY"),
        ("https://api.fireworks.ai/inference/v1", None, False, "needs its own key"),
        ("https://api.fireworks.ai/inference/v1", "MY_KEY", False, OTHER_KEY),
        ("http://10.0.0.8:8000", "MY_KEY", False, "unencrypted"),
        ("http://10.0.0.8:8000", "MY_KEY", True, OTHER_KEY),
        ("http://10.0.0.8:8000", None, True, None),
        ("http://127.0.0.1:8000", None, False, None),
        ("http://127.0.0.1.evil.example", "MY_KEY", False, "unencrypted"),
        ("https://x.example", "NOT_SET", False, "NOT_SET is not set"),
    ],
)
def test_which_key_goes_where(project, url, variable, insecure, outcome):
    found = address.place("cheap", "openai-compatible", url, variable)
    if outcome in (None, OTHER_KEY):
        assert address.key_for(found, url, role="cheap", allow_insecure=insecure) == outcome
    else:
        with pytest.raises(UsageError, match=outcome):
            address.key_for(found, url, role="cheap", allow_insecure=insecure)


@pytest.mark.parametrize(
    ("given", "chat", "name"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1/chat/completions", "http://127.0.0.1:8000"),
        ("https://API.OpenAI.com:443/v1", "https://API.OpenAI.com:443/v1/chat/completions", "https://api.openai.com"),
        (
            "https://api.deepinfra.com/v1/openai",
            "https://api.deepinfra.com/v1/openai/chat/completions",
            "https://api.deepinfra.com/v1/openai",
        ),
        (
            "https://x.openai.azure.com/openai/v1/",
            "https://x.openai.azure.com/openai/v1/chat/completions",
            "https://x.openai.azure.com/openai",
        ),
        (
            "https://openrouter.ai/api/v1/chat/completions",
            "https://openrouter.ai/api/v1/chat/completions",
            "https://openrouter.ai/api",
        ),
        ("https://api.together.xyz/v1", "https://api.together.xyz/v1/chat/completions", "together"),
        ("https://api-inference.together.ai/v1", "https://api-inference.together.ai/v1/chat/completions", "together"),
        (
            "https://together.ai.evil.example",
            "https://together.ai.evil.example/v1/chat/completions",
            "https://together.ai.evil.example",
        ),
        ("http://[::1]:80/v1", "http://[::1]:80/v1/chat/completions", "http://[::1]"),
    ],
)
def test_addresses_as_people_write_them(given, chat, name):
    url = address.checked(given, "base_url")
    assert address.chat_url(url) == chat
    assert address.service_name(chat) == name


def test_the_larger_bound_is_kept_where_both_are_given():
    asked = Request(
        "1",
        "strong",
        "s",
        "m",
        ({"role": "user", "content": "x"},),
        {"max_tokens": 8, "max_completion_tokens": 30},
        None,
    )
    assert WireForm(length="max_completion_tokens").body(asked)["max_completion_tokens"] == 30
    assert "max_tokens" not in WireForm(length="max_completion_tokens").body(asked)


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_has_its_file_and_both_of_its_functions(name):
    from importlib import import_module

    file = import_module(f"pipeline.collect.providers.{PROVIDERS[name].module}")
    assert callable(file.service)
    assert callable(file.connect_batch if PROVIDERS[name].batch else file.connect)


def tev1(post: Post) -> Step | None:
    """Together's decision model: a JSON user message, letters of the row's options by regex, boolean logprobs, its end token listed."""
    body = post.body
    user = json.loads(body["messages"][-1]["content"])
    letters = re.findall(r"^([A-Z])\. ", user["options"], flags=re.M)
    wanted = {
        "model": "together/Tev1-4B-experimental",
        "logprobs": True,
        "top_logprobs": 5,
        "max_tokens": 4,
        "temperature": 0,
        "response_format": {"type": "regex", "pattern": f"({'|'.join(letters)})"},
    }
    if {k: v for k, v in body.items() if k != "messages"} != wanted or body["messages"][0]["role"] != "system":
        return http(400, message="unsupported request")
    label, logprob = label_of(user["question"])
    place = LABELS.index(label) % len(letters)
    entries = [
        {"token": t, "bytes": list(t.encode()), "logprob": logprob if t == letters[place] else logprob - 1.125}
        for t in (letters[place], *(t for t in letters if t != letters[place]))
    ]
    entries.append({"token": "Z", "bytes": [90], "logprob": -3.4028234663852886e38})
    end = {"token": "", "bytes": [], "logprob": 0, "top_logprobs": []}
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": letters[place]},
        "logprobs": {"content": [{**entries[0], "top_logprobs": entries[:5]}, end]},
    }
    return ok(choices=[choice], usage={"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42})


def test_the_decision_model_is_asked_in_its_form_and_its_output_costs_nothing(project, monkeypatch, capsys):
    lines = []
    for i in range(ROWS):
        options = ["to work", 'to "personal"', "to spam", "to others"][: 3 + i % 2]
        right = options[LABELS.index(label_of(f"mail {i}.")[0]) % len(options)]
        lines.append(
            json.dumps({"id": f"m{i}", "the question": f"mail {i}.", "options": options, "answer": right}) + "\n"
        )
    (project / "rows.jsonl").write_text("".join(lines))
    (project / "decide.yaml").write_text(
        "task: decide\nkind: choose\ndataset: {path: rows.jsonl, id: id, label: answer, options: options}\n"
        "prompt:\n  messages:\n  - {role: system, content: Decide.}\n"
        '  - {role: user, content: \'{{"question": {the question:json}, "options": {options:json}}}\'}\nprovider: together\n'
        'cheap:\n  model: together/Tev1-4B-experimental\n  usd_per_million_tokens: {input: 0.042, output: 0, as_of: 2026-11-22, source: "made up"}\n'
        "  top_logprobs: 5\n  params: {temperature: 0, max_tokens: 4}\n  constrain: answers\n"
        "strong: {human: true, usd_per_request: 0.05}\nsignal: label_probability\ntarget: {kind: accepted_accuracy, at_least: 0.6}\n"
    )
    with FakeProvider(tev1) as api:
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        assert main(["evaluate", "decide.yaml", "--quiet", "--json"]) == 0, capsys.readouterr().err
    assert len(api.posts) == ROWS + 1, "what is refused without a reason is tried once in the next form"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        policy = cascade_threshold.load(next((project / "reports" / "decide").rglob("policy.json")))
    for count in (3, 4):
        sent = next(
            p.body
            for p in api.posts[1:]
            if json.loads(p.body["messages"][-1]["content"])["options"].count("\n") == count - 1
        )
        assert policy.request(options=count) == {k: v for k, v in sent.items() if k != "messages"}
    with pytest.raises(UsageError, match="the row's options"):
        policy.request()
    assert policy.document["cheap"]["usd_per_million_tokens"]["output"] == 0
    run = json.loads(next((project / "runs" / "decide").rglob("run.json")).read_text())
    assert run["spending"]["cheap"]["usd"] == pytest.approx((ROWS - 1) * 40 * 0.042 / 1e6), "and one was the trial"
