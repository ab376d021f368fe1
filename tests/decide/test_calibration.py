"""Fitting calibrators: against peers, against known truths, and where there is too little to fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from decide.evaluated import evaluated
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from cascade_threshold.calibrator import KINDS, Calibrator
from pipeline.decide import calibration, metrics
from pipeline.decide.calibration import apply, clipped, fit, readings
from pipeline.decide.scores.value_counts import Cells

Floats = np.ndarray

# P(right | log-odds of the confidence shown); see the populations of the threshold simulations
TRUTHS = {
    "overconfident, Platt is the truth": lambda z: expit(0.3 + 0.55 * z),
    "saturates at .972": lambda z: 0.25 + 0.722 * expit(1.1 * (z - 1)),
    "the surest are worse": lambda z: expit(0.3 + 0.55 * z) - 0.07 * expit(4 * (z - 7.6)),
    "weak and very overconfident": lambda z: 0.22 + 0.765 * expit(1.3 * (z - 4.9)),
}


def draw(truth: str, n: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Confidence, correctness and true probability of n rows."""
    rng = np.random.default_rng(seed)
    z = np.where(rng.random(n) < 0.7, rng.normal(6, 1.6, n), rng.normal(1.2, 1.2, n))
    z = np.where(z < -1, -2 - z, z)
    p = TRUTHS[truth](z)
    return expit(z), (rng.random(n) < p).astype(float), p


def nll(q: Floats, y: Floats) -> float:
    return float(-np.mean(y * np.log(q) + (1 - y) * np.log1p(-q)))


def excess(p: Floats, q: Floats) -> float:
    """Mean Kullback-Leibler divergence in thousandths of a nat."""
    return float(1e3 * np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))))


def clipped_logit(c: Floats) -> Floats:
    return logit(np.clip(c, 1e-6, 1 - 1e-6))


def test_platt_is_the_unpenalised_logistic_regression_on_the_logit() -> None:
    c, y, _ = draw("overconfident, Platt is the truth", 800, 1)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(clipped_logit(c)[:, None], y)
    got = fit(c, y, kind="platt", seed=0)
    assert got.numbers["slope"] == pytest.approx(peer.coef_[0, 0], abs=1e-4)
    assert got.numbers["intercept"] == pytest.approx(peer.intercept_[0], abs=1e-4)


def test_temperature_minimises_the_nll_over_one_number() -> None:
    c, y, _ = draw("saturates at .972", 700, 2)
    peer = minimize_scalar(lambda s: nll(expit(s * clipped_logit(c)), y), bounds=(0, 5), method="bounded")
    assert fit(c, y, kind="temperature", seed=0).numbers["slope"] == pytest.approx(peer.x, abs=1e-4)


def test_beta_minimises_the_nll_with_two_slopes_that_are_not_negative() -> None:
    c, y, _ = draw("saturates at .972", 900, 3)
    q = np.clip(c, 1e-6, 1 - 1e-6)

    def loss(w: Floats) -> float:
        return nll(expit(w[0] * np.log(q) - w[1] * np.log1p(-q) + w[2]), y)

    peer = minimize(loss, [1.0, 1.0, 0.0], bounds=[(0, None), (0, None), (None, None)], tol=1e-12)
    got = fit(c, y, kind="beta", seed=0)
    assert nll(apply(got, c), y) <= peer.fun + 1e-7
    assert min(got.numbers["a"], got.numbers["b"]) >= 0


def test_isotonic_is_scikit_learns_fit_kept_off_zero_and_one() -> None:
    c, y, _ = draw("the surest are worse", 600, 4)
    c = np.round(c, 2)  # ties
    peer = IsotonicRegression(out_of_bounds="clip").fit(c, y)
    grid = np.linspace(0, 1, 333)
    assert apply(fit(c, y, kind="isotonic", seed=0), grid) == pytest.approx(
        np.clip(peer.predict(grid), 1 / 602, 601 / 602)
    )


def test_the_spline_reaches_the_optimum_of_its_bounded_problem() -> None:
    c, y, _ = draw("weak and very overconfident", 500, 5)
    cells = calibration.Cells.of(c, y)
    design = calibration._Design.of("spline", cells, 1.0)
    x = design.features(cells.value)

    def loss(w: Floats) -> float:
        f = x @ w
        ridge = calibration.RIDGE * np.sum((w - design.start) ** 2)
        return float(np.sum(cells.n * np.logaddexp(0, f) - cells.right * f) + (w @ design.penalty @ w + ridge) / 2)

    bounds = [(None if np.isinf(b) else b, None) for b in design.lower]
    peer = minimize(loss, design.start, bounds=bounds, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-14})
    ours = design.coefficients(cells)
    assert loss(ours) <= peer.fun + 1e-5
    assert apply(design.fit(cells), cells.value) == pytest.approx(expit(x @ ours), abs=1e-12)


