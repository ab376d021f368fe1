"""Reliability: the table behind a reliability diagram, with and without bins."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy  # a part of it loads when it is first used
from scipy.special import ndtri

from pipeline.decide.arrays import Floats
from pipeline.decide.scores.formulas import Bins
from pipeline.decide.scores.value_counts import Cells
from pipeline.decide.testing.intervals import wilson

BINS = 10
SIMULATIONS = 1000
SIMULATION_CELLS = 1000

COLUMNS = [
    "split",
    "stage",
    "kind",
    "lower_edge",
    "upper_edge",
    "mean_confidence",
    "accuracy",
    "n",
    "n_correct",
    "accuracy_lower",
    "accuracy_upper",
    "band_lower",
    "band_upper",
]


def reliability(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    stage: str = "before",
    seed: int,
    split: str = "all",
    level: float = 0.9,
) -> pd.DataFrame:
    """One row per bin and per step of the CORP curve, of the confidence itself or of its calibrated reading.

    `confidence`, `correct`: shape (n,), NaN rows are left out. Columns:

    split            as given
    stage            as given: before, where `confidence` is the signal's · after, where it is its calibrated reading
    kind             bin: ten bins of equal size that never split a tie · corp: a step of the isotonic fit (CORP)
    lower_edge, upper_edge   smallest and largest confidence (or reading) in it
    mean_confidence, accuracy, n, n_correct   of its rows
    accuracy_lower, accuracy_upper   Wilson interval of a bin's accuracy at `level`; NaN for corp
    band_lower, band_upper   where the accuracy (bin) or the curve at the mean confidence (corp) would lie in `level` of
                     1,000 simulated sets, were the confidence perfectly calibrated

    Above 1,000 distinct confidences the simulations use cells merged by rank.
    """
    cells = Cells.of(np.asarray(confidence, dtype=np.float64), correct)
    if len(cells) == 0:
        return pd.DataFrame(columns=COLUMNS)
    bin_table, corp_table = _runs(cells, Bins.equal_mass(cells, BINS)), _runs(cells, _steps(cells))
    rng = np.random.default_rng(seed)
    in_bins, in_curve = _simulate(cells.merged(SIMULATION_CELLS), bin_table, corp_table, level, rng)
    lower, upper = wilson(bin_table["n_correct"], bin_table["n"], float(ndtri((1 + level) / 2)))
    bin_table |= {"kind": "bin", "accuracy_lower": lower, "accuracy_upper": upper}
    bin_table |= {"band_lower": in_bins[0], "band_upper": in_bins[1]}
    corp_table |= {"kind": "corp", "accuracy_lower": np.nan, "accuracy_upper": np.nan}
    corp_table |= {"band_lower": in_curve[0], "band_upper": in_curve[1]}
    frame = pd.concat([pd.DataFrame(table) for table in (bin_table, corp_table)], ignore_index=True)
    frame["split"], frame["stage"] = split, stage
    return frame[COLUMNS].astype({"n": "int64", "n_correct": "int64"})


def _steps(cells: Cells) -> Bins:
    fit = scipy.optimize.isotonic_regression(cells.right / cells.n, weights=cells.n)
    return Bins(np.asarray(fit.blocks[:-1], dtype=np.int64))


def _runs(cells: Cells, bins: Bins) -> dict[str, Any]:
    n, right = bins.sums(cells.n), bins.sums(cells.right)
    ends = np.append(bins.starts[1:], len(cells)) - 1
    return {
        "lower_edge": cells.value[bins.starts],
        "upper_edge": cells.value[ends],
        "mean_confidence": bins.sums(cells.n * cells.value) / n,
        "accuracy": right / n,
        "n": n,
        "n_correct": right,
    }


def _simulate(
    cells: Cells, bin_table: dict[str, Any], corp_table: dict[str, Any], level: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Consistency bands, shape (2, rows) each: redraw correctness from the confidence itself, refit, take quantiles."""
    tails = [(1 - level) / 2, (1 + level) / 2]
    right = rng.binomial(cells.n.astype(np.int64), cells.value, size=(SIMULATIONS, len(cells)))
    at = corp_table["mean_confidence"]
    curves = np.empty((SIMULATIONS, len(at)))
    for i, drawn in enumerate(right / cells.n):
        curves[i] = np.interp(at, cells.value, scipy.optimize.isotonic_regression(drawn, weights=cells.n).x)
    size = bin_table["n"].astype(np.int64)
    binned = rng.binomial(size, np.clip(bin_table["mean_confidence"], 0, 1), size=(SIMULATIONS, len(size))) / size
    return np.quantile(binned, tails, axis=0), np.quantile(curves, tails, axis=0)
