"""Secrets and other people's machines: rows 53, 59, 35, 29 and 61 of the fault matrix."""

from __future__ import annotations

import json
import random
from dataclasses import fields, replace
from pathlib import Path

import pytest
from asking import KEY, request, rows
from fake_provider import LABELS, FakeProvider, completion, http, label_of, ok, redirect
from hypothesis import given
from hypothesis import strategies as st

from pipeline.__main__ import main
from pipeline.collect.providers.together import from_environment
from pipeline.collect.request import Request
from pipeline.collect.sending.sender import send
from pipeline.errors import AccessError
from pipeline.redact import MASK, redact, redact_bytes

pytest_plugins = ("asking_fixtures",)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    chance = random.Random(4)
    with (tmp_path / "rows.jsonl").open("w") as out:
        for i in range(60):
            text = f"mail {i}."
            out.write(
                json.dumps(
                    {
                        "id": f"m{i}",
                        "text": text,
                        "label": label_of(text)[0] if chance.random() < 0.8 else chance.choice(LABELS),
                    }
                )
                + "\n"
            )
    price = '{input: 1, output: 2, as_of: 2026-11-22, source: "made up"}'
    (tmp_path / "secretive.yaml").write_text(
        "task: secretive\nkind: classify\ndataset: {path: rows.jsonl, id: id, label: label}\nlabels: [work, personal, spam, other]\n"
        'prompt: {user: "{text}"}\nprovider: together\n'
        f"cheap: {{model: small, usd_per_million_tokens: {price}, top_logprobs: 4, params: {{temperature: 0, max_tokens: 8}}}}\n"
        f"strong: {{model: large, usd_per_million_tokens: {price}, params: {{temperature: 0, max_tokens: 8}}, splits: [certify, test]}}\n"
        "target: {kind: match_strong, within: 0.05}\nmax_failure_rate: 0.5\n"
    )
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    return tmp_path


def run(project: Path, api: FakeProvider, monkeypatch, command: str, *options: str) -> int:
    monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
    return main(
        [
            command,
            str(project / "secretive.yaml"),
            "--runs-dir",
            str(project / "runs"),
            "--reports-dir",
            str(project / "reports"),
            *options,
        ]
    )


def echo(post):
    """A careless service: it repeats the key in errors, in headers and in what the model says."""
    said = f"Incorrect API key provided: {KEY} (Authorization: Bearer {KEY})"
    if post.number % 5 == 1:
        return http(500, message=said)
    if post.number % 5 == 2:
        return http(422, message=said, headers={"x-request-id": KEY})
    if post.number % 5 == 3:
        return ok(id=KEY, model=f"small {KEY}")
    return None


@pytest.mark.slow
def test_row_53_the_key_is_in_no_byte_that_a_run_writes_or_prints(project, monkeypatch, capfd):
    """Canary: stdout, stderr, the store, every artefact and every page are searched for it."""
    with FakeProvider(echo) as api:
        codes = {
            command: run(project, api, monkeypatch, command)
            for command in ("doctor", "estimate", "evaluate", "status", "report")
        }
        assert api.posts[0].headers["authorization"] == f"Bearer {KEY}"
    assert codes["estimate"] == codes["status"] == 0
    assert codes["evaluate"] in (0, 4)
    out, err = capfd.readouterr()
    assert KEY not in out + err
    files = [p for p in project.rglob("*") if p.is_file()]
    assert len(files) > 10
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path


def test_row_53_the_key_is_in_no_error_that_ends_a_run(project, monkeypatch, capfd):
    with FakeProvider(lambda post: http(401, message=f"Invalid key {KEY}")) as api:
        for options in ([], ["--json"]):
            assert run(project, api, monkeypatch, "collect", *options) == 2
    out, err = capfd.readouterr()
    assert "TOGETHER_API_KEY" in err
    assert KEY not in out + err


