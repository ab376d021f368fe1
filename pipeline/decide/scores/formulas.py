"""Metric formulas on counts per distinct confidence, for one table or for many bootstrap tables at once.

Throughout: `value` (k,) ascending confidences; `n` and `right` (r, k) rows and right rows per confidence in r tables;
results (r,), NaN where a table does not define them. `metrics` explains each name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # a part of it loads when it is first used
from scipy.special import xlogy

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.scores.value_counts import Cells

EPS = float(np.finfo(np.float64).eps)  # NLL clips here, as scikit-learn does


@dataclass(frozen=True)
class Bins:
    """A partition of ascending cells into runs: `starts` (b,) index of each non-empty bin's first cell."""

    starts: Ints

    @classmethod
    def equal_width(cls, cells: Cells, count: int) -> Bins:
        """Bins [i/count, (i+1)/count), the last one closed. Edges are correctly rounded quotients."""
        index = np.searchsorted(np.arange(1, count) / count, cells.value, side="right")
        return cls._runs(index)

    @classmethod
    def equal_mass(cls, cells: Cells, count: int) -> Bins:
        """Bins of n/count rows, the first n mod count one larger; a tie block goes where its middle row falls."""
        total = int(cells.total)
        size = np.full(count, total // count) + (np.arange(count) < total % count)
        middle = np.cumsum(cells.n) - cells.n / 2
        return cls._runs(np.searchsorted(np.cumsum(size)[:-1], middle, side="right"))

    @classmethod
    def _runs(cls, index: Ints) -> Bins:
        return cls(np.concatenate([[0], np.flatnonzero(np.diff(index)) + 1]).astype(np.int64))

    def sums(self, per_cell: Floats) -> Floats:
        """Sums per bin along the last axis."""
        return np.add.reduceat(per_cell, self.starts, axis=-1)


def estimates(value: Floats, n: Floats, right: Floats, bins: dict[str, Bins]) -> dict[str, Floats]:
    """All metrics with a closed form, by name; see the module for shapes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total, good = n.sum(axis=1), right.sum(axis=1)
        out = {"accuracy": good / total, "mean_confidence": n @ value / total}
        p = np.clip(value, EPS, 1 - EPS)
        out["nll"] = -(right @ np.log(p) + (n - right) @ np.log1p(-p)) / total
        out["brier"] = (right @ (1 - value) ** 2 + (n - right) @ value**2) / total
        out |= _ranking(n, right, total, good)
        for name, partition in bins.items():
            out |= _binned(name, partition, value, n, right, total)
    return out


def _ranking(n: Floats, right: Floats, total: Floats, good: Floats) -> dict[str, Floats]:
    wrong = n - right
    bad = total - good
    right_above = good[:, None] - np.cumsum(right, axis=1)
    auroc = (wrong * (right_above + right / 2)).sum(axis=1) / (good * bad)
    out = {"auroc": auroc, "prr_errors_over_population": 2 * auroc - 1}
    wrong_above = bad[:, None] - np.cumsum(wrong, axis=1)
    above = right_above + wrong_above
    recall_step = right / good[:, None]
    out["average_precision_correct"] = np.nansum(recall_step * (right_above + right) / (above + n), axis=1)
    # ranked by error, the least confident come first: a block's precision counts everything up to and including it
    below = np.cumsum(n, axis=1)
    out["average_precision_error"] = np.nansum(wrong / bad[:, None] * np.cumsum(wrong, axis=1) / below, axis=1)
    for name, needed in (("correct", good), ("error", bad)):
        out[f"average_precision_{name}"] = np.where(needed > 0, out[f"average_precision_{name}"], np.nan)
    return out | _risk_coverage(n, wrong, above, wrong_above, total, bad)


def _risk_coverage(
    n: Floats, wrong: Floats, above: Floats, wrong_above: Floats, total: Floats, bad: Floats
) -> dict[str, Floats]:
    """Areas under the risk-coverage curve. Inside a tie block errors are expected to rise linearly:

    sum over j = 1..m of (E + e j/m) / (s + j) = (E - s e/m) (H(s+m) - H(s)) + e, with H the harmonic numbers,
    for a block of m rows with e errors below s surer rows with E errors.
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, int(total.max()) + 1))])
    rate = np.divide(wrong, n, out=np.zeros_like(wrong), where=n > 0)
    span = harmonic[(above + n).astype(np.int64)] - harmonic[above.astype(np.int64)]
    aurc = ((wrong_above - above * rate) * span + wrong).sum(axis=1) / total
    good = total - bad
    optimal = (bad - good * (harmonic[total.astype(np.int64)] - harmonic[good.astype(np.int64)])) / total
    top = n.shape[1] - 1 - np.argmax(n[:, ::-1] > 0, axis=1)
    first, last = rate[np.arange(len(n)), top], bad / total
    return {
        "aurc_mean": aurc,
        "aurc_optimal_mean": optimal,
        "aurc_optimal_asymptotic r+(1-r)ln(1-r)": last + xlogy(1 - last, 1 - last),
        "e_aurc": aurc - optimal,
        "aurc_trapezoid_normalised": (total * aurc - (first + last) / 2) / (total - 1),
    }


