"""Inputs made after public bug reports, each through the real command, with what it must give. Set CASES_DIR to run them."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from pipeline.__main__ import main

CASES = os.environ.get("CASES_DIR")
needs_cases = pytest.mark.skipif(CASES is None, reason="CASES_DIR is not set")


def case(tmp_path: Path, name: str) -> Path:
    """A copy of a case's folder, unpacked."""
    folder = tmp_path / "case"
    shutil.copytree(Path(str(CASES)) / name, folder)
    for packed in folder.glob("*.gz"):
        packed.chmod(0o600)
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


def command(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command line, run in the folder."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        code = main(list(arguments))
    assert "Traceback" not in err.getvalue()
    return code, out.getvalue(), err.getvalue()


@contextmanager
def listening(script: str, *before: str, after: tuple[str, ...] = ()) -> Iterator[int]:
    """A case's server on a free port, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    path = [sys.executable, str(Path(str(CASES)) / script), *before, str(port), *after]
    server = subprocess.Popen(path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        server.kill()
        server.wait()


def report_of(folder: Path) -> dict[str, object]:
    (path,) = (folder / "reports").rglob("report.json")
    found: dict[str, object] = json.loads(path.read_text("utf-8"))
    return found


def keyed(port: int, **more: str) -> dict[str, str]:
    return {"TOGETHER_API_KEY": "canary-123456", "TOGETHER_BASE_URL": f"http://127.0.0.1:{port}/v1"} | more


@needs_cases
@pytest.mark.slow
def test_case_02_boxed_labels_are_read_and_change_nothing(tmp_path: Path) -> None:
    """Every tenth strong reply is in a TeX box: the certificate is that of the twin whose replies are bare labels."""
    found = []
    for name in ("02/c_part", "02/c_part0"):
        folder = case(tmp_path / name[-7:].replace("/", ""), name)
        code, out, err = command(folder, "evaluate", "c.yaml", "--json", "--quiet")
        assert code == 0, err
        told = json.loads(out)
        found.append((told["verdict"], told["threshold"], told["sentence"]))
    assert found[0] == found[1]
    assert found[0][0] == "certified"


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize("status", ["empty", "length"])
def test_case_02_replies_that_are_no_answer_bar_the_certificate_and_name_cause_and_remedy(
    tmp_path: Path, status: str
) -> None:
    folder = case(tmp_path, "02/c_part0")
    lines = [json.loads(line) for line in (folder / "strong.jsonl").read_text("utf-8").splitlines()]
    for i, line in enumerate(lines):
        if i % 8 == 0:
            choice = line["response"]["body"]["choices"][0]
            choice["message"]["content"] = "" if status == "empty" else "Let me think about this text. It seems"
            choice["finish_reason"] = "stop" if status == "empty" else "length"
    (folder / "strong.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    code, out, err = command(folder, "evaluate", "c.yaml", "--json", "--quiet")
    assert code == 0, err
    assert json.loads(out)["verdict"] == "uncertified"
    first = report_of(folder)["warnings"][0]  # type: ignore[index]
    assert first["code"] == "unreadable_strong"
    assert "max_tokens" in first["text"]


@needs_cases
@pytest.mark.slow
def test_case_03_full_width_punctuation_behind_a_label_is_taken_off_on_the_wire(tmp_path: Path) -> None:
    folder, ledger = case(tmp_path, "03/n_zh"), tmp_path / "ledger"
    with listening("chat_server.py", "zh", after=(str(ledger), "\u6b63\u9762,\u8d1f\u9762")) as port:
        code, out, err = command(folder, "doctor", "c.yaml", env=keyed(port))
        assert code == 0, out + err
        code, out, err = command(folder, "evaluate", "c.yaml", "--json", "--quiet", "--yes", env=keyed(port))
    assert code == 0, err
    statuses = report_of(folder)["health"]["statuses"]  # type: ignore[index]
    assert set(statuses["cheap"]) == {"ok"}


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode", "reason"), [("04/n_waf", "waf", "http_403"), ("05/n_p500", "poison500", "http_500")]
)
def test_cases_04_and_05_a_rows_own_fault_is_that_rows_and_the_job_ends(
    tmp_path: Path, name: str, mode: str, reason: str
) -> None:
    folder, ledger = case(tmp_path, name), tmp_path / "ledger"
    with listening("chat_server.py", mode, after=(str(ledger),)) as port:
        more = ("--yes", "--set", "max_failure_rate=0.1", "--quiet")
        code, _, err = command(folder, "evaluate", "c.yaml", *more, env=keyed(port))
        assert code == 0, err
        posts = []
        for _ in range(2):  # a row that had all its tries gets one more in a later run, and then none
            assert command(folder, "collect", "c.yaml", *more, env=keyed(port))[0] == 0
            posts.append(len(ledger.read_text("utf-8").splitlines()))
        assert posts[1] == posts[0], "the rows have had their tries"
    statuses = report_of(folder)["health"]["statuses"]  # type: ignore[index]
    assert statuses["cheap"]["failed"] == {"waf": 12, "poison500": 3}[mode]
    (run,) = (folder / "runs").rglob("run.json")
    assert reason in run.read_text("utf-8")


@needs_cases
@pytest.mark.slow
def test_case_06_reasoning_that_completion_tokens_leave_out_is_billed(tmp_path: Path) -> None:
    folder = case(tmp_path, "06/u_reason")
    code, _, err = command(folder, "evaluate", "c.yaml", "--quiet")
    assert code == 0, err
    (path,) = (folder / "runs").rglob("recommendation.json")
    usd = json.loads(path.read_text("utf-8"))["expected"]["strong_usd_per_1000"]["value"]
    assert usd == pytest.approx(1000 * (50 * 2.0 + 801 * 4.0) / 1e6)


@needs_cases
@pytest.mark.slow
def test_cases_09_and_30_audit_labels_in_any_form_count_and_break_the_promise(tmp_path: Path) -> None:
    folder = case(tmp_path, "09")
    code, out, err = command(folder, "evaluate", "c.yaml", "--json", "--quiet")
    assert code == 0, err
    policy = Path(folder, json.loads(out)["policy"])
    said = []
    for log in ("log_int.jsonl", "log_str.jsonl"):
        code, out, err = command(folder, "monitor", "--policy", str(policy), "--log", log, "--require-labels")
        assert code == 6, err
        said.append(out)
    assert said[0] == said[1]
    shutil.copy(policy, folder / "policy.json")
    shutil.copy(Path(str(CASES)) / "30_monitor" / "mklog.py", folder)
    made = subprocess.run(
        [sys.executable, "mklog.py", "600", "0.43", "1"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    lines = [json.loads(line) for line in made.splitlines()]
    (folder / "log.jsonl.gz").write_bytes(gzip.compress(made.encode()))
    (folder / "array.json").write_text(json.dumps(lines), "utf-8")
    as_text = [{k: str(v) if isinstance(v, float) else v for k, v in line.items()} for line in lines]
    (folder / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in as_text), "utf-8")
    (folder / "level.jsonl").write_text("".join(f"INFO {line}\n" for line in made.splitlines()), "utf-8")
    (folder / "thrice.jsonl").write_text("".join(f"{line}\n" * 3 for line in made.splitlines()), "utf-8")
    judged = set()
    for log in ("log.jsonl.gz", "array.json", "text.jsonl", "level.jsonl", "thrice.jsonl"):
        code, out, err = command(folder, "monitor", "--policy", "policy.json", "--log", log, "--json", "--quiet")
        assert code == 6, (log, err)
        judged.add(json.loads(out)["lines"]["judged"])
    assert judged == {600}


@needs_cases
@pytest.mark.slow
def test_case_13_a_proxy_that_refuses_is_named_without_its_password_and_nothing_was_perhaps_paid(
    tmp_path: Path,
) -> None:
    folder = case(tmp_path, "13")
    env = {"TOGETHER_API_KEY": "canary-123456"}
    with listening("13/proxy407.py") as port:
        proxy = env | {"HTTPS_PROXY": f"http://user:secret-pw@127.0.0.1:{port}"}
        code, out, err = command(folder, "evaluate", "c.yaml", "--yes", "--quiet", env=proxy)
    assert code in (2, 3)
    assert "proxy" in err.lower()
    assert f"127.0.0.1:{port}" in err
    assert "secret-pw" not in out + err
    assert "perhaps paid" not in out + err
    with listening("13/px.py") as port:
        plain = env | {"HTTP_PROXY": f"http://127.0.0.1:{port}", "TOGETHER_BASE_URL": "http://api.example.test/v1"}
        code, out, err = command(folder, "evaluate", "c.yaml", "--yes", "--quiet", env=plain)
    assert code == 2
    assert "--allow-insecure" in err
    assert "canary-123456" not in out + err


@needs_cases
@pytest.mark.slow
def test_case_16_three_groups_are_refused_before_anything_is_spent(tmp_path: Path) -> None:
    folder = case(tmp_path, "16/g_few2")
    rows = [
        {
            "id": f"r{i}",
            "text": f"message number {i}",
            "label": ("positive", "negative")[i % 2],
            "lang": ("de", "en", "fr")[i % 3],
        }
        for i in range(300)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    ledger = tmp_path / "ledger"
    with listening("chat_server.py", "plain", after=(str(ledger),)) as port:
        code, _, err = command(folder, "evaluate", "c.yaml", "--yes", "--quiet", env=keyed(port))
    assert code == 2
    assert "nothing was spent" in err
    assert "group" in err
    assert ledger.read_text("utf-8") == ""
    assert list((folder / "runs").rglob("run.json")) == []
    code, out, _ = command(folder, "status", "c.yaml")
    assert code == 0
    assert "unfinished" not in out.lower()


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [("01/c_think", "95.2 %"), ("03/c_zh", "95.2 %"), ("11/r_dup", "%"), ("19/c_nullalt", "%")],
)
def test_a_case_whose_answers_can_be_read_is_certified(tmp_path: Path, name: str, said: str) -> None:
    code, out, err = command(case(tmp_path, name), "evaluate", "c.yaml", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["verdict"] == "certified"
    assert said in found["sentence"].replace("\u00a0", " ")


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("01/c_jbool", "400 of 400 strong answers are none of the labels: '{\"relevant\": true}' 206 times"),
        ("07/ch_num", "give the letter of the right option"),
    ],
)
def test_a_case_that_has_no_right_value_is_refused_with_its_cause(tmp_path: Path, name: str, said: str) -> None:
    code, _, err = command(case(tmp_path, name), "evaluate", "c.yaml", "--quiet")
    assert code == 2
    assert said in err


@needs_cases
@pytest.mark.slow
def test_indices_from_0_name_the_options_they_count(tmp_path: Path) -> None:
    code, _, err = command(case(tmp_path, "07/ch_idx"), "evaluate", "c.yaml", "--quiet")
    assert code == 0, err


@needs_cases
@pytest.mark.slow
def test_the_order_of_a_judges_labels_changes_nothing(tmp_path: Path) -> None:
    ranked = []
    for name in ("08/j_order_yes_first", "08/j_order_no_first"):
        folder = case(tmp_path / name.replace("/", "-"), name)
        code, out, err = command(folder, "evaluate", "c.yaml", "--json", "--quiet")
        assert code == 0, err
        found = json.loads(Path(folder, json.loads(out)["report"]).with_name("report.json").read_text("utf-8"))
        ranked.append(found["decide"]["ranking"])
    assert ranked[0]["cheap"]["ndcg_at_10"]["value"] is not None
    assert ranked[0] == ranked[1]


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize(("config", "table"), [("m.yaml", "onecase.csv"), ("c.yaml", "eps.parquet")])
def test_tables_of_predictions_are_read(tmp_path: Path, config: str, table: str) -> None:
    code, out, err = command(case(tmp_path, "10"), "evaluate", config, "--predictions", table, "--json", "--quiet")
    assert code == 0, err
    assert json.loads(out)["verdict"] in ("certified", "uncertified")


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize("name", ["14/r_strerr", "14/r_status0"])
def test_lines_of_other_shapes_are_failed_rows(tmp_path: Path, name: str) -> None:
    folder = case(tmp_path, name)
    code, _, err = command(folder, "evaluate", "c.yaml", "--set", "max_failure_rate=0.5")
    assert code == 0, err


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize(
    "table",
    [
        "12/hyphen.csv",
        "12/spaces.csv",
        "12/reviews.csv",
        "17/binary.parquet",
        "21/index.csv",
        "21/trailing.csv",
        "21/noheader.csv",
    ],
)
def test_new_writes_what_estimate_accepts(tmp_path: Path, table: str) -> None:
    folder, file = table.split("/")
    here = case(tmp_path, folder)
    (here / "configs").mkdir()
    code, out, err = command(here, "new", "mine", "--from", file)
    assert code == 0, err
    assert ("looks like a row, not a header" in out) == (file == "noheader.csv")
    code, _, err = command(here, "estimate", "mine")
    assert code == 0, err


# Own-made equivalents, always run.


def proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, *options: str) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir(exist_ok=True)
    (tmp_path / "t.csv").write_text(text, "utf-8")
    assert main(["new", "mine", "--from", "t.csv", *options]) == 0
    return (tmp_path / "configs" / "mine.yaml").read_text("utf-8")


ROWS = [
    (i, f"2026-01-{i % 28 + 1:02d}", f"a message about subject {i}, number {i * 7}", "ab"[i % 3 == 0])
    for i in range(60)
]


def test_ids_times_and_constants_stay_out_of_a_proposed_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f'{i},{i},{day},eu-west,"{text}",{label},,' for i, day, text, label in ROWS]
    made = proposed(
        tmp_path, monkeypatch, "\n".join([",Ticket ID,Sent-On,Region,Body Text,Class Name,,", *lines]) + "\n"
    )
    assert 'user: "{Body Text}"' in made
    assert 'label: "Class Name"' in made
    assert 'id: "Ticket ID"' in made
    assert "{Ticket ID}" not in made
    assert "Sent-On" not in made
    assert "looks like a row" not in capsys.readouterr().out


def test_label_and_text_can_be_named_and_a_column_that_is_not_there_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f'"{text}",{label},{"xy"[i % 2]}' for i, _, text, label in ROWS]
    made = proposed(
        tmp_path, monkeypatch, "\n".join(["note,label,other", *lines]), "--label", "other", "--text", "note"
    )
    assert 'label: "other"' in made
    (tmp_path / "configs" / "mine.yaml").unlink()
    assert main(["new", "mine", "--from", "t.csv", "--label", "nope"]) == 2
    assert list((tmp_path / "configs").iterdir()) == []


def test_a_table_of_predictions_is_proposed_in_three_lines_with_its_columns_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{0.5 + i / 200},{int(i % 9 > 0)}" for i in range(60)]
    made = proposed(tmp_path, monkeypatch, "\n".join(["score,correct", *lines]))
    assert 'columns: {confidence: "score", cheap_correct: "correct"}' in made
    assert len(made.splitlines()) == 4


@pytest.mark.parametrize("as_text", [False, True])
def test_a_column_of_lists_becomes_one_yes_or_no_row_per_category_with_the_text_as_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_text: bool
) -> None:
    """A list of labels has no one confidence; whether a category applies has."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    posts = [
        {
            "id": f"p{i}",
            "text": f"a post about subject {i}",
            "categories": [c for k, c in enumerate(["spam", "threat", "self harm"]) if i % (k + 2) == 0],
        }
        for i in range(300)
    ]
    lines = [post | ({"categories": json.dumps(post["categories"])} if as_text else {}) for post in posts]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert main(["new", "mine", "--from", "posts.jsonl"]) == 0
    assert "300 texts is asked about each of 3 categories ('spam' 150, 'threat' 100," in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "datasets" / "mine.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 900
    told = {(row["group"], row["category"]): row["applies"] for row in rows}
    for post in posts:
        for category in ("spam", "threat", "self harm"):
            assert told[post["id"], category] == ("yes" if category in post["categories"] else "no")
    made = (tmp_path / "configs" / "mine.yaml").read_text("utf-8")
    for line in ("kind: judge", 'group: "group"', 'segment: "category"', "{category}", "{text}"):
        assert line in made
    assert main(["estimate", "mine"]) == 0
    assert "900 rows" in capsys.readouterr().out
    assert main(["new", "other", "--from", "datasets/mine.jsonl"]) == 0  # yes or no in a column is not a list


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("true", "False"), ("1.0", "0.0"), ("Y", "N")])
def test_columns_of_yes_and_no_become_one_row_per_category_with_the_text_as_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], yes: str, no: str
) -> None:
    """A multi-label table as it is usually published: one 0/1 column per category; a blank cell says nothing."""
    names, blank = ("toxic", "obscene", "insult"), 17
    flags = [{c: i % (k + 2) == 0 for k, c in enumerate(names)} for i in range(300)]
    lines = [
        f'p{i},"a post about subject {i}, no {i}",'
        + ",".join("" if (i, c) == (blank, "insult") else yes if f[c] else no for c in names)
        for i, f in enumerate(flags)
    ]
    proposed(tmp_path, monkeypatch, "\n".join(["id,comment_text,toxic,obscene,insult", *lines]) + "\n")
    assert "columns 'toxic', 'obscene', 'insult' of t.csv are yes or no" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "datasets" / "mine.jsonl").read_text("utf-8").splitlines()]
    told = {(row["group"], row["category"]): row["applies"] == "yes" for row in rows}
    wanted = {(f"p{i}", c): f[c] for i, f in enumerate(flags) for c in names}
    del wanted[f"p{blank}", "insult"]
    assert told == wanted
    assert {row["comment_text"] for row in rows if row["group"] == "p5"} == {"a post about subject 5, no 5"}
    assert "{comment_text}" in (tmp_path / "configs" / "mine.yaml").read_text("utf-8")
    assert main(["estimate", "mine"]) == 0
    assert "899 rows" in capsys.readouterr().out


