"""Logs as they lie about in production: each variant of one log is read, or the watch says why not and does not go on."""

from __future__ import annotations

import base64
import bz2
import csv
import gzip
import io
import json
import lzma
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from deliver.policies import CHEAP, document, one_token, write

from cascade_threshold.policy import Policy
from pipeline.__main__ import main
from pipeline.deliver.monitoring.eprocess import LEVEL
from pipeline.deliver.monitoring.log_file import expand
from pipeline.deliver.monitoring.monitor import check

Line = dict[str, Any]


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("policy") / "policy.json", document())


def log(policy_file: Path, n: int, error: float, seed: int = 0, labeled: float = 0.5) -> list[Line]:
    """Decision lines as the cascade writes them, confidences as calibration had them."""
    rng, digest = random.Random(seed), json.loads(policy_file.read_text())["digest"]
    lines = []
    for i in range(n):
        c = 0.5 + rng.random() / 2
        line: Line = {
            "time": f"2026-11-{1 + i * 25 // n:02d}T10:{i // 60 % 60:02d}:{i % 60:02d}.000+00:00",
            "task": "email_triage",
            "id": f"r{i}",
            "policy": digest[:16],
            "model": CHEAP,
            "status": "ok",
            "action": "accept" if c >= 0.9 else "escalate",
            "confidence": c,
            "threshold": 0.9,
            "answer": "spam" if c >= 0.9 else None,
            "strong_answer": None,
        }
        if c >= 0.9 and rng.random() < labeled:
            line["label"] = "work" if rng.random() < error else "spam"
        lines.append(line)
    return lines


