"""A chat API on a real socket that does what a script says, with a ledger of every POST: POSTs are money.

    with FakeProvider() as api:                       answers everything
    with FakeProvider(script={"row 3": [http(429, {"Retry-After": "1"}), ok()]}) as api: ...
    with FakeProvider(lambda post: http(503) if post.number < 4 else None) as api: ...

A script by text gives steps to the requests whose last message contains it, one step a request; afterwards, and where a
callable returns None, the fake answers well. Its answers depend on the request's content alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LABELS = ("work", "personal", "spam", "other")


@dataclass
class Post:
    """One request as it came over the wire."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes
    at: float
    billed: bool = False
    """Whether a whole answer with usage left for it."""
    usage: tuple[int, int] = (0, 0)

    @property
    def text(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])


@dataclass
class Step:
    """What happens to one request."""

    kind: str = "json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    seconds: float = 0.0


def ok(**changes: Any) -> Step:
    """A good answer; keywords replace fields of the body (`choices=[]`, `usage=None`, `model="other"` ...)."""
    return Step("completion", body=changes)


def http(status: int, headers: Mapping[str, str] | None = None, message: str = "", body: Any = None) -> Step:
    """An HTTP status with an error body."""
    return Step(
        "json", status, headers or {}, {"error": {"message": message or f"status {status}"}} if body is None else body
    )


def raw(body: bytes, status: int = 200, content_type: str = "application/json") -> Step:
    """Exactly these bytes."""
    return Step("raw", status, {"Content-Type": content_type}, body)


def cut() -> Step:
    """A good answer of which half arrives before the connection ends."""
    return Step("cut")


def reset() -> Step:
    """The connection is reset after the request was read."""
    return Step("reset")


def hang(seconds: float = 60) -> Step:
    """Nothing comes."""
    return Step("hang", seconds=seconds)


def drip(seconds: float = 0.05) -> Step:
    """A good answer, one byte every `seconds`."""
    return Step("drip", seconds=seconds)


def redirect(url: str) -> Step:
    """A redirect to another address."""
    return http(307, {"Location": url})


Script = Callable[[Post], Step | None] | Mapping[str, list[Step]] | None


def label_of(text: str) -> tuple[str, float]:
    """The label and logprob that the fake gives to a text: arbitrary, but always the same."""
    seed = hashlib.sha256(text.encode()).digest()
    return LABELS[seed[0] % 4], -(seed[1] + 1) / 128


def completion(body: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion for a request body, in the OpenAI shape, with alternatives as asked."""
    text = str(body["messages"][-1]["content"])
    label, logprob = label_of(text)
    wanted = body.get("top_logprobs") if body.get("logprobs") is True else body.get("logprobs")
    others = [x for x in LABELS if x != label]
    entries = [
        {"token": t, "bytes": list(t.encode()), "logprob": lp}
        for t, lp in [(label, logprob), *((o, logprob - 2 - i) for i, o in enumerate(others))]
    ]
    logprobs = None if not wanted else {"content": [{**entries[0], "top_logprobs": entries[: int(wanted)]}]}
    return {
        "id": "chat-" + hashlib.sha256(text.encode()).hexdigest()[:12],
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body.get("model"),
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": label},
                "logprobs": logprobs,
            }
        ],
        "usage": {"prompt_tokens": 10 + len(text) // 4, "completion_tokens": 1, "total_tokens": 11 + len(text) // 4},
    }


class FakeProvider:
    """The server, in a thread of its own. `latency` is added to every answer, in seconds; `port` 0: any free one."""

    def __init__(self, script: Script = None, *, latency: float = 0.0, port: int = 0) -> None:
        self.port = port
        self.script, self.latency = script, latency
        self.posts: list[Post] = []
        self.in_flight = self.most_in_flight = 0
        self._steps = {text: list(steps) for text, steps in script.items()} if isinstance(script, Mapping) else {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> FakeProvider:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Address for TOGETHER_BASE_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def usd(self) -> float:
        """What a service would bill at 1 and 2 dollars per million tokens in and out."""
        return sum(p.usage[0] * 1.0 + p.usage[1] * 2.0 for p in self.posts if p.billed) / 1e6

    def count(self, text: str = "") -> int:
        """POSTs whose last message contains the text."""
        return sum(text in post.text for post in self.posts)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        tasks_before = asyncio.all_tasks()
        await self._end.wait()
        server.close()
        for task in asyncio.all_tasks() - tasks_before:
            task.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._answer(
                Post(len(self.posts), first.split(" ")[1], headers, json.loads(body or b"{}"), body, time.monotonic()),
                writer,
            )
        finally:
            self.in_flight -= 1

    def _step(self, post: Post) -> Step:
        if callable(self.script):
            return self.script(post) or ok()
        for text, steps in self._steps.items():
            if text in post.text and steps:
                return steps.pop(0)
        return ok()

    async def _answer(self, post: Post, writer: asyncio.StreamWriter) -> bool:
        self.posts.append(post)
        step = self._step(post)
        if self.latency:
            await asyncio.sleep(self.latency)
        if step.kind == "hang":
            await asyncio.sleep(step.seconds)
            return False
        if step.kind == "reset":
            raw_socket: socket.socket = writer.get_extra_info("socket")
            raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        data, headers, good = self._payload(post, step)
        lines = [
            f"HTTP/1.1 {step.status} X",
            f"Content-Length: {len(data)}",
            *(f"{k}: {v}" for k, v in headers.items()),
            "",
            "",
        ]
        writer.write("\r\n".join(lines).encode("latin-1"))
        if step.kind == "cut":
            writer.write(data[: len(data) // 2])
            await writer.drain()
            return False
        if step.kind == "drip":
            for i in range(len(data)):
                writer.write(data[i : i + 1])
                await writer.drain()
                await asyncio.sleep(step.seconds)
        else:
            writer.write(data)
        post.billed = good
        await writer.drain()
        return True

    def _payload(self, post: Post, step: Step) -> tuple[bytes, dict[str, str], bool]:
        headers = {"Content-Type": "application/json", **step.headers}
        if step.kind == "raw":
            return step.body, headers, False
        if step.kind == "json":
            return json.dumps(step.body).encode(), headers, False
        body = {**completion(post.body), **(step.body or {})}
        usage = body.get("usage") or {}
        post.usage = (usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
        return json.dumps(body).encode(), headers, True
