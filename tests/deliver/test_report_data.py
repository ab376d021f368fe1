"""What the page counts itself, on real runs, against loops, pandas and scipy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deliver.page import Page
from deliver.runs import CHEAP, DEAR, SCENES, Made
from scipy.stats import beta

from cascade_threshold.calibrator import Calibrator
from pipeline.decide.breakdown.coded_rows import CodedRows
from pipeline.decide.breakdown.confidence_counts import histogram
from pipeline.decide.breakdown.groups import groups as groups_of
from pipeline.deliver.report import page as report
from pipeline.deliver.report import tokens
from pipeline.deliver.report.dot_plot import dot_plot

Recorded = Callable[[str], Made]


@pytest.fixture
def made(recorded: Recorded) -> Made:
    return recorded("certified")


def test_wrong_answers_kept_are_counted_over_the_rows(made: Made) -> None:
    frame, sweep = made.table("predictions.parquet"), made.data["decide"]["sweep"]
    test, columns = frame[frame["split"] == "test"], sweep["columns"]
    n = len(test)
    for i in (0, 7, 30, 100):
        t = columns["threshold"][i]
        wrong = sum(c >= t and not y for c, y in zip(test["confidence"], test["cheap_correct"], strict=True))
        low = beta.ppf(0.05, wrong, n - wrong + 1) if wrong else 0.0
        assert columns["wrong_per_1000"][i] == pytest.approx(1000 * wrong / n)
        assert columns["wrong_per_1000_lower"][i] == pytest.approx(1000 * low)
        assert columns["wrong_per_1000_upper"][i] == pytest.approx(1000 * beta.ppf(0.95, wrong + 1, n - wrong))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["certified", "unlabeled"])
def test_wrong_answers_kept_are_the_same_on_the_card_and_in_the_recommended_row(recorded: Recorded, name: str) -> None:
    """Without labels "wrong" is an answer that the strong model does not give, and never 0 for want of a label."""
    made = recorded(name)
    data = made.data
    card = next(c for c in data["cards"] if c["key"] == "wrong")["estimate"]
    sweep = data["decide"]["sweep"]
    row = sweep["columns"]["wrong_per_1000"][sweep["recommended"]]
    frame = made.table("predictions.parquet")
    test = frame[frame["split"] == "test"]
    kept = test[test["confidence"] >= data["verdict"]["threshold"]]
    differs = (
        ~kept["cheap_correct"].astype(bool) if name == "certified" else kept["cheap_answer"] != kept["strong_answer"]
    )
    assert row == pytest.approx(1000 * differs.sum() / len(test))
    assert row > 0
    if card["value"] is not None:
        assert card["value"] == pytest.approx(row)


def test_prices_times_quantities_give_the_cost_of_every_threshold(made: Made) -> None:
    decide = made.data["decide"]
    parts = decide["prices"]["components"]
    assert [(p["role"], p["price"]) for p in parts][:4] == [
        ("cheap", CHEAP["input"]),
        ("cheap", CHEAP["output"]),
        ("strong", DEAR["input"]),
        ("strong", DEAR["output"]),
    ]
    for i, cost in enumerate(decide["sweep"]["columns"]["usd_per_1000"]):
        assert sum(p["price"] * p["quantity"][i] for p in parts) == pytest.approx(cost, rel=1e-9)


def test_groups_and_confusions_are_counted_as_pandas_counts_them(made: Made) -> None:
    frame, data = made.table("predictions.parquet"), made.data
    test, t = frame[frame["split"] == "test"], data["verdict"]["threshold"]
    kept = test[test["confidence"] >= t]
    behind = []
    for group in data["failures"]["labels"]["rows"]:
        rows, mine = test[test["label"] == group["name"]], kept[kept["label"] == group["name"]]
        assert group["n"] == len(rows)
        assert group["cheap_accuracy"]["value"] == pytest.approx(rows["cheap_correct"].astype(float).mean())
        assert group["accepted_wrong"] == int((~mine["cheap_correct"].astype(bool)).sum())
        lost = (mine["cheap_correct"].astype(float) - mine["strong_correct"].astype(float)).sum() / len(rows)
        assert group["difference"]["value"] == pytest.approx(lost)
        assert group["difference"]["lower"] <= lost <= group["difference"]["upper"]
        assert ("margin" in group["flags"]) == (lost < -SCENES["certified"].target["within"])
        behind.append(lost)
    assert behind == sorted(behind)
    table = pd.crosstab(kept["label"], kept["cheap_answer"])
    confusion = data["failures"]["confusion"]
    wanted = table.reindex(index=confusion["labels"], columns=confusion["labels"]).to_numpy().tolist()
    assert confusion["table"] == wanted


def test_the_weakest_group_is_the_one_furthest_behind(made: Made) -> None:
    data = made.data
    groups = [r for k in ("labels", "segments") for r in data["failures"][k]["rows"] if "few" not in r["flags"]]
    assert data["first"]["weakest"]["difference"]["value"] == min(g["difference"]["value"] for g in groups)


def test_the_worst_mistakes_are_kept_answers_by_falling_confidence(made: Made) -> None:
    mistakes, frame = made.data["failures"]["mistakes"], made.table("predictions.parquet")
    shown = [m["confidence"] for m in mistakes]
    wrong = frame[~frame["cheap_correct"].astype(bool) & (frame["confidence"] >= made.data["verdict"]["threshold"])]
    assert shown == sorted(wrong["confidence"], reverse=True)[: len(shown)]
    assert len(mistakes) == min(25, len(wrong))


@pytest.mark.slow
def test_an_enriched_set_is_reweighted_to_productions_mix(recorded: Recorded) -> None:
    """Every row counts its label's share in production over that in the rows: by hand, one threshold at a time."""
    made = recorded("enriched")
    data, frame = made.data, made.table("predictions.parquet")
    mix = SCENES["enriched"].more["prevalence"]
    test = frame[frame["split"] == "test"].reset_index(drop=True)
    weight = test["label"].map({k: v / (test["label"] == k).mean() for k, v in mix.items()})
    columns = data["decide"]["sweep"]["columns"]
    for i in (0, 6, 13):
        kept = test["confidence"] >= columns["threshold"][i]
        wrong = kept & ~test["cheap_correct"].astype(bool)
        assert columns["wrong_per_1000"][i] == pytest.approx(1000 * (weight * wrong).sum() / weight.sum())
    assert "re-weighted" in made.page