def test_equal_slopes_make_the_spline_a_straight_line() -> None:
    c, y, _ = draw("saturates at .972", 400, 6)
    cells = calibration.Cells.of(c, y)
    design = calibration._Design.of("spline", cells, 1.0)
    z = clipped_logit(cells.value)
    assert design.features(cells.value) @ design.start == pytest.approx(z, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_ever_turns_the_order_round(kind: str) -> None:
    rng = np.random.default_rng(7)
    c = rng.random(400)
    y = (rng.random(400) > c).astype(float)  # the surer, the worse
    q = apply(fit(c, y, kind=kind, seed=0), np.linspace(0, 1, 999))
    assert np.all(np.diff(q) >= -1e-15)
    assert np.all((q >= 0) & (q <= 1))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "none"])
def test_perfectly_separated_rows_still_have_a_finite_fit(kind: str) -> None:
    c = np.linspace(0.05, 0.95, 60)
    calibrator = fit(c, (c > 0.5).astype(float), kind=kind, seed=0)
    q = apply(calibrator, c)
    assert np.all(np.isfinite(q))
    assert q[0] < 0.1 < 0.9 < q[-1]


@pytest.mark.parametrize("kind", ["auto", *KINDS])
@pytest.mark.parametrize("n", [0, 1, 5, 40])
def test_one_class_or_hardly_any_rows_is_a_stated_fallback(kind: str, n: int) -> None:
    calibrator = fit(np.linspace(0.5, 0.9, n), np.ones(n), kind=kind, seed=0)
    assert calibrator.kind == "none"
    assert kind == "none" or f"{n} graded rows" in (calibrator.reason or "")


def test_auto_is_platt_where_rows_or_errors_are_few_and_says_so() -> None:
    c, y, _ = draw("overconfident, Platt is the truth", 299, 8)
    few_rows = fit(c, y, seed=0)
    assert few_rows.kind == "platt"
    assert "299 rows" in (few_rows.reason or "")
    c, y = np.tile(c, 4), np.ones(4 * 299)
    y[:29] = 0
    few_errors = fit(c, y, seed=0)
    assert few_errors.kind == "platt"
    assert "29" in (few_errors.reason or "")


def test_unknown_rows_are_left_out() -> None:
    c, y, _ = draw("saturates at .972", 400, 9)
    with_gaps = fit(np.append(c, [np.nan, 0.5]), np.append(y, [1.0, np.nan]), kind="platt", seed=0)
    assert with_gaps == fit(c, y, kind="platt", seed=0)


@pytest.mark.parametrize(("c", "y"), [([0.5, 1.5], [0, 1]), ([0.5, 0.6], [0, 2]), ([0.5], [0, 1])])
def test_impossible_values_are_refused(c: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match=r"confidence|correctness"):
        fit(c, y, seed=0)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="magic"):
        fit([0.5] * 20, [0, 1] * 10, kind="magic", seed=0)


def test_the_selection_table_is_reproduced_by_an_own_cross_validation() -> None:
    c, y, _ = draw("saturates at .972", 600, 10)
    chosen = fit(c, y, seed=3)
    table = {row["kind"]: row["cv_nll"] for row in chosen.selection}
    assert set(table) == {"temperature", "platt", "beta", "spline"}
    assert chosen.kind == min(table, key=table.__getitem__)
    order = np.argsort(c)
    c, y = c[order], y[order]
    fold = np.random.default_rng(3).permutation(np.arange(600) % 5)
    held = [
        nll(apply(fit(c[fold != f], y[fold != f], kind="platt", seed=0), c[fold == f]), y[fold == f]) for f in range(5)
    ]
    assert table["platt"] == pytest.approx(np.mean(held), abs=1e-9)


@pytest.mark.parametrize(
    ("truth", "at_most"),
    [
        # twice the figures of an implementation with scikit-learn's unconstrained spline, 30 repeats
        ("overconfident, Platt is the truth", 5.2),
        ("saturates at .972", 8.0),
        ("the surest are worse", 10.6),
        ("weak and very overconfident", 7.0),
    ],
)
def test_auto_comes_close_to_the_true_probability(truth: str, at_most: float) -> None:
    found = []
    for seed in range(3):
        c, y, _ = draw(truth, 1000, 100 + seed)
        fresh, _, p = draw(truth, 5000, 200 + seed)
        found.append(excess(p, apply(fit(c, y, seed=seed), fresh)))
    assert np.mean(found) < at_most


