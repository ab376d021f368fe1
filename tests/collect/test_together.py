"""The Together provider against the SDK it stands on: the same bytes, the key only where it may go."""

from __future__ import annotations

import asyncio
import itertools
import json

import aiohttp
import httpx
import pytest
from asking import KEY, request
from fake_provider import FakeProvider, completion
from together import AsyncTogether

from pipeline.collect.providers import address as addresses
from pipeline.collect.providers.chat_api import DEFAULT_CHAT_URL, ChatApi, left_this_machine
from pipeline.collect.providers.proxy import proxy_for
from pipeline.collect.providers.together import DEFAULT, from_environment
from pipeline.errors import UsageError


def base_url(given):
    """The address that the SDK is given for TOGETHER_BASE_URL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(addresses.os, "environ", {"TOGETHER_BASE_URL": given or ""})
        found = addresses.place("cheap", "together").url
    return found and addresses.without_v1(found)


def checked_key(key, address, *, allow_insecure):
    """The key that is sent to an address when the environment holds both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(addresses.os, "environ", {"TOGETHER_API_KEY": key or "", "TOGETHER_BASE_URL": address or ""})
        found = addresses.place("cheap", "together")
        return addresses.key_for(found, DEFAULT, role="cheap", allow_insecure=allow_insecure)


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    return monkeypatch


def complete(provider, *requests):
    async def main():
        try:
            return [await provider.complete(r) for r in requests]
        finally:
            await provider.aclose()

    return asyncio.run(main())


def test_going_straight_to_the_transport_sends_the_same_bytes_as_the_sdk(environment):
    req = request(
        "Grüße, “quoted” 😀 \\ \n",
        params={"temperature": 0, "max_tokens": 8, "reasoning": {"enabled": False}, "stop": ["\n"]},
    )
    with FakeProvider() as api:
        environment.setenv("TOGETHER_BASE_URL", api.url)
        straight = from_environment(concurrency=1)
        assert complete(straight, req)[0].http_status == 200
        complete(ChatApi(from_environment(concurrency=1).client), req)

        async def by_the_sdks_own_method():
            http = from_environment(concurrency=1).client
            await http.chat.completions.with_raw_response.create(
                model=req.model,
                messages=[dict(m) for m in req.messages],
                temperature=0,
                max_tokens=8,
                reasoning={"enabled": False},
                stop=["\n"],
                logprobs=3,
            )
            await http.close()

        asyncio.run(by_the_sdks_own_method())
    first, second, third = api.posts
    assert first.raw == second.raw
    assert first.path == second.path == third.path == "/v1/chat/completions"
    assert first.body == third.body
    raw_only = {"x-stainless-raw-response"}
    for other in (second, third):
        assert {k: v for k, v in other.headers.items() if k not in raw_only} == first.headers
    assert first.headers["authorization"] == f"Bearer {KEY}"


def test_without_an_address_requests_go_where_the_sdk_sends_them(environment):
    seen = []

    async def answer(sent: httpx.Request) -> httpx.Response:
        seen.append((sent.method, str(sent.url), dict(sent.headers), json.loads(await sent.aread())))
        return httpx.Response(200, json=completion(json.loads(sent.content)))

    async def main():
        transport = httpx.MockTransport(answer)
        client = AsyncTogether(
            api_key=KEY,
            max_retries=0,
            http_client=httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(600.0, connect=10.0)),
        )
        await ChatApi(client, chat_url=DEFAULT_CHAT_URL).complete(request("x"))
        await client.chat.completions.create(
            model="cheap-model", messages=[{"role": "user", "content": "x"}], temperature=0, max_tokens=8, logprobs=3
        )
        await client.close()

    asyncio.run(main())
    (_, one, headers, body), (_, two, sdk_headers, sdk_body) = seen
    assert (one, body, headers) == (two, sdk_body, sdk_headers)