@pytest.mark.slow
def test_a_floor_is_held_against_the_recall_of_the_cascade(recorded: Recorded) -> None:
    made = recorded("accepted")
    data, frame = made.data, made.table("predictions.parquet")
    test, found = frame[frame["split"] == "test"], {f["name"]: f for f in data["failures"]["floors"]}
    assert set(found) == {"spam", "work"}
    for name, floor in found.items():
        mine = test[test["label"] == name]
        final = mine["cheap_answer"].where(mine["confidence"] >= data["verdict"]["threshold"], mine["strong_answer"])
        assert floor["recall"]["value"] == pytest.approx((final == name).mean())
        assert floor["broken"] == (floor["recall"]["value"] < floor["floor"])


@pytest.mark.slow
def test_ranking_measures_are_shown_with_and_without_escalation(recorded: Recorded) -> None:
    made = recorded("judge")
    ranking = made.data["decide"]["ranking"]
    assert ranking["kind"] == "passages"
    assert "nDCG@10" in made.page
    worse = ranking["cascade"]["ndcg_at_10"]["value"] <= ranking["cheap"]["ndcg_at_10"]["value"]
    assert ("ranking_not_improved" in {w["code"] for w in made.data["warnings"]}) == worse


def test_baselines_that_weigh_rows_otherwise_are_left_out(made: Made) -> None:
    data = made.data
    assert data["decide"]["baselines"][0]["system_accuracy"] == pytest.approx(
        data["decide"]["ends"]["cheap_only"]["accuracy"]["value"]
    )
    data["decide"]["baselines"] = []
    assert "were not worked out" in report.render(data, {})


