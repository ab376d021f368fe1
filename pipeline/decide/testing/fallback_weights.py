"""Where a fallback sequence starts, chosen on rows that do not certify, so the choice costs no certainty.

The start decides how much is certified: too few accepted rows cannot pass, too many have too many errors. Rows of the fit
split show roughly where the test will have power.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.testing.binomial import too_few_errors_p

CHOSEN = 0.9
"""Part of delta that the chosen start owns; the usual starts keep the rest, should the fit rows mislead."""

_SLICES = (np.arange(16) + 0.5) / 16


def informed_weights(
    errors: Ints, trials: Ints, kept: Ints, share: float, limit: float, delta: float, usual: Floats
) -> Floats:
    """Weights (candidates,) for `sequences.fallback`, most of delta at the start that promises to keep most rows.

    errors, trials  what the fit rows show at each candidate, few accepted to many
    kept            fit rows that each candidate accepts
    share           certify rows per fit row
    limit           error rate that the tests are against
    usual           weights without this knowledge

    For each candidate the chance of passing is the beta-binomial prediction for the certify rows. A start is worth the rows
    it is expected to keep, itself and the candidates after it for as long as each is likely to pass.
    """
    ahead = np.round(trials * share).astype(np.int64)
    allowed = _most_errors(ahead, limit, delta)
    # the error rate is averaged over its posterior, at the middles of equally likely slices
    rates = special.betaincinv(errors + 0.5, trials - errors + 0.5, _SLICES[:, None])
    chance = np.mean(too_few_errors_p(np.maximum(allowed, 0), ahead, rates), axis=0) * (allowed >= 0)
    steps = np.diff(kept)
    worth = [float(kept[i] * chance[i] + steps[i:] @ np.minimum.accumulate(chance[i:])[1:]) for i in range(len(chance))]
    if not worth or max(worth) <= 0:
        return usual
    weights = (1 - CHOSEN) * usual
    weights[int(np.argmax(worth))] += CHOSEN
    return weights


def _most_errors(trials: Ints, limit: float, delta: float) -> Ints:
    """The most errors in so many trials that still reject an error rate of `limit` at delta; -1 when none do."""
    from scipy import stats

    most = stats.binom.ppf(delta, trials, limit)
    return np.asarray(np.where(stats.binom.cdf(most, trials, limit) <= delta, most, most - 1), dtype=np.int64)
