"""Calibration: fit the map from confidence to the probability of being right (STATISTICS: excess NLL decides).

Temperature, Platt, beta and spline are all one problem, a logistic regression with coefficients bounded below, so that
each is non-decreasing; one Newton solver serves them. Fits work on counts per distinct confidence, merged by rank above
5,000 of them, so a million rows cost little more than a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # a part of it loads when it is first used
from scipy import special

from cascade_threshold.calibrator import FORMS, KINDS, Calibrator
from cascade_threshold.logistic_form import CLIP, LogisticForm
from pipeline.decide.arrays import Floats
from pipeline.decide.predictions import Rows
from pipeline.decide.scores.value_counts import Cells
from pipeline.decide.testing.clusters import fold_of

CANDIDATES = (*FORMS, "spline")
SLOPE_CHANGE_SD = (3.0, 1.0, 0.3, 0.1)
"""Spline: prior standard deviations of the change of slope between neighbouring knots; small ones approach Platt."""
FOLDS = 5
FEWEST_ROWS, FEWEST_OF_EACH = 10, 2  # with fewer, nothing is fitted
AUTO_ROWS, AUTO_OF_EACH = 300, 30  # with fewer, `auto` is Platt
MOST_CELLS = 5000
RIDGE = 1e-4  # towards the identity; only so that perfectly separated rows have a finite fit
LEAST_SLOPE = 1e-3  # of the spline: keeps it strictly increasing


def fit(confidence: npt.ArrayLike, correct: npt.ArrayLike, *, kind: str = "auto", seed: int) -> Calibrator:
    """Fit a calibrator to rows of the fit split.

    `confidence`, `correct`: shape (n,), NaN where unknown (such rows are left out). `kind`: one of the calibrator's kinds,
    or `auto`: the smallest 5-fold cross-validated NLL among temperature, Platt, beta and spline, and Platt below 300 rows
    or 30 of either class. With one class only, or hardly any rows, the result is `none` and its `reason` says why.
    Raises ValueError on an unknown kind or impossible values.
    """
    if kind != "auto" and kind not in KINDS:
        raise ValueError(f"calibration kind {kind!r} is not one of auto, {', '.join(KINDS)}")
    every = Cells.of(confidence, correct)
    graded, right, wrong = int(every.total), int(every.right.sum()), int(every.wrong.sum())
    if kind == "none":
        return Calibrator()
    if graded < FEWEST_ROWS or min(right, wrong) < FEWEST_OF_EACH:
        return Calibrator(reason=f"not fitted: {graded} graded rows, {right} right and {wrong} wrong")
    cells = every.merged(MOST_CELLS)
    if kind == "isotonic":
        return _isotonic(cells)
    if kind == "auto" and (graded < AUTO_ROWS or min(right, wrong) < AUTO_OF_EACH):
        reason = f"platt: {graded} rows and {min(right, wrong)} of the rarer class are too few to compare calibrators"
        return replace(_Design.of("platt", cells).fit(cells), reason=reason)
    kinds = CANDIDATES if kind == "auto" else (kind,)
    if kind in FORMS:
        return _Design.of(kind, cells).fit(cells)
    return _best(kinds, *every.rows(), cells, seed)


def apply(calibrator: Calibrator, confidence: npt.ArrayLike) -> Floats:
    """The calibrator's own scalar function mapped over an array, shape (n,); NaN stays NaN.

    Each distinct value is evaluated once, so a table and production agree to the last bit.
    """
    values, inverse = np.unique(np.asarray(confidence, dtype=np.float64), return_inverse=True)
    out = [calibrator(v) for v in values.tolist()]
    return np.array([np.nan if v is None else v for v in out], dtype=np.float64)[inverse]


def readings(calibrator: Calibrator, rows: Rows, *, seed: int) -> Floats:
    """The calibrated reading of every row, shape (n,), by rows of other groups; NaN where there is no confidence.

    Where fit rows made the calibrator it is its own function, in sample on these rows alone. Where all rows made it, each row
    is read by a calibrator of the same kind fitted to the other groups, in five parts: a curve drawn through its own points
    would always look calibrated.
    """
    if (rows.split == "fit").any():
        return apply(calibrator, rows.confidence)
    out, part = np.full(len(rows), np.nan), fold_of(rows.group, FOLDS, seed)
    for k in range(FOLDS):
        mine = part == k
        if mine.any():
            others = fit(rows.confidence[~mine], rows.cheap_correct[~mine], kind=calibrator.kind, seed=seed)
            out[mine] = apply(others, rows.confidence[mine])
    return out


def clipped(confidence: npt.ArrayLike) -> int:
    """How many confidences lie outside [1e-6, 1 - 1e-6], where logits are clipped."""
    p = np.asarray(confidence, dtype=np.float64)
    return int(np.sum((p < CLIP) | (p > 1 - CLIP)))


def _logits(value: Floats) -> Floats:
    p = np.clip(value, CLIP, 1 - CLIP)
    return np.log(p) - np.log1p(-p)


@dataclass(frozen=True)
class _Design:
    """One kind as a bounded logistic regression: features (k, d), lower bounds and penalty of the coefficients."""

    kind: str
    lower: Floats
    start: Floats
    penalty: Floats
    knots: Floats
    change_sd: float | None = None

    @classmethod
    def of(cls, kind: str, cells: Cells, change_sd: float | None = None) -> _Design:
        if form := FORMS.get(kind):
            count = len(form.terms)
            lower = np.array([0.0 if term.rising else -np.inf for term in form.terms])
            start = np.array([term.start for term in form.terms])
            return cls(kind, lower, start, np.zeros((count, count)), np.zeros(0))
        knots = _spline_knots(cells)
        slopes = len(knots) + 1
        change = np.diff(np.eye(slopes), axis=0)
        penalty = np.zeros((slopes + 1, slopes + 1))
        penalty[1:, 1:] = change.T @ change / (change_sd or 1.0) ** 2
        lower = np.concatenate([[-np.inf], np.full(slopes, LEAST_SLOPE)])
        start = np.concatenate([[0.0], np.ones(slopes)])
        return cls(kind, lower, start, penalty, knots, change_sd)

    def features(self, value: Floats) -> Floats:
        if form := FORMS.get(self.kind):
            return _form_features(form, value)
        return _spline_features(_logits(value), self.knots)

    def coefficients(self, cells: Cells) -> Floats:
        return _bounded_logistic(self.features(cells.value), cells, self.start, self.lower, self.penalty)

    def fit(self, cells: Cells) -> Calibrator:
        w = self.coefficients(cells)
        if form := FORMS.get(self.kind):
            return Calibrator(self.kind, dict(zip(form.names, map(float, w), strict=True)))
        return Calibrator("spline", _spline_numbers(w, self.knots))


def _form_features(form: LogisticForm, value: Floats) -> Floats:
    """The form's own scalar features of each value, shape (k, terms): the ones that production evaluates."""
    values = value.tolist()
    return np.column_stack([np.array([term.feature(p) for p in values]) for term in form.terms])


