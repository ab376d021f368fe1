"""What the page counts itself, against loops, pandas and scipy."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from deliver import artefacts
from deliver.artefact_tables import interval
from deliver.page import Page

from pipeline.decide import metrics
from pipeline.deliver.report import captions
from pipeline.deliver.report import data as report_data
from pipeline.deliver.report import page as report
from pipeline.run import directory as names
from pipeline.run.directory import Run, dump_json


@dataclass(frozen=True)
class Counted:
    run: Run
    data: dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    run, config = artefacts.write_run(tmp_path_factory.mktemp("runs"), levels=60, rows=500)
    return Counted(run, report_data.build(run, config, texts=artefacts.texts_of(run)))


def test_wrong_answers_kept_are_counted_over_the_rows(made: Counted) -> None:
    """Against a loop over the predictions, with scipy's exact interval."""
    frame = made.run.read_table(names.PREDICTIONS)
    test = frame[frame["split"] == "test"]
    columns = made.data["decide"]["sweep"]["columns"]
    for i in (0, 7, 30, made.data["decide"]["sweep"]["recommended"]):
        t = columns["threshold"][i]
        pairs = zip(test["confidence"], test["cheap_correct"], strict=True)
        wrong = sum(c >= t and y is not pd.NA and not y for c, y in pairs)
        low, high = interval(wrong, len(test))
        assert columns["wrong_per_1000"][i] == pytest.approx(1000 * wrong / len(test))
        assert columns["wrong_per_1000_lower"][i] == pytest.approx(1000 * low)
        assert columns["wrong_per_1000_upper"][i] == pytest.approx(1000 * high)


@pytest.mark.parametrize("gold", [True, False])
def test_wrong_answers_kept_are_the_same_on_the_card_and_in_the_recommended_row(tmp_path: Path, gold: bool) -> None:
    """Without labels "wrong" is an answer that the strong model does not give, and never 0 for want of a label."""
    run, config = artefacts.write_run(tmp_path, levels=20, rows=400, gold=gold)
    data = report_data.build(run, config)
    card = next(c for c in data["cards"] if c["key"] == "wrong")["estimate"]
    sweep = data["decide"]["sweep"]
    row = {end: sweep["columns"][f"wrong_per_1000{end}"][sweep["recommended"]] for end in ("", "_lower", "_upper")}
    assert [card["value"], card["lower"], card["upper"]] == pytest.approx(list(row.values()))
    frame = run.read_table(names.PREDICTIONS)
    test = frame[frame["split"] == "test"]
    kept = test[test["confidence"] >= data["verdict"]["threshold"]]
    differs = kept["cheap_correct"].eq(False) if gold else kept["cheap_answer"] != kept["strong_answer"]
    assert card["value"] == pytest.approx(1000 * differs.sum() / len(test))
    assert card["value"] > 0


def test_agreement_has_one_interval_on_the_card_and_in_the_recommended_row(tmp_path: Path) -> None:
    run, config = artefacts.write_run(tmp_path, levels=20, rows=400, gold=False)
    sweep = report_data.build(run, config)["decide"]["sweep"]
    value = sweep["columns"]["system_accuracy"][sweep["recommended"]]
    advice = run.read_json(names.RECOMMENDATION)
    told = {"value": value, "lower": value - 0.0625, "upper": 1.0, "level": 0.9, "n": 97, "split": "test"}
    advice["expected"]["agreement_with_strong"] = told
    run.write_json(names.RECOMMENDATION, advice)
    data = report_data.build(run, config)
    assert next(c for c in data["cards"] if c["key"] == "quality")["estimate"] == told
    columns = data["decide"]["sweep"]["columns"]
    row = [columns[f"system_accuracy{end}"][sweep["recommended"]] for end in ("", "_lower", "_upper")]
    assert row == [told["value"], told["lower"], told["upper"]]


def test_kept_answers_that_nobody_graded_are_not_counted_as_right(tmp_path: Path) -> None:
    run, config = artefacts.write_run(tmp_path, levels=20, rows=400)
    frame = run.read_table(names.PREDICTIONS)
    frame.loc[frame.index % 3 == 0, "cheap_correct"] = pd.NA
    frame.loc[frame["confidence"] >= 0.995, "cheap_correct"] = pd.NA
    run.write_frame(names.PREDICTIONS, frame)
    columns = report_data.build(run, config)["decide"]["sweep"]["columns"]
    test = frame[frame["split"] == "test"]
    for i in (0, 5, 12):
        kept = test["confidence"] >= columns["threshold"][i]
        share = kept.mean() * test.loc[kept, "cheap_correct"].dropna().eq(False).mean()
        assert columns["wrong_per_1000"][i] == pytest.approx(1000 * share)
        assert columns["wrong_per_1000_lower"][i] <= 1000 * share <= columns["wrong_per_1000_upper"][i]
    sure = [i for i, t in enumerate(columns["threshold"]) if t is not None and 0.995 <= t <= test["confidence"].max()]
    assert sure
    assert all(columns[f"wrong_per_1000{end}"][i] is None for i in sure for end in ("", "_lower", "_upper"))


