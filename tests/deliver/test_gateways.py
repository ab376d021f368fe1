"""The gateways themselves read what is exported for them: LiteLLM's Router and proxy, vLLM's semantic router.

They live in an environment of their own (`make tools`), since their versions of shared packages differ from ours.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deliver.policies import CHEAP, STRONG, document
from fake_provider import FakeProvider, Post, Step, http

from cascade_threshold.policy import Policy
from pipeline.deliver.formats.export import export

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TOOLS = Path(__file__).resolve().parent.parent.parent / ".venv-tools" / "bin"
MASTER_KEY = "sk-0123456789abcdef0123456789abcdef"
# it would fetch a list of prices, and refuses to start without a key of its own
ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": MASTER_KEY}
ROUTER = """
import sys, yaml, litellm
router = litellm.Router(model_list=yaml.safe_load(open(sys.argv[1]))["model_list"])
for name in ("email_triage-cheap", "email_triage-strong"):
    print(router.completion(model=name, messages=[{"role": "user", "content": "row 1"}]).model_dump_json())
"""


@pytest.fixture(autouse=True)
def _tools() -> None:
    if not (TOOLS / "litellm").exists():
        pytest.skip("the gateways are not installed: make tools")


def chat_only(post: Post) -> Step | None:
    """The proxy asks for other things too, of which a chat server knows nothing."""
    return None if "messages" in post.body else http(404)


@pytest.fixture(scope="module")
def api() -> Iterator[FakeProvider]:
    with FakeProvider(chat_only) as server:
        yield server


@pytest.fixture
def policy(api: FakeProvider) -> dict[str, Any]:
    """Certified against the server that is there."""
    served = {"provider": "openai-compatible", "base_url": api.url}
    plain = document()
    return document(
        provider="openai-compatible", threshold=0.1, cheap=plain["cheap"] | served, strong=plain["strong"] | served
    )


@pytest.fixture
def model_list(policy: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "litellm.yaml"
    path.write_text(export(policy, "litellm"), "utf-8")
    return path


def test_litellms_router_asks_the_calibrated_server_as_it_was_calibrated(
    api: FakeProvider, policy: dict[str, Any], model_list: Path
) -> None:
    before = len(api.posts)
    done = subprocess.run(
        [TOOLS / "python", "-c", ROUTER, model_list],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cheap, strong = api.posts[before:]
    assert (cheap.body["model"], strong.body["model"]) == (CHEAP, STRONG)
    asked = Policy(policy).request("cheap", dialect="litellm")
    assert {name: cheap.body.get(name) for name in asked} == asked
    first, _ = map(json.loads, done.stdout.splitlines())
    decided = Policy(policy).decide(first)
    assert decided.action == "accept"
    assert decided.confidence is not None


def test_the_proxy_serves_the_threshold_and_answers_under_a_name_that_decide_knows(
    policy: dict[str, Any], model_list: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "proxy.log").open("wb")
    proxy = subprocess.Popen(
        [TOOLS / "litellm", "--config", model_list, "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, **ENVIRONMENT},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        answered = ask(
            port,
            "/v1/chat/completions",
            {
                "model": "email_triage-cheap",
                "messages": [{"role": "user", "content": "row 1"}],
                "logprobs": True,
                "top_logprobs": 5,
            },
            proxy,
        )
        assert answered["model"] == "email_triage-cheap"
        assert Policy(policy).decide(answered).action == "accept"
        told = {entry["model_name"]: entry["model_info"] for entry in ask(port, "/model/info", None, proxy)["data"]}
        assert told["email_triage-cheap"]["metadata"]["cascade_threshold"] == 0.1
        assert told["email_triage-cheap"]["input_cost_per_token"] == pytest.approx(0.17e-6)
    finally:
        proxy.terminate()
        proxy.wait()
        log.close()


def ask(port: int, path: str, body: dict[str, Any] | None, proxy: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What the proxy answers, once it is up."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        None if body is None else json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {MASTER_KEY}"},
    )
    end = time.monotonic() + 240
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert proxy.poll() is None, "the proxy ended"
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


@pytest.mark.parametrize("threshold", [0.9, None])
def test_vllms_semantic_router_takes_the_export_for_a_config(threshold: float | None, tmp_path: Path) -> None:
    mean = {"name": "mean", "version": 2, "params": {}, "whole_output": True}
    verdict = "certified" if threshold else "strong_only"
    path = tmp_path / "router.yaml"
    path.write_text(
        export(document(signal=mean, threshold=threshold, verdict=verdict), "vllm-semantic-router"), "utf-8"
    )
    done = subprocess.run(
        [TOOLS / "vllm-sr", "config", "router", "--config", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    path.write_text(path.read_text("utf-8").replace("confidence_method", "confidence_methodd"), "utf-8")
    broken = subprocess.run(
        [TOOLS / "vllm-sr", "config", "router", "--config", path], capture_output=True, text=True, check=False
    )
    assert threshold is None or broken.returncode != 0, "a check that can fail"
