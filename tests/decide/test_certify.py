"""Certificates against brute force, closed forms, and the rules for what is missing."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.decide.certify import (
    certify,
    certify_accepted_accuracy,
    certify_agreement,
    certify_match_strong,
    certify_system_accuracy,
)
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal

N = 400


@pytest.fixture
def rows():
    rng = np.random.default_rng(7)
    confidence = np.round(rng.beta(6, 1, N), 3)
    cheap = (rng.random(N) < 0.35 + 0.64 * confidence).astype(float)
    strong = (rng.random(N) < 0.95).astype(float)
    return confidence, cheap, strong


def test_a_flawless_cheap_model_is_kept_altogether_at_threshold_zero():
    confidence, right = np.linspace(0.3, 0.9, N), np.ones(N)
    for certificate in (
        certify_match_strong(confidence, right, right, within=0.02, delta=0.1),
        certify_accepted_accuracy(confidence, right, at_least=0.95, delta=0.1),
        certify_system_accuracy(confidence, right, right, at_least=0.95, delta=0.1),
        certify_agreement(confidence, right, within=0.02, delta=0.1),
        certify_match_strong(confidence, right, right, within=0.02, delta=0.1, levels=[0.5, 0.25]),
    ):
        assert certificate.threshold == 0.0
        assert (certificate.n, certificate.n_accepted, certificate.escalation_rate) == (N, N, 0.0)


def test_a_level_above_the_lowest_confidence_is_returned_as_given():
    confidence, right = np.linspace(0.3, 0.9, N), np.ones(N)
    certificate = certify_match_strong(confidence, right, right, within=0.02, delta=0.1, levels=[0.5, 0.8])
    assert certificate.threshold == 0.5
    assert certificate.n_accepted == np.count_nonzero(confidence >= 0.5)


def test_a_cheap_model_that_is_never_right_certifies_no_accuracy_and_almost_no_acceptance():
    confidence, wrong, right = np.linspace(0.3, 0.9, N), np.zeros(N), np.ones(N)
    certificate = certify_accepted_accuracy(confidence, wrong, at_least=0.95, delta=0.1)
    assert (certificate.threshold, certificate.n_accepted, certificate.escalation_rate) == (None, 0, 1.0)
    assert "no candidate passed" in certificate.reason
    # the whole may lose `within`, so less than that may be kept however wrong it is
    assert certify_match_strong(confidence, wrong, right, within=0.02, delta=0.1).n_accepted < 0.02 * N
    assert certify_system_accuracy(confidence, wrong, right, at_least=0.95, delta=0.1).n_accepted < 0.05 * N


def test_too_few_rows_certify_nothing_even_without_an_error():
    right = np.ones(100)
    assert certify_match_strong(np.linspace(0, 1, 100), right, right, within=0.02, delta=0.1).threshold is None
    assert (
        certify_match_strong(np.linspace(0, 1, 60), np.ones(60), np.ones(60), within=0.05, delta=0.1).threshold == 0.0
    )


def test_a_row_without_confidence_is_never_accepted_and_stays_in_n(rows):
    confidence, cheap, _ = rows
    confidence = confidence.copy()
    confidence[:80] = np.nan
    right = np.ones(N)
    certificate = certify_match_strong(confidence, right, right, within=0.02, delta=0.1)
    assert (certificate.threshold, certificate.n, certificate.n_accepted, certificate.escalation_rate) == (
        0.0,
        N,
        N - 80,
        0.2,
    )
    # whatever those rows hold is nobody's business
    other = cheap.copy()
    other[:80] = np.nan
    known, unknown = (certify_accepted_accuracy(confidence, c, at_least=0.8, delta=0.1) for c in (cheap, other))
    assert known == unknown


def test_no_confidence_at_all_is_an_answer_and_not_an_error():
    certificate = certify_match_strong(np.full(300, np.nan), np.ones(300), np.ones(300), within=0.02, delta=0.1)
    assert (certificate.threshold, certificate.statistic, certificate.p_value) == (None, None, None)
    assert certificate.to_json()["p_value"] is None


def test_row_50_missing_strong_answers_count_against_the_promise(rows):
    confidence, cheap, strong = rows
    gone = strong.copy()
    gone[::3] = np.nan
    # D = +1 where cheap is wrong, 0 where cheap is right: the same as strong right, wherever accepted
    worst = np.where(np.isnan(gone), 1.0, gone)
    levels = [0.5]
    found, expected = (
        certify_match_strong(confidence, cheap, s, within=0.2, delta=0.1, levels=levels) for s in (gone, worst)
    )
    assert (found.p_value, found.threshold) == (expected.p_value, expected.threshold)
    # and an escalated one is an error of the cascade
    zero = np.where(np.isnan(gone), 0.0, gone)
    found, expected = (
        certify_system_accuracy(confidence, cheap, s, at_least=0.5, delta=0.1, levels=levels) for s in (gone, zero)
    )
    assert found.p_value == expected.p_value


def test_an_unknown_cheap_answer_that_could_be_accepted_is_an_error(rows):
    confidence, cheap, strong = rows
    gone, wrong = cheap.copy(), cheap.copy()
    gone[::5], wrong[::5] = np.nan, 0.0
    for a, b in zip(
        (
            certify_match_strong(confidence, gone, strong, within=0.2, delta=0.1),
            certify_accepted_accuracy(confidence, gone, at_least=0.6, delta=0.1),
        ),
        (
            certify_match_strong(confidence, wrong, strong, within=0.2, delta=0.1),
            certify_accepted_accuracy(confidence, wrong, at_least=0.6, delta=0.1),
        ),
        strict=True,
    ):
        assert a == b


def test_row_48_ties_are_accepted_or_escalated_together():
    confidence = np.repeat([0.2, 0.6, 0.9, 1.0], 100)
    cheap, strong = np.repeat([0.0, 1.0, 1.0, 1.0], 100), np.ones(400)
    certificate = certify_match_strong(confidence, cheap, strong, within=0.02, delta=0.1)
    assert certificate.n_accepted == 300
    assert 0.2 < certificate.threshold <= 0.6


def test_accepted_accuracy_equals_a_fallback_sequence_written_out_by_hand(rows):
    confidence, cheap, _ = rows
    levels = np.quantile(confidence, np.linspace(0.9, 0, 10))
    shares = np.arange(1, 11) / 10
    for delta in (0.05, 0.1, 0.3):
        for at_least in (0.85, 0.9, 0.93):
            inherited, best = 0.0, None
            for share, t in zip(shares, levels, strict=True):
                kept = confidence >= t
                p = stats.binom.cdf(np.sum(cheap[kept] == 0), kept.sum(), 1 - at_least)
                budget = inherited + delta * {0.1: 0.25, 0.2: 0.25, 0.5: 0.5}.get(round(float(share), 1), 0.0)
                passed = p <= budget
                inherited = budget if passed else 0.0
                best = t if passed else best
            # the start at share 0.25 lies between 0.2 and 0.3 and goes to the smaller
            found = certify_accepted_accuracy(
                confidence, cheap, at_least=at_least, delta=delta, levels=levels, level_shares=shares
            )
            assert found.threshold == (0.0 if best is not None and best <= confidence.min() else best)


def test_the_order_of_rows_and_of_levels_does_not_matter(rows):
    confidence, cheap, strong = rows
    shuffle = np.random.default_rng(3).permutation(N)
    levels = np.linspace(0.2, 1, 33)
    first = certify_match_strong(confidence, cheap, strong, within=0.05, delta=0.1, levels=levels)
    second = certify_match_strong(
        confidence[shuffle], cheap[shuffle], strong[shuffle], within=0.05, delta=0.1, levels=levels[::-1]
    )
    assert first == second


def test_bad_arguments_are_refused(rows):
    confidence, cheap, strong = rows
    with pytest.raises(ValueError, match="one length"):
        certify_match_strong(confidence, cheap[:-1], strong, within=0.02, delta=0.1)
    with pytest.raises(ValueError, match="within"):
        certify_match_strong(confidence, cheap, strong, within=0.0, delta=0.1)
    with pytest.raises(ValueError, match="delta"):
        certify_accepted_accuracy(confidence, cheap, at_least=0.9, delta=1.0)
    with pytest.raises(ValueError, match="1, 0 or NaN"):
        certify_accepted_accuracy(confidence, cheap + 0.5, at_least=0.9, delta=0.1)
    with pytest.raises(ValueError, match="at_least"):
        certify_accepted_accuracy(confidence, cheap, at_least=1.5, delta=0.1)
    assert math.isfinite(certify_accepted_accuracy(confidence, cheap, at_least=0.9, delta=0.1).p_value)


def test_no_rows_and_no_levels_certify_nothing():
    for certificate in (
        certify_match_strong([], [], [], within=0.02, delta=0.1),
        certify_accepted_accuracy([], [], at_least=0.9, delta=0.1),
        certify_system_accuracy([], [], [], at_least=0.9, delta=0.1),
        certify_match_strong([0.5] * 200, [1] * 200, [1] * 200, within=0.02, delta=0.1, levels=[]),
        certify_match_strong([0.5] * 200, [True] * 200, [True] * 200, within=0.02, delta=0.1, levels=[0.7]),
    ):
        assert (certificate.threshold, certificate.escalation_rate, certificate.n_accepted) == (None, 1.0, 0)
        assert certificate.reason


@pytest.mark.parametrize("seed", range(25))
def test_what_a_certificate_counts_is_what_its_threshold_does(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 400))
    confidence = np.round(rng.beta(4, 1, n), int(rng.integers(1, 6)))
    confidence[rng.random(n) < 0.1] = np.nan
    cheap, strong = ((rng.random(n) < q).astype(float) for q in (0.93, 0.97))
    for side in (cheap, strong):
        side[rng.random(n) < 0.03] = np.nan
    levels = None if seed % 2 else np.round(rng.random(30), 2)
    for found in (
        certify_match_strong(confidence, cheap, strong, within=0.1, delta=0.2, levels=levels),
        certify_accepted_accuracy(confidence, cheap, at_least=0.8, delta=0.2, levels=levels),
        certify_system_accuracy(confidence, cheap, strong, at_least=0.8, delta=0.2, levels=levels),
        certify_agreement(confidence, cheap, within=0.2, delta=0.2, levels=levels),
    ):
        with np.errstate(invalid="ignore"):
            kept = np.zeros(n, dtype=bool) if found.threshold is None else confidence >= found.threshold
        assert found.n == n
        assert found.n_accepted == kept.sum()
        assert found.escalation_rate == pytest.approx(1 - kept.mean())
        assert (found.threshold == 0.0) == (kept.sum() == np.count_nonzero(~np.isnan(confidence)) > 0)
        assert found.threshold is None or found.p_value <= 0.2


@pytest.mark.parametrize("kept", [15, 20, 21, 40])
def test_a_certificate_that_keeps_no_more_than_may_be_lost_is_refused(kept):
    """Of 1,000 rows within .02 all of 20 kept answers might be wrong, and the promise would hold: it says nothing."""
    n, within = 1000, 0.02
    sure = np.arange(n) < kept
    rows = Rows.from_frame(
        pd.DataFrame(
            {
                "example_id": [f"e{i}" for i in range(n)],
                "split": "certify",
                "group": [f"g{i}" for i in range(n)],
                "confidence": np.where(sure, 0.99, 0.5),
                "cheap_correct": np.where(sure, 1.0, 0.0),
                "strong_correct": 1.0,
                "label": "a",
                "cheap_answer": np.where(sure, "a", "b"),
                "strong_answer": "a",
            }
        )
    )
    for kind in ("match_strong", "agree_with_strong"):
        found = certify(rows, Goal(kind, 0.1, within=within), seed=1)
        assert (found.threshold is None) == (kept <= within * n)
        assert ("says nothing" in found.reason) == (kept <= within * n)
