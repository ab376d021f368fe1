"""A learned signal that reads the answer's length or the request's segment, from recorded replies to production and its log."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from deliver.policies import body
from tickets import CONFIG

from cascade_threshold import Cascade
from cascade_threshold.policy import Policy, load
from pipeline.__main__ import main
from pipeline.deliver.formats.export import export
from pipeline.deliver.monitoring.monitor import check

pytestmark = pytest.mark.slow
ROWS = 600


class Found(NamedTuple):
    policy: Policy
    table: pd.DataFrame
    """predictions.parquet by example_id."""
    replies: dict[str, dict[str, Any]]
    """The cheap model's, by example_id."""
    hard: set[str]
    """Rows on which the cheap model errs in half of the cases."""


def evaluated(folder: Path, told_by: str) -> Found:
    """`told_by`: what parts hard rows from easy ones: the reply's length, the row's segment, or its logprobs alone."""
    rng, hard, replies = np.random.default_rng(8), set(), {}
    rows, lines = ["id,text,label,desk"], {"cheap": [], "strong": []}
    for i in range(ROWS):
        label, is_hard = str(rng.choice(["billing", "account"])), rng.random() < 0.3
        desk = ("north" if is_hard else "south") if told_by == "segment" else str(rng.choice(["north", "south"]))
        rows.append(f"r{i},a ticket with the number {i},{label},{desk}")
        other = {"billing": "account", "account": "billing"}[label]
        said = other if rng.random() < (0.5 if is_hard else 0.02) else label
        tokens = [(said, float(-rng.exponential(0.4 if told_by == "logprobs" and is_hard else 0.05)))]
        if told_by == "length" and is_hard:
            tokens = [("**", -0.2), *tokens, ("**", -0.1), ("\n\n", -0.1), ("\n", -0.1)]
        for role, answer in (("cheap", tokens), ("strong", [(label, -0.1)])):
            reply = body("".join(t for t, _ in answer), answer, model={"cheap": "small", "strong": "large"}[role])
            lines[role].append(json.dumps({"custom_id": f"r{i}", "response": {"status_code": 200, "body": reply}}))
            if role == "cheap":
                replies[f"r{i}"] = reply
        if is_hard:
            hard.add(f"r{i}")
    (folder / "tickets.yaml").write_text(CONFIG.replace("id: id}", "id: id, segment: desk}"), "utf-8")
    (folder / "rows.csv").write_text("\n".join(rows) + "\n", "utf-8")
    for role, written in lines.items():
        (folder / f"{role}.jsonl").write_text("\n".join(written) + "\n", "utf-8")
    where = ["--runs-dir", str(folder / "runs"), "--reports-dir", str(folder / "reports"), "--quiet"]
    assert main(["evaluate", str(folder / "tickets.yaml"), "--set", "signal=auto", *where]) == 0
    (path,) = folder.glob("runs/tickets/*/*/policy.json")
    table = pd.read_parquet(path.with_name("predictions.parquet")).set_index("example_id")
    return Found(load(path), table, replies, hard)


@pytest.fixture(scope="module")
def by_segment(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return evaluated(tmp_path_factory.mktemp("segment"), "segment")


def escalates_the_hard_rows(found: Found) -> None:
    assert found.policy.threshold is not None
    escalated = found.table["confidence"] < found.policy.threshold
    hard = np.array([example in found.hard for example in found.table.index])
    assert escalated[hard].mean() > 0.9
    assert escalated[~hard].mean() < 0.4


def test_where_the_length_tells_hard_rows_it_is_read_and_production_passes_nothing(tmp_path: Path) -> None:
    found = evaluated(tmp_path, "length")
    assert found.policy.signal == "learned"
    assert not found.policy.reads_segment
    assert not found.policy.reads_text
    for example, reply in found.replies.items():
        assert found.policy.decide(reply).confidence == found.table.loc[example, "confidence"]
    escalates_the_hard_rows(found)


def test_where_neither_tells_more_than_the_logprobs_the_plain_signal_stays(tmp_path: Path) -> None:
    found = evaluated(tmp_path, "logprobs")
    assert found.policy.signal != "learned"


def test_production_decides_on_the_very_confidence_that_was_certified(by_segment: Found) -> None:
    policy = by_segment.policy
    assert policy.reads_segment
    assert not policy.reads_text
    for example, reply in by_segment.replies.items():
        row = by_segment.table.loc[example]
        assert policy.decide(reply, segment=row["segment"]).confidence == row["confidence"]
    escalates_the_hard_rows(by_segment)


def test_an_unknown_segment_escalates_in_production_and_its_log_is_watched(by_segment: Found) -> None:
    """`Cascade` passes the segment and logs it; the monitor names requests that came without a known one."""
    policy, lines = by_segment.policy, []
    asked = iter(by_segment.replies.values())
    strong = body("billing", [("billing", -0.1)], model="large")
    cascade = Cascade(
        policy, lambda **request: next(asked) if request["model"] == "small" else strong, log=lines.append
    )
    told = [by_segment.table.loc[example, "segment"] for example in list(by_segment.replies)[:300]]
    routes = {cascade.answer([], segment=segment, request_id=str(i)).route for i, segment in enumerate(told)}
    assert routes == {"cheap", "strong"}
    checks = {c["name"]: c for c in check(policy, lines)["checks"]}
    assert not checks["requests without what is read"]["alarm"]
    for segment in (None, "east"):
        for i in range(20):
            answer = cascade.answer([], segment=segment, request_id=f"{segment}{i}")
            assert (answer.route, answer.decision.status) == ("strong", "no_segment")
    report = check(policy, lines)
    checks = {c["name"]: c for c in report["checks"]}
    assert checks["requests without what is read"]["observed"] == pytest.approx(40 / 340)
    assert checks["requests without what is read"]["alarm"]
    assert report["lines"]["judged"] == 340, "every line is decided as the policy decides"
    assert [json.loads(line).get("segment") for line in lines[-21:]] == [None, *["east"] * 20]


def test_route_and_the_monitor_read_the_segment_beside_a_raw_completion(
    by_segment: Found, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(by_segment.policy.document), "utf-8")
    lines = []
    for example, reply in list(by_segment.replies.items())[:60]:
        row = by_segment.table.loc[example]
        lines.append(json.dumps({"completion": reply, "segment": row["segment"]}))
    row = by_segment.table.loc["r0"]
    for line, confidence in ((lines[0], row["confidence"]), (json.dumps(by_segment.replies["r0"]), None)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(line.encode())))
        assert main(["route", "--policy", str(path)]) == 0
        assert json.loads(capsys.readouterr().out)["confidence"] == confidence
    checks = {c["name"]: c for c in check(by_segment.policy, lines)["checks"]}
    assert checks["requests without what is read"]["observed"] == 0.0
    accepted = (by_segment.table["confidence"] >= by_segment.policy.threshold).loc[list(by_segment.replies)[:60]]
    assert checks["escalation rate"]["observed"] == pytest.approx(1 - accepted.mean())


def test_exports_say_what_must_be_passed(by_segment: Found) -> None:
    env = export(by_segment.policy, "env", allow_uncertified=True)
    assert "decide(completion, segment=...)" in env
    assert "only the package" in env
    assert "decide(completion, segment=...)" in export(by_segment.policy, "litellm", allow_uncertified=True)
    again = json.loads(export(by_segment.policy, "json", allow_uncertified=True))
    assert set(again["signal"]["params"]["segments"]) == {"north", "south"}
    with pytest.raises(Exception, match="signal"):
        export(by_segment.policy, "vllm-semantic-router", allow_uncertified=True)