def test_where_rows_come_in_groups_the_intervals_by_label_and_segment_are_over_groups() -> None:
    """Ten copies of every row tell no more than the row: no interval is narrower than that of one row a group."""
    copies, groups = 10, 30
    right = [int(g % 5 > 0) for g in range(groups)]
    rows = [(g, r) for g, r in enumerate(right) for _ in range(copies)]
    table = pa.table(
        {
            "example_id": [f"e{i}" for i in range(len(rows))],
            "group": [f"g{g}" for g, _ in rows],
            "split": ["test"] * len(rows),
            "segment": ["s"] * len(rows),
            "label": ["a"] * len(rows),
            "cheap_answer": ["a" if r else "b" for _, r in rows],
            "strong_answer": ["a"] * len(rows),
            "confidence": [0.9] * len(rows),
            "cheap_correct": [float(r) for _, r in rows],
            "strong_correct": [1.0] * len(rows),
        }
    )
    found = CodedRows.of_table(table)
    assert found.group is not None
    for by in ("label", "segment"):
        (entry,) = groups_of(found, by, "test", 0.5)["rows"]
        for name in ("cheap_accuracy", "cascade_accuracy"):
            share, n = sum(right) / groups, groups
            low, high = beta.ppf(0.05, share * n, n - share * n + 1), beta.ppf(0.95, share * n + 1, n - share * n)
            assert entry[name]["value"] == pytest.approx(share)
            assert entry[name]["lower"] <= low
            assert entry[name]["upper"] >= high
        assert entry["difference"]["upper"] - entry["difference"]["lower"] > 0.2
    single = CodedRows.of_table(table.set_column(1, "group", pa.array([f"g{i}" for i in range(len(rows))])))
    assert single.group is None
    (entry,) = groups_of(single, "label", "test", 0.5)["rows"]
    hits, n = sum(right) * copies, groups * copies
    assert entry["cheap_accuracy"]["lower"] == pytest.approx(beta.ppf(0.05, hits, n - hits + 1))


@pytest.mark.parametrize("crowded", [False, True])
def test_a_bin_of_the_histogram_begins_at_the_threshold(made: Made, crowded: bool) -> None:
    """Counts against a loop; on the plain axis, and with confidences near 1 on the one that counts nines."""
    frame = made.table("predictions.parquet")
    if crowded:
        frame["confidence"] = 1 - (1 - frame["confidence"]) ** 3
    threshold = float(frame["confidence"].quantile(0.3))
    rows = CodedRows.of_table(pa.Table.from_pandas(frame))
    found = asdict(histogram(rows, "test", threshold))
    assert found["scale"] == ("nines" if crowded else found["scale"])
    assert threshold in found["edges"]
    assert found["edges"] == sorted(found["edges"])
    assert np.diff(found["places"]).max() < 1.4 * np.median(np.diff(found["places"]))
    test = frame[(frame["split"] == "test") & frame["confidence"].notna()]
    for i, (low, high) in enumerate(itertools.pairwise(found["edges"])):
        last = i == len(found["right"]) - 1
        inside = test[(test["confidence"] >= low) & ((test["confidence"] < high) | last)]
        assert found["right"][i] == (inside["cheap_correct"] == 1).sum()
        assert found["wrong"][i] == (inside["cheap_correct"] == 0).sum()
    assert found["null"] == frame[frame["split"] == "test"]["confidence"].isna().sum()


def test_the_density_under_the_reliability_curve_is_counted(made: Made) -> None:
    frame, found = made.table("predictions.parquet"), made.data["trust"]["reliability"]
    part = frame[frame["split"] == found["split"]].dropna(subset=["confidence", "cheap_correct"])
    calibrator = Calibrator.from_numbers(made.json("calibration.json")["calibrator"])
    for stage, values in (("before", list(part["confidence"])), ("after", [calibrator(c) for c in part["confidence"]])):
        wanted = np.histogram(np.array(values, dtype=float), bins=40, range=(0, 1))[0]
        assert sum(found[stage]["density"]) == len(part)
        assert np.abs(np.array(found[stage]["density"]) - wanted).sum() <= 4  # a monotone curve on a grid


@pytest.mark.slow
@pytest.mark.parametrize("name", ["certified", "pooled"])
def test_signals_are_compared_with_the_chosen_one(recorded: Recorded, name: str) -> None:
    """Also where it was named and not chosen by the table."""
    signals = recorded(name).data["trust"]["signals"]
    (chosen,) = (s for s in signals if s["chosen"])
    assert chosen["difference"] == 0
    for s in signals:
        if s["aurc"] is not None:
            assert s["difference"] == pytest.approx(s["aurc"] - chosen["aurc"], abs=1e-12)


