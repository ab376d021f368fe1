"""Canaries in every place where a secret may stand, a service that repeats them, and a search of every byte that comes out.

Searched: the terminal, `--json`, all files as they lie, kept bodies decompressed, every cell and all metadata of Parquet, pages,
the arguments of other processes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_provider import LABELS, FakeProvider, http, label_of, ok, redirect
from foreign_input import call

from pipeline.redact import bare_address, redact

CHEAP_KEY, STRONG_KEY = "canary-cheap-0123456789", "canary/strong+0123456789=="
PASSWORD, SIGNATURE, PROXY = "canary-pass-1", "canary%2Bsign%2Fature", "canary-proxy-1"
SECRETS = (CHEAP_KEY, STRONG_KEY, PASSWORD, SIGNATURE, urllib.parse.unquote(SIGNATURE), PROXY)
ROWS = "".join(
    json.dumps({"id": f"m{i}", "text": f"mail {i}.", "label": label_of(f"mail {i}.")[0] if i % 5 else LABELS[i % 4]})
    + "\n"
    for i in range(160)
)


class Files(BaseHTTPRequestHandler):
    """Hands out the rows to whoever signs."""

    def do_GET(self) -> None:
        good = urllib.parse.unquote(self.path) == urllib.parse.unquote(
            f"/rows.jsonl?X-Amz-Signature={SIGNATURE}&sv=2026"
        )
        data = ROWS.encode() if good else b"no such file: " + self.path.encode()
        self.send_response(200 if good else 403)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def files():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def careless(post):
    """It repeats the key that it was given wherever it can."""
    key = post.headers["authorization"].removeprefix("Bearer ")
    if post.number % 6 == 1:
        return http(
            500, message=f"Authorization: Bearer {key} is broken; see https://u:{PASSWORD}@host/x?sig={SIGNATURE}"
        )
    if post.number % 6 == 2:
        return http(429, message=key, headers={"Retry-After": "0", "x-request-id": key})
    return ok(id=key, model=f"small {key}") if post.number % 6 == 3 else None


def config(cheap: str, strong: str, rows: str) -> str:
    price = "usd_per_million_tokens: {input: 1, output: 2, as_of: 2026-11-22, source: made up}, params: {temperature: 0, max_tokens: 8}"
    return (
        f"task: canary\nkind: classify\ndataset: {{path: '{rows}', id: id, label: label}}\nlabels: [work, personal, spam, other]\n"
        'prompt: {user: "{text}"}\nprovider: openai-compatible\n'
        f"cheap: {{model: small, base_url: '{cheap}/v1', api_key_env: CANARY_CHEAP, top_logprobs: 4, {price}}}\n"
        f"strong: {{model: large, base_url: '{strong}/v1', api_key_env: CANARY_STRONG, splits: [certify, test], {price}}}\n"
        "target: {kind: match_strong, within: 0.2}\nmax_failure_rate: 0.9\nmax_unreadable: 1\n"
    )


def texts_of(folder: Path):
    """(where, bytes) of all that is kept below a folder, in the open."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        yield str(path), path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield f"{path} cells", repr(table.to_pylist()).encode() + repr(table.schema.metadata).encode()
        if path.suffix == ".sqlite":
            from pipeline.collect.store.response_store import ResponseStore

            with ResponseStore(path) as store:
                ids = [i for (i,) in store.query("SELECT DISTINCT request_id FROM attempt", [])]
                yield f"{path} bodies", b"\n".join(body for i in ids for body in store.bodies(i))
                yield f"{path} replies", repr(list(store.replies(ids))).encode()
            with sqlite3.connect(path) as connection:
                yield f"{path} dump", "\n".join(connection.iterdump()).encode()
            connection.close()