def test_both_request_forms_are_what_was_found_to_work():
    provider = ChatApi(AsyncTogether(api_key="k"), forms={"newer": "boolean"})
    assert provider.body(request("x", model="newer", top_logprobs=5))["logprobs"] is True
    assert provider.body(request("x", model="newer", top_logprobs=5))["top_logprobs"] == 5
    older = provider.body(request("x", model="older", top_logprobs=5))
    assert older["logprobs"] == 5
    assert "top_logprobs" not in older
    assert not {"logprobs", "top_logprobs"} & set(provider.body(request("x", top_logprobs=None)))


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://x.example/v1", "https://x.example"),
        ("https://x.example/v1/", "https://x.example"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("https://x.example/proxy/v1", "https://x.example/proxy"),
        ("https://user:secret@x.example/v1", "https://x.example"),
        (None, None),
        ("  ", None),
    ],
)
def test_one_trailing_v1_and_credentials_are_removed_from_the_address(given, used):
    assert base_url(given) == used


def test_an_address_under_a_path_is_asked_under_that_path(environment):
    with FakeProvider() as api:
        environment.setenv("TOGETHER_BASE_URL", f"{api.url}/proxy/v1/")
        complete(from_environment(concurrency=1), request("x"))
        assert api.posts[0].path == "/proxy/v1/chat/completions"


@pytest.mark.parametrize(
    "given",
    [
        "ftp://x",
        "x.example",
        "https://",
        "http://127.0.0.1:notaport",
        "http://[::1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:0",
        "http://a\0b",
    ],
)
def test_what_is_no_address_is_refused(given):
    with pytest.raises(UsageError, match=r"TOGETHER_BASE_URL.*write it as https://host\[:port\]"):
        base_url(given)


def test_a_loopback_address_needs_no_key(monkeypatch):
    for address in ("http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:8000"):
        assert checked_key(None, address, allow_insecure=False) is None
    with FakeProvider() as api:
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        assert complete(from_environment(concurrency=1), request("x"))[0].http_status == 200
        assert "authorization" not in api.posts[0].headers


def test_a_key_is_needed_elsewhere_and_named():
    for address, key in itertools.product((None, "https://x.example"), (None, "", " \n")):
        with pytest.raises(UsageError, match="TOGETHER_API_KEY"):
            checked_key(key, address, allow_insecure=False)
    assert checked_key(" ", "http://localhost:1", allow_insecure=False) is None


@pytest.mark.parametrize("address", [None, "http://localhost:1"])
def test_a_key_read_from_a_file_with_its_line_break_is_used_and_one_that_no_header_carries_is_refused(address):
    for ending in ("\n", "\r\n", "\r", "  "):
        assert checked_key(KEY + ending, address, allow_insecure=False) == KEY
    for inside in ("\n", "\r\nX-Other: 1", "\0", "\x7f", "ß", "\u200b"):
        with pytest.raises(UsageError, match=r"TOGETHER_API_KEY.*copy the key again") as refused:
            checked_key(f"{KEY[:9]}{inside}{KEY[9:]}", address, allow_insecure=False)
        assert KEY[:9] not in str(refused.value)


def test_a_key_goes_over_plain_http_only_when_allowed():
    with pytest.raises(UsageError, match="unencrypted"):
        checked_key(KEY, "http://10.0.0.8:8000", allow_insecure=False)
    assert checked_key(KEY, "http://10.0.0.8:8000", allow_insecure=True) == KEY
    assert checked_key(KEY, "https://x.example", allow_insecure=False) == KEY
    with pytest.raises(UsageError, match="unencrypted"):
        checked_key(KEY, "http://localhost.evil.example", allow_insecure=False)
    with pytest.raises(UsageError, match="unencrypted"):
        checked_key(KEY, "http://127.0.0.1.evil.example", allow_insecure=False)


