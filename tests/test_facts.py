"""What is counted over replies, and what becomes of it in a run whose replies are recorded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from run_folder import RunFolder
from runtime.bodies import chat, entry
from tickets import CONFIG

from cascade_threshold.answers import AnswerSet
from cascade_threshold.signals import measure
from pipeline.__main__ import main
from pipeline.engine.reply_stats import Facts, total

FROM_ALTERNATIVES = {"margin", "entropy", "label_probability"}


def body(answer: str, *logprobs: float) -> dict[str, Any]:
    """A reply of one token; the first of its alternatives is the token itself."""
    top = [(token, logprob) for token, logprob in zip([answer, "x", "y", "z"], logprobs, strict=False)]
    return chat(answer, [entry(answer, -0.1, top)])


def counted(*bodies: Any, wanted: int = 5) -> dict[str, Any]:
    facts, answers = Facts(), AnswerSet.classify(["billing", "account"])
    for given in bodies:
        facts.count("cheap", measure(given, answers), form="integer", wanted=wanted)
    return facts.packed()


def test_the_fewest_alternatives_are_the_smallest_count_over_replies_and_shards() -> None:
    four, three, two = (body("billing", -0.1, *[-6.0] * others) for others in (3, 2, 1))
    assert counted(four, three, four)["fewest_alternatives"] == 3
    for shards in ([[four], [two], [three]], [[two], [four]], [[], [four, two]]):
        facts = total(counted(*shard) for shard in shards)
        assert facts.fewest_alternatives == 2
        assert facts.few_alternatives == sum(map(len, shards))
    assert total([counted(four, wanted=3)]).fewest_alternatives == 3, "no more than were asked for"
    assert total([counted(), counted()]).fewest_alternatives is None


def test_replies_that_list_everything_or_give_no_signal_do_not_lower_the_fewest() -> None:
    everything = body("billing", math.log(0.75), math.log(0.25))
    assert counted(everything)["fewest_alternatives"] == 5
    none, one, unusable = body("billing"), body("billing", -0.1), body("billing", -0.1, 0.7)
    four = body("billing", -0.1, -6.0, -6.0, -6.0)
    assert counted(none, four, one, unusable, everything)["fewest_alternatives"] == 4
    assert counted(body("neither", -0.1, -6.0), chat("billing", None))["fewest_alternatives"] is None


def evaluated(folder: Path, *others: float) -> RunFolder:
    """The run of a task of 60 rows whose replies came with these alternatives beside the answer."""
    rows = [(f"r{i}", "billing" if i % 3 else "account") for i in range(60)]
    (folder / "tickets.yaml").write_text(CONFIG)
    (folder / "rows.csv").write_text("id,text,label\n" + "".join(f"{i},text {i},{label}\n" for i, label in rows))
    listed = [-0.1, *others] if others else []
    for role in ("cheap", "strong"):
        replies = [
            {"custom_id": i, "response": {"status_code": 200, "body": body("billing", *listed)}} for i, _ in rows
        ]
        (folder / f"{role}.jsonl").write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    folders = ["--runs-dir", str(folder / "runs"), "--reports-dir", str(folder / "reports")]
    assert main(["evaluate", str(folder / "tickets.yaml"), *folders, "--quiet"]) == 0
    (run,) = (folder / "runs" / "tickets").iterdir()
    (decision,) = (path for path in run.iterdir() if path.is_dir())
    return RunFolder(folder / "runs", {"task": "tickets", "run_id": run.name, "decision_id": decision.name})


@pytest.mark.slow
def test_the_policy_names_the_fewest_alternatives_of_the_run(tmp_path: Path) -> None:
    run = evaluated(tmp_path, -6.0, -6.0)
    policy = json.loads((run / "policy.json").read_text())
    assert (policy["cheap"]["top_logprobs"], policy["cheap"]["fewest_alternatives"]) == (5, 3)


@pytest.mark.slow
def test_signals_without_a_value_are_named_with_their_reason_in_the_table_and_on_the_page(
    tmp_path: Path,
) -> None:
    run = evaluated(tmp_path)
    table = {row["signal"]: row for row in json.loads((run / "calibration.json").read_text())["signal_table"]}
    assert set(table) > FROM_ALTERNATIVES
    for name, row in table.items():
        if name in FROM_ALTERNATIVES:
            assert (row["null_rate"], row["aurc"], row["auroc"], row["chosen"]) == (1.0, None, None, False)
            assert row["why_null"] == "fewer than two alternatives came for the answer's first token"
        else:
            assert (row["null_rate"], row["why_null"]) == (0.0, None)
    page = next((tmp_path / "reports" / "tickets").rglob("report.html")).read_text()
    assert "No value from margin, entropy, label probability where fewer than two alternatives came" in page
