"""MonitorFacts: what `monitor` holds production against, counted on the certify rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import betaincinv

from pipeline.decide.arrays import Flags, Floats
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.curves.at_threshold import mix_weights
from pipeline.decide.predictions import Rows
from pipeline.decide.target import PAIRED, Goal
from pipeline.decide.thresholds import accepted

QUANTILES = 200


@dataclass(frozen=True)
class MonitorFacts:
    """Shares are of the certify rows, which count as `n_certify`; None is unknown. See `monitor_facts` and `accepted_bounds`."""

    confidence_quantiles: list[float] | None = None
    n_certify: int | None = None
    n_confidence: int | None = None
    n_escalated: int | None = None
    out_of_set_rate: float | None = None
    no_logprobs_rate: float | None = None
    null_rate: float | None = None
    status_rates: dict[str, float | None] | None = None
    accepted_error_bound: float | None = None
    accepted_disagreement_bound: float | None = None


def certify_facts(
    rows: Rows,
    statuses: pd.Series[Any],
    threshold: float | None,
    goal: Goal,
    prevalence: Mapping[str, float] | None,
) -> MonitorFacts:
    """The facts of a decision, from all `rows` and the `statuses` (n,) of their cheap replies.

    prevalence  production's label mix, where that of the rows is another
    """
    held = rows.of("certify")
    return monitor_facts(
        confidence=held.confidence,
        statuses=CodedTexts.of(statuses)[rows.split == "certify"].filled("ok"),
        threshold=threshold,
        cheap_correct=held.cheap_correct,
        strong_correct=held.strong_correct,
        agrees=held.agree,
        target=goal.to_json(),
        delta=goal.delta,
        drawn=held.drawn == 1 if held.sampled else None,
        weights=None if prevalence is None else mix_weights(held.label, prevalence),
    )


def monitor_facts(
    *,
    confidence: npt.ArrayLike,
    statuses: Sequence[str] | CodedTexts,
    threshold: float | None,
    cheap_correct: npt.ArrayLike | None = None,
    strong_correct: npt.ArrayLike | None = None,
    agrees: npt.ArrayLike | None = None,
    target: Mapping[str, Any],
    delta: float,
    weights: npt.ArrayLike | None = None,
    drawn: npt.ArrayLike | None = None,
) -> MonitorFacts:
    """What `monitor` holds production against, from the certify rows; all (n,), one entry a row.

    `confidence`: NaN or None where null; `cheap_correct`, `strong_correct`, `agrees` (the cheap answer is the strong
    one's): 1, 0, or NaN or None where unknown, and then counted as 0. See `accepted_bounds` for the two bounds. `weights`:
    how much a row counts where production's label mix is another than that of the rows: production is what is watched.
    Counts are then those of Kish's effective number of rows. `drawn`: the rows by which the strong model is judged, where the
    others' answers were bought because the cheap one was wrong.
    """
    values = np.asarray(confidence, dtype=np.float64)
    counts = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    null = np.isnan(values)
    seen = np.flatnonzero(~null & (counts > 0))
    seen = seen[np.argsort(values[seen]) if weights is None else np.lexsort((counts[seen], values[seen]))]
    total, n = float(counts.sum()), int(_effective(counts))
    kept_rows = accepted(values, threshold)
    errors, disagreements = accepted_bounds(
        kept_rows, cheap_correct, strong_correct, agrees, target, delta, counts, drawn
    )
    told = CodedTexts.of(statuses)
    number = told.factorized()[0]
    mass = dict(zip(told.present, np.bincount(number, counts, minlength=len(told.present)).tolist(), strict=True))

    def share(amount: float) -> float | None:
        return amount / total if total else None

    return MonitorFacts(
        confidence_quantiles=quantiles(values[seen], counts[seen]),
        n_certify=n,
        n_confidence=int(_effective(counts[seen])),
        n_escalated=round((1 - float(counts[kept_rows].sum()) / total) * n) if total else 0,
        out_of_set_rate=share(mass.get("out_of_set", 0.0)),
        no_logprobs_rate=share(mass.get("no_logprobs", 0.0) + mass.get("unaligned", 0.0)),
        null_rate=share(float(counts[null].sum())),
        status_rates={status: share(mass[status]) for status in sorted(mass)} if total else None,
        accepted_error_bound=errors,
        accepted_disagreement_bound=disagreements,
    )


def accepted_bounds(
    accepted: Flags,
    cheap_correct: npt.ArrayLike | None,
    strong_correct: npt.ArrayLike | None,
    agrees: npt.ArrayLike | None,
    target: Mapping[str, Any],
    delta: float,
    weights: Floats,
    drawn: npt.ArrayLike | None = None,
) -> tuple[float | None, float | None]:
    """The error rate, and the rate of disagreement with the strong model, that accepted answers may have.

    Errors: what the target leaves to accepted answers at the coverage c of the certify rows, and never less than the
    Clopper-Pearson upper bound, at certainty 1 - delta, of what these rows showed (so that keeping the promise, or staying
    as in calibration, raises no alarm):

        accepted_accuracy   1 - at_least, alone: it is the promise
        match_strong        the strong model's own errors among accepted rows (upper bound) + within / c
        system_accuracy     (1 - at_least - errors of the strong model among escalated rows / n) / c
        others              nothing more

    Disagreement: likewise, with within / c for match_strong and agree_with_strong, which no smaller rate can break.
    With `drawn` the strong model's errors and the disagreement are those of these rows alone.
    With `weights` rows count by them, and bounds are those of the effective number of rows.
    None where nothing is accepted or the answers are unknown.
    """
    n, m = float(weights.sum()), float(weights[accepted].sum())
    if m == 0:
        return None, None
    kind, share = target.get("kind"), m / n
    compared = accepted if drawn is None else accepted & np.asarray(drawn, dtype=np.bool_)
    shown, differs = _upper(accepted, cheap_correct, delta, weights), _upper(compared, agrees, delta, weights)
    allowed = 0.0
    if kind == "accepted_accuracy":
        return 1 - float(target["at_least"]), differs
    if kind == "match_strong" and (theirs := _upper(compared, strong_correct, delta, weights)) is not None:
        allowed = theirs + float(target["within"]) / share
    if kind == "system_accuracy" and strong_correct is not None:
        lost = float(weights[~accepted & (np.asarray(strong_correct, dtype=np.float64) == 0)].sum()) / n
        allowed = (1 - float(target["at_least"]) - lost) / share
    if kind in PAIRED and differs is not None:
        differs = min(1.0, max(differs, float(target["within"]) / share))
    return None if shown is None else min(1.0, max(shown, allowed)), differs


def quantiles(ordered: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> list[float] | None:
    """Observed values at the shares 0, 1/200, ... 1 of an ascending sequence: the smallest value with at least that
    share at or below it. None when there are no values."""
    values = np.asarray(ordered, dtype=np.float64)
    if not len(values):
        return None
    below = np.cumsum(np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64))
    # the cumulative sum may end slightly below the total
    shares = np.arange(QUANTILES + 1) * below[-1] / QUANTILES * (1 - 1e-12)
    return list(values[np.minimum(np.searchsorted(below, shares), len(values) - 1)].tolist())


def _effective(weights: Floats) -> float:
    """Kish's effective number of rows: their number where all count alike."""
    squares = float((weights * weights).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def _upper(accepted: Flags, good: npt.ArrayLike | None, delta: float, weights: Floats) -> float | None:
    """Clopper-Pearson upper bound, at certainty 1 - delta, of the share that is not good among the accepted."""
    if good is None:
        return None
    kept, counts = np.asarray(good, dtype=np.float64)[accepted], weights[accepted]
    if np.isnan(kept).all():
        return None
    total, bad, m = float(counts.sum()), float(counts[kept != 1].sum()), _effective(counts)
    k = bad * (m / total)
    return 1.0 if bad >= total else float(betaincinv(k + 1, m - k, 1 - delta))
