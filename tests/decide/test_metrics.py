"""Metrics against golden values, peers, brute force and closed forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mapie.metrics.calibration import kolmogorov_smirnov_statistic, spiegelhalter_statistic
from model_diagnostics.scoring import LogLoss, SquaredError, decompose
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import binomtest, norm
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from pipeline.decide.metrics import summary, with_intervals

Floats = np.ndarray
EPS = np.finfo(float).eps


def sample(n: int, seed: int, digits: int | None = None) -> tuple[Floats, Floats]:
    """Overconfident rows; `digits` rounds the confidences so that many tie."""
    rng = np.random.default_rng(seed)
    z = rng.normal(2, 2, n)
    c = expit(z) if digits is None else np.round(expit(z), digits)
    return c, (rng.random(n) < expit(0.2 + 0.6 * z)).astype(float)


CASES = pytest.mark.parametrize(
    ("c", "y"),
    [
        sample(300, 1),
        sample(400, 2, digits=2),
        sample(250, 3, digits=1),
        sample(11, 7),
        (np.full(40, 0.7), np.r_[np.ones(30), np.zeros(10)]),
    ],
    ids=["no ties", "ties", "heavy ties", "few rows", "one value"],
)


def test_golden_values_are_reproduced_within_their_tolerance(real_data: Path) -> None:
    golden = real_data.parent / "golden"
    if not golden.is_dir():
        pytest.skip("no folder of golden values beside the real data")
    table = np.loadtxt(golden / "golden.csv", delimiter=",", skiprows=1)
    wanted = json.loads((golden / "golden_values.json").read_text())["golden.csv"]
    got = summary(table[:, 0], table[:, 1])
    assert len(wanted) == 35
    for name, value in wanted.items():
        assert got[name] == pytest.approx(value["value"], abs=value["tol"], rel=0), name


@CASES
def test_scores_and_rankings_equal_scikit_learns(c: Floats, y: Floats) -> None:
    got = summary(c, y)
    assert got["n"] == len(y)
    assert got["accuracy"] == pytest.approx(y.mean())
    assert got["mean_confidence"] == pytest.approx(c.mean())
    assert got["brier"] == pytest.approx(brier_score_loss(y, c))
    assert got["nll"] == pytest.approx(log_loss(y, c))
    assert got["auroc"] == pytest.approx(roc_auc_score(y, c))
    assert got["average_precision_correct"] == pytest.approx(average_precision_score(y, c))
    assert got["average_precision_error"] == pytest.approx(average_precision_score(1 - y, -c))


@CASES
def test_corp_decompositions_equal_model_diagnostics(c: Floats, y: Floats) -> None:
    got = summary(c, y)
    for name, score in (("brier", SquaredError()), ("logloss", LogLoss())):
        peer = decompose(y, np.clip(c, EPS, 1 - EPS), scoring_function=score)
        for part in ("miscalibration", "discrimination", "uncertainty"):
            assert got[f"corp_{name}_{part}"] == pytest.approx(peer[part][0], abs=1e-9), (name, part)


@CASES
def test_corp_parts_add_up_to_the_score(c: Floats, y: Floats) -> None:
    got = summary(c, y)
    for name, score in (("brier", "brier"), ("logloss", "nll")):
        parts = [got[f"corp_{name}_{part}"] for part in ("miscalibration", "discrimination", "uncertainty")]
        assert parts[0] - parts[1] + parts[2] == pytest.approx(got[score], abs=1e-12)
        assert min(parts[:2]) >= -1e-12


@CASES
def test_auroc_counts_pairs_and_prr_is_twice_that_minus_one(c: Floats, y: Floats) -> None:
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in c[y == 1] for b in c[y == 0]]
    got = summary(c, y)
    assert got["auroc"] == pytest.approx(np.mean(pairs))
    assert got["prr_errors_over_population"] == pytest.approx(2 * np.mean(pairs) - 1)


def aurc_in_this_order(wrong: Floats) -> float:
    return float(np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1)))


@CASES
def test_aurc_without_luck_in_the_order_of_ties(c: Floats, y: Floats) -> None:
    """The mean over random orders of tied rows, and exactly so where there are none."""
    rng = np.random.default_rng(0)
    repeats = 1 if len(np.unique(c)) == len(c) else 4000
    drawn = [aurc_in_this_order(1 - y[np.lexsort((rng.random(len(c)), -c))]) for _ in range(repeats)]
    error = 1e-12 if repeats == 1 else 4 * np.std(drawn) / np.sqrt(repeats)
    assert summary(c, y)["aurc_mean"] == pytest.approx(np.mean(drawn), abs=error)


@CASES
def test_e_aurc_is_the_excess_over_all_errors_last(c: Floats, y: Floats) -> None:
    got = summary(c, y)
    best = aurc_in_this_order(np.sort(1 - y))
    assert got["aurc_optimal_mean"] == pytest.approx(best)
    assert got["e_aurc"] == pytest.approx(got["aurc_mean"] - best)
    curve = np.cumsum(1 - y[np.argsort(-c)]) / np.arange(1, len(y) + 1)
    if len(np.unique(c)) == len(c):
        trapezoid = np.trapezoid(curve, np.arange(1, len(y) + 1) / len(y)) / (1 - 1 / len(y))
        assert got["aurc_trapezoid_normalised"] == pytest.approx(trapezoid)


@CASES
def test_metrics_do_not_depend_on_the_order_of_rows(c: Floats, y: Floats) -> None:
    order = np.random.default_rng(4).permutation(len(c))
    assert summary(c[order], y[order]) == summary(c, y)


@pytest.mark.parametrize("bins", [10, 15])
@CASES
def test_calibration_errors_over_equal_widths_by_a_loop(c: Floats, y: Floats, bins: int) -> None:
    gaps, shares = [], []
    for i in range(bins):
        inside = [j for j, v in enumerate(c) if i / bins <= v < (i + 1) / bins or (i == bins - 1 and v == 1)]
        if inside:
            gaps.append(abs(y[inside].mean() - c[inside].mean()))
            shares.append(len(inside) / len(c))
    got = summary(c, y)
    assert got[f"ece_equal_width_{bins}"] == pytest.approx(np.dot(shares, gaps))
    assert got[f"mce_equal_width_{bins}"] == pytest.approx(max(gaps))
    assert got[f"rmsce_equal_width_{bins}"] == pytest.approx(np.sqrt(np.dot(shares, np.square(gaps))))


@pytest.mark.parametrize("bins", [10, 15])
def test_equal_mass_bins_without_ties_are_an_array_split(bins: int) -> None:
    c, y = sample(307, 5)
    order = np.argsort(c)
    parts = np.array_split(order, bins)
    share = np.array([len(p) / len(c) for p in parts])
    gap = np.array([y[p].mean() - c[p].mean() for p in parts])
    noise = np.array([y[p].var(ddof=1) / len(p) for p in parts])
    got = summary(c, y)
    assert got[f"ece_equal_mass_{bins}"] == pytest.approx(share @ np.abs(gap))
    assert got[f"ce_l2_plugin_equal_mass_{bins}"] == pytest.approx(np.sqrt(share @ gap**2))
    assert got[f"ce_l2_debiased_equal_mass_{bins}"] == pytest.approx(np.sqrt(max(0.0, share @ (gap**2 - noise))))


def test_an_equal_mass_bin_never_splits_a_tie() -> None:
    c = np.repeat([0.2, 0.5, 0.9], [5, 90, 5])
    y = np.tile([0.0, 1.0], 50)
    gaps = [abs(y[c == v].mean() - v) for v in (0.2, 0.5, 0.9)]
    got = summary(c, y)["ece_equal_mass_10"]
    # each value is whole, whatever bin it falls in: .5 alone, since no other value's middle row lies in its bin
    assert got == pytest.approx(np.dot([0.05, 0.9, 0.05], gaps))


def test_debiasing_removes_the_error_that_noise_makes() -> None:
    plugin, debiased = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        c = rng.uniform(0.5, 1, 300)
        got = summary(c, (rng.random(300) < c).astype(float))  # perfectly calibrated
        plugin.append(got["ce_l2_plugin_equal_mass_15"] ** 2)
        debiased.append(got["ce_l2_debiased_equal_mass_15"])
    assert np.mean(plugin) > 0.005
    assert np.median(debiased) < 0.03


@CASES
def test_calibration_tests_equal_mapie(c: Floats, y: Floats) -> None:
    got = summary(c, y)
    inside = np.clip(c, 1e-12, 1 - 1e-12)
    assert got["spiegelhalter_z"] == pytest.approx(spiegelhalter_statistic(y, inside), abs=1e-4)
    assert got["spiegelhalter_p"] == pytest.approx(2 * norm.sf(abs(got["spiegelhalter_z"])))
    if len(np.unique(c)) == len(c):  # the peer cuts tied rows apart at random
        assert got["ks_calibration_statistic"] == pytest.approx(kolmogorov_smirnov_statistic(y, c), abs=1e-6)


@pytest.mark.slow
def test_spiegelhalter_z_is_standard_normal_under_calibration() -> None:
    rng = np.random.default_rng(6)
    z = []
    for _ in range(400):
        c = rng.uniform(0.6, 1, 200)
        z.append(summary(c, (rng.random(200) < c).astype(float))["spiegelhalter_z"])
    assert abs(np.mean(z)) < 4 / np.sqrt(400)
    assert np.std(z) == pytest.approx(1, abs=0.15)


def test_smooth_calibration_error_by_direct_integration() -> None:
    """Sum of Gaussians reflected at 0 and 1, integrated by quadrature, at the width where it equals itself."""
    c, y = sample(60, 8)
    got = summary(c, y)
    width = got["smece_width"]
    images = [(c + 2 * k, -c + 2 * k) for k in range(-3, 4)]

    def smoothed(t: float) -> float:
        density = sum(norm.pdf(t, a, width) + norm.pdf(t, b, width) for a, b in images)
        return float(abs(np.mean((y - c) * density)))

    direct = quad(smoothed, 0, 1, limit=400, epsabs=1e-7)[0]
    assert direct == pytest.approx(width, abs=2e-4)
    assert got["smece"] == pytest.approx(width, abs=1e-6)


def test_smooth_calibration_error_of_a_constant_gap_is_the_gap() -> None:
    assert summary(np.full(1000, 0.8), np.r_[np.ones(600), np.zeros(400)])["smece"] == pytest.approx(0.2, abs=1e-3)


def test_what_the_rows_cannot_support_is_none() -> None:
    nothing = summary([], [])
    assert nothing.pop("n") == 0
    assert nothing.pop("n_unknown") == 0
    assert set(nothing.values()) == {None}
    right_only = summary([0.6, 0.7, 0.8], [1, 1, 1])
    assert right_only["auroc"] is None
    assert right_only["average_precision_error"] is None
    assert right_only["average_precision_correct"] == 1.0
    assert right_only["aurc_mean"] == 0.0
    wrong_only = summary([0.6, 0.7], [0, 0])
    assert wrong_only["average_precision_correct"] is None
    assert wrong_only["aurc_mean"] == 1.0
    assert summary([1.0], [1])["spiegelhalter_z"] is None
    assert summary([0.7], [1])["aurc_trapezoid_normalised"] is None
    assert summary([0.7], [1])["ce_l2_debiased_equal_mass_10"] is None


def test_unknown_rows_are_left_out_and_counted() -> None:
    c, y = sample(50, 9)
    got = summary(np.append(c, [np.nan, 0.4]), np.append(y, [1, np.nan]))
    assert got.pop("n_unknown") == 2
    plain = summary(c, y)
    assert plain.pop("n_unknown") == 0
    assert got == plain


def test_the_likelihood_of_a_certain_error_is_finite() -> None:
    assert summary([1.0, 0.9], [0, 1])["nll"] == pytest.approx(log_loss([0, 1], [1.0, 0.9]))


@pytest.mark.parametrize("seed", range(30))
def test_every_metric_is_a_finite_number_or_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    c = rng.choice([0.0, 1.0, 0.1, 0.3, 0.5, rng.random()], n) if seed % 3 else rng.random(n)
    got = summary(c, (rng.random(n) < rng.choice([0.0, 0.2, 0.9, 1.0])).astype(float))
    assert all(v is None or np.isfinite(v) for v in got.values())


def test_values_outside_the_unit_interval_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        summary([0.5, 1.01], [0, 1])


@CASES
def test_intervals_hold_their_value_and_state_what_they_are(c: Floats, y: Floats) -> None:
    for name, entry in with_intervals(c, y, seed=1).items():
        assert set(entry) == {"value", "lower", "upper", "level", "n", "method"}
        assert entry["level"] == 0.9
        assert entry["n"] == len(y)
        if entry["lower"] is None:
            assert entry["method"] is None
        elif not name.startswith(("average", "aurc", "e_aurc", "corp", "nll")):
            assert entry["lower"] - 1e-9 <= entry["value"] <= entry["upper"] + 1e-9, name


def test_replicates_that_all_agree_give_no_interval() -> None:
    """Seven rows in perfect order are no proof that the order is perfect; counted shares keep their exact interval."""
    got = with_intervals([0.1, 0.2, 0.6, 0.7, 0.8, 0.9, 0.95], [0, 0, 1, 1, 1, 1, 1], seed=1)
    assert got["auroc"]["value"] == 1
    right = with_intervals([0.6, 0.7, 0.8, 0.9], [1, 1, 1, 1], seed=1)
    assert right["aurc_mean"]["value"] == 0
    for entry in (got["auroc"], right["aurc_mean"]):
        assert (entry["lower"], entry["upper"], entry["method"]) == (None, None, None)
    assert right["accuracy"]["lower"] == pytest.approx(0.05 ** (1 / 4))
    assert right["brier"]["lower"] < right["brier"]["value"]


def test_accuracy_has_the_exact_interval() -> None:
    c, y = sample(90, 10)
    peer = binomtest(int(y.sum()), 90).proportion_ci(0.9, method="exact")
    got = with_intervals(c, y, seed=1)["accuracy"]
    assert (got["lower"], got["upper"]) == pytest.approx((peer.low, peer.high))


@pytest.mark.parametrize("arrays", [([], []), ([0.5], [1.0]), ([0.5, 0.5], [1.0, 1.0]), ([0.1, 0.9], [0.0, 1.0])])
def test_intervals_of_hardly_any_rows_raise_nothing(arrays: tuple[list[float], list[float]]) -> None:
    assert with_intervals(*arrays, seed=1)["brier"]["n"] == len(arrays[0])


@pytest.mark.slow
def test_a_bootstrap_over_cells_has_the_spread_of_a_bootstrap_over_rows() -> None:
    c, y = sample(300, 11, digits=2)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 300, 300) for _ in range(600)]
    peers: dict[str, Callable[[Floats, Floats], float]] = {"brier": brier_score_loss, "auroc": roc_auc_score}
    got = with_intervals(c, y, replicates=3000, seed=2)
    for name, peer in peers.items():
        lower, upper = np.quantile([peer(y[i], c[i]) for i in rows], [0.05, 0.95])
        width = upper - lower
        assert got[name]["lower"] == pytest.approx(lower, abs=0.12 * width)
        assert got[name]["upper"] == pytest.approx(upper, abs=0.12 * width)


@pytest.mark.slow
def test_copies_of_rows_widen_the_intervals_instead_of_narrowing_them() -> None:
    c, y = sample(150, 14, digits=2)
    c[3] = np.nan
    group = np.repeat(np.arange(150).astype(str), 8)
    alone = with_intervals(c, y, replicates=3000, seed=5)
    copied = with_intervals(np.repeat(c, 8), np.repeat(y, 8), replicates=3000, seed=6, group=group)
    single = with_intervals(c, y, replicates=3000, seed=5, group=np.arange(150).astype(str))
    assert single == alone
    assert copied["accuracy"]["method"] == "Clopper-Pearson at the groups' spread"
    for name in ("nll", "brier", "auroc", "corp_brier_uncertainty"):
        width = alone[name]["upper"] - alone[name]["lower"]
        for end in ("lower", "upper"):
            assert copied[name][end] == pytest.approx(alone[name][end], abs=0.12 * width), name


@pytest.mark.slow
def test_merged_cells_move_no_limit_noticeably(monkeypatch: pytest.MonkeyPatch) -> None:
    c, y = sample(4000, 12)
    merged = with_intervals(c, y, replicates=2000, seed=3)
    monkeypatch.setattr("pipeline.decide.metrics.REPLICATE_CELLS", 10**9)
    exact = with_intervals(c, y, replicates=300, seed=4)
    for name in ("nll", "brier", "auroc", "aurc_mean", "ece_equal_width_10", "corp_brier_uncertainty"):
        width = exact[name]["upper"] - exact[name]["lower"]
        assert merged[name]["lower"] == pytest.approx(exact[name]["lower"], abs=0.15 * width), name
        assert merged[name]["upper"] == pytest.approx(exact[name]["upper"], abs=0.15 * width), name


@pytest.mark.slow
@pytest.mark.parametrize("n", [300, 1000])
def test_intervals_cover_the_truth_about_as_often_as_they_say(n: int) -> None:
    truth = summary(*sample(400_000, 13))
    names = ("accuracy", "nll", "brier", "auroc", "aurc_mean", "e_aurc", "corp_brier_uncertainty")
    biased = ("ece_equal_width_10", "ece_equal_mass_10", "corp_brier_miscalibration", "corp_brier_discrimination")
    hits = dict.fromkeys(names + biased, 0)
    for seed in range(300):
        got = with_intervals(*sample(n, 1000 + seed), replicates=200, seed=seed)
        for name in hits:
            hits[name] += got[name]["lower"] <= truth[name] <= got[name]["upper"]
    for name, count in hits.items():
        assert count / 300 > (0.84 if name in names else 0.75), (name, count)