def test_other_services_keys_are_removed_from_errors_but_not_from_answers():
    text = "Authorization: Bearer abcdefgh12345678, sk-proj-abcdefgh1234 and tgp_v1_zzzzzzzzzz; risk-averse, the bearer of news"
    assert redact(text) == f"Authorization: {MASK}, {MASK} and {MASK}; risk-averse, the bearer of news"
    answer = b'{"content": "use sk-abcdefgh1234"}'
    assert redact_bytes(answer, None, patterns=False) == answer
    assert b"sk-abc" not in redact_bytes(answer, None, patterns=True)


@pytest.mark.parametrize("key", ["token", "ok", "1", "a"])
def test_a_placeholder_for_a_key_damages_no_reply(store, monkeypatch, key):
    monkeypatch.setenv("TOGETHER_API_KEY", key)
    with FakeProvider() as api:
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        report = send(rows(3), from_environment(concurrency=1), store, task="mail", progress=False)
        assert api.posts[0].headers["authorization"] == f"Bearer {key}"
    assert report.kept == 3
    for asked in rows(3):
        assert json.loads(store.get(asked.request_id).body) == completion(
            {"messages": list(asked.messages), "model": asked.model, "logprobs": 3}
        )
    assert (redact(f"a {key}", key), redact(f"a {KEY}", KEY)) == (f"a {key}", f"a {MASK}")


def test_row_59_a_real_key_is_refused_over_plain_http_before_anything_is_sent(project, monkeypatch, capfd):
    monkeypatch.setenv("TOGETHER_BASE_URL", "http://192.0.2.1:8000")
    code = main(
        [
            "collect",
            str(project / "secretive.yaml"),
            "--runs-dir",
            str(project / "runs"),
            "--reports-dir",
            str(project / "reports"),
        ]
    )
    assert code == 2
    assert "unencrypted" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOGETHER_BASE_URL", "http://127.0.0.1:notaport"),
        ("TOGETHER_BASE_URL", "http://[::1"),
        ("TOGETHER_BASE_URL", "http://127.0.0.1:99999"),
        ("TOGETHER_API_KEY", f"{KEY}\nX: {KEY}"),
        ("TOGETHER_API_KEY", f"{KEY}é"),
    ],
)
def test_an_address_or_key_that_cannot_be_used_is_no_bug_and_nothing_is_sent(project, monkeypatch, capfd, name, value):
    with FakeProvider() as api:
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        monkeypatch.setenv(name, value)
        words = [
            "collect",
            str(project / "secretive.yaml"),
            "--runs-dir",
            str(project / "runs"),
            "--reports-dir",
            str(project),
        ]
        assert main(words) == 2
        assert not api.posts
    err = capfd.readouterr().err
    assert name in err
    assert KEY not in err
    assert "bug" not in err


def test_row_59_a_redirect_to_another_host_carries_no_key(ask):
    with FakeProvider() as thief, FakeProvider(lambda post: redirect(f"{thief.url}/v1/chat/completions")) as api:
        with pytest.raises(AccessError):
            ask(api, [request("x")])
        assert not thief.posts


def test_row_59_credentials_in_the_address_are_neither_sent_nor_kept(ask, store):
    with FakeProvider() as api:
        ask(api.url.replace("http://", "http://user:pass-word-1@"), [request("x")])
        assert "pass-word-1" not in str(api.posts[0].headers)
    assert b"pass-word-1" not in store.path.read_bytes() + store.path.with_name(store.path.name + "-wal").read_bytes()


# Row 35


def change(project: Path, old: str, new: str) -> None:
    config = project / "secretive.yaml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))


def test_row_35_a_changed_model_is_told_before_spending_sends_its_own_requests_only_and_keeps_the_old_run(
    project, monkeypatch, capfd
):
    told: list[str] = []

    def listen(post):
        if post.body["model"] == "larger":
            told.append(capfd.readouterr().err)

    with FakeProvider(listen) as api:
        assert run(project, api, monkeypatch, "collect") == 0
        assert "changed since" not in capfd.readouterr().err
        first = len(api.posts)
        change(project, "strong: {model: large", "strong: {model: larger")
        assert run(project, api, monkeypatch, "collect") == 0
        assert {p.body["model"] for p in api.posts[first:]} == {"larger"}
        assert "strong model: large → larger" in told[0], "what changed is said before the first request leaves"
    assert len(list((project / "runs" / "secretive").iterdir())) == 2


