"""Together Batch: the calls of the batch API that `collect.batches` makes, through the official SDK."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import together
from together import AsyncTogether

from pipeline.collect.providers import address, bounded
from pipeline.collect.providers.bounded_transport import BoundedTransport
from pipeline.collect.providers.chat_api import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, tls
from pipeline.collect.providers.provider import Attempt
from pipeline.collect.providers.proxy import VARIABLES, shown, usable_proxy
from pipeline.collect.providers.service import Service
from pipeline.collect.providers.together import DEFAULT
from pipeline.collect.providers.together import service as together_service
from pipeline.collect.providers.wire_form import WireForm, adapt
from pipeline.collect.request import Request
from pipeline.collect.sending.response_class import judge
from pipeline.config.task import Model, TaskConfig
from pipeline.errors import AccessError, CascadeError, CreditExhausted, ProviderDown, UsageError
from pipeline.redact import redact

T = TypeVar("T")
LOST = "LOST"
"""Our name for the state of a batch that the service no longer knows."""
ENDED = frozenset({"COMPLETED", "FAILED", "EXPIRED", "CANCELLED", LOST})
"""Any of them may come with an output file and an error file. Other states, unknown ones too, mean: still going on."""


class GoneError(AccessError):
    """The service knows no such thing (404, 410), or no more."""


class Unsure(ProviderDown):
    """There was no answer, or one that does not say whether the request was carried out."""


class _TooLarge(Unsure):
    """An answer beyond its limit."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What the service says about a batch."""

    id: str
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    error: str | None = None
    progress: float | None = None

    @property
    def ended(self) -> bool:
        """No more results will come."""
        return self.status in ENDED