def _bounded_logistic(x: Floats, cells: Cells, start: Floats, lower: Floats, penalty: Floats) -> Floats:
    """Minimise the penalised binomial NLL over coefficients >= lower: Newton steps, each a bounded least squares.

    `x` shape (k, d). Halves a step that does not improve; stops when the objective settles.
    """
    ridge = penalty + RIDGE * np.eye(len(start))

    def objective(w: Floats) -> float:
        f = x @ w
        nll = float(np.sum(cells.n * np.logaddexp(0, f) - cells.right * f))
        return nll + 0.5 * float(w @ penalty @ w) + 0.5 * RIDGE * float((w - start) @ (w - start))

    w, best = start.copy(), objective(start)
    for _ in range(100):
        p = special.expit(x @ w)
        gradient = x.T @ (cells.n * p - cells.right) + penalty @ w + RIDGE * (w - start)
        hessian = (x * (cells.n * p * (1 - p))[:, None]).T @ x + ridge
        root = np.linalg.cholesky(hessian)
        free = np.linalg.solve(root, hessian @ w - gradient)
        target = scipy.optimize.lsq_linear(root.T, free, bounds=(lower, np.inf), method="bvls").x
        step, improved = 1.0, False
        while step > 1e-4 and not improved:
            candidate = w + step * (target - w)
            value = objective(candidate)
            improved = value < best
            step /= 2
        if not improved:
            return w
        settled = best - value < 1e-9 * (1 + abs(best))
        w, best = candidate, value
        if settled:
            return w
    return w