def test_prices_times_quantities_give_the_cost_of_every_threshold(made: Counted) -> None:
    decide = made.data["decide"]
    parts = decide["prices"]["components"]
    assert [(p["role"], p["what"]) for p in parts] == [
        (role, what) for role in ("cheap", "strong") for what in ("input tokens", "output tokens")
    ]
    for i, cost in enumerate(decide["sweep"]["columns"]["usd_per_1000"]):
        assert sum(p["price"] * p["quantity"][i] for p in parts) == pytest.approx(cost, rel=1e-9)


def test_without_tokens_the_price_of_a_thousand_calls_stands_in(tmp_path: Path) -> None:
    run, config = artefacts.write_run(tmp_path, levels=20, rows=200)
    (run.directory / names.REPLIES).unlink()
    decide = report_data.build(run, config)["decide"]
    assert [p["unit"] for p in decide["prices"]["components"]] == ["USD per 1,000 calls"] * 2
    for i, cost in enumerate(decide["sweep"]["columns"]["usd_per_1000"]):
        assert sum(p["price"] * p["quantity"][i] for p in decide["prices"]["components"]) == pytest.approx(cost)


def test_dollars_that_are_unknown_for_a_few_rows_are_left_out_of_both_means(tmp_path: Path) -> None:
    """As the sweep does it: mean of the known cheap dollars + share escalated x mean of the known strong ones."""
    run, config = artefacts.write_run(tmp_path, levels=20, rows=300)
    frame, replies = run.read_table(names.PREDICTIONS), run.read_table(names.REPLIES)
    for role, lost in (("cheap", slice(3, 40, 7)), ("strong", slice(1, 90, 11))):
        ids = frame["example_id"].iloc[lost]
        frame.loc[frame["example_id"].isin(ids), f"{role}_usd"] = np.nan
        gone = replies["example_id"].isin(ids) & (replies["role"] == role)
        replies.loc[gone, ["input_tokens", "output_tokens", "usd"]] = np.nan
    run.write_frame(names.PREDICTIONS, frame)
    run.write_frame(names.REPLIES, replies)
    decide = report_data.build(run, config)["decide"]
    test = frame[frame["split"] == "test"]
    for i in (0, 5, 12):
        gone = ~(test["confidence"] >= decide["sweep"]["columns"]["threshold"][i])
        wanted = 1000 * (test["cheap_usd"].mean() + gone.mean() * np.nan_to_num(test.loc[gone, "strong_usd"].mean()))
        parts = decide["prices"]["components"]
        assert len(parts) == 4
        assert sum(p["price"] * p["quantity"][i] for p in parts) == pytest.approx(wanted)


def test_groups_and_confusions_are_counted_as_pandas_counts_them(made: Counted) -> None:
    frame = made.run.read_table(names.PREDICTIONS)
    test, t = frame[frame["split"] == "test"], made.data["verdict"]["threshold"]
    kept = test[test["confidence"] >= t]
    for group in made.data["failures"]["labels"]["rows"]:
        rows, mine = test[test["label"] == group["name"]], kept[kept["label"] == group["name"]]
        assert group["n"] == len(rows)
        assert group["cheap_accuracy"]["value"] == pytest.approx(rows["cheap_correct"].dropna().astype(float).mean())
        assert group["accepted_wrong"] == int((~mine["cheap_correct"].astype(bool)).sum())
        assert group["escalation_rate"]["value"] == pytest.approx(1 - len(mine) / len(rows))
    table = pd.crosstab(kept["label"], kept["cheap_answer"])
    confusion = made.data["failures"]["confusion"]
    assert (
        confusion["table"] == table.reindex(index=confusion["labels"], columns=confusion["labels"]).to_numpy().tolist()
    )
    assert confusion["n"] == table.to_numpy().sum()


def test_labels_that_a_column_head_cannot_tell_apart_are_listed_in_place_of_a_matrix(tmp_path: Path) -> None:
    labels = tuple(f"a complaint about the delivery of an order, kind {i}" for i in range(4))
    run, config = artefacts.write_run(tmp_path, levels=20, rows=300, labels=labels)
    confusion = report_data.build(run, config)["failures"]["confusion"]
    assert confusion["labels"] is confusion["table"] is None
    assert {c["label"] for c in confusion["commonest"]} <= set(labels)
    assert confusion["commonest"]


