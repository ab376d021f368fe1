"""The example service, in process."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from deliver.policies import CHEAP, STRONG, body, document, one_token, write
from together import AsyncTogether

from cascade_threshold.policy import Policy
from pipeline.collect.request import prompt_digest
from pipeline.config import yaml_file
from pipeline.deliver.monitoring.monitor import check
from pipeline.demo.weights import load

testclient = pytest.importorskip("fastapi.testclient", reason="the extra `service` is not installed")
ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "email_triage.yaml"
MAIL = {"subject": "Minutes of Monday", "body": "Please find the minutes attached."}


@pytest.fixture(scope="module")
def service() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_service", ROOT / "examples" / "service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def client_of(replies: dict[str, Any]) -> AsyncTogether:
    def answer(request: httpx.Request) -> httpx.Response:
        reply = replies[json.loads(request.content)["model"]]
        return httpx.Response(reply) if isinstance(reply, int) else httpx.Response(200, json=reply)

    return AsyncTogether(
        api_key="k", max_retries=0, http_client=httpx.AsyncClient(transport=httpx.MockTransport(answer))
    )


def serve(service: ModuleType, tmp_path: Path, replies: dict[str, Any], made: dict[str, Any] | None = None) -> Any:
    prompt = yaml_file.load(CONFIG).prompt
    policy = Policy(made or document(prompt_sha256=prompt_digest(prompt)))
    return testclient.TestClient(
        service.create_app(policy, prompt, client_of(replies), log=tmp_path / "log.jsonl", shadow=0)
    )


def test_sure_and_unsure_requests_are_answered_and_logged_for_the_monitor(service: ModuleType, tmp_path: Path) -> None:
    made = document(prompt_sha256=prompt_digest(yaml_file.load(CONFIG).prompt))
    for confidence, route, answer in ((0.95, "cheap", "spam"), (0.5, "strong", "work")):
        with serve(service, tmp_path, {CHEAP: one_token(confidence), STRONG: body("work", model=STRONG)}, made) as web:
            got = web.post("/answer", json={"columns": MAIL, "id": "7"})
            assert (got.status_code, got.json()["route"], got.json()["answer"]) == (200, route, answer)
            assert got.json()["usd"] > 0
    lines = (tmp_path / "log.jsonl").read_text()
    assert "minutes" not in lines
    assert check(Policy(made), lines.splitlines())["lines"]["judged"] == 2


def test_a_changed_prompt_escalates_everything(service: ModuleType, tmp_path: Path) -> None:
    with serve(service, tmp_path, {CHEAP: one_token(0.99), STRONG: body("work", model=STRONG)}, document()) as web:
        assert "another prompt" in web.post("/answer", json={"columns": MAIL}).json()["reason"]


def test_a_missing_column_and_a_silent_strong_model_have_their_own_codes(service: ModuleType, tmp_path: Path) -> None:
    with serve(service, tmp_path, {CHEAP: one_token(0.5), STRONG: 503}) as web:
        assert web.post("/answer", json={"columns": {"subject": "x"}}).status_code == 422
        assert web.post("/answer", json={"columns": MAIL}).status_code == 502
        assert web.get("/policy").json()["threshold"] == 0.9


def test_the_service_starts_from_the_environment_with_the_demonstration_models(
    service: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml_file.load(CONFIG)
    names = {}
    for role in ("cheap", "strong"):
        weights = Path(config.resolve(getattr(config, role).weights))
        if not weights.is_file():
            pytest.skip(f"{weights} is not there")
        names[role] = load(weights).name
    sides = {
        role: {
            **document()[role],
            "model": name,
            "response_models_seen": [name],
            "params": {"temperature": 0, "max_tokens": 8},
        }
        for role, name in names.items()
    }
    made = document(provider="embedded", threshold=0.5, prompt_sha256=prompt_digest(config.prompt), **sides)
    monkeypatch.setenv("CASCADE_POLICY", str(write(tmp_path / "policy.json", made)))
    monkeypatch.setenv("CASCADE_CONFIG", str(CONFIG))
    monkeypatch.setenv("CASCADE_LOG", str(tmp_path / "log.jsonl"))
    with testclient.TestClient(service.from_environment()) as web:
        got = web.post("/answer", json={"columns": MAIL}).json()
    assert got["answer"] in ("work", "personal", "spam", "other")
    assert got["confidence"] is not None
