"""Facts that a one-line mistake in the code would break without any other test noticing."""

from __future__ import annotations

import numpy as np

from pipeline.decide.testing import total_cost
from pipeline.decide.thresholds import accepted


def test_a_confidence_equal_to_the_threshold_stays_with_the_cheap_model():
    kept = accepted(np.array([0.4, 0.5, 0.6, np.nan]), 0.5)
    assert kept.tolist() == [False, True, True, False]


def test_the_cross_fitted_cost_of_confidence_that_says_nothing_is_above_the_cost_on_the_same_rows():
    """Where every threshold costs the same in truth, the choice fits noise, and only other rows show it."""
    gaps = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = 60
        confidence = rng.random(n)
        kept, escalated = rng.exponential(1.0, n), rng.exponential(1.0, n)
        ones = np.ones(n)
        threshold = total_cost._cheapest(confidence, escalated - kept, seed)
        seen = total_cost._mean_cost(confidence, kept, escalated, ones, threshold)
        gaps.append(total_cost._cross_fitted(confidence, kept, escalated, ones, seed) - seen)
    assert np.mean(gaps) > 3 * np.std(gaps) / np.sqrt(len(gaps))
    assert np.mean(gaps) > 0.02