def _binned(name: str, bins: Bins, value: Floats, n: Floats, right: Floats, total: Floats) -> dict[str, Floats]:
    size, hits, sure = bins.sums(n), bins.sums(right), bins.sums(n * value)
    share = size / total[:, None]
    gap = np.divide(hits - sure, size, out=np.zeros_like(size), where=size > 0)
    square = (share * gap**2).sum(axis=1)
    out = {f"ece_{name}": (share * np.abs(gap)).sum(axis=1)}
    if name.startswith("equal_width"):
        return out | {f"mce_{name}": np.abs(gap).max(axis=1), f"rmsce_{name}": np.sqrt(square)}
    hit_rate = np.divide(hits, size, out=np.zeros_like(size), where=size > 0)
    noise = share * hit_rate * (1 - hit_rate) / (size - 1)
    debiased = square - np.where(size > 1, noise, 0.0).sum(axis=1)
    debiased[(size == 1).any(axis=1)] = np.nan  # a bin with one row has no variance to subtract
    return out | {f"ce_l2_plugin_{name}": np.sqrt(square), f"ce_l2_debiased_{name}": np.sqrt(np.maximum(debiased, 0.0))}


def corp(value: Floats, n: Floats, right: Floats) -> dict[str, Floats]:
    """CORP decompositions of Brier score and log loss, from one isotonic fit per table."""
    names = [
        f"corp_{s}_{part}" for s in ("brier", "logloss") for part in ("miscalibration", "discrimination", "uncertainty")
    ]
    out = {name: np.full(len(n), np.nan) for name in names}
    for i in range(len(n)):
        used = n[i] > 0
        if not used.any():
            continue
        v, m, k = value[used], n[i, used], right[i, used]
        fitted = np.asarray(scipy.optimize.isotonic_regression(k / m, weights=m).x)
        base = np.full(len(v), k.sum() / m.sum())
        for score, loss in (("brier", _brier), ("logloss", _log_loss)):
            raw, recalibrated, constant = (loss(q, m, k) for q in (v, fitted, base))
            out[f"corp_{score}_miscalibration"][i] = raw - recalibrated
            out[f"corp_{score}_discrimination"][i] = constant - recalibrated
            out[f"corp_{score}_uncertainty"][i] = constant
    return out


def _brier(p: Floats, n: Floats, right: Floats) -> float:
    return float((right * (1 - p) ** 2 + (n - right) * p**2).sum() / n.sum())


def _log_loss(p: Floats, n: Floats, right: Floats) -> float:
    q = np.clip(p, EPS, 1 - EPS)
    return float(-(right * np.log(q) + (n - right) * np.log1p(-q)).sum() / n.sum())
