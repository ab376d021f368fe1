"""The table behind the reliability diagram."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.isotonic import IsotonicRegression

from pipeline.decide.calibration import apply, fit
from pipeline.decide.scores.reliability import COLUMNS, reliability

Floats = np.ndarray


def sample(n: int, seed: int, digits: int = 16) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    c = np.round(rng.uniform(0.3, 1, n), digits)
    return c, (rng.random(n) < c**2).astype(float)


@pytest.mark.parametrize("digits", [16, 2])
def test_bins_partition_the_rows_and_never_split_a_tie(digits: int) -> None:
    c, y = sample(503, 1, digits)
    table = reliability(np.append(c, np.nan), np.append(y, 1.0), seed=0, split="test")
    assert list(table.columns) == COLUMNS
    bins = table[table.kind == "bin"]
    assert bins.n.sum() == 503
    assert bins.n_correct.sum() == y.sum()
    assert np.all(bins.upper_edge.to_numpy()[:-1] < bins.lower_edge.to_numpy()[1:])
    for row in bins.itertuples():
        inside = (c >= row.lower_edge) & (c <= row.upper_edge)
        assert row.n == inside.sum()
        assert row.accuracy == pytest.approx(y[inside].mean())
        assert row.mean_confidence == pytest.approx(c[inside].mean())
        wilson = binomtest(int(row.n_correct), int(row.n)).proportion_ci(0.9, method="wilson")
        assert (row.accuracy_lower, row.accuracy_upper) == pytest.approx((wilson.low, wilson.high))


def test_the_curve_is_the_isotonic_fit() -> None:
    c, y = sample(400, 2, digits=2)
    steps = reliability(c, y, seed=0).query("kind == 'corp'")
    peer = IsotonicRegression().fit(c, y)
    assert np.all(np.diff(steps.accuracy) > 0)
    for row in steps.itertuples():
        assert peer.predict([row.lower_edge, row.upper_edge]) == pytest.approx([row.accuracy] * 2)


def test_calibrated_readings_are_a_stage_of_their_own() -> None:
    c, y = sample(600, 3)
    calibrator = fit(c, y, kind="spline", seed=0)
    after = reliability(apply(calibrator, c), y, stage="after", seed=0)
    assert set(after.stage) == {"after"}
    assert set(reliability(c, y, seed=0).stage) == {"before"}


def test_an_interval_at_99_per_cent_is_that_of_its_level() -> None:
    c, y = sample(600, 3)
    wide, usual = reliability(c, y, seed=0, level=0.99), reliability(c, y, seed=0)
    bins = wide[wide.kind == "bin"].iloc[0]
    peer = binomtest(int(bins.n_correct), int(bins.n)).proportion_ci(0.99, method="wilson")
    assert (bins.accuracy_lower, bins.accuracy_upper) == pytest.approx((peer.low, peer.high))
    assert (wide.band_lower <= usual.band_lower).all()
    assert (wide.band_upper >= usual.band_upper).all()


def test_a_perfectly_calibrated_confidence_stays_in_its_band_and_another_does_not() -> None:
    inside = outside = rows = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        c = rng.uniform(0.4, 1, 800)
        good = reliability(c, (rng.random(800) < c).astype(float), seed=seed)
        bad = reliability(c, (rng.random(800) < c - 0.15).astype(float), seed=seed)
        inside += int(((good.band_lower <= good.accuracy) & (good.accuracy <= good.band_upper)).sum())
        outside += int(((bad.accuracy < bad.band_lower) | (bad.accuracy > bad.band_upper)).sum()) / len(bad) > 0.5
        rows += len(good)
    assert inside / rows > 0.8
    assert outside == 8


def test_no_rows_make_an_empty_table() -> None:
    empty = reliability([], [], seed=0)
    assert list(empty.columns) == COLUMNS
    assert len(empty) == 0


def test_the_same_seed_draws_the_same_band() -> None:
    c, y = sample(300, 4)
    assert reliability(c, y, seed=9).equals(reliability(c, y, seed=9))