def test_the_dot_plot_keeps_order_and_scale(made: Made) -> None:
    data = made.data
    found = dot_plot(data["failures"]["labels"], 0.03)
    assert found is not None
    values = [d["row"]["difference"]["value"] for d in found["dots"]]
    places = [float(d["at"]) for d in found["dots"]]
    assert values == sorted(values)
    slope = (float(found["zero"]) - float(found["margin"])) / 0.03
    assert places == pytest.approx([float(found["zero"]) + slope * v for v in values], abs=0.02)
    ticks = {t["text"]: float(t["at"]) for t in found["ticks"]}
    assert ticks["0"] == pytest.approx(float(found["zero"]), abs=0.01)
    assert 3 <= len(ticks) <= 8
    page = Page(report.render(data, {}))
    flagged = [r["name"] for r in data["failures"]["labels"]["rows"] if "margin" in r["flags"]]
    (plot,) = page.root.all("figure", id="figure-by-label")
    assert [li.all("bdi")[0].text for li in plot.all("li", class_="bad")] == flagged
    assert dot_plot({"rows": []}, 0.03) is None


def test_what_a_ranking_gains_and_lacks_is_said(recorded: Recorded) -> None:
    data = recorded("judge").data
    ranking = data["decide"]["ranking"]
    sentence = "Escalation does not clearly improve the ranking: nDCG@10 changes by +0.001."
    data["decide"]["ranking"] |= {"strong_missing": 17, "sentence": sentence}
    data["health"]["readings"] = {"cheap": {"letter_then_text": 23}}
    page = Page(report.render(data, {}))
    (told,) = page.root.all("p", id="ranking-sentence")
    assert told.text.endswith(sentence)
    assert "17 escalated rows have no strong answer" in page.words
    assert "letter_then_text 23" in page.words
    (table,) = (
        n.all("table")[0] for n in page.root.all("div", role="region") if n.attributes["aria-label"] == "Ranking"
    )
    assert table.all("thead")[0].all("th")[-1].text == "Cascade minus cheap"
    assert len(table.all("tbody")[0].all("tr")) == len(ranking["difference"])
    data["decide"]["ranking"]["sentence"] = None
    assert not Page(report.render(data, {})).root.all("p", id="ranking-sentence")


def test_the_rule_of_the_first_token_at_085_is_that_of_the_signal(made: Made) -> None:
    """Against the column of the first token's probability, read on the same rows."""
    frame, rules = made.table("predictions.parquet"), {r["name"]: r for r in made.data["decide"]["usual_rules"]}
    part = frame[frame["split"] == rules["fixed"]["accuracy"]["split"]]
    assert ("first_token" in rules) == (not frame["signal_first_token"].equals(frame["confidence"]))
    if "first_token" in rules:
        kept = part["signal_first_token"] >= 0.85
        assert rules["first_token"]["escalation_rate"]["value"] == pytest.approx(1 - kept.mean())


@pytest.mark.slow
def test_the_cheap_model_alone_agrees_where_both_gave_one_answer(recorded: Recorded) -> None:
    """Against pandas; a reply without an answer is not the strong model's answer."""
    made = recorded("unlabeled")
    rows = made.table("predictions.parquet").query("split == 'test'")
    same = rows["cheap_answer"].fillna("") == rows["strong_answer"]
    cheap = made.data["first"]["bars"][0]["quality"]
    assert rows["cheap_answer"].isna().any()
    assert (cheap["n"], cheap["value"]) == (len(rows), pytest.approx(same.mean()))


def test_what_is_no_logprob_is_shown_as_no_probability() -> None:
    """An alternative's logprob is kept as it came: NaN, or far above 0."""
    given = [None, math.nan, 1e308, 0.5, 1e-7, 0.0, -math.inf, -1e308]
    assert [tokens._probability(value) for value in given] == [None, None, None, None, 1.0, 1.0, 0.0, 0.0]