def test_the_worst_mistakes_are_kept_answers_by_falling_confidence(made: Counted) -> None:
    mistakes = made.data["failures"]["mistakes"]
    shown = [m["confidence"] for m in mistakes]
    frame = made.run.read_table(names.PREDICTIONS)
    wrong = frame[
        frame["cheap_correct"].eq(False).fillna(False) & (frame["confidence"] >= made.data["verdict"]["threshold"])
    ]
    assert shown == sorted(wrong["confidence"], reverse=True)[: len(shown)]
    assert len(mistakes) == min(25, len(wrong))


def test_the_previous_run_is_the_newest_that_started_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.figures, "draw", lambda *_, **__: {})
    runs, out = tmp_path / "runs", tmp_path / "reports"
    pages = {}
    for k, hour in enumerate((8, 10, 12)):
        run, config = artefacts.write_run(
            runs, levels=20, rows=200, seed=k, run_id=f"{k:012d}", started=f"2026-11-23T{hour:02d}:00:00Z"
        )
        pages[k] = (run, config, report.write(run, config, out))
    data = {k: json.loads(p.with_name("report.json").read_text()) for k, (_, _, p) in pages.items()}
    assert data[0]["previous"] is None
    assert [data[k]["previous"]["run_id"] for k in (1, 2)] == [f"{0:012d}", f"{1:012d}"]
    assert "Previous share" in pages[2][2].read_text("utf-8")
    before = pages[1][2].read_bytes()
    report.write(*pages[1][:2], out)  # written again after a newer run: still compared with the older one
    assert pages[1][2].read_bytes() == before


def test_a_million_rows_are_counted_from_the_needed_columns_only(tmp_path: Path) -> None:
    """Scaled down to stay quick: the page's size does not grow with the rows."""
    sizes = []
    for n in (1000, 8000):
        run, config = artefacts.write_run(tmp_path, levels=50, rows=n, run_id=f"{n:012d}")
        data = report_data.build(run, config, texts=artefacts.texts_of(run))
        assert data["failures"]["labels"] is not None
        assert sum(g["n"] for g in data["failures"]["labels"]["rows"]) == data["decide"]["sweep"]["n"]
        sizes.append(len(dump_json(data)))
    assert np.ptp(sizes) < 0.2 * max(sizes)


def test_an_enriched_set_is_reweighted_to_productions_mix(tmp_path: Path) -> None:
    """Every row counts its label's share in production over that in the rows: by hand, one threshold at a time."""
    mix = {"work": 0.7, "personal": 0.2, "spam": 0.1}
    run, config = artefacts.write_run(tmp_path, levels=20, rows=400, prevalence=mix)
    data = report_data.build(run, config)
    frame = run.read_table(names.PREDICTIONS)
    test = frame[frame["split"] == "test"].reset_index(drop=True)
    weight = test["label"].map({k: v / (test["label"] == k).mean() for k, v in mix.items()}).fillna(0.0)
    columns, parts = data["decide"]["sweep"]["columns"], data["decide"]["prices"]["components"]
    for i in (0, 6, 13):
        kept = test["confidence"] >= columns["threshold"][i]
        wrong = kept & test["cheap_correct"].eq(False).fillna(False).astype(bool)
        assert columns["wrong_per_1000"][i] == pytest.approx(1000 * (weight * wrong).sum() / weight.sum())
        assert columns["wrong_per_1000_lower"][i] <= columns["wrong_per_1000"][i] <= columns["wrong_per_1000_upper"][i]
        usd = (weight * (test["cheap_usd"] + ~kept * test["strong_usd"])).sum() / weight.sum() * 1000
        assert sum(p["price"] * p["quantity"][i] for p in parts) == pytest.approx(usd)
    page = report.render(json.loads(dump_json(data)), {})
    assert "re-weighted" in page
    assert "exact in the recommended row" not in page
    assert page.count("labeled rows as they are") == 2
    assert "bounds from the certify split, re-weighted" in page
    assert "AURC" not in captions.captions(data)["risk"].takeaway


def test_a_floor_on_several_labels_counts_an_answer_among_them_as_found(tmp_path: Path) -> None:
    target = {"kind": "match_strong", "within": 0.02, "label_floors": {"unwanted": 0.999, "work": 0.1}}
    target["label_groups"] = {"unwanted": ["spam", "other"]}
    run, config = artefacts.write_run(tmp_path, levels=20, rows=400, target=target)
    data = report_data.build(run, config)
    frame = run.read_table(names.PREDICTIONS)
    test, found = frame[frame["split"] == "test"], {f["name"]: f for f in data["failures"]["floors"]}
    for name, members in (("unwanted", {"spam", "other"}), ("work", {"work"})):
        mine = test[test["label"].isin(members)]
        final = mine["cheap_answer"].where(mine["confidence"] >= data["verdict"]["threshold"], mine["strong_answer"])
        assert found[name]["recall"]["value"] == pytest.approx(final.isin(members).mean())
        assert found[name]["recall"]["n"] == len(mine)
    assert [found[n]["broken"] for n in ("unwanted", "work")] == [True, False]
    assert "below its floor" in report.render(json.loads(dump_json(data)), {})