def jsonl(lines: list[Line]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def cri(lines: list[Line]) -> str:
    """As container runtimes write it, long lines in two parts."""
    out = []
    for line in lines:
        text = json.dumps(line)
        out += [f"2026-11-28T10:00:00.1Z stdout P {text[:90]}", f"2026-11-28T10:00:00.2Z stdout F {text[90:]}"]
    return "\n".join(out) + "\n"


def docker(lines: list[Line], cut: int = 10**6) -> str:
    out = []
    for line in lines:
        text = json.dumps(line) + "\n"
        parts = [text[i : i + cut] for i in range(0, len(text), cut)]
        out += [json.dumps({"log": part, "stream": "stdout", "time": "2026-11-28T10:00:00Z"}) for part in parts]
    return "\n".join(out) + "\n"


def as_text(line: Line) -> Line:
    return {k: str(v) if isinstance(v, float) else v for k, v in line.items()}


def with_verdicts(lines: list[Line], right: Any, wrong: Any) -> bytes:
    """The same log with a verdict in place of each label."""
    out = [{**x, "correct": right if x["label"] == "spam" else wrong} if "label" in x else x for x in lines]
    return jsonl([{k: v for k, v in x.items() if k != "label"} for x in out]).encode()


def csv_rows(header: list[str], rows: list[list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([header, *rows])
    return out.getvalue().encode()


def csv_text(lines: list[Line], delimiter: str) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, [*lines[0], "label", "note"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows([{**line, "note": 'two\nlines, and "quotes"'} for line in lines])
    return out.getvalue().encode()


def parquet(lines: list[Line]) -> bytes:
    frame = pd.DataFrame([{**line, "correct": line["label"] == "spam" if "label" in line else None} for line in lines])
    frame["time"] = pd.to_datetime(frame["time"])
    out = io.BytesIO()
    frame.drop(columns="label").to_parquet(out)
    return out.getvalue()


def labels_later(lines: list[Line]) -> bytes:
    first = [{k: v for k, v in line.items() if k != "label"} for line in lines]
    later = [{"id": x["id"], "time": "2026-12-01T00:00:00Z", "label": x["label"]} for x in lines if "label" in x]
    return jsonl(first + later).encode()


VARIANTS: dict[str, Callable[[list[Line]], bytes]] = {
    "plain": lambda lines: jsonl(lines).encode(),
    "gzip": lambda lines: gzip.compress(jsonl(lines).encode()),
    "several gzip members": lambda lines: (
        gzip.compress(jsonl(lines[:99]).encode()) + gzip.compress(jsonl(lines[99:]).encode())
    ),
    "gzip cut short": lambda lines: gzip.compress(jsonl(lines).encode())[:-400],
    "bzip2": lambda lines: bz2.compress(jsonl(lines).encode()),
    "xz": lambda lines: lzma.compress(jsonl(lines).encode()),
    "byte order mark": lambda lines: jsonl(lines).encode("utf-8-sig"),
    "utf-16": lambda lines: jsonl(lines).encode("utf-16"),
    "utf-16 without a mark": lambda lines: jsonl(lines).encode("utf-16-be"),
    "carriage returns": lambda lines: jsonl(lines).replace("\n", "\r\n").encode(),
    "old mac": lambda lines: jsonl(lines).replace("\n", "\r").encode(),
    "one array": lambda lines: json.dumps(lines).encode(),
    "indented array": lambda lines: json.dumps(lines, indent=2).encode(),
    "array, one element a line": lambda lines: ("[\n" + ",\n".join(map(json.dumps, lines)) + "\n]\n").encode(),
    "array that begins on its line": lambda lines: ("[" + ",\n ".join(map(json.dumps, lines)) + "]").encode(),
    "indented objects": lambda lines: "\n".join(json.dumps(line, indent=1) for line in lines).encode(),
    "objects without line breaks": lambda lines: "".join(map(json.dumps, lines)).encode(),
    "comma at the end": lambda lines: ",\n".join(map(json.dumps, lines)).encode(),
    "json text sequence": lambda lines: "".join("\x1e" + json.dumps(line) + "\n" for line in lines).encode(),
    "docker": lambda lines: docker(lines).encode(),
    "docker, long lines cut": lambda lines: docker(lines, 120).encode(),
    "container runtime": lambda lines: cri(lines).encode(),
    "message": lambda lines: jsonl([{"level": "info", "message": json.dumps(line)} for line in lines]).encode(),
    "message holds the object": lambda lines: jsonl([{"severity": "INFO", "message": line} for line in lines]).encode(),
    "jsonPayload": lambda lines: jsonl(
        [{"insertId": str(i), "jsonPayload": line} for i, line in enumerate(lines)]
    ).encode(),
    "a search index": lambda lines: jsonl([{"_id": str(i), "_source": line} for i, line in enumerate(lines)]).encode(),
    "nested attributes": lambda lines: jsonl(
        [{"id": str(i), "attributes": {"attributes": line, "message": "x"}} for i, line in enumerate(lines)]
    ).encode(),
    "wrapped twice": lambda lines: jsonl(
        [{"log": json.dumps({"msg": json.dumps(line)}) + "\n"} for line in lines]
    ).encode(),
    "a JSON text": lambda lines: "".join(json.dumps(json.dumps(line)) + "\n" for line in lines).encode(),
    "time and level": lambda lines: "".join(
        f"2026-11-28 10:00:00,123 INFO [svc] {json.dumps(x)}\n" for x in lines
    ).encode(),
    "braces in the prefix": lambda lines: "".join(f"INFO {{svc}} {json.dumps(x)}\n" for x in lines).encode(),
    "event stream": lambda lines: "".join(f"data: {json.dumps(x)}\n\n" for x in lines).encode(),
    "key=value": lambda lines: "".join(f"level=info msg={json.dumps(json.dumps(x))} n=1\n" for x in lines).encode(),
    "a python dict": lambda lines: "".join(f"{x!r}\n" for x in lines).encode(),
    "numbers as text": lambda lines: jsonl([as_text(line) for line in lines]).encode(),
    "verdicts as text": lambda lines: jsonl(
        [
            {
                **{k: v for k, v in line.items() if k != "label"},
                **({"correct": str(line["label"] == "spam")} if "label" in line else {}),
            }
            for line in lines
        ]
    ).encode(),
    "verdicts as numbers": lambda lines: jsonl(
        [
            {
                **{k: v for k, v in line.items() if k != "label"},
                **({"correct": int(line["label"] == "spam")} if "label" in line else {}),
            }
            for line in lines
        ]
    ).encode(),
    "labels in another case": lambda lines: jsonl(
        [{**x, **({"label": f" {x['label'].upper()} "} if "label" in x else {})} for x in lines]
    ).encode(),
    "comma separated": lambda lines: csv_text(lines, ","),
    "a column of lines": lambda lines: csv_rows(
        ["@timestamp", "@message"], [[str(i), json.dumps(x)] for i, x in enumerate(lines)]
    ),
    "tab separated": lambda lines: csv_text(lines, "\t"),
    "parquet": parquet,
    "pairs": lambda lines: "".join(
        "level=info " + " ".join(f"{k}={json.dumps(v)}" for k, v in x.items()) + "\n" for x in lines
    ).encode(),
    "inside decision": lambda lines: jsonl([{"id": x["id"], "decision": x} for x in lines]).encode(),
    "open telemetry": lambda lines: jsonl(
        [{"severityNumber": 9, "body": {"stringValue": json.dumps(x)}} for x in lines]
    ).encode(),
    "answer of a search index": lambda lines: json.dumps(
        {"took": 3, "hits": {"total": 700, "hits": [{"_source": x} for x in lines]}}
    ).encode(),
    "answer of a log service": lambda lines: json.dumps(
        {"events": [{"timestamp": i, "message": json.dumps(x)} for i, x in enumerate(lines)]}
    ).encode(),
    "answer with streams": lambda lines: json.dumps(
        {
            "data": {
                "result": [{"stream": {"app": "x"}, "values": [[str(i), json.dumps(x)] for i, x in enumerate(lines)]}]
            }
        }
    ).encode(),
    "verdicts in words": lambda lines: with_verdicts(lines, "correct", "incorrect"),
    "verdicts as decimals": lambda lines: with_verdicts(lines, "1.0", "0.0"),
    "verdicts T and F": lambda lines: with_verdicts(lines, "T", "F"),
    "labels in later lines": labels_later,
    "a torn last line": lambda lines: (jsonl(lines) + json.dumps(lines[0])[:60]).encode(),
    "zeros of a crash": lambda lines: ("\0" * 4096 + jsonl(lines)).encode(),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_log_with_43_per_cent_wrong_is_seen_and_a_good_one_holds_however_they_are_written(
    policy_file: Path, tmp_path: Path, variant: str
) -> None:
    policy, path = Policy(json.loads(policy_file.read_text())), tmp_path / "log"
    for error, verdict in ((0.43, "broken"), (0.01, "holds")):
        path.write_bytes(VARIANTS[variant](log(policy_file, 700, error)))
        report = check(policy, (line for found in expand([path]) for line in found.lines()))
        assert (report["verdict"], report["tested"]) == (verdict, True), report["text"]
        assert report["lines"]["judged"] >= 700 - (60 if "short" in variant else 0)
        assert report["evidence"][0]["labels"] > 40


UNREADABLE: dict[str, Callable[[Line], str]] = {
    "a label of no set": lambda x: json.dumps({**x, "label": "nonsense"}),
    "a label that is a list": lambda x: json.dumps({**x, "label": ["spam", "work"]}),
    "a verdict of no kind": lambda x: json.dumps({**x, "correct": "perhaps"}),
    "single quotes and a broken end": lambda x: repr(x).replace("}", ", oops}"),
    "unquoted": lambda x: json.dumps(x).replace('"', "", 2).replace("}", "") + " label: spam '\"label\": 1'",
    "a confidence that is none": lambda x: json.dumps({**x, "confidence": "very sure", "label": "spam"}),
    "a label for a request that is not there": lambda x: json.dumps({"id": "another", "label": "spam"}),
    "a decision in an unknown field": lambda x: json.dumps({"id": x["id"], "what": {**x, "label": "spam"}}),
    "an action of its own": lambda x: json.dumps({**x, "action": "keep", "label": "spam"}),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_lines_that_carry_a_label_and_cannot_be_read_are_never_passed_over(
    policy_file: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, path = log(policy_file, 600, 0.01), tmp_path / "log.jsonl"
    spoilt = {**next(x for x in lines if x.get("label")), "id": "spoilt"}
    path.write_text(jsonl(lines) + UNREADABLE[kind](spoilt) + "\n")
    command = ["monitor", "--policy", str(policy_file), "--log", str(path), "--quiet"]
    assert main([*command, "--require-labels"]) == 7
    shown = capsys.readouterr().out
    assert "untested" in shown.splitlines()[0]
    cause = "this log does not hold once, for example id 'another'" if "not there" in kind else "could not be read"
    assert cause in shown.splitlines()[0]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("NOTHING TESTED THE PROMISE")


@pytest.mark.parametrize("content", ["", "nonsense\n", '{"a": 1}\n', base64.b64encode(b"x" * 300).decode() + "\n"])
def test_row_74_a_log_without_a_readable_line_is_said_loudly_and_ends_with_7_when_labels_are_required(
    policy_file: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    path.write_text(content)
    command = ["monitor", "--policy", str(policy_file), "--log", str(path)]
    assert (main([*command, "--require-labels"]), main(command)) == (7, 0)
    assert "NOTHING TESTED THE PROMISE" in capsys.readouterr().out.splitlines()[-1]


def test_row_74_rotated_files_in_any_order_patterns_and_standard_input_are_one_log(
    policy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is in the newest third; read in the order of the names it would come first, or in the middle."""
    lines = log(policy_file, 800, 0.0, 1, 1.0) + [
        {**x, "time": x["time"].replace("-11-", "-12-"), "id": f"n{x['id']}"}
        for x in log(policy_file, 400, 0.6, 2, 1.0)
    ]
    for name, part in (("decisions.log", lines[800:]), ("decisions.log.1", lines[400:800])):
        (tmp_path / name).write_text(jsonl(part))
    (tmp_path / "decisions.log.2.gz").write_bytes(gzip.compress(jsonl(lines[:400]).encode()))
    reports = []
    for logs in (
        [str(tmp_path / "decisions.log*")],
        [str(tmp_path / f"decisions.log{end}") for end in (".1", "", ".2.gz")],
        ["-", str(tmp_path / "decisions.log.1"), str(tmp_path / "decisions.log.1"), str(tmp_path / "*.gz")],
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(jsonl(lines[800:]).encode())))
        assert main(["monitor", "--policy", str(policy_file), "--log", *logs, "--format", "json"]) == 6
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0] == reports[1] == reports[2]
    assert reports[0]["evidence"][0]["alarm_time"].startswith("2026-12")
    assert reports[0] == check(Policy(json.loads(policy_file.read_text())), lines) | {"review_overdue": None}


def test_a_log_that_is_not_there_or_compressed_in_another_way_is_an_error_that_says_so(
    policy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"0" * 20)
    for name, said in (
        (tmp_path / "none*.gz", "no such log"),
        (tmp_path, "no such log"),
        (tmp_path / "x.zst", "zstd -dc"),
    ):
        assert main(["monitor", "--policy", str(policy_file), "--log", str(name)]) == 2
        assert said in capsys.readouterr().err


def test_lines_delivered_several_times_count_once_and_it_is_said(policy_file: Path) -> None:
    policy = Policy(json.loads(policy_file.read_text()))
    lines = [x for x in log(policy_file, 400, 0.05, 3) for _ in range(3)]
    random.Random(1).shuffle(lines)
    report = check(policy, [json.dumps({"log": json.dumps(x), "time": str(i)}) for i, x in enumerate(lines)])
    assert (report["lines"]["judged"], report["lines"]["copy"]) == (400, 800)
    assert any("800 are copies" in text for text in report["text"])


def test_what_another_policy_decided_about_the_same_request_is_no_copy(policy_file: Path) -> None:
    policy, lines = Policy(json.loads(policy_file.read_text())), log(policy_file, 100, 0.0, 4)
    report = check(policy, [{**x, "policy": "0" * 16} for x in lines] + lines)
    assert (report["lines"]["judged"], report["lines"]["other_policy"], report["lines"]["copy"]) == (100, 100, 0)


def test_a_copy_that_brings_the_label_lends_it_to_the_line_it_copies(policy_file: Path) -> None:
    policy, lines = Policy(json.loads(policy_file.read_text())), log(policy_file, 300, 0.0, 4, 1.0)
    bare = [{k: v for k, v in x.items() if k != "label"} for x in lines]
    report = check(policy, [*bare, *[x for x in lines if "label" in x]])
    assert report["evidence"][0]["labels"] == sum("label" in x for x in lines)


def parted(lines: list[Line]) -> tuple[list[Line], list[Line]]:
    """Decisions without their labels, and the labels as lines of their own."""
    bare = [{k: v for k, v in x.items() if k != "label"} for x in lines]
    return bare, [{"id": x["id"], "label": x["label"]} for x in lines if "label" in x]


def test_a_label_that_was_corrected_later_counts_as_corrected_in_any_order_of_the_files(policy_file: Path) -> None:
    policy, lines = Policy(json.loads(policy_file.read_text())), log(policy_file, 400, 0.5, 4, 1.0)
    bare, told = parted(lines)
    first = [{"id": x["id"], "correct": True, "time": "2026-11-27 10:00:00 UTC"} for x in told]
    second = [x | {"time": "Sat, 28 Nov 2026 10:00:00 GMT"} for x in told]
    wrong = sum(x["label"] == "work" for x in told)
    assert 0 < wrong < len(told)
    for order in (
        [*bare, *first, *second],
        [*second, *first, *bare],
        [*second, *[{**x, "label": "spam"} for x in bare]],
    ):
        report = check(policy, order)
        found = next(e for e in report["evidence"] if e["kind"] == "labels")
        assert (found["labels"], found["errors"]) == (len(told), wrong)


def test_a_label_goes_to_the_request_as_this_policy_decided_it_and_to_no_other_task(policy_file: Path) -> None:
    policy, lines = Policy(json.loads(policy_file.read_text())), log(policy_file, 200, 0.2, 4, 1.0)
    bare, told = parted(lines)
    shadow = [{**x, "policy": "0" * 16} for x in bare]
    nameless = [{k: v for k, v in x.items() if k != "policy"} | {"task": "another"} for x in bare]
    report = check(policy, [*shadow, *bare, *nameless, *told])
    assert report["lines"] == check(policy, [*bare, *told])["lines"] | {
        "read": len(shadow) + len(bare) + len(nameless) + len(told),
        "other_policy": len(shadow) + len(nameless),
    }
    assert report["evidence"][0]["labels"] == len(told)


@pytest.mark.parametrize("blank", [" ", "None", "null", "NaN"])
def test_a_null_written_as_a_word_is_no_label_and_a_blank_policy_is_none(policy_file: Path, blank: str) -> None:
    policy, lines = Policy(json.loads(policy_file.read_text())), log(policy_file, 200, 0.0, 4, 0.5)
    told = check(policy, [{"label": blank, "policy": "", **x, "correct": blank} for x in lines])
    assert (told["tested"], told["unread_labels"]) == (True, 0)
    assert told["evidence"] == check(policy, lines)["evidence"]


def test_equal_replies_without_id_or_time_are_two_requests(policy_file: Path) -> None:
    """Logprobs are coarse and answers are few: equal bytes that name no moment are no copies."""
    report = check(Policy(json.loads(policy_file.read_text())), [{"completion": one_token(0.99), "label": "spam"}] * 40)
    assert (report["lines"]["judged"], report["lines"]["copy"]) == (40, 0)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_false_alarms_stay_within_the_stated_rate_however_often_each_line_is_delivered(
    policy_file: Path, times: int
) -> None:
    # each run reads up to 4,500 lines; what counts a line twice raises half of the alarms or more, which a hundred runs show
    policy, runs = Policy(json.loads(policy_file.read_text())), 100
    bound = policy.document["monitor"]["accepted_error_bound"]
    alarms = sum(
        not check(policy, [json.dumps(x) for line in log(policy_file, 900, bound, seed, 1.0) for x in [line] * times])[
            "holds"
        ]
        for seed in range(runs)
    )
    assert alarms <= LEVEL * runs + 3 * (runs * LEVEL * (1 - LEVEL)) ** 0.5


def test_row_74_one_stray_reply_of_another_model_is_a_warning_and_many_or_a_kept_one_break_the_promise(
    policy_file: Path,
) -> None:
    policy, lines = Policy(json.loads(policy_file.read_text())), log(policy_file, 400, 0.0, 5)
    strays = [{**x, "model": "Qwen/Qwen4-9B", "action": "escalate", "id": f"s{i}"} for i, x in enumerate(lines)]
    kept = {**strays[0], "action": "accept"}
    assert check(policy, lines)["verdict"] == "holds"
    assert check(policy, [*lines, strays[0]])["verdict"] == "drift"
    assert check(policy, [*lines, *strays[:4]])["verdict"] == "drift"
    assert check(policy, [*lines, *strays[:5]])["verdict"] == "broken"
    assert check(policy, [*lines, kept])["verdict"] == "broken"


@pytest.mark.slow
@pytest.mark.parametrize("fault", [True, False])
def test_a_month_of_production_gets_the_verdicts_that_are_due(tmp_path: Path, fault: bool) -> None:
    script = Path(__file__).parents[2] / "scripts" / "month_of_production.py"
    command = [sys.executable, str(script), str(tmp_path), *([] if fault else ["--no-fault"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=script.parents[1])
    nights = {night["day"]: night for night in map(json.loads, done.stdout.splitlines())}
    assert all(nights[day]["verdict"] == "holds" for day in range(1, 10))
    assert (nights[7]["torn"], nights[8]["torn"]) == (0, 1)
    assert all(nights[day]["verdict"] == "drift" for day in range(11, 17))
    assert nights[14]["judged"] == 14 * 240
    broken = [day for day, night in nights.items() if night["exit"] == 6]
    if fault:
        assert broken == list(range(broken[0], 31))
        assert 20 <= broken[0] <= 24
    else:
        assert broken == []


def test_a_row_of_a_table_that_cannot_be_read_counts_with_its_label(policy_file: Path, tmp_path: Path) -> None:
    """A row cut short, and a quote that never closes: rows of a table with a label column."""
    policy, path = Policy(json.loads(policy_file.read_text())), tmp_path / "log.csv"
    whole = csv_text(log(policy_file, 400, 0.01), ",")
    for spoilt in (whole + b"2026-11-27,email\n", whole + b'2026-11-27,"email\n', b"a,b\n" + whole + b"one,two\n"):
        path.write_bytes(spoilt)
        report = check(policy, (line for found in expand([path]) for line in found.lines()))
        assert report["lines"]["judged"] == 400
        assert report["lines"]["bad"] + report["lines"]["torn"] == 1 + spoilt.startswith(b"a,b")
    path.write_bytes(whole + b"2026-11-27,email\n")
    report = check(policy, (line for found in expand([path]) for line in found.lines()))
    assert (report["verdict"], report["tested"]) == ("untested", False)


def test_pairs_with_escapes_that_json_does_not_know_are_read(policy_file: Path) -> None:
    policy = Policy(json.loads(policy_file.read_text()))
    line = r'path="C:\logs\q" quote="a\qb" action=accept confidence=0.95 answer=spam label=work model=' + CHEAP
    assert check(policy, [line])["lines"]["judged"] == 1