def test_row_35_estimate_lists_what_changed_and_sends_nothing(project, monkeypatch, capfd):
    with FakeProvider() as api:
        assert run(project, api, monkeypatch, "collect") == 0
        sent = len(api.posts)
        capfd.readouterr()

        def estimated() -> dict:
            assert run(project, api, monkeypatch, "estimate", "--json") == 0
            return json.loads(capfd.readouterr().out)

        same = estimated()
        assert (same["changes"]["what"], same["to_send"]) == ([], 0)
        change(project, "within: 0.05", "within: 0.06")
        assert (found := estimated())["changes"]["what"] == ["target.within: 0.05 → 0.06"]
        assert found["to_send"] == 0, "another target asks nothing anew"
        change(project, 'user: "{text}"', 'user: "Mail: {text}"')
        assert estimated()["changes"]["what"] == ["prompt.user: {text} → Mail: {text}", "target.within: 0.05 → 0.06"]
        assert estimated()["to_send"] == sent
        rows = (project / "rows.jsonl").read_text().splitlines(keepends=True)
        (project / "rows.jsonl").write_text("".join(rows[:-2]))
        assert f"({len(rows):,} before, {len(rows) - 2:,} now)" in estimated()["changes"]["what"][0]
        assert len(api.posts) == sent
    (record,) = (project / "runs" / "secretive").glob("*/run.json")
    record.write_text("{")
    with FakeProvider() as api:
        capfd.readouterr()
        assert estimated()["changes"] is None, "a damaged record of another run is in nobody's way"


# Row 29


@pytest.mark.parametrize("option", ["--runs-dir", "--reports-dir"])
def test_row_29_a_folder_that_cannot_be_written_is_noticed_before_anything_is_sent(project, monkeypatch, capfd, option):
    (project / "file").write_text("in the way")
    for place in ("file", "file/below"):
        with FakeProvider() as api:
            assert run(project, api, monkeypatch, "evaluate", option, str(project / place)) == 2
            assert not api.posts
        err = capfd.readouterr().err
        assert f"{project / 'file'}: cannot be written" in err, "what is in the way is named"
        assert option in err


# Row 61


PLAIN = Request(
    "row", "cheap", "together", "model", ({"role": "user", "content": "text"},), {"temperature": 0, "max_tokens": 8}, 5
)
texts = st.text(max_size=20)
OTHERS = {
    "service": texts,
    "model": texts,
    "repeat": st.integers(0, 9),
    "top_logprobs": st.none() | st.integers(0, 20),
    "messages": st.lists(st.fixed_dictionaries({"role": texts, "content": texts}), max_size=3).map(tuple),
    "params": st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts, max_size=3),
    "answers": st.lists(texts, max_size=3).map(tuple),
}


@given(field=st.sampled_from(sorted(OTHERS)), data=st.data())
def test_row_61_any_changed_field_changes_the_key(field, data):
    changed = replace(PLAIN, **{field: data.draw(OTHERS[field])})
    same = changed.canonical == PLAIN.canonical
    assert (changed.request_id == PLAIN.request_id) == same


def test_the_row_that_a_request_serves_is_no_part_of_its_key():
    assert replace(PLAIN, example_id="other", role="strong").request_id == PLAIN.request_id
    assert {f.name for f in fields(Request)} == {*OTHERS, "example_id", "role"}


@given(a=OTHERS["messages"], b=OTHERS["messages"])
def test_row_61_two_requests_share_a_key_only_when_they_are_equal(a, b):
    one, two = replace(PLAIN, messages=a), replace(PLAIN, messages=b)
    assert (one.request_id == two.request_id) == (list(a) == list(b))