def test_the_environments_proxy_is_used_and_its_exceptions_are_kept(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,inside.example")
    assert proxy_for("https://api.together.ai") == "http://proxy.example:3128"
    assert proxy_for("https://inside.example") is None
    assert proxy_for("http://api.together.ai") is None


def test_a_client_that_answers_in_process_is_asked_through_the_same_provider():
    """As the embedded models are: latency there says nothing, so it is not recorded."""
    transport = httpx.MockTransport(lambda sent: httpx.Response(200, json=completion(json.loads(sent.content))))
    client = AsyncTogether(
        api_key="embedded", base_url="http://embedded.invalid", http_client=httpx.AsyncClient(transport=transport)
    )
    (attempt,) = complete(ChatApi(client, service="embedded", paid=False, timed=False), request("x"))
    assert (attempt.http_status, attempt.seconds, attempt.host) == (200, None, "embedded.invalid")
    assert json.loads(attempt.body) == completion(
        {"model": "cheap-model", "messages": [{"content": "x"}], "logprobs": 3}
    )


def test_a_broken_connection_that_httpx_calls_a_connect_timeout_counts_as_sent():
    wrong_name = httpx.ConnectTimeout("x")
    wrong_name.__cause__ = aiohttp.ServerDisconnectedError()
    assert left_this_machine(wrong_name) == (True, "cut")
    refused = httpx.ConnectError("x")
    refused.__cause__ = aiohttp.ClientConnectorError(None, OSError(111, "refused"))
    assert left_this_machine(refused) == (False, "refused")
    assert left_this_machine(aiohttp.ClientConnectionResetError("Cannot write to closing transport")) == (
        False,
        "closed",
    )
    assert left_this_machine(aiohttp.ServerDisconnectedError()) == (True, "cut")
    slow = httpx.ConnectTimeout("x")
    slow.__cause__ = aiohttp.ConnectionTimeoutError()
    assert left_this_machine(slow) == (False, "refused")
    assert left_this_machine(httpx.ReadTimeout("x")) == (True, "timeout")


def test_a_request_that_cannot_be_written_counts_as_not_sent(environment):
    with FakeProvider() as api:
        environment.setenv("TOGETHER_BASE_URL", api.url)
        unwritable = request("x", params={"max_tokens": float("nan")}), request("x", params={"stop": "\ud83d"})
        by_the_sdk = ChatApi(from_environment(concurrency=1).client)
        for provider in (from_environment(concurrency=1), by_the_sdk):
            found = {(a.arrival, a.problem) for a in complete(provider, *unwritable)}
            assert found == {("not_sent", "malformed")}
        assert not api.posts
    assert left_this_machine(ValueError("Newline or carriage return in headers")) == (False, "malformed")
    assert left_this_machine(json.JSONDecodeError("x", "", 0)) == (True, "cut")
    unreadable = aiohttp.ClientPayloadError("x")
    unreadable.__cause__ = ValueError("bad chunk")
    assert left_this_machine(unreadable) == (True, "cut")


def price_of(answer) -> object:
    async def main():
        transport = httpx.MockTransport(answer)
        client = AsyncTogether(api_key=KEY, max_retries=0, http_client=httpx.AsyncClient(transport=transport))
        provider = ChatApi(client, chat_url=DEFAULT_CHAT_URL)
        try:
            return await provider.list_price("Qwen/Qwen3.5-9B")
        finally:
            await provider.aclose()

    return asyncio.run(main())


def test_the_services_own_price_list_is_looked_up_and_its_absence_is_no_fault():
    model = {"name": "Qwen/Qwen3.5-9B", "pricing": {"input": 0.17, "output": 0.25, "cachedInput": 0.03}}
    assert price_of(
        lambda sent: httpx.Response(
            200, json={"data": [{"name": "other", "pricing": {"input": 9, "output": 9}}, model]}
        )
    ) == (0.17, 0.25, 0.03)
    assert (
        price_of(lambda sent: httpx.Response(200, json={"data": [{"name": "Qwen/Qwen3.5-9B", "pricing": None}]}))
        is None
    )
    assert price_of(lambda sent: httpx.Response(200, json={"data": []})) is None
    for status, body in ((404, b"{}"), (500, b"oops"), (200, b"<html>")):
        assert price_of(lambda sent, status=status, body=body: httpx.Response(status, content=body)) is None