@pytest.mark.slow
def test_no_secret_is_in_any_byte_that_comes_out(tmp_path, monkeypatch, files) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANARY_CHEAP", CHEAP_KEY)
    monkeypatch.setenv("CANARY_STRONG", f"{STRONG_KEY}\n")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PROXY}@127.0.0.1:9")
    started: list[str] = []
    popen = subprocess.Popen.__init__
    monkeypatch.setattr(
        subprocess.Popen,
        "__init__",
        lambda self, args, *more, **named: (started.append(repr(args)), popen(self, args, *more, **named))[1],
    )
    rows = f"http://user:{PASSWORD}@127.0.0.1:{files}/rows.jsonl?X-Amz-Signature={SIGNATURE}&sv=2026"
    said: list[str] = []
    codes: dict[str, int] = {}

    def run(name: str, *words: str) -> None:
        codes[name], out, err = call(words)
        said.extend((out, err))

    with FakeProvider(careless) as cheap, FakeProvider(careless) as strong:
        Path("canary.yaml").write_text(config(cheap.url, strong.url, rows))
        for command in ("doctor", "estimate", "evaluate", "status", "report"):
            run(command, command, "canary.yaml", "--json", *(["--yes"] if command in ("doctor", "evaluate") else []))
        run("export", "export", "canary.yaml", "--allow-uncertified", "--format", "yaml")
        run("again", "evaluate", "canary.yaml", "--yes", "--set", "target.within=0.3")
        run("set", "estimate", "canary.yaml", "--set", f"dataset.path={rows.replace('sv=2026', 'sv=0')}")
        run("set", "estimate", "canary.yaml", "--set", f"dataset.path=[{rows}]")
        run("set", "estimate", "canary.yaml", "--set", f"cheap.base_url={rows}", "--json")
        run("set", "estimate", "canary.yaml", "--set", f"cheap.api_key_env={CHEAP_KEY}")
        run("predictions", "evaluate", "canary.yaml", "--predictions", rows)
        assert cheap.posts, "".join(said)
        assert {post.headers["authorization"] for post in cheap.posts} == {f"Bearer {CHEAP_KEY}"}
        assert {post.headers["authorization"] for post in strong.posts} == {f"Bearer {STRONG_KEY}"}
    Path("away.yaml").write_text(config("https://service.invalid", "https://service.invalid", rows))
    run("proxy", "collect", "away.yaml", "--yes", "--limit", "3")
    assert codes["estimate"] == codes["evaluate"] == codes["report"] == codes["export"] == 0, said
    assert (codes["set"], codes["predictions"]) == (2, 2)
    assert codes["proxy"] in (2, 3)
    Path("canary.yaml").unlink()
    Path("away.yaml").unlink()
    found = [*texts_of(tmp_path), ("terminal", "\n".join(said).encode()), ("processes", "\n".join(started).encode())]
    assert len(found) > 30
    for where, text in found:
        for secret in SECRETS:
            for form in {secret, json.dumps(secret)[1:-1], urllib.parse.quote(secret)}:
                assert form.encode() not in text, (where, form)
    kept = b"".join(text for where, text in found if where.endswith("run.json"))
    assert f"http://127.0.0.1:{files}/rows.jsonl".encode() in kept, "the address itself is said"


def test_a_redirect_to_another_host_gets_no_key_of_any_name(tmp_path, monkeypatch, files) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANARY_CHEAP", CHEAP_KEY)
    monkeypatch.setenv("CANARY_STRONG", STRONG_KEY)
    Path("rows.jsonl").write_text(ROWS)
    with FakeProvider() as thief, FakeProvider(lambda post: redirect(f"{thief.url}/v1/chat/completions")) as api:
        Path("canary.yaml").write_text(config(api.url, api.url, "rows.jsonl"))
        code, _, err = call(["collect", "canary.yaml", "--yes"])
        assert (code, len(thief.posts)) == (2, 0), err


@pytest.mark.parametrize("proxy", [None, "http://user:canary-proxy-1@127.0.0.1:9"])
def test_no_key_of_any_name_leaves_unencrypted_without_being_allowed_to(tmp_path, monkeypatch, proxy) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("CANARY_CHEAP", CHEAP_KEY),
        ("CANARY_STRONG", STRONG_KEY),
        *([("HTTP_PROXY", proxy)] if proxy else []),
    ):
        monkeypatch.setenv(name, value)
    Path("rows.jsonl").write_text(ROWS)
    Path("canary.yaml").write_text(config("http://192.0.2.1", "http://192.0.2.1", "rows.jsonl"))
    code, _, err = call(["collect", "canary.yaml", "--yes"])
    assert (code, "unencrypted" in err, PROXY in err) == (2, True, False), err


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("s3://key:secret@bucket/a.csv?versionId=3", "s3://bucket/a.csv"),
        ("https://h/a.jsonl?sig=abc#x", "https://h/a.jsonl"),
        ("az://token@c/x.parquet", "az://c/x.parquet"),
        ("data/a?b.csv", "data/a?b.csv"),
        ("s3:/u:p@b/x", "s3:/b/x"),
    ],
)
def test_an_address_is_shown_without_what_opens_it(given, shown) -> None:
    assert bare_address(given) == shown


def test_messages_lose_credentials_and_keep_the_rest() -> None:
    text = "see https://user:pw@host/a?page=2&sig=abc&x=1 and mail a@b.org, C:/x@y, then ?q=1"
    assert redact(text) == "see https://host/a?page=2&sig=[key removed]&x=1 and mail a@b.org, C:/x@y, then ?q=1"
    assert os.environ.get("CANARY_CHEAP") is None
