"""The examples of production: the watch run as a script, its rules over metrics that exist, the recipe for Kubernetes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from deliver.policies import CHEAP, document, one_token, write

from cascade_threshold import Policy
from pipeline.collect.request import prompt_digest
from pipeline.config import yaml_file
from pipeline.deliver.monitoring import monitor_formats
from pipeline.deliver.monitoring.monitor import check

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def lines(wrong: int) -> list[dict[str, Any]]:
    """100 accepted answers with a label, each its own request."""
    return [
        {"completion": one_token(0.95), "label": "work" if i < wrong else "spam", "time": i + 1, "id": str(i)}
        for i in range(100)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("wrong", "code"), [(0, 0), (40, 6), (None, 7)])
def test_the_watch_leaves_metrics_and_ends_as_monitor_does(tmp_path: Path, wrong: int | None, code: int) -> None:
    write(tmp_path / "policy.json", document())
    (tmp_path / "log").write_text("" if wrong is None else "".join(json.dumps(x) + "\n" for x in lines(wrong)))
    metrics = tmp_path / "cascade.prom"
    environment = {
        **os.environ,
        "POLICY": str(tmp_path / "policy.json"),
        "LOGS": str(tmp_path / "log*"),
        "METRICS": str(metrics),
        "MONITOR": f"{sys.executable} -m pipeline monitor",
    }
    done = subprocess.run(
        ["sh", str(EXAMPLES / "watch" / "watch.sh")],
        env=environment,
        capture_output=True,
        text=True,
        cwd=EXAMPLES.parent,
        check=False,
    )
    assert done.returncode == code, done.stderr
    holds = re.search(r'^cascade_monitor_holds\{task="email_triage"\} (\d)$', metrics.read_text(), re.MULTILINE)
    assert holds is not None
    assert holds[1] == ("0" if code == 6 else "1")
    assert not list(tmp_path.glob("cascade.prom.*"))


def test_every_alert_rule_is_over_a_metric_that_the_watch_writes() -> None:
    text = monitor_formats.rendered(check(Policy(document()), lines(3)), "prometheus")
    sample = re.compile(r'^(# (HELP|TYPE) cascade_\w+ .+|cascade_\w+\{\w+="[^"]*"(,\w+="[^"]*")*\} -?[\d.e+-]+)$')
    assert all(sample.match(line) for line in text.splitlines())
    known = set(re.findall(r"^(cascade_\w+)", text, re.MULTILINE)) | {"cascade_monitor_last_run_seconds"}
    (group,) = yaml.safe_load((EXAMPLES / "watch" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert set(re.findall(r"cascade_\w+", rule["expr"])) <= known


def test_the_recipe_for_kubernetes_has_a_read_only_root_and_mounts_what_it_names() -> None:
    made = yaml.safe_load((EXAMPLES / "kubernetes" / "cascade.yaml").read_text())
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert made["spec"]["selector"]["matchLabels"] == made["spec"]["template"]["metadata"]["labels"]


def test_the_runtime_decides_where_nothing_can_be_written(tmp_path: Path) -> None:
    """No home, no temporary folder, no matplotlib: only the policy is read, and only the log is written."""
    write(tmp_path / "policy.json", document())
    code = (
        "import builtins, sys, os, cascade_threshold as c; p = c.load(sys.argv[1]); opened = []; real = builtins.open\n"
        "sys.addaudithook(lambda event, args: opened.append(args) if event == 'open' and args[2] & (os.O_WRONLY | os.O_RDWR) else None)\n"
        "a = c.Cascade(p, lambda messages, **_: sys.argv[2]).answer([{'role': 'user', 'content': 'x'}])\n"
        "assert not opened, opened\n"
        "print(a.answer)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "policy.json"), json.dumps(one_token(0.95))],
        text=True,
        capture_output=True,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        cwd=EXAMPLES.parent,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "spam\n"), done.stderr


def test_the_service_asks_a_loopback_server_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    testclient = pytest.importorskip("fastapi.testclient", reason="the extra `service` is not installed")
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            asked.append(self.path)
            data = json.dumps(one_token(0.95)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = EXAMPLES.parent / "configs" / "email_triage.yaml"
    made = document()
    cheap = {**made["cheap"], "provider": "openai-compatible", "base_url": f"http://127.0.0.1:{server.server_port}"}
    write(
        tmp_path / "policy.json",
        document(provider="openai-compatible", cheap=cheap, prompt_sha256=prompt_digest(yaml_file.load(config).prompt)),
    )
    for name, value in (("POLICY", tmp_path / "policy.json"), ("CONFIG", config), ("LOG", tmp_path / "log.jsonl")):
        monkeypatch.setenv(f"CASCADE_{name}", str(value))
    monkeypatch.delenv("TOGETHER_API_KEY", raising=False)
    spec = importlib.util.spec_from_file_location("example_service_loopback", EXAMPLES / "service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with testclient.TestClient(module.from_environment()) as web:
        got = web.post("/answer", json={"columns": {"subject": "Minutes", "body": "Attached."}}).json()
    server.shutdown()
    server.server_close()
    assert (got["answer"], got["route"], asked) == ("spam", "cheap", ["/v1/chat/completions"])
    assert CHEAP in (tmp_path / "log.jsonl").read_text()
