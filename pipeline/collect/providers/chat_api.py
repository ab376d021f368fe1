"""Chat API: asks an OpenAI-style chat API through the Together SDK's client.

The same code serves Together itself and any other server of that wire format.
"""

from __future__ import annotations

import functools
import importlib
import io
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import httpx
import together
import yarl
from together import AsyncTogether

from pipeline.collect.providers import bounded
from pipeline.collect.providers.provider import KEPT_HEADERS, Attempt, Origin
from pipeline.collect.providers.proxy import SOCKS, VARIABLES, shown, usable_proxy
from pipeline.collect.providers.wire_form import INTEGER, WireForm, adapt, encoded
from pipeline.collect.request import Request
from pipeline.redact import redact, redact_bytes

DEFAULT_CHAT_URL = "https://api-inference.together.ai/v1/chat/completions"
"""Where the SDK sends chat requests if no address is set (resources/chat/completions.py of together 3.1.1)."""

READ_TIMEOUT_S, CONNECT_TIMEOUT_S = 600.0, 10.0
"""The sender's own deadline is shorter than the first; a connection that takes longer than the second was never made."""

LARGE = 1 << 20
"""Bytes of a body beyond which aiohttp wants a file."""


class ChatApi:
    """Asks with an AsyncTogether client's key, address and headers; `max_retries` must be 0, since every try is recorded.

    With `direct`, requests go straight to aiohttp: the SDK's building of a request and of a response costs several times
    what sending costs. What arrives at the service is the same, byte for byte (tested). Otherwise the client's own `post`
    is used, over whatever transport it was made with.
    `forms` says which request form a model understands (see wire_form); models not named start with `first` for their
    logprobs and switch once for each thing that the service wants said differently. `keyless`: no key is sent at all.
    """

    def __init__(
        self,
        client: AsyncTogether,
        *,
        direct: bool = False,
        service: str = "together",
        paid: bool = True,
        timed: bool = True,
        chat_url: str = "/v1/chat/completions",
        forms: Mapping[str, str] | None = None,
        first: str = INTEGER,
        keyless: bool = False,
        origin: Origin | None = None,
    ) -> None:
        self.client, self._direct, self._service, self._paid, self._timed = client, direct, service, paid, timed
        url = httpx.URL(chat_url) if "://" in chat_url else client.base_url.join(chat_url.lstrip("/"))
        self.address, self.host = str(url), url.netloc.decode()
        self.forms, self._first, self._keyless = dict(forms or {}), first, keyless
        self._secret = client.api_key if paid and not keyless else None
        self._origin = origin or Origin()
        self._session: aiohttp.ClientSession | None = None
        # looked up now, since one that cannot be used is to be told before anything is sent
        self._proxy = usable_proxy(self.address) if direct else None

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
        return self._form(request).body(request)

    def _form(self, request: Request) -> WireForm:
        return WireForm.parse(self.forms.get(request.model), first=self._first)

    async def complete(self, request: Request) -> Attempt:
        """Ask once. Whatever happens is returned as an Attempt."""
        asked = self._form(request)
        form, body = asked.named(request), asked.body(request)
        started = time.perf_counter()
        try:
            status, headers, content = await self._send(body)
        except bounded.TooLargeError:
            detail = f"the reply is larger than {bounded.MOST_BYTES / 1e6:.0f} MB"
            return Attempt("reply", 200, b"", {}, self._since(started), form, self.host, "too_large", detail)
        except Exception as error:  # whatever a transport raises, all that matters is whether the request had been sent
            return self._lost(error, form, self._since(started))
        seconds = self._since(started)
        if status == 407 and self._proxy is not None:
            return self._refused_by_proxy(form)
        failed = not 200 <= status < 300
        content = redact_bytes(content, self._secret, patterns=failed)
        kept = {name: redact(headers[name], self._secret) for name in KEPT_HEADERS if name in headers}
        changed = asked.change(status, content, request) if failed else {}
        if changed:
            adapt(self.forms, request.model, changed, first=self._first)
        return Attempt(
            "reply", status, content, kept, seconds, form, self.host, again=bool(changed), origin=self._origin
        )

    async def _send(self, body: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        return await (self._ask(body) if self._direct else self._post(body))

    async def _post(self, body: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        try:
            response = await self.client.post(self.address, cast_to=httpx.Response, body=body)
        except together.APIStatusError as error:
            response = error.response
        return response.status_code, response.headers, response.content

    async def _ask(self, body: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            self._session = self._open()
        raw = encoded(body)
        data = (
            raw if len(raw) <= LARGE else io.BytesIO(raw)
        )  # which leaves in parts, and others' replies are read meanwhile
        async with self._session.post(self._url, data=data, allow_redirects=False, proxy=self._http_proxy) as response:
            encoding = response.headers.get("content-encoding", "")
            return response.status, response.headers, await bounded.read(response.content.iter_any(), encoding)

    def _open(self) -> aiohttp.ClientSession:
        """A session that sends what the SDK's client sends, authentication included. The sender limits connections."""
        self._url, self._http_proxy = yarl.URL(self.address, encoded=True), self._proxy
        connector: Any = aiohttp.TCPConnector
        if self._proxy is not None and self._proxy.lower().startswith(SOCKS):
            socks: Any = importlib.import_module("aiohttp_socks")  # imported here: an HTTP proxy does not need it
            self._http_proxy, connector = None, functools.partial(socks.ProxyConnector.from_url, self._proxy)
        ours = {name: value for name, value in self.client.default_headers.items() if isinstance(value, str)}
        if self._keyless:
            ours.pop("Authorization", None)
        ours |= {"x-stainless-retry-count": "0", "x-stainless-read-timeout": f"{READ_TIMEOUT_S}"}
        return aiohttp.ClientSession(
            connector=connector(limit=0, ssl=tls(), keepalive_timeout=15),
            # whoever asks has a deadline for the whole attempt
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            headers={"accept-encoding": "gzip, deflate", "connection": "keep-alive"} | ours,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _refused_by_proxy(self, form: str, status: int = 407) -> Attempt:
        """A proxy that does not let the request pass: it never reached the service. Named without its password."""
        wants = "wants another user name or password" if status == 407 else "does not let the request pass"
        detail = f"the proxy {shown(self._proxy or '')} {wants} ({status}); see {VARIABLES}"
        return Attempt("not_sent", wire_form=form, host=self.host, problem="proxy", detail=detail)

    def _lost(self, error: BaseException, form: str, seconds: float | None) -> Attempt:
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return self._refused_by_proxy(form, error.status)
        sent, problem = left_this_machine(error)
        detail = redact(f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}", self._secret)[:300]
        return Attempt(
            "unknown" if sent else "not_sent",
            seconds=seconds,
            wire_form=form,
            host=self.host,
            problem=problem,
            detail=detail,
            origin=self._origin,
        )

    def _since(self, started: float) -> float | None:
        return time.perf_counter() - started if self._timed else None

    async def list_price(self, model: str) -> tuple[float, float, float | None] | None:
        """What the service's own list says a model costs: dollars per million tokens in, out, and in where cached.

        None when it has no list (any server but Together), does not name the model, or does not answer.
        """
        if self.address != DEFAULT_CHAT_URL:
            return None
        try:
            async for found in self.client.models.list_supported(
                product="PRODUCT_SERVERLESS", search=model, timeout=15
            ):
                price = found.pricing
                if (
                    model in (found.name, found.serverless_endpoint)
                    and price is not None
                    and price.input is not None
                    and price.output is not None
                ):
                    cached = getattr(price, "cached_input", None)
                    return float(price.input), float(price.output), None if cached is None else float(cached)
        except Exception:  # noqa: S110  a look at a price list must not keep a run from starting
            pass
        return None

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
        await self.client.close()


def left_this_machine(error: BaseException) -> tuple[bool, str]:
    """Whether a failed request may have reached the service, and a short name of what happened.

    httpx-aiohttp 0.2.0 reports a connection that breaks after the request as ConnectTimeout, so the causes decide.
    """
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(e, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError) for e in chain):
        names = " ".join(type(e).__name__ for e in chain)
        return False, "dns" if "DNS" in names else "tls" if "SSL" in names or "Certificate" in names else "refused"
    if any(type(e).__module__.startswith(("python_socks", "aiohttp_socks")) for e in chain):
        return False, "proxy"
    first = next((e for e in chain if not isinstance(e, together.APIConnectionError)), error)  # the SDK wraps all
    if isinstance(first, ValueError | TypeError) and not isinstance(first, UnicodeDecodeError | json.JSONDecodeError):
        return False, "malformed"  # what was to be sent cannot be written; a reply that cannot be read is decoded
    if any(isinstance(e, aiohttp.ClientConnectionResetError) for e in chain):
        return False, "closed"  # by the server, before the last byte was written: half a request does not count
    if any(isinstance(e, httpx.UnsupportedProtocol | httpx.InvalidURL | httpx.LocalProtocolError) for e in chain):
        return False, "bad_address"
    if any(isinstance(e, aiohttp.ClientError) for e in chain):
        return True, "timeout" if any(isinstance(e, TimeoutError) for e in chain) else "cut"
    if any(isinstance(e, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout) for e in chain):
        return False, "refused"
    return True, "timeout" if any(isinstance(e, httpx.TimeoutException | TimeoutError) for e in chain) else "cut"


@functools.cache
def tls() -> ssl.SSLContext:
    """TLS settings, loaded once: reading the certificates takes longer than a request."""
    return httpx.create_ssl_context()
