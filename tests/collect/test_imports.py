"""Other tools' files as tables of predictions: files that the tools wrote, and small hand-made ones for their odd forms."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from pipeline.__main__ import main

LABELS = ("spam", "work", "other")
WRITTEN = Path(__file__).resolve().parent / "tool_files"


def entry(token, logprob, others=()):
    return {
        "token": token,
        "bytes": list(token.encode()),
        "logprob": logprob,
        "top_logprobs": [{"token": t, "bytes": list(t.encode()), "logprob": v} for t, v in ((token, logprob), *others)],
    }


def body(text, *logprobs, model="small-2026"):
    pieces = [text[:2], text[2:]] if len(logprobs) == 2 else [text]
    content = [entry(piece, value) for piece, value in zip(pieces, logprobs, strict=False)] or None
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {
        "model": model,
        "choices": [choice | {"logprobs": content and {"content": content}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    }


def batch_line(name, *reply, **options):
    return json.dumps(
        {
            "id": "x",
            "custom_id": name,
            "response": {"status_code": 200, "request_id": "r", "body": body(*reply, **options)},
            "error": None,
        }
    )


def imported(capsys, *words):
    code = main(["import", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return pd.read_parquet(json.loads(out)["predictions"]).set_index("example_id")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_batch_output_of_both_models_with_labels_from_a_table(here, capsys):
    failed = json.dumps({"custom_id": "d", "response": None, "error": {"code": "500", "message": "no"}})
    (here / "cheap.jsonl").write_text(
        "\n".join(
            [batch_line("a", "spam", -0.1, -0.2), batch_line("b", "work", -0.7), batch_line("c", "other"), failed]
        )
    )
    (here / "strong.jsonl").write_text(
        "\n".join(batch_line(n, t, model="large") for n, t in (("a", "spam"), ("b", "other"), ("z", "spam")))
    )
    (here / "gold.csv").write_text("mail,right\na,spam\nb,other\nc,other\nd,work\n")
    words = (
        "batch",
        "cheap.jsonl",
        "--strong",
        "strong.jsonl",
        "--labels-from",
        "gold.csv",
        "--id",
        "mail",
        "--label",
        "right",
        "--answers",
        "spam,work,other",
    )
    table = imported(capsys, *words)
    assert table["confidence"].to_dict() == {
        "a": pytest.approx(math.exp(-0.3)),
        "b": pytest.approx(math.exp(-0.7)),
        "c": pytest.approx(float("nan"), nan_ok=True),
        "d": pytest.approx(float("nan"), nan_ok=True),
    }
    assert table["cheap_correct"].tolist() == [True, False, True, False]
    assert table["strong_correct"].tolist()[:2] == [True, True]
    assert table["strong_correct"].isna().tolist() == [False, False, True, True]


def test_replies_as_models_write_them_are_graded_as_everywhere(here, capsys):
    """Decorated replies and numbers beside labels of a Parquet file; a strong reply that is no label is missing, not wrong."""
    replies = {"1": "5", "2": "**4**", "3": "5.0", "4": "I think 4"}
    (here / "cheap.jsonl").write_text("\n".join(batch_line(n, t, -0.1) for n, t in replies.items()))
    strong = {"1": "Answer: 5", "2": "4.", "3": "It is 5", "4": "5"}
    lines = [json.loads(batch_line(n, t, model="large")) for n, t in strong.items()]
    lines[0]["custom_id"] = 1
    lines[1]["response"] = lines[1]["response"]["body"]
    (here / "strong.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pd.DataFrame({"row": [1, 2, 3, 4], "stars": [5.0, 4.0, 5.0, 4.0]}).to_parquet("gold.parquet")
    words = ("--strong", "strong.jsonl", "--labels-from", "gold.parquet", "--id", "row", "--label", "stars")
    table = imported(capsys, "batch", "cheap.jsonl", *words)
    assert table["cheap_correct"].tolist() == [True, True, True, False]
    assert table["confidence"].isna().tolist() == [False, False, False, True]
    assert table["strong_correct"].tolist()[:2] == [True, True]
    assert table["strong_correct"].isna().tolist() == [False, False, True, False]
    assert not table["strong_correct"]["4"]


def test_lm_eval_choices_give_the_share_of_the_most_likely_one(here, capsys):
    rows = [
        {
            "doc_id": 0,
            "doc": {},
            "target": 1,
            "arguments": [],
            "resps": [[[-3.0, False]], [[-1.0, True]]],
            "filtered_resps": [[-3.0, False], [-1.0, True]],
            "acc": 1.0,
        },
        {
            "doc_id": 1,
            "doc": {},
            "target": "0",
            "arguments": [],
            "resps": [],
            "filtered_resps": [["-2.0", "False"], ["-2.0", "False"]],
            "acc": 0.0,
        },
    ]
    (here / "samples_task_2026.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = imported(capsys, "lm-eval", "samples_task_2026.jsonl")
    assert table.loc["0", "confidence"] == pytest.approx(1 / (1 + math.exp(-2)))
    assert table.loc["1", "confidence"] == pytest.approx(0.5)
    assert table["cheap_correct"].tolist() == [True, False]
    assert table["cheap_answer"].tolist() == ["1", "0"]


def inspect_sample(name, text, logprob, grade, epoch=1):
    logprobs = {"content": [{"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": None}]}
    choice = {
        "message": {"content": [{"type": "text", "text": text}], "role": "assistant"},
        "stop_reason": "stop",
        "logprobs": logprobs,
    }
    return {
        "id": name,
        "epoch": epoch,
        "input": "?",
        "target": "spam",
        "output": {"model": "small", "choices": [choice], "usage": {}},
        "scores": {"match": {"value": grade, "answer": text}},
    }


@pytest.mark.parametrize("archive", [False, True])
def test_inspect_logs_in_both_forms_with_epochs_as_groups(here, capsys, archive):
    samples = [
        inspect_sample(1, "spam", -0.1, "C"),
        inspect_sample(1, "work", -0.9, "I", 2),
        inspect_sample("q", "spam", -0.2, 1.0),
        inspect_sample("p", "work", -0.5, "P"),
    ]
    if archive:
        with zipfile.ZipFile(here / "log.eval", "w") as made:
            for sample in samples:
                made.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
            made.writestr("header.json", "{}")
    else:
        (here / "log.json").write_text(json.dumps({"version": 2, "status": "success", "eval": {}, "samples": samples}))
    table = imported(capsys, "inspect", "log.eval" if archive else "log.json")
    assert table.loc["1/1", "confidence"] == pytest.approx(math.exp(-0.1))
    assert table.loc["1/2", "group"] == table.loc["1/1", "group"] == "1"
    assert [table.loc[n, "cheap_correct"] for n in ("1/1", "1/2", "q/1")] == [True, False, True]
    assert not table.loc["p/1", "cheap_correct"], "a partial grade is no grade: the answer is held against the target"


def test_an_archive_that_inspect_wrote_in_zstd(capsys, here):
    table = imported(capsys, "inspect", WRITTEN / "inspect.eval", "--output", here / "t.parquet")
    assert len(table) == 12
    assert table["group"].nunique() == 6, "two epochs of six samples"
    first = table.loc["1/1"]
    assert (first["cheap_answer"], first["cheap_correct"], first["label"]) == ("no", True, "no")
    assert first["confidence"] == pytest.approx(math.exp(-0.21862745098039216))
    assert table["cheap_correct"].sum() == 10, "as its own header says: accuracy .8333"


def test_a_damaged_archive_of_inspect_names_the_file_and_a_way(capsys, here):
    whole = (WRITTEN / "inspect.eval").read_bytes()
    at = whole.index(b"samples/1_epoch_1.json") + 400
    (here / "hurt.eval").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    assert main(["import", "inspect", "hurt.eval"]) == 2
    said = capsys.readouterr().err
    assert "hurt.eval: cannot be read" in said
    assert "inspect log convert" in said


def test_what_promptfoo_wrote_for_two_providers_is_two_models_not_two_prompts(capsys, here):
    results = json.loads((WRITTEN / "promptfoo.json").read_text())["results"]["results"]
    assert {r["promptIdx"] for r in results} == {0, 1}, "one prompt, and yet"
    table = imported(capsys, "promptfoo", WRITTEN / "promptfoo.json", "--output", here / "t.parquet")
    cheap = {str(r["testIdx"]): r for r in results if r["provider"]["id"] == "openai:chat:gpt-cheap"}
    assert set(table.index) == set(cheap) == {"0", "1", "2"}
    for name, row in table.iterrows():
        assert row["confidence"] == pytest.approx(math.exp(cheap[name]["response"]["logProbs"][0]))
        assert row["cheap_correct"] == cheap[name]["success"]
    assert table["strong_answer"].notna().all()


@pytest.mark.parametrize(
    ("name", "labels", "answers", "right"),
    [
        ("texts", ["yes", "no", "maybe", "yes"], ["maybe", "no", "no"], [False, True, False]),
        ("places", ["0", "1", "2", "0"], ["2", "2", "0"], [False, False, False]),
    ],
)
def test_what_lm_eval_wrote_names_choices_as_its_targets_do(capsys, here, name, labels, answers, right):
    path = WRITTEN / f"lm_eval_{name}.jsonl"
    table = imported(capsys, "lm-eval", path, "--output", here / "t.parquet")
    assert table["label"].tolist() == labels
    assert table["cheap_answer"].tolist()[:3] == answers
    assert table["cheap_correct"].tolist()[:3] == right
    for (_, row), line in zip(table.iterrows(), map(json.loads, path.read_text().splitlines()), strict=True):
        assert row["cheap_correct"] == (row["cheap_answer"] == row["label"]) == bool(line["acc"])
        chances = [math.exp(float(found[0])) for found in line["filtered_resps"]]
        assert row["confidence"] == pytest.approx(max(chances) / sum(chances))


def test_an_older_log_of_lm_eval_lists_what_was_to_be_continued_with(capsys, here):
    lines = [json.loads(line) for line in (WRITTEN / "lm_eval_texts.jsonl").read_text().splitlines()]
    for line in lines:
        line["arguments"] = [[a["arg_0"], a["arg_1"]] for a in line["arguments"].values()]
    (here / "older.jsonl").write_text("\n".join(map(json.dumps, lines)))
    older = imported(capsys, "lm-eval", "older.jsonl")
    pd.testing.assert_frame_equal(
        older, imported(capsys, "lm-eval", WRITTEN / "lm_eval_texts.jsonl", "--output", here / "t.parquet")
    )


def test_two_filters_of_lm_eval_grade_each_document_twice_and_one_is_to_be_chosen(capsys):
    assert main(["import", "lm-eval", str(WRITTEN / "lm_eval_filters.jsonl")]) == 2
    said = capsys.readouterr().err
    assert "lm_eval_filters.jsonl:3: answers of the filters 'strict-match', 'flexible-extract'" in said
    assert """grep '"filter": "strict-match"'""" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["batch", "there.jsonl", "--answers", "spam"], "--answers spam: name at least two answers that differ"),
        (["batch", "there.jsonl", "--answers", "spam,spam"], "name at least two answers that differ"),
        (["batch", "there.jsonl", "--answers", ""], "name at least two answers that differ"),
        (["batch", "gone.jsonl"], "gone.jsonl: cannot be read: No such file or directory; name the tool's own output"),
        (
            ["promptfoo", "gone.json"],
            "gone.json: cannot be read: No such file or directory; name the tool's own output",
        ),
        (["batch", "."], "cannot be read: Is a directory"),
        (["batch", "packed.jsonl"], "packed.jsonl: not UTF-8 (byte 1); unpack it"),
    ],
)
def test_what_cannot_be_imported_is_told_with_its_own_cause(here, capsys, words, said):
    (here / "there.jsonl").write_text(batch_line("a", "spam", -0.1))
    (here / "packed.jsonl").write_bytes(b"\x1f\x8b\x08")
    assert main(["import", *words]) == 2
    assert said in capsys.readouterr().err


def promptfoo_result(test, provider, output, logprobs, success):
    return {
        "promptIdx": 0,
        "testIdx": test,
        "provider": {"id": provider, "label": ""},
        "success": success,
        "score": 1.0 if success else 0.0,
        "cost": 0.001,
        "response": {"output": output, "logProbs": logprobs, "tokenUsage": {"total": 9}},
        "vars": {},
    }


def test_promptfoo_output_of_two_providers(here, capsys):
    results = [
        promptfoo_result(0, "openai:small", "spam", [-0.1, -0.1], True),
        promptfoo_result(0, "openai:large", "spam", None, True),
        promptfoo_result(1, "openai:small", "work", [-0.4], False),
        promptfoo_result(1, "openai:large", "spam", None, True),
    ]
    (here / "results.json").write_text(
        json.dumps({"evalId": "e", "results": {"version": 3, "results": results, "prompts": [], "stats": {}}})
    )
    table = imported(capsys, "promptfoo", "results.json", "--models", "openai:small,openai:large")
    assert table["confidence"].tolist() == pytest.approx([math.exp(-0.2), math.exp(-0.4)])
    assert table["cheap_correct"].tolist() == [True, False]
    assert table["strong_correct"].tolist() == [True, True]
    assert table["cheap_usd"].tolist() == [0.001, 0.001]
    assert imported(capsys, "promptfoo", "results.json")["cheap_correct"].tolist() == [True, False], (
        "two models: the first is the cheap one"
    )
    assert main(["import", "promptfoo", "results.json", "--models", "openai:small,other"]) == 2
    assert "'openai:large'" in capsys.readouterr().err


def test_our_own_log_gives_agreement_where_both_were_asked(here, capsys):
    line = {
        "time": "t",
        "task": "mail",
        "status": "ok",
        "reason": "",
        "calibrated_confidence": None,
        "threshold": 0.8,
        "usd": 1e-6,
    }
    log = [
        line
        | {
            "id": "a",
            "action": "accept",
            "route": "cheap",
            "confidence": 0.9,
            "answer": "spam",
            "cheap_answer": "spam",
            "strong_answer": None,
        },
        line
        | {
            "id": "b",
            "action": "escalate",
            "route": "strong",
            "confidence": 0.5,
            "answer": "work",
            "cheap_answer": "spam",
            "strong_answer": "work",
        },
        line
        | {
            "id": None,
            "action": "escalate",
            "route": "strong",
            "confidence": None,
            "answer": "work",
            "cheap_answer": None,
            "strong_answer": "work",
        },
    ]
    (here / "decisions.jsonl").write_text("\n".join(map(json.dumps, log)))
    table = imported(capsys, "decisions", "decisions.jsonl")
    assert table.index.tolist() == ["a", "b", "line 3"]
    assert table["strong_answer"].fillna("-").tolist() == ["-", "work", "work"]
    assert table["confidence"].fillna(-1).tolist() == [0.9, 0.5, -1]


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("batch", "{", "cheap.jsonl:1: no JSON"),
        ("batch", '{"a": 1}', 'no text under "custom_id"'),
        ("batch", "", "holds no rows"),
        ("batch", batch_line("a", "spam") + "\n" + batch_line("b", "work"), "no row carries a confidence"),
        (
            "batch",
            batch_line("a", "spam", -1.0) + "\n" + batch_line("b", "work", -1.0),
            "nothing tells whether an answer is right",
        ),
        ("lm-eval", '{"doc_id": 1}', "not a samples file"),
        ("inspect", "[]", "expected one JSON object"),
        ("inspect", "{}", "holds no samples"),
        ("promptfoo", "{}", "no results.results"),
        ("decisions", '{"id": 1}', "not a line of a decision log"),
    ],
)
def test_a_file_of_another_form_is_named_with_place_and_remedy(here, capsys, kind, content, said):
    (here / "cheap.jsonl").write_text(content)
    assert main(["import", kind, "cheap.jsonl"]) == 2
    assert said in capsys.readouterr().err
    assert not list(here.glob("*.parquet"))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_what_is_written_is_read_as_a_table_of_predictions(here, capsys, suffix):
    from pathlib import Path

    from pipeline.collect.data import predictions_file
    from pipeline.config.split import Split

    (here / "cheap.jsonl").write_text("\n".join(batch_line(str(i), LABELS[i % 2], -0.1 * (i + 1)) for i in range(6)))
    (here / "strong.jsonl").write_text("\n".join(batch_line(str(i), LABELS[i % 3]) for i in range(6)))
    assert main(["import", "batch", "cheap.jsonl", "--strong", "strong.jsonl", "--output", f"t.{suffix}"]) == 0
    table = predictions_file.read(Path(f"t.{suffix}"), Split(fit=0.3, certify=0.5, test=0.2))
    assert table["confidence"].tolist() == pytest.approx([math.exp(-0.1 * (i + 1)) for i in range(6)])


def test_of_two_batch_lines_of_an_id_the_reply_counts_and_two_different_ones_are_refused(here, capsys):
    failed = json.dumps({"custom_id": "a", "response": None, "error": {"code": "batch_expired"}})
    good, other = batch_line("a", "spam", -0.1), batch_line("b", "work", -0.2)
    (here / "labels.csv").write_text("example_id,label\na,spam\nb,spam\n")
    for order in ([failed, good, other], [good, failed, other], [good, good, other]):
        (here / "out.jsonl").write_text("\n".join(order))
        table = imported(capsys, "batch", "out.jsonl", "--labels-from", "labels.csv", "--answers", "spam,work")
        assert table["confidence"].tolist() == pytest.approx([math.exp(-0.1), math.exp(-0.2)])
    (here / "out.jsonl").write_text("\n".join([good, other, batch_line("a", "work", -0.1)]))
    assert main(["import", "batch", "out.jsonl", "--labels-from", "labels.csv"]) == 2
    assert "out.jsonl:3: another reply has the id 'a' already" in capsys.readouterr().err


def test_logprobs_that_came_are_not_said_to_be_missing(here, capsys):
    (here / "out.jsonl").write_text(
        "\n".join(batch_line(f"r{i}", f"It is spam, I think {i}.", -0.1) for i in range(70))
    )
    (here / "labels.csv").write_text("example_id,label\n" + "".join(f"r{i},{LABELS[i % 2]}\n" for i in range(70)))
    said = {
        ("--labels-from", "labels.csv"): "70 replies with logprobs are none of the answers 'spam', 'work': 'It is spam",
        ("--strong", "out.jsonl"): "70 replies with logprobs are no closed set of answers: 'It is spam",
    }
    for words, cause in said.items():
        assert main(["import", "batch", "out.jsonl", *words]) == 2
        told = capsys.readouterr().err
        assert cause in told
        assert "--answers" in told
        assert "holds no logprobs" not in told


def test_a_call_of_promptfoo_that_failed_is_no_wrong_answer_of_the_strong_model(here, capsys):
    results = [
        promptfoo_result(0, "small", "spam", [-0.1], True),
        promptfoo_result(0, "large", None, None, False) | {"error": "429", "failureReason": 2},
        promptfoo_result(1, "small", "work", [-0.4], False),
        promptfoo_result(1, "large", "spam", None, True),
    ]
    (here / "results.json").write_text(json.dumps({"results": {"results": results}}))
    table = imported(capsys, "promptfoo", "results.json", "--models", "small,large")
    assert table["strong_correct"].isna().tolist() == [True, False]


def test_decisions_by_answer_or_verdict_alone_and_numbers_as_text(here, capsys):
    line = {"action": "accept", "confidence": "0.9", "answer": "spam"}
    log = [
        line | {"id": "a", "label": "spam"},
        line | {"id": "b", "correct": "false"},
        line | {"id": "c", "action": "escalate", "confidence": None, "answer": "work", "label": "work"},
    ]
    (here / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    table = imported(capsys, "decisions", "log.jsonl")
    assert table["cheap_correct"].tolist() == [True, False, False], (
        "what an escalated line answers is the strong model's"
    )
    assert table["confidence"].tolist()[:2] == [0.9, 0.9]
    (here / "log.jsonl").write_text(json.dumps(line | {"confidence": "90 %"}))
    assert main(["import", "decisions", "log.jsonl"]) == 2
    assert "log.jsonl:1: confidence is '90 %', not a number in [0, 1]" in capsys.readouterr().err


def test_a_target_of_lm_eval_that_is_a_number_is_a_place_although_the_choices_are_numbers(here, capsys):
    asked = {"gen_args_0": {"arg_0": "q", "arg_1": " 1"}, "gen_args_1": {"arg_0": "q", "arg_1": " 0"}}
    row = {"doc_id": 0, "arguments": asked, "filtered_resps": [[-3.0, False], [-1.0, True]], "acc": 1.0}
    (here / "s.jsonl").write_text(
        "\n".join(json.dumps(row | {"target": t, "doc_id": i}) for i, t in enumerate((1, "0")))
    )
    assert imported(capsys, "lm-eval", "s.jsonl")["cheap_answer"].tolist() == ["1", "0"]
