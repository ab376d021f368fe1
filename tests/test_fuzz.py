"""Fuzzing: valid configs, tables, replies, policies, logs and artefacts with odd values put in and bytes turned, cut and repeated.

Every command must end as documented (tests/foreign_input.py). What once did not is a file under foreign_cases/. The short
form runs with the slow tests; `make fuzz` gives each ten times the examples and another seed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deliver.policies import body, document, one_token, write
from foreign_input import ODD, altered, call, damaged, documented, json_bytes, places
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from run_folder import RunFolder

from cascade_threshold import policy_schema
from cascade_threshold.policy import Policy
from pipeline.__main__ import main

CASES = Path(__file__).parent / "foreign_cases"
RETRIEVAL = Path(__file__).resolve().parent.parent / "configs" / "retrieval_relevance.yaml"
PRICE = {"input": 1, "output": 2, "as_of": "2026-11-22", "source": "made up"}
CONFIG: dict[str, Any] = {
    "task": "odd",
    "kind": "classify",
    "labels": ["a", "b"],
    "prompt": {"system": "say", "user": "{text}"},
    "provider": "recorded",
    "dataset": {
        "path": "rows.jsonl",
        "id": "id",
        "label": "label",
        "group": "g",
        "segment": "s",
        "split": {"fit": 0.3, "certify": 0.5, "test": 0.2},
        "prevalence": {"a": 0.5, "b": 0.5},
    },
    "cheap": {
        "model": "m",
        "replies": "cheap.jsonl",
        "usd_per_million_tokens": PRICE,
        "top_logprobs": 4,
        "params": {"temperature": 0, "max_tokens": 8, "reasoning": {"enabled": False}},
    },
    "strong": {
        "model": "n",
        "replies": "strong.jsonl",
        "usd_per_million_tokens": PRICE,
        "params": {"max_tokens": 8},
        "splits": ["certify", "test"],
    },
    "target": {
        "kind": "match_strong",
        "within": 0.05,
        "certainty": 0.9,
        "label_floors": {"a": 0.5},
        "label_groups": {"z": ["a"]},
    },
    "signal": "auto",
    "calibration": "auto",
    "max_failure_rate": 0.5,
    "max_unreadable": 0.5,
    "looks": {"planned": 3},
    "review_after_days": 9,
    "volume": {"requests_per_month": 5},
    "report": {"examples": "full"},
    "seed": 3,
}
ROWS = [{"id": f"r{i}", "text": f"text {i}", "label": "ab"[i % 2], "g": f"g{i}", "s": "x"} for i in range(12)]
TABLE = [
    {
        "example_id": f"r{i}",
        "confidence": 0.3 + 0.02 * i,
        "cheap_correct": i % 3 != 0,
        "cheap_answer": "ab"[i % 2],
        "label": "ab"[i % 2],
        "strong_correct": True,
        "strong_answer": "ab"[i % 2],
        "cheap_usd": 0.1,
        "strong_usd": 1.0,
        "cheap_s": 0.2,
        "strong_status": "ok",
        "signal_mean": 0.5,
        "group": f"g{i}",
        "segment": "x",
        "split": ["fit", "certify", "test"][i % 3],
    }
    for i in range(30)
]
REPLIES = [{"custom_id": f"r{i}", "response": {"status_code": 200, "body": body("ab"[i % 2])}} for i in range(12)]
POLICY = document()
DECISIONS = [
    {
        **Policy(POLICY).decide(one_token(c)).to_dict(),
        "label": "spam",
        "time": "2026-11-22T10:00:00Z",
        "strong_answer": "spam",
    }
    for c in [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99] * 6
]
IMPORTS: dict[str, Any] = {
    "batch": REPLIES,
    "lm-eval": [
        {"doc_id": i, "target": 0, "filtered_resps": [[-1.0, False], [-2.0, False]], "acc": 1.0} for i in range(5)
    ],
    "decisions": DECISIONS[:6],
    "promptfoo": {
        "results": {
            "results": [
                {
                    "testIdx": i,
                    "promptIdx": 0,
                    "provider": {"id": "p"},
                    "response": {"output": "a", "logProbs": [-0.1], "cost": 0.1},
                    "success": True,
                }
                for i in range(5)
            ]
        }
    },
    "inspect": {
        "samples": [
            {
                "id": i,
                "epoch": 1,
                "target": ["a"],
                "scores": {"x": {"value": "C", "answer": "a"}},
                "output": {
                    "model": "m",
                    "choices": [
                        {
                            "message": {"content": [{"type": "text", "text": "a"}]},
                            "logprobs": {
                                "content": [{"token": "a", "bytes": [97], "logprob": -0.1, "top_logprobs": []}]
                            },
                            "stop_reason": "stop",
                        }
                    ],
                },
            }
            for i in range(4)
        ]
    },
}

NUMBERS = [
    *(
        f"target={{kind: {kind}, {name}"
        for kind, name in (
            ("match_strong", "within"),
            ("agree_with_strong", "within"),
            ("accepted_accuracy", "at_least"),
            ("system_accuracy", "at_least"),
            ("budget", "escalation_rate"),
            ("budget", "usd_per_1000"),
            ("total_cost", "usd_per_error"),
        )
    ),
    *(
        "target.certainty",
        "target.label_floors.a",
        "looks.planned",
        "review_after_days",
        "seed",
        "dataset.prevalence.a",
    ),
    *("volume.requests_per_month", "max_failure_rate", "max_unreadable", "dataset.split.fit", "cheap.usd_per_request"),
    *("strong.usd_per_million_tokens.output", "strong.usd_per_million_tokens.batch_discount"),
]
"""Where a config holds a number; a target, up to its number."""

fuzzed = settings(
    max_examples=max(5, settings.default.max_examples // 10),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # making an example smaller takes longer than reading it
)


def lines(value: Any) -> bytes:
    return b"".join(json_bytes(row) + b"\n" for row in value) if isinstance(value, list) else json_bytes(value)


def csv_bytes(rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def parquet_bytes(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


TABLES: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "jsonl": lines,
    "csv": csv_bytes,
    "parquet": parquet_bytes,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def put(project: Path, **files: bytes) -> list[str]:
    """A whole project but for these files; the options that name its folders."""
    whole = {
        "rows_jsonl": lines(ROWS),
        "cheap_jsonl": lines(REPLIES),
        "strong_jsonl": lines(REPLIES),
        "odd_yaml": json_bytes(CONFIG),
    }
    for name, content in (whole | files).items():
        (project / name.replace("_", ".")).write_bytes(content)
    return ["--runs-dir", str(project / "runs"), "--reports-dir", str(project / "reports")]


@pytest.mark.slow
class TestConfig:
    @fuzzed
    @given(altered(CONFIG))
    def test_values(self, project, config) -> None:
        folders = put(project, odd_yaml=json_bytes(config))
        documented(["estimate", str(project / "odd.yaml"), *folders])

    @fuzzed
    @given(damaged(json_bytes(CONFIG)))
    def test_bytes(self, project, content) -> None:
        folders = put(project, odd_yaml=content)
        documented(["estimate", str(project / "odd.yaml"), *folders])

    @fuzzed
    @given(
        st.sampled_from([".".join(map(str, path)) for path in places(CONFIG) if path]),
        st.sampled_from([str(v) for v in ODD if v != "\ud800"]),
    )
    def test_overrides(self, project, key, value) -> None:
        folders = put(project)
        documented(["estimate", str(project / "odd.yaml"), "--set", f"{key}={value}", *folders])

    @settings(fuzzed, max_examples=max(3, fuzzed.max_examples // 4))
    @given(
        st.sampled_from(NUMBERS),
        st.sampled_from([1e-320, 1e-300, 1e-9, 0.999999999999, 1, 7, 10**9, 10**17, 1e200, 1e308, -1e-300, -1]),
    )
    def test_numbers_up_to_the_report(self, project, key, value) -> None:
        folders = put(project, table_jsonl=lines(TABLE))
        words = ["evaluate", str(project / "odd.yaml"), "--predictions", str(project / "table.jsonl"), "--quiet"]
        end = "}" if key.startswith("target={") else ""
        code, _, err = documented([*words, "--set", f"{key}{':' if end else '='} {value}{end}", *folders])
        assert code or not err, "a report without a number that is none"


@pytest.mark.slow
class TestTables:
    @fuzzed
    @given(altered(ROWS))
    def test_values_of_a_dataset(self, project, rows) -> None:
        folders = put(project, rows_jsonl=lines(rows))
        documented(["estimate", str(project / "odd.yaml"), *folders])

    @pytest.mark.parametrize("suffix", TABLES)
    @fuzzed
    @given(data=st.data())
    def test_bytes_of_a_dataset(self, project, suffix, data) -> None:
        config = {**CONFIG, "dataset": {**CONFIG["dataset"], "path": f"rows.{suffix}"}}
        content = data.draw(damaged(TABLES[suffix](ROWS)))
        folders = put(project, odd_yaml=json_bytes(config), **{f"rows_{suffix}": content})
        documented(["estimate", str(project / "odd.yaml"), *folders])

    @fuzzed
    @given(altered(TABLE[:6]))
    def test_values_of_predictions(self, project, rows) -> None:
        folders = put(project, table_jsonl=lines(rows) + lines(TABLE[6:]))
        documented(["measure", str(project / "odd.yaml"), "--predictions", str(project / "table.jsonl"), *folders])

    @pytest.mark.parametrize("suffix", TABLES)
    @fuzzed
    @given(data=st.data())
    def test_bytes_of_predictions(self, project, suffix, data) -> None:
        folders = put(project, **{f"table_{suffix}": data.draw(damaged(TABLES[suffix](TABLE)))})
        documented(["measure", str(project / "odd.yaml"), "--predictions", str(project / f"table.{suffix}"), *folders])

    @fuzzed
    @given(altered(ROWS))
    def test_values_that_a_config_is_proposed_for(self, project, rows) -> None:
        put(project, rows_jsonl=lines(rows))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(project)
            (project / "configs" / "mine.yaml").unlink(missing_ok=True)
            documented(["new", "mine", "--from", "rows.jsonl"])

    @pytest.mark.parametrize("kind", IMPORTS)
    @fuzzed
    @given(data=st.data())
    def test_files_of_other_tools(self, project, kind, data) -> None:
        valid = IMPORTS[kind]
        content = lines(data.draw(altered(valid))) if data.draw(st.booleans()) else data.draw(damaged(lines(valid)))
        (project / "file").write_bytes(content)
        suffix = data.draw(st.sampled_from(list(TABLES)))
        documented(
            ["import", kind, str(project / "file"), "--answers", "a,b", "--output", str(project / f"out.{suffix}")]
        )


@pytest.mark.slow
class TestReplies:
    @settings(fuzzed, max_examples=max(3, fuzzed.max_examples // 5))
    @given(data=st.data())
    def test_recorded_replies(self, project, data) -> None:
        content = lines(data.draw(altered(REPLIES))) if data.draw(st.booleans()) else data.draw(damaged(lines(REPLIES)))
        folders = put(project, cheap_jsonl=content)
        for command in ("collect", "measure"):
            documented([command, str(project / "odd.yaml"), *folders])
        shutil.rmtree(project / "runs", ignore_errors=True)

    @fuzzed
    @given(data=st.data())
    def test_a_completion_piped_into_route(self, project, data) -> None:
        write(project / "policy.json", POLICY)
        valid = one_token(0.8)
        piped = (
            json_bytes(data.draw(altered(valid))) if data.draw(st.booleans()) else data.draw(damaged(json_bytes(valid)))
        )
        documented(["route", "--policy", str(project / "policy.json")], piped)


@pytest.mark.slow
class TestProduction:
    @fuzzed
    @given(policy=altered(POLICY), sealed=st.booleans())
    def test_values_of_a_policy(self, project, policy, sealed) -> None:
        if sealed and isinstance(policy, dict):
            try:
                policy["digest"] = policy_schema.digest(policy)
            except ValueError:  # NaN and half characters have none
                return
        (project / "policy.json").write_bytes(json_bytes(policy))
        (project / "log").write_bytes(lines(DECISIONS[:10]))
        documented(["route", "--policy", str(project / "policy.json")], json_bytes(one_token(0.8)))
        documented(["monitor", "--policy", str(project / "policy.json"), "--log", str(project / "log")])

    @fuzzed
    @given(damaged(json_bytes(POLICY)))
    def test_bytes_of_a_policy(self, project, content) -> None:
        (project / "policy.json").write_bytes(content)
        documented(["route", "--policy", str(project / "policy.json")], json_bytes(one_token(0.8)))

    @fuzzed
    @given(data=st.data(), form=st.sampled_from(["text", "json", "prometheus", "markdown"]))
    def test_a_log(self, project, data, form) -> None:
        write(project / "policy.json", POLICY)
        if data.draw(st.booleans()):
            piped = lines(data.draw(altered(DECISIONS[:12]))) + lines(DECISIONS[12:])
        else:
            whole = lines(DECISIONS)
            piped = data.draw(damaged(gzip.compress(whole, mtime=0) if data.draw(st.booleans()) else whole))
        documented(["monitor", "--policy", str(project / "policy.json"), "--log", "-", "--format", form], piped)


@pytest.fixture(scope="module")
def decided(tmp_path_factory) -> tuple[Path, RunFolder, list[str]]:
    folder = tmp_path_factory.mktemp("decided")
    words = [
        str(RETRIEVAL),
        "--limit",
        "300",
        "--runs-dir",
        str(folder / "runs"),
        "--reports-dir",
        str(folder / "reports"),
    ]
    code, out, err = call(["evaluate", *words, "--json", "--quiet"])
    assert code == 0, err
    return folder, RunFolder(folder / "runs", json.loads(out)), words


@pytest.mark.slow
@pytest.mark.parametrize("command", ["export", "sweep", "recommend"])
@settings(fuzzed, max_examples=max(4, fuzzed.max_examples // 4))
@given(data=st.data())
def test_artefacts_between_stages(decided, command, data) -> None:
    """Any one of them damaged: the next stage refuses it, or gets to its end."""
    folder, run, words = decided
    names = [
        "run.json",
        "graded.parquet",
        "predictions.parquet",
        "calibration.json",
        "sweep.parquet",
        "recommendation.json",
        "policy.json",
        "decision.json",
    ]
    path = run / data.draw(st.sampled_from(names))
    whole = path.read_bytes()
    before = {
        p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix in (".json", ".parquet", ".jsonl")
    }
    if path.suffix == ".json" and data.draw(st.booleans()):
        path.write_bytes(json_bytes(data.draw(altered(json.loads(whole)))))
    else:
        path.write_bytes(data.draw(damaged(whole)))
    try:
        documented([command, *words, *(["--allow-demo", "--allow-uncertified"] if command == "export" else [])])
    finally:
        for file, content in before.items():
            file.write_bytes(content)


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()))
def test_what_once_ended_in_a_traceback_ends_as_documented(project, name, monkeypatch) -> None:
    kind = name.partition("-")[0]
    monkeypatch.chdir(project)
    if kind == "predictions":
        folders = put(project)
        words = ["measure", str(project / "odd.yaml"), "--predictions", str(CASES / name), *folders]
    elif kind == "new":
        words = ["new", "proposed", "--from", str(CASES / name)]
    else:
        words = ["import", kind, str(CASES / name), "--answers", "a,b", "--output", str(project / "out.parquet")]
    code, _, _ = documented(words)
    assert code in (0, 2)


def test_the_harness_notices_a_traceback(monkeypatch) -> None:
    from pipeline import commands

    monkeypatch.setattr(commands, "status", lambda args: 1 / 0)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        documented(["status"])
    assert main(["status"]) == 1
