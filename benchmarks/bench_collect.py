"""How fast requests are sent and stored, against a stub server on loopback in a second process, all in one run.

    python benchmarks/bench_collect.py [--seconds 6] [--quick]      --quick leaves out the memory comparison (two minutes)

Each way of sending runs in a process of its own, one after the other. Printed for each: CPU of the client per request
(the sum over its threads), and requests per second as a share of what concurrency / latency allows; and whether the goals are
met: 90 % of the limit at 64 in flight, 80 % at 256 with at most 1/8 of the default client's CPU, memory that grows by at most
20 % from 10,000 to 100,000 requests, store and bookkeeping at most 15 % of a request through the SDK over aiohttp.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from figure import Figure  # noqa: E402

from cascade_threshold.pricing import Price  # noqa: E402
from pipeline.run import garbage  # noqa: E402

BODY = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "spam"},
                "logprobs": {
                    "content": [
                        {
                            "token": t,
                            "bytes": list(t.encode()),
                            "logprob": -0.1234567,
                            "top_logprobs": [
                                {"token": f"{t}{i}", "bytes": list(f"{t}{i}".encode()), "logprob": -0.1234567 - i}
                                for i in range(5)
                            ],
                        }
                        for t in ("sp", "am", "")
                    ]
                },
            }
        ],
        "usage": {"prompt_tokens": 210, "completion_tokens": 3, "total_tokens": 213},
    }
).encode()
PROMPT = "Sort this e-mail into one of four folders. " * 12
WAYS = {
    "ours": "ours: store, pace, cap and progress on",
    "sdk": "the SDK with its default client",
    "sdk_aiohttp": "the SDK over aiohttp with raised limits, raw responses",
    "aiohttp": "aiohttp alone",
}


class Stub(asyncio.Protocol):
    """Answers every POST after a fixed latency, with as little work as possible."""

    latency = 0.2
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.buffer.lower().find(b"content-length:", 0, head)
        length = int(self.buffer[at + 15 : self.buffer.index(b"\r\n", at)])
        if len(self.buffer) >= head + 4 + length:
            self.buffer = self.buffer[head + 4 + length :]
            asyncio.get_running_loop().call_later(self.latency, self.transport.write, self.answer)


async def stub(latency: float) -> None:
    Stub.latency = latency
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def requests(count: int):
    from pipeline.collect.request import Request

    for i in range(count):
        content = f"{PROMPT}{i}"
        yield Request(
            str(i),
            "cheap",
            "together",
            "m",
            ({"role": "system", "content": "Sort."}, {"role": "user", "content": content}),
            {"temperature": 0, "max_tokens": 8},
            5,
        )


async def workers(count: int, concurrency: int, one) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for i in numbers:
            await one(i)

    await asyncio.gather(*(work() for _ in range(concurrency)))


def measured(count: int, run) -> dict:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return {"cpu": (time.process_time() - cpu) / count, "wall": time.perf_counter() - wall}


def ours(url: str, count: int, concurrency: int) -> dict:
    from pipeline.collect.providers import together
    from pipeline.collect.sending.sender import send
    from pipeline.collect.store.response_store import ResponseStore

    os.environ["TOGETHER_BASE_URL"] = url
    price = Price(input=0.17, output=0.25)
    with (
        tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as folder,
        ResponseStore(Path(folder) / "r.sqlite") as store,
    ):

        def run() -> None:
            report = send(
                requests(count),
                together.from_environment(concurrency=concurrency),
                store,
                task="bench",
                concurrency=concurrency,
                start=concurrency,
                price=price,
                max_usd=1000.0,
                progress=True,
            )
            assert report.kept == count, report

        with garbage.searched_rarely():  # as the command line does
            return measured(count, run)


def sdk(url: str, count: int, concurrency: int, *, aiohttp_limits: bool = False) -> dict:
    import httpx
    from together import AsyncTogether, DefaultAioHttpClient

    async def main() -> None:
        http = None
        if aiohttp_limits:
            http = DefaultAioHttpClient(
                limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
            )
        async with AsyncTogether(api_key="x", base_url=url, max_retries=0, http_client=http) as client:
            create = (
                client.chat.completions.with_raw_response.create if aiohttp_limits else client.chat.completions.create
            )

            async def one(i: int) -> None:
                messages = [{"role": "system", "content": "Sort."}, {"role": "user", "content": f"{PROMPT}{i}"}]
                await create(model="m", messages=messages, temperature=0, max_tokens=8, logprobs=5, timeout=600)

            await workers(count, concurrency, one)

    return measured(count, lambda: asyncio.run(main()))


def raw_aiohttp(url: str, count: int, concurrency: int) -> dict:
    import aiohttp

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:

            async def one(i: int) -> None:
                messages = [{"role": "system", "content": "Sort."}, {"role": "user", "content": f"{PROMPT}{i}"}]
                body = {"model": "m", "messages": messages, "temperature": 0, "max_tokens": 8, "logprobs": 5}
                async with session.post(url + "/v1/chat/completions", json=body) as response:
                    await response.read()

            await workers(count, concurrency, one)

    return measured(count, lambda: asyncio.run(main()))


def client(way: str, url: str, count: int, concurrency: int) -> None:
    os.environ["TOGETHER_API_KEY"] = "x"
    run = {"ours": ours, "sdk": sdk, "sdk_aiohttp": lambda *a: sdk(*a, aiohttp_limits=True), "aiohttp": raw_aiohttp}[
        way
    ]
    result = run(url, count, concurrency)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if way == "ours":
        result["bookkeeping"] = bookkeeping()
    print(json.dumps({**result, "rss": rss}))


def spawn(*arguments: object) -> dict:
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def bookkeeping(count: int = 6000) -> float:
    """CPU seconds per request of everything but the asking: keys, store, pace, cap, progress; at 64 in flight."""
    from pipeline.collect.providers.provider import Attempt
    from pipeline.collect.sending.sender import send
    from pipeline.collect.store.response_store import ResponseStore

    class AtOnce:
        service, paid, host = "together", True, "nowhere"

        async def complete(self, request):
            await asyncio.sleep(0.05)
            return Attempt("reply", 200, BODY, {"x-request-id": "x"}, 0.05, "integer", "nowhere")

        async def aclose(self):
            pass

    async def asking_alone() -> None:
        provider = AtOnce()
        await workers(count, 64, provider.complete)

    with (
        tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as folder,
        ResponseStore(Path(folder) / "r.sqlite") as store,
    ):
        price = Price(input=0.17, output=0.25)
        options = {
            "task": "bench",
            "concurrency": 64,
            "start": 64,
            "price": price,
            "max_usd": 1000.0,
            "progress": False,
        }
        with garbage.searched_rarely():
            whole = measured(count, lambda: send(requests(count), AtOnce(), store, **options))["cpu"]
    bare = measured(count, lambda: (asyncio.run(asking_alone()), list(requests(count))))["cpu"]
    return whole - bare


class Server:
    """The stub in a process of its own."""

    def __init__(self, latency: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "stub", str(latency)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def compare(concurrency: int, latency: float, seconds: float) -> list[Figure]:
    limit = concurrency / latency
    print(f"\n{concurrency} in flight, {latency * 1000:g} ms latency: at most {limit:,.0f} requests/s")
    found = {}
    with Server(latency) as server:
        for way, text in WAYS.items():
            count = int(limit * seconds) if way != "sdk" or concurrency <= 64 else int(limit * seconds / 4)
            found[way] = one = spawn("client", way, server.url, count, concurrency)
            one["share"] = count / one["wall"] / limit
            print(
                f"  {text:58} {one['cpu'] * 1e3:6.3f} ms CPU a request   {one['share']:4.0%} of the limit", flush=True
            )
    kept, less = found["ours"]["bookkeeping"], found["sdk"]["cpu"] / found["ours"]["cpu"]
    part = kept / found["sdk_aiohttp"]["cpu"]
    print(
        f"  store and bookkeeping: {kept * 1e3:.3f} ms, {part:.0%} of a request through the SDK over aiohttp, {kept / found['ours']['cpu']:.0%} of our own"
    )
    print(
        f"  CPU, default SDK / ours: {less:.1f}; ours / aiohttp alone: {found['ours']['cpu'] / found['aiohttp']['cpu']:.1f}"
    )
    at = f"{concurrency} requests in flight at {latency * 1000:g} ms"
    sdk = found["sdk_aiohttp"]["share"]
    return [
        Figure(
            f"throughput relative to the limit that latency sets, {at}",
            found["ours"]["share"],
            "times",
            at_least=0.9 if concurrency <= 64 else 0.8,
        ),
        Figure(f"the same for the SDK over aiohttp without a store, {at}", sdk, "times"),
        Figure(
            f"CPU time of the SDK's default client relative to ours, {at}",
            less,
            "times",
            at_least=None if concurrency <= 64 else 8,
        ),
        Figure(
            f"CPU time of storing and bookkeeping relative to the request itself (SDK over aiohttp), {at}",
            part,
            "times",
            at_most=0.15,
        ),
    ]


def memory() -> list[Figure]:
    print("\nmemory of a run, 64 in flight, no latency")
    with Server(0.0) as server:
        sizes = {count: spawn("client", "ours", server.url, count, 64)["rss"] / 1024 for count in (10_000, 100_000)}
    small, large = sizes.values()
    print(f"  10,000 requests {small:.0f} MB, 100,000 requests {large:.0f} MB: ratio {large / small:.2f}")
    return [Figure("memory for 100,000 requests relative to 10,000", large / small, "times", at_most=1.2)]


def main(seconds: float = 6.0, *, quick: bool = False) -> list[Figure]:
    figures = [f for concurrency in (64, 256) for f in compare(concurrency, 0.2, seconds)]
    figures += [] if quick else memory()
    for f in figures:
        if f.met is not None:
            print(f"goal, {f.what} {f.goal}: {'met' if f.met else 'NOT met in this run'}")
    return figures


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each measurement at the limit's pace")
    parser.add_argument("--quick", action="store_true", help="leave out the memory of 10,000 and 100,000 requests")
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["stub"]:
        asyncio.run(stub(float(sys.argv[2])))
    elif sys.argv[1:2] == ["client"]:
        client(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        given = arguments()
        main(given.seconds, quick=given.quick)