class TogetherBatch:
    """The batch API of one account. Reads are retried by the SDK; what creates something is not."""

    paid = True

    def __init__(
        self,
        client: AsyncTogether,
        *,
        service: str = address.TOGETHER,
        forms: Mapping[str, str] | None = None,
        advice: str = "",
        proxy: str | None = None,
    ) -> None:
        """`advice`: what to check when the service refuses; `proxy`: what the client goes through."""
        self.client, self.service, self._advice = client, service, advice
        self.address, self.host = str(client.base_url), client.base_url.netloc.decode().rpartition("@")[2]
        self.forms = dict(forms or {})
        self._proxy = proxy
        self._asked: dict[str, str | None] = {}
        self.secret = client.api_key

    def change(self, model: str, status: int, error: bytes) -> bool:
        """Whether an error says that the model wants to be asked otherwise; it is from now on.

        Held against the form in which its lines were written: all lines of a file complain of the same one.
        """
        changed = WireForm.parse(self._asked.get(model, self.forms.get(model))).change(status, error)
        if changed:
            adapt(self.forms, model, changed)
        return bool(changed)

    def line(self, request_id: str, request: Request) -> bytes:
        """One line of an input file. The custom id is the request's id: 64 characters, the most that is allowed."""
        form = self.forms.get(request.model)
        self._asked[request.model] = form
        body = WireForm.parse(form).body(request)
        return json.dumps({"custom_id": request_id, "body": body}, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    async def upload(self, path: Path) -> str:
        """Upload an input file; the same content again gives the same file. Returns its id."""
        uploaded = await self._call(self.client.files.upload(path, purpose="batch-api", check=False))
        if not isinstance(uploaded.id, str) or not uploaded.id:
            raise self._unknown_form("a file id that is none")
        return uploaded.id

    async def create(self, file_id: str) -> Batch:
        """Submit a batch: from here on it costs money. Raises Unsure when it may have been made, other errors when it was not."""
        once = self.client.with_options(max_retries=0)
        created: Any = await self._call(once.batches.create(endpoint="/v1/chat/completions", input_file_id=file_id))
        if (made := _batch(getattr(created, "job", None))) is None:
            raise Unsure(
                f"{self.host} answered a submission without a batch id ({getattr(created, 'warning', None)}); "
                "the same command looks for it and goes on"
            )
        return made

    async def find(self, file_id: str) -> list[Batch]:
        """Batches that were made from a file: after a crash, one of them may be ours. A new one may be listed late."""
        listed: Any = await self._call(self.client.batches.list())
        listed = [] if listed is None else listed
        # the API has no pages; if it ever does, the first must not be mistaken for all
        if not isinstance(listed, list):
            raise ProviderDown(
                f"{self.host} lists its batches in an unknown form, so none is submitted again; the same command looks once more"
            )
        mine = (_batch(job) for job in listed if getattr(job, "input_file_id", None) == file_id)
        return [batch for batch in mine if batch is not None]

    async def status(self, batch_id: str) -> Batch:
        """The state of a batch."""
        found = _batch(await self._call(self.client.batches.retrieve(batch_id)))
        if found is None or found.id != batch_id:
            raise self._unknown_form("something else when asked for a batch")
        return found

    async def download(self, file_id: str, path: Path, *, most: int) -> Path:
        """Fetch a result file of at most so many bytes to `path`, and return that (see `batch_result.lines`)."""

        async def fetch() -> None:
            async with self.client.files.with_streaming_response.content(file_id) as response:
                with path.open("wb") as out:
                    async for piece in response.iter_bytes():
                        out.write(piece)

        try:
            with bounded.at_most(most):
                await self._call(fetch())
        except _TooLarge:
            raise GoneError(f"{self.host} sends more than {most / 1e6:,.0f} MB as the results of a batch") from None
        return path

    def _unknown_form(self, what: str) -> Unsure:
        return Unsure(
            f"{self.host} answers the batch API in an unknown form ({what}); the same command goes on from here"
        )

    async def _call(self, call: Awaitable[T]) -> T:
        """Await an SDK call; its errors become ours."""
        try:
            return await call
        except together.APIStatusError as error:
            body = error.response.content if error.response.is_closed and error.response.is_stream_consumed else b""
            outcome = judge(Attempt("reply", error.status_code, body))
            text = redact(
                f"{self.host} answers {error.status_code} to the batch API: {outcome.message or error.message}",
                self.secret,
            )
            if error.status_code >= 500 or error.status_code in (408, 409, 429):
                kind = ProviderDown if error.status_code == 429 else Unsure
                raise kind(f"{text}; the same command goes on where this one stopped") from None
            if error.status_code == 407 and self._proxy is not None:
                raise ProviderDown(
                    f"the proxy {shown(self._proxy)} wants another user name or password (407); see {VARIABLES}"
                ) from None
            if error.status_code in (404, 410):
                raise GoneError(f"{text}; {self._advice or 'check the key and the address'}") from None
            advice = self._advice or "check the key, the address and that the account may use batches"
            if outcome.error is CreditExhausted:
                advice = "add credit and run the same command again"
            raise (outcome.error or AccessError)(f"{text}; {advice}") from None
        except (together.APIConnectionError, httpx.HTTPError, bounded.TooLargeError) as error:
            source = error.__cause__ or error
            if isinstance(source, bounded.TooLargeError):
                raise _TooLarge(
                    f"{self.host} answers the batch API with more than {bounded.MOST_BYTES / 1e6:.0f} MB; batches go on there, "
                    "and the same command fetches them"
                ) from None
            if isinstance(source, httpx.ProxyError):  # a request that the proxy refuses never reached the service
                raise ProviderDown(
                    f"the proxy {shown(self._proxy or '')} does not let requests pass ({source}); see {VARIABLES}"
                ) from None
            cause = redact(f"{type(source).__name__}: {source}", self.secret)[:200]
            kind = ProviderDown if isinstance(source, httpx.ConnectError | httpx.ConnectTimeout) else Unsure
            raise kind(
                f"{self.host} does not answer ({cause}); batches go on there, and the same command fetches them"
            ) from None
        except (CascadeError, OSError):
            raise
        except Exception as error:  # whatever an answer of another form makes the SDK say
            said = redact((str(error).splitlines() or [type(error).__name__])[0], self.secret)[:200]
            raise self._unknown_form(said) from None

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self.client.close()


async def unless_lost(call: Awaitable[T], batch_id: str | None, requests: int, *, resend: bool) -> T | None:
    """What the service gives of a batch; None when it knows that no more and its requests may be asked again (`resend`).

    Raises UsageError that says so where they may not.
    """
    try:
        return await call
    except GoneError as error:
        if resend:
            return None
        raise UsageError(
            f"{error}. Batch {batch_id} holds {requests:,} requests, which may have been paid for. The same command asks for them once more. If the "
            "service says the same again with the key and address that the batch was submitted with, its results are lost: --resend-lost records "
            "them as possibly paid and sends them again"
        ) from None


def _batch(job: Any) -> Batch | None:
    """What an answer says of a batch; None where it names none. The SDK checks no type."""

    def text(name: str) -> str | None:
        value = getattr(job, name, None)
        return value if isinstance(value, str) and value else None

    if (batch_id := text("id")) is None:
        return None
    progress, error = getattr(job, "progress", None), getattr(job, "error", None)
    return Batch(
        batch_id,
        (text("status") or "UNKNOWN").upper(),
        text("output_file_id"),
        text("error_file_id"),
        None if error is None else str(error)[:300],
        progress if isinstance(progress, int | float) and 0 <= progress <= 100 else None,
    )


def service(config: TaskConfig, role: str, settings: Model) -> Service:
    """Who answers a role. Raises as `together.service` does."""
    return together_service(config, role, settings, "together-batch")


def connect_batch(found: Service, *, allow_insecure: bool, forms: Mapping[str, str]) -> TogetherBatch:
    """The batch API at the role's address. Raises UsageError when the key is missing or would travel unencrypted."""
    place: address.Place = found.source
    key = address.key_for(place, DEFAULT, role=found.role, allow_insecure=allow_insecure)
    # Results may be served by a redirect to a storage service; httpx sends the key to no other host
    base = address.without_v1(place.url or DEFAULT)
    proxy = usable_proxy(base, batch=True)
    inner = httpx.AsyncHTTPTransport(verify=tls(), proxy=None if proxy is None else httpx.Proxy(proxy))
    http = httpx.AsyncClient(
        transport=BoundedTransport(inner),
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        headers={"accept-encoding": "gzip, deflate"},
        follow_redirects=True,
        trust_env=False,  # it would send what is for this machine through a proxy
        event_hooks={"request": [_no_stand_in]},
    )
    client = AsyncTogether(
        api_key=key or address.KEYLESS,
        base_url=base,
        max_retries=4,
        http_client=http,
    )
    advice = f"check {place.key_variable}, {place.said_by} and that the account may use batches"
    return TogetherBatch(client, service=found.name, forms=forms, advice=advice, proxy=proxy)


async def _no_stand_in(request: httpx.Request) -> None:
    """The SDK takes a success without an address to upload to for a test, and uploads the rows to a stranger's host."""
    if request.url.host == "mock-upload-url.com":
        raise Unsure(
            "the batch API names no address to upload to: is a proxy in the way? The same command goes on from here"
        )


def from_environment(*, allow_insecure: bool = False, forms: Mapping[str, str] | None = None) -> TogetherBatch:
    """The batch API for the key and the address in the environment, without a config. Raises as `connect_batch`."""
    found = Service(address.TOGETHER, "", source=address.place("cheap", "together-batch"), provider="together-batch")
    return connect_batch(found, allow_insecure=allow_insecure, forms=forms or {})
