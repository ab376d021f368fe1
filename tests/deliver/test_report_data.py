"""What the page counts itself, on real runs, against loops, pandas and scipy."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pytest
from deliver.runs import CHEAP, DEAR, SCENES, Made
from scipy.stats import beta

from pipeline.deliver.report import page as report
from pipeline.deliver.report.rows import ReportRows
from pipeline.deliver.report.rows import groups as groups_of

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
        ("cheap", CHEAP["input"]), ("cheap", CHEAP["output"]), ("strong", DEAR["input"]), ("strong", DEAR["output"]),
    ]  # fmt: skip
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
    table = pa.table({
        "example_id": [f"e{i}" for i in range(len(rows))], "group": [f"g{g}" for g, _ in rows],
        "split": ["test"] * len(rows), "segment": ["s"] * len(rows), "label": ["a"] * len(rows),
        "cheap_answer": ["a" if r else "b" for _, r in rows], "strong_answer": ["a"] * len(rows), "confidence": [0.9] * len(rows),
        "cheap_correct": [float(r) for _, r in rows], "strong_correct": [1.0] * len(rows),
    })  # fmt: skip
    found = ReportRows.of_table(table)
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
    single = ReportRows.of_table(table.set_column(1, "group", pa.array([f"g{i}" for i in range(len(rows))])))
    assert single.group is None
    (entry,) = groups_of(single, "label", "test", 0.5)["rows"]
    hits, n = sum(right) * copies, groups * copies
    assert entry["cheap_accuracy"]["lower"] == pytest.approx(beta.ppf(0.05, hits, n - hits + 1))