def _spline_knots(cells: Cells) -> Floats:
    """Outer knots at the 1 % and 99 % points of the logits, inner ones at seven quantiles, all distinct."""
    z = _logits(cells.value)
    rank = np.cumsum(cells.n) / cells.total
    at = z[np.minimum(np.searchsorted(rank, [0.01, *(np.arange(1, 8) / 8), 0.99]), len(z) - 1)]
    knots = [float(at[0])]
    for value in at[1:]:
        if value - knots[-1] > 0.05:
            knots.append(float(value))
    return np.array(knots if len(knots) > 1 else [knots[0] - 1.0, knots[0] + 1.0])


def _basis(knots: Floats) -> tuple[Floats, Floats]:
    """Clamped cubic knots (m + 6,) and, per B-spline coefficient, the weights of intercept and slopes, (m + 2, m + 2).

    Coefficients that rise by slope times the gap of their Greville points make a non-decreasing spline with exactly
    these slopes as its building blocks; equal slopes make a straight line, that is Platt.
    """
    t = np.concatenate([np.repeat(knots[0], 3), knots, np.repeat(knots[-1], 3)])
    greville = (t[1:-3] + t[2:-2] + t[3:-1]) / 3
    weights = np.zeros((len(greville), len(greville)))
    weights[:, 0] = 1.0
    gaps = np.diff(greville)
    for i in range(1, len(greville)):
        weights[i, 1 : i + 1] = gaps[:i]
    weights[:, 1:] += greville[0] / (len(greville) - 1)  # so that slopes of one and intercept zero are the identity
    return t, weights


def _spline_features(z: Floats, knots: Floats) -> Floats:
    t, weights = _basis(knots)
    inside = np.clip(z, knots[0], knots[-1])
    spline = scipy.interpolate.BSpline(t, weights, 3)
    beyond = z - inside
    features = np.asarray(spline(inside), dtype=np.float64)
    if np.any(beyond != 0):
        features = features + np.asarray(spline(inside, nu=1)) * beyond[:, None]
    return features


def _spline_numbers(w: Floats, knots: Floats) -> dict[str, Any]:
    t, weights = _basis(knots)
    polynomial = scipy.interpolate.PPoly.from_spline((t, weights @ w, 3))
    c = np.asarray(polynomial.c)[::-1, 3:-3]  # ascending powers; the repeated end knots make empty pieces
    return {"knots": knots.tolist(), "pieces": c.T.tolist()}


def _isotonic(cells: Cells) -> Calibrator:
    """Isotonic fit, kept off 0 and 1 by 1/(n + 2), reduced to the corners of its steps."""
    steps = np.asarray(scipy.optimize.isotonic_regression(cells.right / cells.n, weights=cells.n).x)
    limit = 1.0 / (cells.total + 2)
    y = np.clip(steps, limit, 1 - limit)
    corner = np.ones(len(y), dtype=bool)
    corner[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return Calibrator("isotonic", {"x": cells.value[corner].tolist(), "y": y[corner].tolist()})


def _best(kinds: tuple[str, ...], p: Floats, y: Floats, cells: Cells, seed: int) -> Calibrator:
    """The candidate with the smallest cross-validated NLL, refitted on all rows."""
    designs = [
        _Design.of(kind, cells, sd) for kind in kinds for sd in (SLOPE_CHANGE_SD if kind == "spline" else (None,))
    ]
    fold = np.random.default_rng(seed).permutation(np.arange(len(p)) % FOLDS)
    per_fold = np.zeros((len(designs), FOLDS))
    for f in range(FOLDS):
        train, held = (Cells.of(p[rows], y[rows]).merged(MOST_CELLS) for rows in (fold != f, fold == f))
        for i, design in enumerate(designs):
            z = design.features(held.value) @ design.coefficients(train)
            nll = np.sum(held.n * np.logaddexp(0, z) - held.right * z)
            per_fold[i, f] = nll / held.total
    mean, se = per_fold.mean(axis=1), per_fold.std(axis=1, ddof=1) / np.sqrt(FOLDS)
    table: dict[str, dict[str, Any]] = {}
    for i in np.argsort(mean, kind="stable"):
        table.setdefault(
            designs[i].kind,
            {
                "kind": designs[i].kind,
                "cv_nll": float(mean[i]),
                "cv_nll_se": float(se[i]),
                "spline_sd": designs[i].change_sd,
            },
        )
    chosen = designs[int(np.argmin(mean))].fit(cells)
    return replace(chosen, selection=tuple(table.values()))