def test_every_measure_of_the_confidence_is_found_under_the_name_that_it_has(tmp_path: Path) -> None:
    run, config = artefacts.write_run(tmp_path, levels=20, rows=400)
    test = run.read_table(names.PREDICTIONS).query("split == 'test'")
    measured = metrics.with_intervals(
        test["confidence"].to_numpy(), test["cheap_correct"].astype("Float64").to_numpy(float, na_value=np.nan), seed=1
    )
    found = run.read_json(names.CALIBRATION)
    run.write_json(names.CALIBRATION, found | {"metrics": {"before": {"test": measured}, "after": {"test": measured}}})
    words = report.render(json.loads(dump_json(report_data.build(run, config))), {})
    table = words.split("Measures of the confidence")[1].split("</table>")[0]
    asked = re.findall(r'\("([a-z0-9_]+)", "[^"]+"\)', report.read_template("trust.html.j2").split("Measures")[2])
    assert len(asked) == table.count("<tr>") - 1 == 9
    assert set(asked) <= set(measured)


def test_ranking_measures_are_shown_with_and_without_escalation(tmp_path: Path) -> None:
    run, config = artefacts.write_run(tmp_path, levels=20, rows=200, kind="choose")
    advice = run.read_json(names.RECOMMENDATION)
    figure = {"value": 0.8125, "lower": 0.7, "upper": 0.9, "level": 0.9, "n": 48}
    advice["ranking"] = {"kind": "options", "rows": 48, "null_scores": 2, "cheap": {"top_1": figure, "mrr": figure}}
    advice["ranking"] |= {"cascade": {"top_1": figure, "mrr": figure}, "strong": {"top_1": figure, "mrr": None}}
    run.write_json(names.RECOMMENDATION, advice)
    words = report.render(json.loads(dump_json(report_data.build(run, config))), {})
    assert words.count("0.8125") == 5
    assert "Top-1 accuracy" in words
    assert "nDCG" not in words.split("As a ranking")[1].split("<table")[1]


@pytest.mark.parametrize(
    ("gold", "prices", "said"),
    [
        (
            True,
            True,
            r"cheap [\d.]+ % \[.*\] right at \$[\d.]+ \[.*\] per 1,000; strong .* right at \$[\d.]+ \[.*\] per 1,000\.",
        ),
        (True, False, r"cheap [\d.]+ % \[.*\] right; strong [\d.]+ % \[.*\] right\."),
        (False, True, r"cheap \$[\d.]+ \[.*\] per 1,000; strong \$[\d.]+ \[.*\] per 1,000\."),
        (False, False, None),
    ],
)
def test_what_is_said_of_each_model_alone_is_what_is_known(
    tmp_path: Path, gold: bool, prices: bool, said: str | None
) -> None:
    run, config = artefacts.write_run(tmp_path, levels=20, rows=200, gold=gold, prices=prices)
    page = Page(report.render(json.loads(dump_json(report_data.build(run, config))), {}))
    assert page.faults == []
    start = "Each model alone on these rows: "
    if said is None:
        assert start not in page.words
    else:
        assert re.match(said, page.words.split(start)[1].replace("\u00a0", " "))


def test_prices_are_written_as_prices_are(tmp_path: Path) -> None:
    run, config = artefacts.write_run(tmp_path, levels=20, rows=200)
    record = run.read_json(names.RUN)
    record["models"]["cheap"]["price"] = {"input": 0.5, "output": 1.4, "as_of": "2026-11-22", "source": "list"}
    run.write_json(names.RUN, record)
    page = report.render(json.loads(dump_json(report_data.build(run, config))), {})
    assert "$0.50 in and $1.40 out per million tokens" in page
    assert "$1.32 in and $3.96 out per million tokens" in page


def test_baselines_that_weigh_rows_otherwise_are_left_out(tmp_path: Path) -> None:
    run, config = artefacts.write_run(tmp_path, levels=20, rows=200)
    assert report_data.build(run, config)["decide"]["baselines"]
    advice = run.read_json(names.RECOMMENDATION)
    for baseline in advice["baselines"]:
        baseline["system_accuracy"] -= 0.05
    run.write_json(names.RECOMMENDATION, advice)
    data = report_data.build(run, config)
    assert data["decide"]["baselines"] == []
    assert "random escalation" not in captions.captions(data)["decide"].reading
