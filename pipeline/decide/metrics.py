"""Metrics: how well a confidence separates right from wrong answers, and how well it is calibrated.

Everything is computed from counts per distinct confidence, so rows of equal confidence are one block and their order never
matters. A metric that the rows cannot support (one class only, too few rows) is None, never 0.

    accuracy, mean_confidence        shares
    nll, brier                       mean negative log-likelihood (nat; clipped at 2.2e-16) and squared error
    auroc                            P(a right answer is surer than a wrong one), ties one half
    prr_errors_over_population       prediction rejection ratio with errors over the population; equals 2 auroc - 1
    average_precision_correct/_error step-wise area under precision and recall, of right and of wrong answers
    aurc_mean                        mean over k of the expected error among the k surest (Geifman and El-Yaniv 2017)
    aurc_optimal_mean, e_aurc        the smallest possible one with these errors, and the excess over it
    aurc_trapezoid_normalised        trapezoid form over k = 1..n, divided by 1 - 1/n
    ece_, mce_, rmsce_equal_width_B  mean, largest, root mean square |accuracy - confidence| over B bins [lo, hi)
    ece_equal_mass_B                 the same mean over B bins of equal size that never split a tie
    ce_l2_plugin_equal_mass_B        root mean square gap over those bins; biased upward
    ce_l2_debiased_equal_mass_B      minus each bin's own sampling variance, not below 0 (Kumar, Liang and Ma 2019)
    corp_brier_, corp_logloss_       miscalibration, discrimination, uncertainty from the isotonic fit, which needs no bins:
                                     score = miscalibration - discrimination + uncertainty (Dimitriadis et al. 2021)
    smece, smece_width               smooth calibration error at the width equal to it (Blasiok and Nakkiran 2023)
    ks_calibration_statistic         largest cumulative gap over its standard deviation (Arrieta-Ibarra et al. 2022)
    spiegelhalter_z, spiegelhalter_p Spiegelhalter's test of calibration and its two-sided p-value (1986)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # a part of it loads when it is first used
from scipy.sparse import csr_array
from scipy.special import ndtr

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.curves.bootstrap import blocks_of, draw_blocks
from pipeline.decide.scores.formulas import Bins, corp, estimates
from pipeline.decide.scores.value_counts import Cells, known
from pipeline.decide.testing.intervals import clopper_pearson
from pipeline.decide.testing.share_interval import share_interval, student_factor

BIN_COUNTS = (10, 15)
REPLICATE_CELLS = 2000
SMECE_GRID = 4096
SLICE = 250_000
"""Numbers of a table of replicates that are held at once; a dozen tables of that size are made of them."""

PLUG_IN = ("ece_", "rmsce_", "ce_l2_", "corp_brier_mis", "corp_brier_dis", "corp_logloss_mis", "corp_logloss_dis")
"""Metrics that noise biases upwards, in the sample and again in each replicate: they get reflected (basic) intervals."""
NO_INTERVAL = ("spiegelhalter", "ks_calibration", "smece", "mce_")
"""Test statistics, and maxima over bins, which the bootstrap does not describe."""


def summary(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> dict[str, Any]:
    """Every metric of the module's table, plus n (rows used) and n_unknown (rows left out), for arrays of shape (n,).

    NaN in either array leaves the row out. A metric that is not defined on these rows is None.
    Raises ValueError for a confidence outside [0, 1].
    """
    cells = Cells.of(confidence, correct)
    out = _point(cells, _bins(cells)) if len(cells) else {}
    smooth, width = smooth_calibration_error(cells)
    out |= {"smece": smooth, "smece_width": width}
    n = int(cells.total)
    return {"n": n, "n_unknown": np.size(confidence) - n} | {k: out.get(k) for k in _NAMES}


def with_intervals(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    level: float = 0.9,
    replicates: int = 500,
    seed: int,
    group: CodedTexts | npt.NDArray[Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """`summary` with two-sided intervals: {name: {value, lower, upper, level, n, method}}.

    Accuracy: Clopper-Pearson. Others: bootstrap of rows, percentile; for metrics that noise pushes up (calibration errors,
    CORP parts) the reflected one, widened where needed to hold the value. `group` (n,): where groups have several rows,
    whole groups are resampled, and accuracy has
    the interval of `share_interval`. Above 2,000 distinct confidences, replicates
    are drawn from cells merged by rank and moved to the exact value. No interval (None) for test statistics and largest
    gaps, and where all replicates agree.
    """
    cells = Cells.of(confidence, correct)
    values = summary(confidence, correct)
    n = values.pop("n")
    values.pop("n_unknown")
    out: dict[str, dict[str, Any]] = {
        name: {"value": v, "lower": None, "upper": None, "level": level, "n": n, "method": None}
        for name, v in values.items()
    }
    if n == 0:
        return out
    small = cells.merged(REPLICATE_CELLS)
    bins = _bins(small)
    centre = _point(small, bins)
    blocks = None if group is None else _blocks(confidence, correct, group, seed)
    draw = _draw(small, confidence, correct, blocks, np.random.default_rng(seed))
    number = n if blocks is None else int(blocks.max()) + 1
    # with few groups, resamples understate the variation
    widen = 1.0 if blocks is None else float(student_factor(number, level)) * (number / max(number - 1, 1)) ** 0.5
    drawn = _replicates(small, bins, replicates, draw)
    for name, entry in out.items():
        if entry["value"] is not None and not name.startswith(NO_INTERVAL) and centre[name] is not None:
            entry |= _bootstrapped(name, entry["value"], drawn[name], centre[name], widen, level)
    if blocks is not None:
        _, right = known(confidence, correct)
        every = np.ones(len(right), dtype=bool)
        limits = share_interval(right.astype(np.float64), every, group=blocks, level=level)
        out["accuracy"] |= {"lower": limits[0], "upper": limits[1], "method": "Clopper-Pearson at the groups' spread"}
    else:
        exact = clopper_pearson(cells.right.sum(), cells.total, level)
        out["accuracy"] |= {"lower": float(exact[0]), "upper": float(exact[1]), "method": "Clopper-Pearson"}
    return out


def _bootstrapped(
    name: str, value: float, drawn: Floats, centre: float, widen: float, level: float
) -> dict[str, float | str]:
    """The interval of a metric from how far its replicates lie from the centre; nothing where they tell too little."""
    usable = drawn[~np.isnan(drawn)]
    # too few rows, or all alike: no variation among replicates does not make the value certain
    if len(usable) < len(drawn) / 2 or np.ptp(usable) <= 1e-12:
        return {}
    lower, upper = (widen * (float(q) - centre) for q in np.quantile(usable, [(1 - level) / 2, (1 + level) / 2]))
    method = "bootstrap percentile"
    if name.startswith(PLUG_IN):
        lower, upper, method = min(-upper, 0.0), max(-lower, 0.0), "bootstrap reflected"
    floor, ceiling = _RANGE.get(name, (0.0, 1.0))
    return {"lower": max(value + lower, floor), "upper": min(value + upper, ceiling), "method": method}


def smooth_calibration_error(cells: Cells, grid: int = SMECE_GRID) -> tuple[float | None, float | None]:
    """smECE at the kernel width that equals it, and that width; None without rows.

    Residuals are spread linearly on a grid over [0, 1] and smoothed by a Gaussian reflected at 0 and 1, which is a factor
    per cosine frequency. The integral of the absolute value falls with the width, so the fixed point is unique.
    """
    if len(cells) == 0:
        return None, None
    residual = (cells.right - cells.n * cells.value) / cells.total
    at = np.clip(cells.value * grid - 0.5, 0, grid - 1)
    left = np.minimum(at.astype(np.int64), grid - 2)
    share = at - left
    mass = np.bincount(left, residual * (1 - share), grid) + np.bincount(left + 1, residual * share, grid)
    spectrum, frequency = scipy.fft.dct(mass, norm="ortho"), np.pi * np.arange(grid)

    def excess(width: float) -> float:
        return (
            float(np.abs(scipy.fft.idct(spectrum * np.exp(-0.5 * (frequency * width) ** 2), norm="ortho")).sum())
            - width
        )

    narrow = 0.5 / grid
    width = narrow if excess(narrow) <= 0 else float(scipy.optimize.brentq(excess, narrow, 1.0, xtol=1e-9))
    return excess(width) + width, width


def _bins(cells: Cells) -> dict[str, Bins]:
    return {f"equal_width_{b}": Bins.equal_width(cells, b) for b in BIN_COUNTS} | {
        f"equal_mass_{b}": Bins.equal_mass(cells, b) for b in BIN_COUNTS
    }


def _point(cells: Cells, bins: dict[str, Bins]) -> dict[str, Any]:
    """Metrics of one table of counts; None where undefined."""
    table = estimates(cells.value, cells.n[None], cells.right[None], bins)
    table |= corp(cells.value, cells.n[None], cells.right[None])
    return {k: None if np.isnan(v[0]) else float(v[0]) for k, v in table.items()} | _tests(cells)


def _tests(cells: Cells) -> dict[str, float | None]:
    v, n, right = cells.value, cells.n, cells.right
    variance = float(np.sum(n * v * (1 - v)))
    weighted = float(np.sum(n * (1 - 2 * v) ** 2 * v * (1 - v)))
    z = float(np.sum((right - n * v) * (1 - 2 * v)) / np.sqrt(weighted)) if weighted > 0 else None
    return {
        "ks_calibration_statistic": float(np.abs(np.cumsum(right - n * v)).max() / np.sqrt(variance))
        if variance > 0
        else None,
        "spiegelhalter_z": z,
        "spiegelhalter_p": None if z is None else float(2 * ndtr(-abs(z))),
    }


def _blocks(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, group: CodedTexts | npt.NDArray[Any], seed: int
) -> Ints | None:
    used = ~np.isnan(np.asarray(confidence, dtype=np.float64) + np.asarray(correct, dtype=np.float64))
    return blocks_of(group[used], seed=seed)


def _draw(
    cells: Cells,
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    blocks: Ints | None,
    rng: np.random.Generator,
) -> Callable[[int], Floats]:
    """Bootstrap counts (r, 2 k) of right, then of wrong rows per cell: multinomial, or sums over whole blocks."""
    if blocks is None:
        share = np.concatenate([cells.right, cells.wrong]) / cells.total
        return lambda size: rng.multinomial(int(cells.total), share, size=size).astype(np.float64)
    p, y = known(confidence, correct)
    column = cells.index_of(p) + len(cells) * (y == 0)
    table = csr_array((np.ones(len(p)), (column, blocks)), shape=(2 * len(cells), int(blocks.max()) + 1))
    return lambda size: draw_blocks(table, size, rng)


def _replicates(
    cells: Cells, bins: dict[str, Bins], replicates: int, draw: Callable[[int], Floats]
) -> dict[str, Floats]:
    """Metrics of bootstrap tables, in slices of bounded memory."""
    k, parts = len(cells), []
    at_once = max(8, SLICE // k // 8 * 8)  # products with a vector sum rows by eights: no last bit depends on the slice
    for start in range(0, replicates, at_once):
        counts = draw(min(at_once, replicates - start))
        right = counts[:, :k]
        n = right + counts[:, k:]
        parts.append(estimates(cells.value, n, right, bins) | corp(cells.value, n, right))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


_NAMES = (
    ["accuracy", "mean_confidence", "nll", "brier", "auroc", "prr_errors_over_population"]
    + ["average_precision_correct", "average_precision_error"]
    + [
        "aurc_mean",
        "aurc_optimal_mean",
        "aurc_optimal_asymptotic r+(1-r)ln(1-r)",
        "e_aurc",
        "aurc_trapezoid_normalised",
    ]
    + [f"{name}_equal_width_{b}" for b in BIN_COUNTS for name in ("ece", "mce", "rmsce")]
    + [f"{name}_equal_mass_{b}" for b in BIN_COUNTS for name in ("ece", "ce_l2_plugin", "ce_l2_debiased")]
    + [f"corp_{s}_{part}" for s in ("brier", "logloss") for part in ("miscalibration", "discrimination", "uncertainty")]
    + ["smece", "smece_width", "ks_calibration_statistic", "spiegelhalter_z", "spiegelhalter_p"]
)
_RANGE = {
    "nll": (0.0, np.inf),
    "corp_logloss_miscalibration": (0.0, np.inf),
    "corp_logloss_discrimination": (0.0, np.inf),
    "prr_errors_over_population": (-1.0, 1.0),
}
