"""Exit codes and messages of the command line, as somebody who mistypes meets them."""

from __future__ import annotations

import json
import keyword
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tickets import CONFIG

from pipeline.__main__ import COMMANDS, main, redacted

ROOT = Path(__file__).resolve().parent.parent
ROWS = "id,text,label\n" + "".join(f"r{i},text {i},{'billing' if i % 2 else 'account'}\n" for i in range(60))


def reply(example_id: str, answer: str, logprob: float) -> str:
    token = {"token": answer, "bytes": list(answer.encode()), "logprob": logprob, "top_logprobs": []}
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": answer},
        "logprobs": {"content": [token]},
    }
    body = {
        "object": "chat.completion",
        "model": "m",
        "choices": [choice],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1},
    }
    return json.dumps({"custom_id": example_id, "response": {"status_code": 200, "body": body}}) + "\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one task whose replies are recorded: both models always say billing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tickets.yaml").write_text(
        CONFIG.replace("rows.csv", "../rows.csv")
        .replace("cheap.jsonl", "../cheap.jsonl")
        .replace("strong.jsonl", "../strong.jsonl")
    )
    (tmp_path / "rows.csv").write_text(ROWS)
    for role in ("cheap", "strong"):
        (tmp_path / f"{role}.jsonl").write_text("".join(reply(f"r{i}", "billing", -0.01 * i) for i in range(60)))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.slow
def test_row_49_too_few_rows_end_with_a_verdict_and_not_with_an_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "evaluate", "tickets", "--quiet", "--json")
    assert code == 0, err
    assert json.loads(out)["verdict"] == "uncertified"
    code, _, err = run(capsys, "export", "tickets")
    assert code == 5
    assert "--allow-uncertified" in err
    code, out, _ = run(capsys, "export", "tickets", "--allow-uncertified", "--format", "env")
    assert code == 0
    assert "CASCADE_TICKETS_VERDICT" in out