@pytest.mark.slow
def test_merging_neighbours_changes_a_fit_by_less_than_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    c, y, _ = draw("weak and very overconfident", 20_000, 11)
    grid = np.linspace(0.1, 0.9999, 200)
    merged = apply(fit(c, y, kind="spline", seed=0), grid)
    monkeypatch.setattr(calibration, "MOST_CELLS", 10**9)
    assert merged == pytest.approx(apply(fit(c, y, kind="spline", seed=0), grid), abs=1e-3)


def test_a_table_and_production_agree_to_the_last_bit() -> None:
    c, y, _ = draw("weak and very overconfident", 1500, 12)
    for kind in KINDS:
        calibrator = fit(c, y, kind=kind, seed=0)
        table = apply(calibrator, np.append(c, np.nan))
        assert np.isnan(table[-1])
        production = Calibrator.from_numbers(calibrator.to_numbers())
        assert table[:-1].tolist() == [production(v) for v in c.tolist()]


def test_rows_outside_the_limits_of_the_logit_are_counted() -> None:
    assert clipped([0.0, 1e-7, 1e-6, 0.5, 1 - 1e-6, 1.0, np.nan]) == 3


def test_the_same_seed_gives_the_same_calibrator() -> None:
    c, y, _ = draw("the surest are worse", 500, 13)
    assert fit(c, y, seed=5) == fit(c, y, seed=5)


def test_the_order_of_rows_does_not_matter() -> None:
    c, y, _ = draw("saturates at .972", 600, 14)
    c = np.round(c, 2)
    other = np.random.default_rng(0).permutation(600)
    assert fit(c[other], y[other], seed=5).to_numbers() == fit(c, y, seed=5).to_numbers()


@pytest.mark.parametrize("seed", range(12))
def test_atoms_certainties_and_lopsided_classes_are_fitted_without_complaint(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(10, 400))
    atoms = rng.choice(np.r_[0, 1, 1e-9, 1 - 1e-9, 0.5, rng.random(3)], int(rng.integers(1, 6)))
    c = rng.choice(atoms, n) if seed % 2 else rng.random(n) ** float(rng.choice([0.01, 1, 20]))
    y = (rng.random(n) < rng.choice([0.05, 0.5, 0.98])).astype(float)
    for kind in ("auto", *KINDS):
        q = apply(fit(c, y, kind=kind, seed=seed), np.linspace(0, 1, 60))
        assert np.all((q >= 0) & (q <= 1)), kind
        assert np.all(np.diff(q) >= -1e-12), kind


def test_without_fit_rows_a_row_is_read_by_calibrators_that_saw_nothing_of_its_group() -> None:
    rows = evaluated(600, shares=(0.0, 1.0, 0.0), groups=150)
    whole = fit(rows.confidence, rows.cheap_correct, kind="isotonic", seed=1)
    before = readings(whole, rows, seed=1)
    mine = rows.group == rows.group[7]
    turned = replace(rows, cheap_correct=np.where(mine, 1 - rows.cheap_correct, rows.cheap_correct))
    after = readings(whole, turned, seed=1)
    assert mine.sum() > 1
    assert np.array_equal(after[mine], before[mine])
    assert not np.array_equal(after[~mine], before[~mine])
    order = np.random.default_rng(2).permutation(600)
    assert np.array_equal(readings(whole, rows.take(order), seed=1), before[order])


def test_with_fit_rows_every_row_is_read_by_the_calibrator_that_production_has() -> None:
    rows = evaluated(600)
    whole = fit(rows.of("fit").confidence, rows.of("fit").cheap_correct, kind="platt", seed=1)
    assert np.array_equal(readings(whole, rows, seed=1), apply(whole, rows.confidence))


def test_a_curve_through_its_own_points_looks_calibrated_and_a_cross_fitted_one_tells_the_truth() -> None:
    """An isotonic fit read on its own rows has no miscalibration at all, whatever the rows are."""
    rows = evaluated(300, shares=(0.0, 1.0, 0.0))
    whole = fit(rows.confidence, rows.cheap_correct, kind="isotonic", seed=1)
    own = metrics.summary(apply(whole, rows.confidence), rows.cheap_correct)["corp_brier_miscalibration"]
    crossed = metrics.summary(readings(whole, rows, seed=1), rows.cheap_correct)["corp_brier_miscalibration"]
    assert own < 1e-4
    assert crossed > 0.003


def test_counts_give_the_rows_back_in_order() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.choice([0.0, 0.25, 0.5, 1.0], 500), (rng.random(500) < 0.6).astype(float)
    p[::50], y[::70] = np.nan, np.nan
    kept = ~np.isnan(p) & ~np.isnan(y)
    order = np.lexsort((y[kept], p[kept]))
    value, correct = Cells.of(p, y).rows()
    np.testing.assert_array_equal(value, p[kept][order])
    np.testing.assert_array_equal(correct, y[kept][order])
