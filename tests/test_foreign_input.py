"""The boundary for foreign input, through the real command: size, depth, width, encodings, values. Each ends as documented."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deliver.policies import body, document, one_token, write
from foreign_input import documented, nested

from pipeline.__main__ import main

PRICE = "usd_per_million_tokens: {input: 1, output: 2, as_of: 2026-11-22, source: made up}"
CONFIG = f"""\
task: odd
kind: classify
dataset: {{path: rows.jsonl, id: id, label: label}}
labels: [a, b]
prompt: {{user: "{{text}}"}}
provider: recorded
cheap: {{model: m, replies: cheap.jsonl, {PRICE}, params: {{temperature: 0, max_tokens: 8}}}}
strong: {{model: n, replies: cheap.jsonl, {PRICE}, params: {{max_tokens: 8}}}}
target: {{kind: match_strong, within: 0.05}}
"""
ROWS = "".join(json.dumps({"id": f"r{i}", "text": f"text {i}", "label": "ab"[i % 2]}) + "\n" for i in range(400))
REPLY = json.dumps({"custom_id": "r0", "response": {"status_code": 200, "body": body("a")}}) + "\n"


@pytest.fixture
def estimate(tmp_path):
    """Run `estimate` on a project in which files are replaced; the exit code and what was said on stderr."""
    (tmp_path / "rows.jsonl").write_text(ROWS)
    (tmp_path / "cheap.jsonl").write_text(REPLY)

    def run(*options: str, config: str = CONFIG, **files: bytes) -> tuple[int, str]:
        for name, content in files.items():
            (tmp_path / name.replace("_", ".")).write_bytes(content)
        (tmp_path / "odd.yaml").write_text(config)
        folders = ["--runs-dir", str(tmp_path / "runs"), "--reports-dir", str(tmp_path / "reports")]
        code, _, err = documented(["estimate", str(tmp_path / "odd.yaml"), *options, *folders])
        return code, err

    assert run() == (0, "")
    return run


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> str:
    return str(write(tmp_path_factory.mktemp("policy") / "policy.json", document()))


def with_value(key: str, value: str) -> str:
    return (
        CONFIG.replace(f"{key}: ", f"{key}: {value} #", 1) if f"\n{key}: " in CONFIG else CONFIG + f"{key}: {value}\n"
    )


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 6)
)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CONFIG + "seed: " + nested(100_000), "odd.yaml:10: nested deeper than 50"),
        (CONFIG + "seed:\n" + "".join(" " * i + "k:\n" for i in range(1, 900)), "nested deeper than 50"),
        (CONFIG + BOMB, "more than 100,000 values once its aliases are written out"),
        (CONFIG + "seed: &s [*s]\n", "is nested within what it repeats"),
        (CONFIG.replace("2026-11-22", "2026-02-30"), "odd.yaml:7: '2026-02-30' is neither a date nor a number"),
        (CONFIG.replace("2026-11-22", "20261122"), "20261122 is not a date; write year-month-day"),
        (CONFIG + "seed: " + "9" * 5000, "whole number of 5,000 digits"),
        (CONFIG + "seed: 0x" + "f" * 400, "whole number of 402 digits"),
        (CONFIG.replace("temperature: 0", "temperature: .nan"), "temperature is nan"),
        (CONFIG.replace("temperature: 0", "temperature: hot"), "temperature is 'hot', which is not a number"),
        (CONFIG.replace("temperature: 0", "stop: 2026-11-22"), "stop is '2026-11-22' (date), which JSON cannot hold"),
        (CONFIG.replace("temperature: 0", "logit_bias: {5: 1}"), "which is not text; put it in quotes"),
        (
            CONFIG.replace("within: 0.05", "within: little"),
            "odd.yaml:9: target.within: 'little' is not a number; it must be between 0.000001 and",
        ),
        (CONFIG.replace("within: 0.05", "within: '0.05'"), "'0.05' is not a number; write it without quotes"),
        (CONFIG + "seed: !!python/object/apply:os.system [echo]\n", "odd.yaml:10: holds a tag"),
        (CONFIG + "labels: [a, b]\n", "found duplicate key"),
        (nested(400), "nested deeper"),
        ("- a\n- b\n", "this file holds a list"),
        ("", "this file holds nothing"),
        ("some words\n", "this file holds 'some words'"),
        ("b: 1\na: \x07\n", "odd.yaml:2: holds the character U+0007, which YAML cannot hold"),
        (CONFIG + "description: " + "x" * 600_000, "more than 500,000 bytes"),
    ],
)
def test_row_76_a_config_beyond_the_limits_is_refused_by_line_key_and_rule(estimate, config, said) -> None:
    code, err = estimate(config=config)
    assert (code, said in err) == (2, True), err


def test_row_76_an_anchor_that_is_set_anew_is_yaml_and_no_warning(estimate) -> None:
    twice = CONFIG.replace("within: 0.05", "within: &a 0.05") + "seed: &a 5\nmax_failure_rate: 0.05\n"
    assert estimate(config=twice) == (0, "")


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("target.within=abc", "target.within: 'abc' is not a number; it must be between 0.000001 and 0.999999"),
        ("target.within=2", "target.within: 2 is out of range; it must be between 0.000001 and 0.999999"),
        ("target.within=1e-300", "target.within: 1e-300 is out of range"),
        ("target.certainty=0.9999999999999999", "it must be between 0.5 and 0.999999"),
        ("cheap.usd_per_request=1e308", "1e+308 is out of range; it must be between 0 and 1,000,000,000"),
        (
            "cheap.usd_per_hour={price: 1, requests_per_hour: 1e-300, as_of: 2026-01-01, source: x}",
            "1e-300 is out of range",
        ),
        ("target={kind: total_cost, usd_per_error: {a: {b: 1e300}}}", "usd_per_error.a.b: 1e+300 is out of range"),
        ("review_after_days=999999", "999999 is out of range"),
        ("looks.planned=999999", "between 1 and 10,000"),
        ("seed=-1", "seed: -1 is out of range; it must be at least 0"),
        ("task=" + "a" * 65, "at most 64 of them"),
        ("target.certainty=.nan", "nan is not a finite number; it must be between 0.5 and 0.999999"),
        ("seed=1.5", "seed: 1.5 is not a whole number"),
        ("looks.planned=0", "0 is out of range; it must be between 1 and 10,000"),
        ("target.usd_per_error=abc", "target.usd_per_error: 'abc' is not a number; it must be between"),
        ("cheap.usd_per_million_tokens.input=-1", "-1 is out of range; it must be between 0 and"),
        ("cheap.usd_per_million_tokens.as_of=soon", "'soon' is not a date; write year-month-day, such as 2026-11-22"),
        ("cheap.usd_per_million_tokens.as_of=2026-02-30", "'2026-02-30' is neither a date nor a number"),
        ("cheap=5", "cheap: 5 is not a mapping; write its keys such as model, provider"),
        ("labels=abc", "labels: 'abc' is not a list; write it as [a, b]"),
        ("report.examples=some", "'some' is not possible; write full or none"),
        ("strong.human=maybe", "write true where people are the strong side"),
        ("dataset.prevalence={a: x, b: 1}", "dataset.prevalence.a: 'x' is not a number; it must be between 0 and 1"),
        (f"seed={nested(3000)}", "nested deeper than 50"),
        ("cheap.api_key_env=my-very-secret-key-99", "api_key_env is the name of an environment variable"),
    ],
)
def test_a_bad_value_of_set_is_told_in_one_line_with_its_rule(estimate, item, said) -> None:
    code, err = estimate("--set", item)
    assert (code, said in err, len(err.splitlines())) == (2, True, 1), err
    assert "Input should" not in err
    assert "my-very-secret-key" not in err


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="none")
    return out.getvalue()


def bomb() -> bytes:
    out = io.BytesIO()
    table = pa.table({"id": ["a", "b"], "text": ["x" * 100_000_000, "y"], "label": ["a", "b"]})
    pq.write_table(table, out, compression="zstd", use_dictionary=False)
    assert len(out.getvalue()) < 50_000
    return out.getvalue()


WIDE = 200_000
DATASETS = {
    "deep": (
        "rows_jsonl",
        b'{"id": "r", "label": "a", "text": ' + nested(100_000).encode() + b"}\n",
        "nested deeper than 100",
    ),
    "deep_objects": ("rows_jsonl", b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "nested deeper than 100"),
    "digits": (
        "rows_jsonl",
        b'{"id": "r", "label": "a", "text": ' + b"9" * 5_000 + b"}\n",
        "a whole number of 5,000 digits",
    ),
    "bytes": ("rows_jsonl", ROWS.encode() + b'{"id": "\xff"}\n', "not UTF-8: byte"),
    "name": ("rows_jsonl", ROWS.encode() + b'{"\\ud800": 1}\n', "a column's name holds half a character"),
    "wide": (
        "rows_jsonl",
        json.dumps({str(i): 1 for i in range(WIDE)}).encode(),
        "200,000 columns; a table has at most 10,000",
    ),
    "wide_csv": ("rows_csv", (",".join(map(str, range(WIDE))) + "\n").encode() * 3, "200,000 columns"),
    "wide_parquet": ("rows_parquet", lambda: parquet(pa.table({str(i): [1] for i in range(20_000)})), "20,000 columns"),
    "parquet_bomb": ("rows_parquet", lambda: bomb(), "column 'text' unpacks to 100,"),
    "gzip_csv": ("rows_csv", gzip.compress(b"id,text,label\n"), "rows.csv: is compressed (gzip); unpack it"),
    "gzip_jsonl": ("rows_jsonl", gzip.compress(ROWS.encode()), "rows.jsonl: is compressed (gzip); unpack it"),
    "sheet": ("rows_csv", b"PK\x03\x04\x14\x00sheet1.xml", "rows.csv: is an archive or a spreadsheet (zip)"),
    "parquet_csv": ("rows_csv", lambda: parquet(pa.table({"id": ["a"]})), "rows.csv: is a Parquet file; rename it"),
    "a_nul": ("rows_csv", b"id,text,label\na,b\x00 caf\xe9,spam\n", "rows.csv:2: not UTF-8: byte"),
    "no_parquet": ("rows_parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", "damaged, or not a Parquet file"),
}


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_beyond_the_limits_is_refused_by_name(estimate, name) -> None:
    file, content, said = DATASETS[name]
    config = CONFIG.replace("rows.jsonl", file.replace("_", "."))
    code, err = estimate(config=config, **{file: content() if callable(content) else content})
    assert (code, said in err) == (2, True), err
    assert len(err) < 5_000, "a message names some columns, not two hundred thousand"


def test_a_dataset_at_an_address_where_nobody_answers_is_told_as_that(estimate) -> None:
    code, err = estimate(
        config=CONFIG.replace("rows.jsonl", "http://user:a-secret-word@127.0.0.1:9/rows.csv?sig=another-secret")
    )
    assert (code, "nothing came from there (" in err, "check the address, and that its server answers" in err) == (
        2,
        True,
        True,
    )
    assert "no such file" not in err
    assert "secret" not in err
    code, err = estimate(config=CONFIG.replace("rows.jsonl", "memory://nowhere.csv"))
    assert (code, "memory://nowhere.csv: there is no such file; check the address" in err) == (2, True)


def test_a_parquet_dataset_with_any_bit_turned_is_read_or_refused(estimate) -> None:
    rows = [json.loads(line) for line in ROWS.splitlines()]
    good = parquet(pa.Table.from_pylist(rows))
    config = CONFIG.replace("rows.jsonl", "rows.parquet")
    codes = set()
    for place in range(0, 8 * len(good), 8 * len(good) // 16):
        bad = bytearray(good)
        bad[place // 8] ^= 1 << (place % 8)
        codes.add(estimate(config=config, rows_parquet=bytes(bad))[0])
    assert codes == {0, 2}


@pytest.mark.parametrize("kind", ["batch", "lm-eval", "inspect", "promptfoo", "decisions"])
@pytest.mark.parametrize(
    "content", [nested(100_000), '{"a":' * 5_000, "9" * 5_000, '{"samples": 5, "results": 5}', "\x00", ""]
)
def test_an_import_of_what_is_no_such_file_is_refused(tmp_path, kind, content) -> None:
    (tmp_path / "file.json").write_text(content)
    code, _, err = documented(["import", kind, str(tmp_path / "file.json"), "--output", str(tmp_path / "out.csv")])
    assert code == 2
    assert "file.json" in err


@pytest.mark.parametrize(
    ("piped", "code", "said"),
    [
        (nested(100_000).encode(), 0, "escalate"),
        (b'{"a":' * 100_000, 0, "escalate"),
        (b"", 0, "escalate"),
        (b'{"choices": [' + b"9" * 5_000 + b"]}", 0, "escalate"),
        (json.dumps(one_token(0.99)).encode("utf-16"), 2, "standard input: not UTF-8 (byte 0 is 0xff)"),
        (b'{"choices": "\xe9"}', 2, "not UTF-8 (byte 13 is 0xe9)"),
        (b" " * 16_000_001, 2, "more than 16,000,000 bytes"),
        (b"\xef\xbb\xbf" + json.dumps(one_token(0.99)).encode(), 0, '"accept"'),
    ],
)
def test_route_decides_or_refuses_whatever_is_piped_in(policy, piped, code, said) -> None:
    found, out, err = documented(["route", "--policy", policy], piped)
    assert (found, said in out + err) == (code, True), (out, err)


@pytest.mark.parametrize(
    "content",
    [
        nested(100_000),
        '{"schema":' * 5_000,
        '{"schema": "cascade-policy/1", "threshold": ' + "9" * 5_000 + "}",
        '{"schema": NaN}',
        "\x00",
    ],
)
def test_a_policy_beyond_the_limits_is_no_policy(tmp_path, content) -> None:
    (tmp_path / "policy.json").write_text(content)
    code, _, err = documented(["route", "--policy", str(tmp_path / "policy.json")], b"{}")
    assert (code, "not a policy" in err) == (2, True), err


def test_a_log_of_lines_that_no_one_can_read_is_counted_not_believed(policy) -> None:
    lines = [
        nested(100_000),
        '{"action":' * 5_000,
        '{"action": "accept", "confidence": ' + "9" * 5_000 + "}",
        "\x1b[31m",
        "9" * 400,
    ]
    code, out, _ = documented(["monitor", "--policy", policy, "--log", "-", "--json"], "\n".join(lines).encode())
    assert code == 0
    assert json.loads(out)["tested"] is False


def test_one_bad_byte_in_the_ledger_of_looks_is_named(tmp_path) -> None:
    from pipeline.errors import UsageError
    from pipeline.run.looks import look

    look(tmp_path, ["aa"], "why", 0.1)
    good = (tmp_path / "looks.jsonl").read_bytes()
    lines = [
        good.replace(b"why", b"w\xffy"),
        good.replace(b"0.1", b"NaN"),
        good.replace(b"0.1", b'"x"'),
        nested(5000).encode(),
    ]
    for damaged in (*lines, good.replace(b'"why"', b"[]"), good.replace(b"0.1", b"7")):
        (tmp_path / "looks.jsonl").write_bytes(good + damaged)
        with pytest.raises(UsageError, match=r"looks\.jsonl, line 2: is damaged"):
            look(tmp_path, ["aa"], "why else", 0.1)


# The terminal


ESCAPE = "\x1b]0;owned\x07\x1b[31m\u202e"


def test_no_escape_of_a_foreign_name_reaches_the_terminal(estimate, policy, tmp_path) -> None:
    for config in (
        CONFIG.replace("model: m", 'model: "m\\e[31m\\e]0;x\\a"'),
        CONFIG.replace("labels: [a, b]", 'labels: [a, "b\\e[31m"]'),
        CONFIG.replace("{text}", "{text} {te\x9b31mxt}".replace("\x9b", "\\x9b")),
    ):
        estimate(config=config)
    estimate(rows_jsonl=ROWS.encode() + json.dumps({"id": ESCAPE, "text": "x", "label": ESCAPE}).encode())
    rows = json.dumps({"id": ESCAPE, ESCAPE: 1}) + "\n"
    estimate(config=CONFIG, rows_jsonl=rows.encode())
    name = tmp_path / f"{ESCAPE}.csv"
    name.write_text("a,b\n1,2\n")
    documented(["import", "batch", str(name)])
    line = {
        "action": "accept",
        "confidence": 0.99,
        "answer": ESCAPE,
        "model": ESCAPE,
        "label": ESCAPE,
        "policy": ESCAPE,
    }
    for form in ("text", "markdown", "prometheus", "json"):
        documented(["monitor", "--policy", policy, "--log", "-", "--format", form], json.dumps(line).encode() * 2)
    documented(["route", "--policy", policy], json.dumps(one_token(0.9, ESCAPE, model=ESCAPE)).encode())
    documented(["status", ESCAPE, "--runs-dir", str(tmp_path / "none")])
    with pytest.raises(SystemExit):
        main(["export", ESCAPE, "--format", ESCAPE])


def test_row_69_a_terminal_of_ascii_gets_plain_characters(estimate, monkeypatch) -> None:
    import sys

    from pipeline import terminal

    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", out)
    terminal.prepare()
    terminal.say("a → b · 3 × 2 … é 😀")
    terminal.say_json({"é": "😀"})
    terminal.write("ö\n")
    out.flush()
    first, second, third = out.buffer.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first == rb"a -> b | 3 x 2 ... \xe9 \U0001f600"
    assert json.loads(second) == {"é": "😀"}
    assert third == "ö".encode(), "a document is UTF-8 wherever it goes"


def test_the_limits_are_those_that_the_documentation_states() -> None:
    from cascade_threshold import json_text, policy_schema
    from pipeline.collect.data import table_reader
    from pipeline.collect.providers import bounded
    from pipeline.config import yaml_text
    from pipeline.deliver.monitoring import log_file

    text = (Path(__file__).parent.parent / "docs" / "limits.md").read_text("utf-8")
    limits = (
        json_text.MOST_DEPTH,
        json_text.MOST_DIGITS,
        yaml_text.MOST_BYTES,
        yaml_text.MOST_DEPTH,
        yaml_text.MOST_VALUES,
        table_reader.MOST_COLUMNS,
        table_reader.MOST_LINE,
        bounded.MOST_BYTES,
        policy_schema.MOST_BYTES,
        log_file.MOST_LINE,
    )
    for limit in limits:
        assert f" {limit:,} " in text, limit


@pytest.mark.slow
def test_a_process_of_its_own_with_a_terminal_of_ascii_closed_streams_and_foreign_bytes(policy, tmp_path) -> None:
    import os
    import subprocess
    import sys

    root = Path(__file__).parent.parent
    ascii_only = {
        **os.environ,
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }

    def run(command: str) -> subprocess.CompletedProcess[bytes]:
        line = f"{sys.executable} -m pipeline {command}"
        return subprocess.run(["sh", "-c", line], cwd=root, env=ascii_only, capture_output=True, timeout=200)

    folders = f"--runs-dir {tmp_path}/runs --reports-dir {tmp_path}/reports"
    plain = run(f"estimate retrieval_relevance {folders}")
    assert (plain.returncode, plain.stdout.isascii(), plain.stderr) == (0, True, b"")
    assert b" | " in plain.stdout
    bytes_ = run(f"route --policy {policy} < {tmp_path}/latin")
    assert bytes_.returncode == 2
    (tmp_path / "latin").write_bytes(b'{"a": "\xe9"}')
    bytes_ = run(f"route --policy {policy} < {tmp_path}/latin")
    assert (bytes_.returncode, b"not UTF-8" in bytes_.stderr) == (2, True)
    assert run(f"route --policy {policy} <&-").returncode == 2
    full = run(f"route --policy {policy} < /dev/null > /dev/full")
    assert (full.returncode, b"no space left" in full.stderr, b"Traceback" in full.stderr) == (3, True, False)
    assert run(f"route --policy {policy} < /dev/null >&-").returncode == 0
