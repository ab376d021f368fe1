"""The sweep against loops over rows, recorded figures, row bootstraps and simulated truths."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from decide.made_rows import made
from ruamel.yaml import YAML
from scipy.special import expit
from scipy.stats import binomtest, skew

from pipeline.decide.curves.bootstrap import blocks_of
from pipeline.decide.predictions import Rows
from pipeline.decide.sweep import BANDED, SPLITS, sweep
from pipeline.decide.testing.mean_interval import skewed_interval
from pipeline.decide.thresholds import accepted, sweep_levels

CURVES = ["coverage", "escalation_rate", "accepted_accuracy", "selective_risk", "system_accuracy", "usd_per_1000"]


def known_mean(values: Any) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else np.nan


def by_hand(rows: Rows, threshold: float) -> dict[str, float]:
    """One row of the sweep by a loop over the rows."""
    n = len(rows)
    keep = [c >= threshold for c in rows.confidence]
    kept = [i for i in range(n) if keep[i]]
    sent = [i for i in range(n) if not keep[i]]
    accuracy, strong = known_mean(rows.cheap_correct[kept]), known_mean(rows.strong_correct[sent])
    dollars = known_mean(rows.strong_usd[sent])
    waited = [rows.cheap_s[i] + (0 if keep[i] else rows.strong_s[i]) for i in range(n)]
    told = all(not np.isnan([waited[i] for i in part]).all() for part in (kept, sent) if part)
    times = sorted(t for t in waited if not np.isnan(t)) if told else []
    graded = [rows.cheap_correct[i] if keep[i] else rows.strong_correct[i] for i in range(n)]
    paid = [rows.cheap_usd[i] + (0 if keep[i] else rows.strong_usd[i]) for i in range(n)]
    return {
        "n": n,
        "n_accepted": len(kept),
        "n_unknown": np.isnan(graded).sum(),
        "n_cost_unknown": np.isnan(paid).sum(),
        "coverage": len(kept) / n,
        "escalation_rate": len(sent) / n,
        "accepted_accuracy": accuracy,
        "selective_risk": 1 - accuracy,
        "system_accuracy": (len(kept) * accuracy if kept else 0) / n + (len(sent) * strong if sent else 0) / n,
        "usd_per_1000": 1000 * (known_mean(rows.cheap_usd) + (len(sent) / n * dollars if sent else 0)),
        # numpy's inverted_cdf is the smallest value that covers the share
        "latency_p50_s": np.quantile(times, 0.5, method="inverted_cdf") if times else np.nan,
        "latency_p95_s": np.quantile(times, 0.95, method="inverted_cdf") if times else np.nan,
    }


@pytest.mark.parametrize("digits", [None, 2, 1])
@pytest.mark.parametrize("gaps", [0.0, 0.15])
@pytest.mark.parametrize("n", [3, 40, 150])
def test_every_figure_equals_a_loop_over_the_rows(n: int, digits: int | None, gaps: float) -> None:
    rows = made(n, n + 1, digits=digits, gaps=gaps)
    table = sweep(rows, sweep_levels(rows.confidence, np.array([0.5, 0.85]), 60), replicates=20, seed=0)
    for split in SPLITS:
        part = rows.of(split)
        for got in table[table.split == split].to_dict("records"):
            if len(part):
                for name, value in by_hand(part, got["threshold"]).items():
                    assert got[name] == pytest.approx(value, nan_ok=True, abs=1e-12), (split, got["threshold"], name)


@pytest.mark.parametrize("task", ["mmlu_gpt4o", "mmlu_llama"])
def test_recorded_replies_give_the_figures_computed_elsewhere(real_data: Path, task: str) -> None:
    folder = real_data / "recorded" / task
    config = YAML(typ="safe").load(folder / "config.yaml")
    examples = [json.loads(line) for line in (folder / "examples.jsonl").read_text("utf-8").strip().split("\n")]
    frame = pd.DataFrame({"example_id": [e["id"] for e in examples], "label": [e["label"] for e in examples]})
    for role in ("cheap", "strong"):
        lines = (folder / f"{role}.jsonl").read_text("utf-8").strip().split("\n")
        bodies = {r["custom_id"]: r["response"]["body"] for r in map(json.loads, lines)}
        replies = [bodies[e["id"]] for e in examples]
        price = config[role]["usd_per_million_tokens"]
        answers = [r["choices"][0]["message"]["content"].strip() for r in replies]
        frame[f"{role}_correct"] = np.array(answers) == frame["label"]
        usage = [(r["usage"]["prompt_tokens"], r["usage"]["completion_tokens"]) for r in replies]
        frame[f"{role}_usd"] = [(i * price["input"] + o * price["output"]) / 1e6 for i, o in usage]
        if role == "cheap":
            frame["confidence"] = np.exp([r["choices"][0]["logprobs"]["content"][0]["logprob"] for r in replies])
    rows, reference = Rows.from_frame(frame), json.loads((folder / "reference.json").read_text("utf-8"))
    wanted = {r["threshold"]: r for r in reference["sweep_all_rows"]}
    table = sweep(rows, sweep_levels(rows.confidence, np.array(list(wanted))), replicates=10, seed=0)
    whole = table[table.split == "all"].set_index("threshold")
    assert len(whole) <= 1000
    for threshold, figures in wanted.items():
        for name in ("escalation_rate", "system_accuracy", "usd_per_1000"):
            assert whole.loc[threshold, name] == pytest.approx(figures[name], rel=1e-12, abs=0), (threshold, name)
    assert whole.loc[0.0, "system_accuracy"] == pytest.approx(reference["cheap_accuracy"])
    assert whole.loc[0.0, "usd_per_1000"] == pytest.approx(1000 * reference["cheap_usd"] / reference["n"])


def test_the_same_levels_serve_all_splits_and_coverage_falls_along_them() -> None:
    rows = made(400, 5)
    table = sweep(rows, sweep_levels(rows.confidence), replicates=20, seed=0)
    levels = [table.threshold[table.split == s].to_list() for s in SPLITS]
    assert levels[0] == levels[1] == levels[2] == sorted(levels[0])
    for split in SPLITS:
        coverage = table.coverage[table.split == split].to_numpy()
        assert np.all(np.diff(coverage) <= 0)


def test_the_order_of_rows_and_of_levels_does_not_matter() -> None:
    rows = made(200, 6, digits=2, gaps=0.1)
    levels = sweep_levels(rows.confidence)
    shuffled = rows.take(np.random.default_rng(0).permutation(200))
    a, b = sweep(rows, levels, replicates=20, seed=1), sweep(shuffled, levels[::-1], replicates=20, seed=1)
    pd.testing.assert_frame_equal(a, b, rtol=1e-9)


def test_the_same_seed_gives_the_same_table_and_another_seed_other_bands_only() -> None:
    rows = made(200, 7)
    levels = sweep_levels(rows.confidence, at_most=30)
    one, same, other = (sweep(rows, levels, replicates=50, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    exact = [c for c in one.columns if not c.endswith(("_lower", "_upper"))]
    pd.testing.assert_frame_equal(one[exact], other[exact])
    assert not one.equals(other)


def test_a_split_without_rows_is_unknown_not_zero() -> None:
    rows = made(50, 8, split="certify")
    table = sweep(rows, [0.0, 0.5], replicates=20, seed=0)
    empty = table[table.split == "test"]
    assert (empty.n == 0).all()
    assert empty[CURVES].isna().all().all()
    assert empty[[f"{c}_lower" for c in BANDED]].isna().all().all()


def test_rows_without_any_confidence_all_escalate() -> None:
    rows = made(60, 9, confidence=np.nan)
    table = sweep(rows, [0.0, 0.5], replicates=20, seed=0).query("split == 'all'")
    assert (table.escalation_rate == 1).all()
    assert table.accepted_accuracy.isna().all()
    assert table.system_accuracy.to_numpy() == pytest.approx(rows.strong_correct.mean())


def test_without_a_strong_model_only_the_level_that_keeps_all_is_graded() -> None:
    rows = made(80, 10, strong_correct=np.nan, strong_usd=np.nan, strong_s=np.nan)
    table = sweep(rows, [0.0, 0.9], replicates=20, seed=0).query("split == 'all'").set_index("threshold")
    assert table.system_accuracy[0.0] == pytest.approx(rows.cheap_correct.mean())
    assert np.isnan(table.system_accuracy[0.9])
    assert np.isnan(table.usd_per_1000[0.9])
    assert table.n_cost_unknown[0.9] == table.n_unknown[0.9] == 80 - table.n_accepted[0.9]


def test_system_accuracy_stays_unbiased_when_strong_answers_are_missing_at_random() -> None:
    rows = made(40_000, 11)
    full = sweep(rows, [0.8, 0.95], replicates=2, seed=0).query("split == 'all'")
    lost = np.random.default_rng(0).random(len(rows)) < 0.6
    thinned = replace(rows, strong_correct=np.where(lost, np.nan, rows.strong_correct))
    part = sweep(thinned, [0.8, 0.95], replicates=2, seed=0).query("split == 'all'")
    assert part.system_accuracy.to_numpy() == pytest.approx(full.system_accuracy.to_numpy(), abs=0.006)


def test_the_bootstrap_over_cells_has_the_law_of_the_bootstrap_over_rows() -> None:
    rows = made(250, 12, split="certify")
    levels = np.array([0.3, 0.6, 0.85, 0.95])
    got = sweep(rows, levels, replicates=4000, seed=3).query("split == 'certify'")
    rng = np.random.default_rng(4)
    drawn: dict[str, list[list[float]]] = {name: [] for name in CURVES}
    for _ in range(1500):
        again = rows.take(rng.integers(0, 250, 250))
        keep = [accepted(again.confidence, t) for t in levels]
        system = [np.where(k, again.cheap_correct, again.strong_correct).mean() for k in keep]
        accuracy = [again.cheap_correct[k].mean() for k in keep]
        paid = [1000 * (again.cheap_usd + np.where(k, 0, again.strong_usd)).mean() for k in keep]
        cover = [k.mean() for k in keep]
        whole = (cover, [1 - c for c in cover], accuracy, [1 - a for a in accuracy], system, paid)
        for name, values in zip(CURVES, whole, strict=True):
            drawn[name].append(values)
    for name in CURVES:
        lower, upper = np.quantile(drawn[name], [0.05, 0.95], axis=0)
        if name == "usd_per_1000":  # limits of amounts are built from the spread and skewness of the replicates
            point = got[name].to_numpy()
            lower, upper = skewed_interval(point, np.std(drawn[name], axis=0), skew(drawn[name], axis=0), 250, 0.9)
        width = upper - lower
        assert np.all(np.abs(got[f"{name}_lower"] - lower) < 0.12 * width), name
        assert np.all(np.abs(got[f"{name}_upper"] - upper) < 0.12 * width), name


def test_drawing_the_cells_of_many_rows_independently_gives_the_same_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made(21_000, 20, split="certify")
    levels = np.array([0.3, 0.6, 0.85, 0.95, 0.99])
    fast = sweep(rows, levels, replicates=4000, seed=3)
    monkeypatch.setattr("pipeline.decide.curves.bands.POISSON_ROWS", 10**9)
    exact = sweep(rows, levels, replicates=4000, seed=4)
    for name in CURVES:
        for kind in ("", "sim_"):
            low, high = f"{name}_{kind}lower", f"{name}_{kind}upper"
            width = (exact[high] - exact[low]).to_numpy()
            for limit in (low, high):
                assert np.all(np.abs(fast[limit] - exact[limit])[exact.n > 0] < 0.1 * width[exact.n > 0]), limit


def test_row_47_proportions_of_0_and_1_have_exact_limits() -> None:
    rows = made(60, 13, split="certify", cheap_correct=1.0, strong_correct=1.0, confidence=np.linspace(0.5, 0.9, 60))
    table = sweep(rows, [0.0, 0.7], replicates=50, seed=0).query("split == 'certify'").set_index("threshold")
    for threshold, kept in ((0.0, 60), (0.7, int((rows.confidence >= 0.7).sum()))):
        exact = binomtest(kept, kept).proportion_ci(0.9, method="exact")
        row = table.loc[threshold]
        assert (row.accepted_accuracy_lower, row.accepted_accuracy_upper) == pytest.approx((exact.low, 1))
        assert (row.selective_risk_lower, row.selective_risk_upper) == pytest.approx((0, 1 - exact.low))
        everything = binomtest(60, 60).proportion_ci(0.9, method="exact")
        assert (row.system_accuracy_lower, row.system_accuracy_upper) == pytest.approx((everything.low, 1))
    assert table.coverage_lower[0.0] == pytest.approx(everything.low)
    assert table.escalation_rate_upper[0.0] == pytest.approx(1 - everything.low)


def test_bands_hold_the_estimate_and_simultaneous_ones_are_wider() -> None:
    rows = made(500, 14)
    table = sweep(rows, sweep_levels(rows.confidence, at_most=100), replicates=500, seed=0)
    for name in BANDED:
        known = table[table[name].notna()]
        width = known[f"{name}_upper"] - known[f"{name}_lower"]
        wide = known[f"{name}_sim_upper"] - known[f"{name}_sim_lower"]
        assert (known[f"{name}_sim_lower"] <= known[name] + 1e-12).all()
        assert (known[name] <= known[f"{name}_sim_upper"] + 1e-12).all()
        assert wide.mean() > 1.2 * width.mean()
        if name != "usd_per_1000":
            assert known[f"{name}_lower"].min() >= 0
            assert known[f"{name}_upper"].max() <= 1


def test_the_table_says_what_its_bands_are() -> None:
    attrs = sweep(made(30, 15), [0.5], level=0.8, replicates=10, seed=4).attrs
    assert attrs["band_level"] == 0.8
    assert attrs["replicates"] == 10
    assert attrs["seed"] == 4
    assert attrs["band_unit"] == "rows"
    assert "max-t" in attrs["band_sim"]


def test_copies_of_rows_widen_the_bands_instead_of_narrowing_them() -> None:
    """Ten copies of each of 100 rows carry the information of 100 rows: about their bands come out, and none narrower."""
    rows = made(100, 16, split="certify")
    copies = rows.take(np.repeat(np.arange(100), 10))
    levels = np.array([0.5, 0.8, 0.95])
    alone = sweep(rows, levels, replicates=3000, seed=1).query("split == 'certify'")
    grouped = sweep(copies, levels, replicates=3000, seed=2)
    assert grouped.attrs["band_unit"] == "groups"
    for name in CURVES:
        width = alone[f"{name}_upper"] - alone[f"{name}_lower"]
        mine = grouped.query("split == 'certify'")
        assert np.all(mine[f"{name}_upper"].to_numpy() - mine[f"{name}_lower"].to_numpy() > 0.95 * width), name
        for limit in ("lower", "upper"):
            assert np.all(np.abs(mine[f"{name}_{limit}"].to_numpy() - alone[f"{name}_{limit}"]) < 0.7 * width), name


def test_many_groups_are_pooled_whole() -> None:
    group = np.array([f"g{i % 700}" for i in range(2000)], dtype=object)
    blocks = blocks_of(group, seed=0, at_most=50)
    assert blocks is not None
    assert sorted(set(blocks)) == list(range(50))
    assert pd.DataFrame({"g": group, "b": blocks}).groupby("g").b.nunique().max() == 1
    assert blocks_of(np.array([None, None, "a"], dtype=object), seed=0) is None
    some = blocks_of(np.array([None, "a", "a", None], dtype=object), seed=0)
    assert some is not None
    assert len({some[0], some[1], some[3]}) == 3
    assert some[1] == some[2]


def test_a_weight_of_two_is_a_row_twice() -> None:
    rows = made(120, 17, gaps=0.1)
    weight = np.where(np.arange(120) % 3 == 0, 2.0, 1.0)
    twice = rows.take(np.repeat(np.arange(120), weight.astype(int)))
    levels = [0.4, 0.8, 0.95]
    weighted, repeated = (
        sweep(rows, levels, replicates=5, seed=0, weights=weight),
        sweep(twice, levels, replicates=5, seed=0),
    )
    for name in CURVES:
        assert weighted[name].to_numpy() == pytest.approx(repeated[name].to_numpy(), nan_ok=True), name
    assert (weighted.n[weighted.split == "all"] == 120).all()


@pytest.mark.parametrize("bad", [{"levels": [np.nan]}, {"weights": [-1.0] * 5}, {"weights": [np.nan] * 5}])
def test_levels_and_weights_that_are_no_numbers_are_refused(bad: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="numbers"):
        sweep(made(5, 18), **{"levels": [0.5], "seed": 0, **bad})


def truth(thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and system accuracy of the population that `made` draws from, by quadrature over the logit."""
    z = np.linspace(-14, 18, 200_001)
    density = np.exp(-((z - 2) ** 2) / 8)
    density /= density.sum()
    p = expit(0.3 + 0.6 * z)
    strong = 0.97 * p + 0.6 * (1 - p)
    kept = expit(z)[None] >= thresholds[:, None]
    return kept @ density, kept @ (density * p) + ~kept @ (density * strong)


@pytest.mark.slow
def test_bands_cover_the_truth_about_as_often_as_they_say() -> None:
    levels = np.round(expit(np.linspace(-1, 5.5, 40)), 4)
    coverage, system = truth(levels)
    pointwise, whole, runs = np.zeros(2), np.zeros(2), 300
    for seed in range(runs):
        table = sweep(made(1000, 5000 + seed, split="certify"), levels, replicates=300, seed=seed)
        got = table[table.split == "certify"]
        for i, (name, true) in enumerate((("coverage", coverage), ("system_accuracy", system))):
            inside = (got[f"{name}_lower"] <= true) & (true <= got[f"{name}_upper"])
            pointwise[i] += inside.mean() / runs
            inside = (got[f"{name}_sim_lower"] <= true) & (true <= got[f"{name}_sim_upper"])
            whole[i] += inside.all() / runs
    assert np.all(np.abs(pointwise - 0.9) < 0.04), pointwise
    assert np.all(whole > 0.9 - 3 * np.sqrt(0.09 / runs) - 0.02), whole