def test_yes_and_no_columns_beside_a_label_are_none_of_its_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f'"{text}",{i % 2},{i % 3 % 2},{label}' for i, _, text, label in ROWS]
    made = proposed(tmp_path, monkeypatch, "\n".join(["text,urgent,vip,label", *lines]))
    assert 'label: "label"' in made
    assert "kind: classify" in made


def test_what_is_proposed_of_a_small_table_is_a_promise_that_it_can_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f'"{text}",{i % 5 + 1}.0' for i, _, text, _ in ROWS]
    made = proposed(tmp_path, monkeypatch, "\n".join(["text,rating", *lines]))
    assert "within: 0.05" in made  # log(.1) / log(.95) = 44.9: 60 rows can, and 115 would be needed for .02
    assert set(re.findall(r'"(\d[\d.]*)"', made.split("labels:")[1].split("]")[0])) == set("12345")
    assert main(["estimate", "mine"]) == 0
    assert "needs at least 115" in capsys.readouterr().out


def test_grades_of_passages_are_a_judges_and_a_table_without_texts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f'query {i // 5},"passage {i} says {i * 7}",{i % 4}' for i in range(600)]
    made = proposed(tmp_path, monkeypatch, "\n".join(["query,passage,relevance", *lines]))
    assert 'judge: {grades: {"3": 3, "2": 2, "1": 1, "0": 0}}' in made
    assert 'group: "query"' in made
    assert main(["estimate", "mine"]) == 0
    (tmp_path / "t.csv").write_text("a,b,label\n" + "".join(f"{i * 0.37},{i},{'xy'[i % 2]}\n" for i in range(60)))
    assert main(["new", "other", "--from", "t.csv"]) == 2
    assert "no column looks like the text to classify" in capsys.readouterr().err
    assert not (tmp_path / "configs" / "other.yaml").exists()


def test_a_list_beside_the_label_that_it_holds_stays_a_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        json.dumps({"text": f"query number {i}", "tags": ["one", "two", "three"], "label": "one"}) for i in range(60)
    ]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "t.jsonl").write_text("\n".join(lines), "utf-8")
    assert main(["new", "mine", "--from", "t.jsonl"]) == 0
    assert "kind: choose" in (tmp_path / "configs" / "mine.yaml").read_text("utf-8")
