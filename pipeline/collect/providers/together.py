"""Together: asks an OpenAI-style chat API through the official SDK's client.

The same code serves Together itself, any server of that wire format (TOGETHER_BASE_URL) and the embedded models, whose
SDK client answers in process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import together
from together import AsyncTogether, DefaultAioHttpClient

from pipeline.collect.prompts import Request
from pipeline.collect.provider import KEPT_HEADERS, Attempt
from pipeline.collect.redact import redact, redact_bytes
from pipeline.errors import UsageError

KEY_VARIABLE = "TOGETHER_API_KEY"
ADDRESS_VARIABLE = "TOGETHER_BASE_URL"
DEFAULT_CHAT_URL = "https://api-inference.together.ai/v1/chat/completions"
"""Where the SDK sends chat requests when no address is set (resources/chat/completions.py of together 3.1.1)."""

INTEGER, BOOLEAN = "integer", "boolean"
"""Request forms for logprobs: {"logprobs": k}, or {"logprobs": true, "top_logprobs": k}."""


class Together:
    """Sends requests with an AsyncTogether client; `max_retries` must be 0, since every try is recorded by the sender.

    `forms` says which request form a model understands; models not named start with the integer form and switch once
    when the service rejects it.
    """

    def __init__(
        self,
        client: AsyncTogether,
        *,
        service: str = "together",
        paid: bool = True,
        timed: bool = True,
        chat_url: str = "/v1/chat/completions",
        forms: Mapping[str, str] | None = None,
    ) -> None:
        self.client, self._service, self._paid, self._timed = client, service, paid, timed
        self._chat_url = chat_url
        self.host = (urlsplit(chat_url).netloc or client.base_url.netloc.decode()).rpartition("@")[2]
        self.forms = dict(forms or {})
        self._secret = client.api_key if paid else None

    @property
    def service(self) -> str:
        """Name that enters the key of a request."""
        return self._service

    @property
    def paid(self) -> bool:
        """Whether requests cost money."""
        return self._paid

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body of a request in the form that its model understands."""
        body: dict[str, Any] = {"model": request.model, "messages": [dict(m) for m in request.messages], **request.params}
        if request.top_logprobs is not None:
            if self.forms.get(request.model, INTEGER) == BOOLEAN:
                body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
            else:
                body["logprobs"] = request.top_logprobs
        return body

    async def complete(self, request: Request) -> Attempt:
        """Ask once. Whatever comes back, or does not, is returned as facts."""
        form = self.forms.get(request.model, INTEGER) if request.top_logprobs is not None else "none"
        started = time.perf_counter()
        try:
            response = await self.client.post(self._chat_url, cast_to=httpx.Response, body=self.body(request))
        except together.APIStatusError as error:
            response = error.response
        except together.APIConnectionError as error:
            return self._lost(error, form, self._since(started))
        seconds = self._since(started)
        failed = not response.is_success
        body = redact_bytes(response.content, self._secret, patterns=failed)
        headers = {name: redact(response.headers[name], self._secret) for name in KEPT_HEADERS if name in response.headers}
        again = failed and form == INTEGER and wants_boolean(response.status_code, body)
        if again:
            self.forms[request.model] = BOOLEAN
        return Attempt("reply", response.status_code, body, headers, seconds, form, self.host, again=again)

    def _lost(self, error: BaseException, form: str, seconds: float | None) -> Attempt:
        sent, problem = left_this_machine(error)
        detail = redact(f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}", self._secret)[:300]
        return Attempt("unknown" if sent else "not_sent", seconds=seconds, wire_form=form, host=self.host, problem=problem, detail=detail)

    def _since(self, started: float) -> float | None:
        return time.perf_counter() - started if self._timed else None

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self.client.close()


def wants_boolean(status: int, body: bytes) -> bool:
    """Whether an error says that logprobs must be a boolean (400 of newer models, 500 of llama-cpp-python's server)."""
    text = body.lower()
    return status in (400, 422, 500) and b"bool" in text and (b"logprobs" in text or b"valid boolean" in text)


def left_this_machine(error: BaseException) -> tuple[bool, str]:
    """Whether a failed request may have reached the service, and a short name of what happened.

    httpx-aiohttp 0.2.0 reports a connection that breaks after the request as ConnectTimeout, so the causes decide.
    """
    import aiohttp

    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(e, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError) for e in chain):
        names = " ".join(type(e).__name__ for e in chain)
        return False, "dns" if "DNS" in names else "tls" if "SSL" in names or "Certificate" in names else "refused"
    if any(isinstance(e, httpx.UnsupportedProtocol | httpx.InvalidURL | httpx.LocalProtocolError) for e in chain):
        return False, "bad_address"
    if any(isinstance(e, aiohttp.ClientError) for e in chain):
        return True, "timeout" if any(isinstance(e, TimeoutError) for e in chain) else "cut"
    if any(isinstance(e, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout) for e in chain):
        return False, "refused"
    return True, "timeout" if any(isinstance(e, httpx.TimeoutException | TimeoutError) for e in chain) else "cut"


def from_environment(*, concurrency: int, allow_insecure: bool = False, forms: Mapping[str, str] | None = None) -> Together:
    """The provider for the key and address in the environment.

    Raises UsageError when the key is missing, or would travel unencrypted to another machine.
    """
    address = base_url(os.environ.get(ADDRESS_VARIABLE))
    key = checked_key(os.environ.get(KEY_VARIABLE), address, allow_insecure=allow_insecure)
    limits = httpx.Limits(max_connections=concurrency + 8, max_keepalive_connections=concurrency + 8, keepalive_expiry=60)
    http = DefaultAioHttpClient(limits=limits, timeout=httpx.Timeout(600, connect=10), follow_redirects=False)
    client = AsyncTogether(api_key=key, base_url=address, max_retries=0, http_client=http)
    return Together(client, chat_url="/v1/chat/completions" if address else DEFAULT_CHAT_URL, forms=forms)


def base_url(given: str | None) -> str | None:
    """The address without a trailing /v1 (the SDK adds it) and without credentials; None for Together itself."""
    if not given or not given.strip():
        return None
    url = given.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{ADDRESS_VARIABLE} is no http(s) address: write it as https://host[:port]")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def checked_key(key: str | None, address: str | None, *, allow_insecure: bool) -> str:
    """The key to send. A loopback address needs none, and any other plain http address gets none."""
    parts = urlsplit(address or "https://api.together.ai")
    loopback = parts.hostname in ("localhost", "::1") or (parts.hostname or "").startswith("127.")
    if loopback:
        return key or "no-key-needed-on-loopback"
    if not key:
        raise UsageError(f"{KEY_VARIABLE} is not set: export it (see https://api.together.ai/settings/api-keys), or use `--provider embedded`, which needs no key")
    if parts.scheme == "http" and not allow_insecure:
        raise UsageError(
            f"{ADDRESS_VARIABLE}={address}: the key would travel unencrypted; use https, or pass --allow-insecure if that network is yours"
        )
    return key
