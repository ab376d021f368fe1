"""Row 68 of the fault matrix: what a proxy does not pass on was never sent; SOCKS; passwords; this machine's own addresses."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_batch import FakeBatchApi
from fake_provider import FakeProvider
from fault_run import FaultRun, no_canary

PASSWORD = "pass-word-0123456789"
BATCH = ("--provider", "together-batch")


@pytest.fixture
def run(tmp_path: Path) -> FaultRun:
    return FaultRun(tmp_path / "project")


class Proxy:
    """A proxy that answers everything with one status; `asked` are the request lines it saw."""

    def __init__(self, status: int) -> None:
        asked = self.asked = []  # type: ignore[var-annotated]

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                asked.append(self.rfile.readline().decode().strip())
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://someone:{PASSWORD}@127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    made = Proxy(request.param)
    yield made
    made.server.shutdown()
    made.server.server_close()


def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("proxy", [407, 502], indirect=True)
@pytest.mark.parametrize("provider", [(), pytest.param(BATCH, marks=pytest.mark.slow)], ids=["chat", "batch"])
def test_row_68_what_a_proxy_does_not_pass_on_was_never_sent(
    run: FaultRun, proxy: Proxy, provider: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    clean(monkeypatch)
    ended = run("https://service.example", "collect", *provider, HTTPS_PROXY=proxy.url)
    assert ended.code == 3
    assert "the proxy http://127.0.0.1:" in ended.err
    assert "HTTPS_PROXY" in ended.err
    assert proxy.asked
    assert all(line.startswith("CONNECT service.example:443 ") for line in proxy.asked)
    assert {state for state, *_ in run.attempts()} <= {"not_sent"}
    assert PASSWORD not in ended.out + ended.err
    no_canary(run.folder, PASSWORD)


@pytest.mark.parametrize("proxy", [407], indirect=True)
def test_row_68_a_407_to_a_request_in_clear_was_never_sent(
    run: FaultRun, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean(monkeypatch)
    ended = run("http://service.example", "collect", "--allow-insecure", HTTP_PROXY=proxy.url)
    assert ended.code in (2, 3)
    assert {state for state, *_ in run.attempts()} <= {"not_sent"}
    assert PASSWORD not in ended.out + ended.err


@pytest.mark.parametrize("provider", [(), BATCH], ids=["chat", "batch"])
def test_row_68_socks_is_refused_with_the_package_to_install(
    run: FaultRun, provider: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    clean(monkeypatch)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ended = run("https://service.example", "collect", *provider, ALL_PROXY=f"socks5://someone:{PASSWORD}@127.0.0.1:1")
    assert ended.code == 2
    assert f"pip install '{'httpx[socks]' if provider else 'aiohttp-socks'}'" in ended.err
    assert "socks5://127.0.0.1:1 is a SOCKS proxy" in ended.err
    assert PASSWORD not in ended.out + ended.err
    no_canary(run.folder, PASSWORD)


@pytest.mark.parametrize("provider", [(), BATCH], ids=["chat", "batch"])
@pytest.mark.parametrize("address", ["http://127.0.0.1:1", f"socks5://someone:{PASSWORD}@127.0.0.1:1"])
def test_row_68_what_is_for_this_machine_goes_through_no_proxy(
    run: FaultRun, provider: tuple[str, ...], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean(monkeypatch)
    service: Any = FakeBatchApi(polls=0) if provider else FakeProvider()
    everywhere = {"HTTP_PROXY": address, "HTTPS_PROXY": address, "ALL_PROXY": address}
    with service as api:
        assert run(api, "collect", *provider, **everywhere).code == 0
    assert {row["cheap_status"] for row in run.table("graded.parquet")} == {"ok"}