@pytest.mark.parametrize("command", [["estimate", "tickets"], ["measure", "tickets", "--predictions", "table.csv"]])
def test_costs_of_errors_that_lack_a_label_are_refused_before_anything_is_sent(
    project: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (project / "table.csv").write_text(
        "confidence,label,cheap_answer,strong_answer\n.9,billing,billing,billing\n.8,account,billing,account\n"
    )
    costs = "--set=target={kind: total_cost, usd_per_error: {billing: 1%s}}"
    code, _, err = run(capsys, *command, costs % "")
    assert code == 2
    assert "usd_per_error has no cost for label 'account', which rows have; add it" in err
    assert run(capsys, *command, costs % ", account: {billing: 2}")[0] == 0


def test_a_floor_for_a_label_that_no_row_of_a_table_has_is_refused_with_those_that_they_have(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one for an absent segment is; more rows of it would be no remedy for a name misspelled."""
    (project / "mine.yaml").write_text("task: mine\nkind: classify\ntarget: {kind: match_strong, within: 0.1}\n")
    (project / "table.csv").write_text(
        "confidence,label,cheap_answer,strong_answer\n.9,spam,spam,spam\n.8,work,spam,work\n"
    )
    floor = "--set=target.label_floors={%s: 0.9}"
    code, _, err = run(capsys, "measure", "mine.yaml", "--predictions", "table.csv", floor % "spma")
    assert code == 2
    assert "target.label_floors names 'spma', which no row has as its label; labels there: 'spam', 'work'" in err
    assert run(capsys, "measure", "mine.yaml", "--predictions", "table.csv", floor % "spam")[0] == 0


def test_people_beside_a_table_cost_what_the_config_says_and_answer_as_the_labels_do(project: Path) -> None:
    """As they do beside a dataset; where the table tells what a row cost, that stands."""
    (project / "table.csv").write_text("confidence,cheap_correct,strong_usd\n.9,1,\n.8,0,0.7\n.7,,\n")
    people = ["--set=strong={human: true, usd_per_request: 0.4}", "--set=max_failure_rate=1"]
    assert main(["measure", "tickets", "--predictions", "table.csv", "--quiet", *people]) == 0
    (predictions,) = (project / "runs").rglob("predictions.parquet")
    frame = pd.read_parquet(predictions)
    assert frame["strong_usd"].tolist()[:2] == [0.4, 0.7]
    for column, value in (("strong_correct", True), ("strong_status", "ok"), ("strong_wanted", "all")):
        assert frame[column].tolist()[:2] == [value, value]
        assert pd.isna(frame[column].tolist()[2]), "nothing is known of a row without a label"


@pytest.mark.slow
def test_row_37_one_class_only_is_a_warning(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "rows.csv").write_text(ROWS.replace(",account", ",billing"))
    code, out, err = run(capsys, "evaluate", "tickets", "--quiet", "--json")
    assert code == 0, err
    result = json.loads(out)
    page = Path(result["report"]).read_text()
    assert "NaN" not in page
    assert ">nan<" not in page.lower()
    assert "every certify row has the same label, 'billing'" in result["sentence"]
    report = json.loads(Path(result["report"]).with_name("report.json").read_text())
    assert {"one_class"} <= {warning["code"] for warning in report["warnings"]}
    assert _values(report, "auroc") == {None}, "what does not exist is no number"


def _values(value: Any, name: str) -> set[Any]:
    """What stands under a name, wherever it is."""
    if isinstance(value, list):
        return set().union(*(_values(inner, name) for inner in value))
    if not isinstance(value, dict):
        return set()
    here = value.get(name, value)
    mine = set() if here is value else {here["value"] if isinstance(here, dict) else here}
    return mine.union(*(_values(inner, name) for inner in value.values()))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("id,text,label\n", "no rows"),
        ("id,txt,label\na,b,billing\n", "no column 'text'"),
        ("id,text,label\na,b,billing\na,c,account\n", "duplicate ids"),
        ("id,text,label\na,b,biling\n", "did you mean 'billing'"),
    ],
)
def test_bad_data_ends_with_2_and_one_message_before_anything_is_asked(
    project: Path, capsys: pytest.CaptureFixture[str], rows: str, said: str
) -> None:
    (project / "rows.csv").write_text(rows)
    code, out, err = run(capsys, "evaluate", "tickets", "--quiet")
    assert code == 2
    assert said in err
    assert "rows.csv" in err
    assert len(err.strip().splitlines()) == 1
    assert not out
    assert not (project / "runs" / "responses.sqlite").exists()


def test_an_unknown_task_or_config_key_ends_with_2(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "evaluate", "ticket")
    assert code == 2
    assert "Did you mean 'tickets'" in err
    code, _, err = run(capsys, "evaluate", "tickets", "--set", "target.withn=0.1")
    assert code == 2
    assert "within" in err


@pytest.mark.slow
def test_missing_replies_beyond_the_allowed_rate_end_with_4_and_keep_predictions(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (project / "cheap.jsonl").read_text().splitlines(keepends=True)
    (project / "cheap.jsonl").write_text("".join(lines[:50]))
    code, _, err = run(capsys, "evaluate", "tickets", "--quiet")
    assert code == 4, err
    assert "10 of 60 rows" in err
    assert len(list((project / "runs" / "tickets").glob("*/*/predictions.parquet"))) == 1
    assert not list((project / "runs" / "tickets").glob("*/*/recommendation.json"))
    for stage in ("calibrate", "sweep"):
        assert run(capsys, stage, "tickets", "--quiet")[0] == 0
    assert run(capsys, "recommend", "tickets", "--quiet")[0] == 4, "not by the back door either"
    assert run(capsys, "export", "tickets", "--quiet")[0] == 2
    code, _, _ = run(capsys, "evaluate", "tickets", "--quiet", "--set", "max_failure_rate=0.2")
    assert code == 0


@pytest.mark.slow
def test_what_speaks_against_the_replies_is_said_beside_the_verdict(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Long answers are measured on their label alone, exact zeros are no confidence, another model answered."""
    lines = []
    for i in range(60):
        record = json.loads(reply(f"r{i}", "billing", 0.0))
        body = record["response"]["body"]
        said = ["{", '"', "label", '"', ":", ' "', "billing", '"', "}", " "]
        body["choices"][0]["message"]["content"] = "".join(said)
        body["choices"][0]["logprobs"]["content"] = [
            {"token": t, "bytes": list(t.encode()), "logprob": 0.0, "top_logprobs": []} for t in said
        ]
        body["model"] = "small-0124" if i % 2 else "small"
        lines.append(json.dumps(record) + "\n")
    (project / "cheap.jsonl").write_text("".join(lines))
    code, out, err = run(capsys, "evaluate", "tickets", "--quiet", "--json")
    assert code == 0, err
    found = json.loads(next((project / "runs" / "tickets").glob("*/*/recommendation.json")).read_text())["warnings"]
    texts = {w["code"]: w["text"] for w in found}
    assert texts["long_answers"].startswith("100\u00a0% of the cheap replies are longer than 8 tokens")
    assert texts["exact_zeros"].startswith("100\u00a0% of the cheap replies have a log-probability of exactly 0")
    others = [w["text"] for w in found if w["code"] == "other_model"]
    assert [text.split(" asked")[0] for text in others] == ["The cheap model", "The strong model"]
    assert "small-0124" in others[0]
    assert [w["gravity"] for w in found] == sorted((w["gravity"] for w in found), reverse=True)
    page = Path(json.loads(out)["report"]).read_text()
    assert "Check data" in page
    assert "their confidence is that of the label" in page.casefold()


@pytest.mark.slow
def test_a_table_of_predictions_needs_no_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("task: mine\nkind: classify\ntarget: {kind: match_strong, within: 0.05}\n")
    lines = [f"r{i},{1 - (i % 97) / 200},{int(i % 13 != 0)},{int(i % 29 != 0)},0.00001,0.001" for i in range(1500)]
    Path("table.csv").write_text(
        "example_id,confidence,cheap_correct,strong_correct,cheap_usd,strong_usd\n" + "\n".join(lines) + "\n"
    )
    code, out, err = run(capsys, "evaluate", "mine.yaml", "--predictions", "table.csv", "--quiet", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["verdict"] in ("certified", "cheap_only", "uncertified")
    assert Path(result["report"]).is_file()
    Path("table.csv").write_text("example_id,confidence,cheap_correct\na,1.5,1\n")
    code, _, err = run(capsys, "evaluate", "mine.yaml", "--predictions", "table.csv", "--quiet")
    assert code == 2
    assert "table.csv:2: confidence is 1.5" in err


def test_a_proposed_config_loads_and_runs_through_estimate(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "new", "mine", "--from", "rows.csv")
    assert code == 0, err
    assert "configs/mine.yaml" in out
    code, out, err = run(capsys, "estimate", "mine", "--json", "--quiet")
    assert code == 0, err
    assert json.loads(out)["rows"] == 60
    code, _, err = run(capsys, "new", "mine", "--from", "rows.csv")
    assert code == 2
    assert "already exists" in err


@pytest.mark.slow
def test_exported_replies_repeat_the_run_for_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "evaluate", "tickets", "--quiet")[0] == 0
    code, _, err = run(capsys, "status", "tickets", "--export-replies", "kept", "--quiet")
    assert code == 0, err
    first = next((project / "runs" / "tickets").glob("*/*/predictions.parquet")).read_bytes()
    swap = [
        "--set",
        "cheap.replies=../kept/cheap.jsonl",
        "--set",
        "strong.replies=../kept/strong.jsonl",
        "--runs-dir",
        "again",
    ]
    assert run(capsys, "evaluate", "tickets", "--quiet", *swap)[0] == 0
    assert next((project / "again" / "tickets").glob("*/*/predictions.parquet")).read_bytes() == first


def test_purge_says_what_it_would_remove_and_removes_only_when_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    email = str(ROOT / "configs" / "email_triage.yaml")
    assert run(capsys, "collect", email, "--limit", "20", "--quiet")[0] == 0
    code, _, err = run(capsys, "purge", email)
    assert code == 2
    assert "--yes" in err
    code, out, _ = run(capsys, "purge", email, "--yes", "--json")
    assert code == 0
    with closing(sqlite3.connect(project / "runs" / "responses.sqlite")) as store:
        (asked, left) = store.execute("SELECT count(DISTINCT request_id), count(body) FROM attempt").fetchone()
    assert json.loads(out)["removed"] == asked > 20
    assert left == 0


@pytest.mark.slow
def test_recorded_replies_are_read_from_their_files_and_nothing_of_them_is_kept(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "evaluate", "tickets", "--quiet")[0] == 0
    assert not (project / "runs" / "responses.sqlite").exists()
    code, out, _ = run(capsys, "status", "tickets", "--json")
    assert code == 0
    assert [r["task"] for r in json.loads(out)["runs"]] == ["tickets"]
    code, _, err = run(capsys, "purge", "tickets", "--yes")
    assert code == 2
    assert "nothing was removed; recorded replies lie in their own files" in err
    spent = json.loads(next((project / "runs" / "tickets").glob("*/run.json")).read_text())["spending"]
    assert (spent["cheap"]["kept"], spent["strong"]["kept"]) == (60, 60)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_help_exists_and_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline import commands

    assert callable(getattr(commands, f"{command}_" if keyword.iskeyword(command) else command))
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_wrong_arguments_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["evaluat", "x"],
        ["evaluate", "x", "--limit", "0"],
        ["estimate", "x", "--max-usd", "1"],
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
    capsys.readouterr()


def test_the_key_is_taken_out_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", "canary-123456")
    assert redacted("refused: Bearer canary-123456!") == "refused: Bearer [key removed]!"


@pytest.mark.slow
def test_route_reads_a_completion_on_stdin(project: Path) -> None:
    assert main(["evaluate", "tickets", "--quiet"]) == 0
    policy = next((project / "reports" / "tickets").glob("*/*/policy.json"))
    body = json.dumps(json.loads(reply("x", "billing", -0.01))["response"]["body"])
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "route", "--policy", str(policy)],
        input=body,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    decision = json.loads(done.stdout)
    assert decision["action"] == "escalate"  # nothing is certified on sixty rows
    assert set(decision) >= {"action", "answer", "confidence", "calibrated_confidence", "threshold", "reason"}


@pytest.mark.slow
def test_without_labels_agreement_is_certified_and_called_so(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = project / "configs" / "tickets.yaml"
    text = (
        config.read_text()
        .replace("label: label, ", "")
        .replace("match_strong, within: 0.02", "agree_with_strong, within: 0.2")
    )
    config.write_text(text)
    code, out, err = run(capsys, "evaluate", "tickets", "--quiet", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["verdict"] == "cheap_only"  # both models always say the same
    assert "no labels" in result["sentence"]
    policy = json.loads(Path(result["policy"]).read_text())
    assert policy["expected"]["system_accuracy"]["value"] is None


def test_without_labels_the_strong_model_must_answer_the_fit_rows(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project / "configs" / "tickets.yaml"
    unlabeled = (
        config.read_text()
        .replace("label: label, ", "split: {fit: 0.3, certify: 0.7}, ")
        .replace("match_strong, within: 0.02", "agree_with_strong, within: 0.2")
    )
    config.write_text(unlabeled.replace("  model: large", "  model: large\n  splits: [certify, test]"))
    code, _, err = run(capsys, "evaluate", "tickets", "--quiet")
    assert code == 2
    assert "add fit to strong.splits" in err
    people = unlabeled[: unlabeled.index("strong:")] + "strong: {human: true, usd_per_request: 1}\n"
    config.write_text(people + unlabeled[unlabeled.index("target:") :])
    code, _, err = run(capsys, "evaluate", "tickets", "--quiet")
    assert code == 2
    assert "needs dataset.label" in err


def test_strong_answers_that_are_missing_on_every_fit_row_are_named_as_the_reason(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project / "configs" / "tickets.yaml"
    config.write_text(
        config.read_text()
        .replace("label: label, ", "")
        .replace("match_strong, within: 0.02", "agree_with_strong, within: 0.2")
    )
    (project / "strong.jsonl").write_text("".join(reply(f"r{i}", "neither", -0.1) for i in range(60)))
    code, _, err = run(capsys, "evaluate", "tickets", "--quiet")
    assert code == 2
    assert "60 of 60 strong answers are none of the labels: 'neither' 60 times" in err


def test_answers_kept_although_different_are_as_many_on_the_card_as_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table without labels: one in twenty answers that are sure differs, and half of those that are not."""
    monkeypatch.chdir(tmp_path)
    sure = [i % 4 > 0 for i in range(1200)]
    same = [i % 20 != 1 if s else i % 8 > 0 for i, s in enumerate(sure)]
    lines = [
        f"r{i},{(0.9 if s else 0.4) + i / 1e5},a,{'a' if t else 'b'}"
        for i, (s, t) in enumerate(zip(sure, same, strict=True))
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["example_id,confidence,cheap_answer,strong_answer", *lines]) + "\n")
    (tmp_path / "task.yaml").write_text("task: pairs\nkind: classify\ntarget: {kind: agree_with_strong, within: 0.1}\n")
    code, out, err = run(capsys, "evaluate", "task.yaml", "--predictions", "rows.csv", "--quiet", "--json")
    assert code == 0, err
    page = Path(json.loads(out)["report"])
    data = json.loads(page.with_name("report.json").read_text())
    assert data["verdict"]["code"] == "certified"
    assert "1,200 rows came in, 1,200 were used." in page.read_text("utf-8")
    card = next(c["estimate"] for c in data["cards"] if c["key"] == "wrong")
    sweep = data["decide"]["sweep"]
    assert card["value"] == sweep["columns"]["wrong_per_1000"][sweep["recommended"]]
    quality = next(c["estimate"] for c in data["cards"] if c["key"] == "quality")
    assert card["value"] == pytest.approx(1000 * (1 - quality["value"]))
    assert card["value"] > 20


def test_a_batch_costs_the_full_price_less_its_discount_and_a_dear_one_asks_first(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loose = ("--set", "target.within=0.1")  # a promise that 60 rows can carry

    def estimated(*more: str) -> float:
        code, out, err = run(capsys, "estimate", "tickets", "--json", "--quiet", *loose, *more)
        assert code == 0, err
        return float(json.loads(out)["usd"])

    full = estimated("--provider", "together")
    assert full > 0
    assert estimated("--provider", "together-batch") == pytest.approx(full)
    halved = [f"--set={role}.usd_per_million_tokens.batch_discount=0.5" for role in ("cheap", "strong")]
    assert estimated("--provider", "together-batch", *halved) == pytest.approx(full / 2)
    monkeypatch.setenv("TOGETHER_API_KEY", "canary-123456")
    monkeypatch.setenv("TOGETHER_BASE_URL", "http://127.0.0.1:9")  # nothing listens there
    dear = ["--set", "strong.usd_per_million_tokens.input=100000"]
    code, _, err = run(capsys, "collect", "tickets", "--provider", "together-batch", "--quiet", *loose, *dear)
    assert code == 2
    assert "confirm with --yes" in err


def test_a_stage_names_the_one_that_is_missing_whatever_the_config_is_called(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "measure", "tickets", "--quiet")
    assert code == 2
    assert "run the stage `collect` first" in err
    assert run(capsys, "collect", "tickets", "--quiet")[0] == 0
    code, _, err = run(capsys, "sweep", "configs/tickets.yaml", "--quiet")
    assert code == 2
    assert "run the stage `measure` first, with the same options" in err


@pytest.mark.slow
def test_a_table_of_predictions_can_be_calibrated_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("task: mine\nkind: classify\ntarget: {kind: match_strong, within: 0.05}\n")
    lines = [f"r{i},{1 - (i % 97) / 200},{int(i % 13 != 0)},{int(i % 29 != 0)}" for i in range(900)]
    Path("table.csv").write_text("example_id,confidence,cheap_correct,strong_correct\n" + "\n".join(lines) + "\n")
    for stage in ("calibrate", "sweep", "recommend", "report"):
        code, _, err = run(capsys, stage, "mine.yaml", "--predictions", "table.csv", "--quiet")
        assert code == 0, (stage, err)


@pytest.mark.slow
def test_looks_are_counted_by_what_rows_hold_and_only_where_something_is_promised(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def looked() -> int:
        path = project / "runs" / "looks.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0

    cost = ["--set", "target={kind: total_cost, usd_per_error: 0.1}"]
    assert run(capsys, "evaluate", "tickets", "--quiet", *cost)[0] == 0
    assert looked() == 0, "an estimate is no look"
    assert run(capsys, "evaluate", "tickets", "--quiet")[0] == 0
    assert looked() == 1
    config = (project / "configs" / "tickets.yaml").read_text()
    (project / "configs" / "other.yaml").write_text(
        config.replace("task: tickets", "task: other").replace("rows.csv", "others.csv")
    )
    (project / "others.csv").write_text(ROWS.replace("text ", "another text "))
    code, _, err = run(capsys, "evaluate", "other", "--quiet", "--json")
    assert code == 0, err
    found = json.loads(next((project / "runs" / "other").glob("*/*/recommendation.json")).read_text())
    assert found["certificate"]["look"] == 1, "the same ids, other rows"


def test_a_task_that_nothing_is_kept_of_is_named_and_not_passed_over(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "collect", "tickets", "--quiet")[0] == 0
    code, _, err = run(capsys, "status", "tikets")
    assert code == 2
    assert "it holds: tickets" in err
    for words in (("tikets",), ("--example-id", "nobody")):
        code, _, err = run(capsys, "purge", *words, "--yes")
        assert code == 2
        assert "nothing was removed" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("export", "tickets", "--allow-uncertified", "--output"), ("status", "tickets", "--export-replies")]
)
def test_a_place_that_cannot_be_written_is_named_and_is_no_bug(
    project: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(capsys, "evaluate", "tickets", "--quiet")[0] == 0
    (project / "afile").write_text("")
    (project / "folder").mkdir()
    place = "folder" if words[0] == "export" else "afile"
    code, _, err = run(capsys, *words, str(project / place))
    assert code == 2, err
    assert f"{project / place}" in err
    assert "cannot be written" in err
