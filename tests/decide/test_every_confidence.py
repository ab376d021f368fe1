"""Every distinct confidence as a candidate: the walk against one written out by hand, its proof's cases by simulation."""

import numpy as np
import pytest
from populations import Population

from pipeline.decide.certify import (
    certify_accepted_accuracy,
    certify_agreement,
    certify_match_strong,
    certify_system_accuracy,
)
from pipeline.decide.testing.paired_score import PairedTest, gamma_for

DELTA = 0.1


def limit(runs: int) -> float:
    return DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / runs)


def by_hand(confidence, cheap, strong, within):
    """Thresholds from the empty set down, one distinct confidence after the other, until one fails."""
    n, best = len(confidence), None
    test = PairedTest(n, within, gamma=gamma_for(DELTA))
    every = [confidence >= t for t in [np.inf, *np.unique(confidence[~np.isnan(confidence)])[::-1]]]
    losses = [int((kept & (cheap == 0) & (strong == 1)).sum()) for kept in every]
    wins = [int((kept & (cheap == 1) & (strong == 0)).sum()) for kept in every]
    for kept, p in zip(every, test.p_values(losses, wins), strict=True):
        if p > DELTA:
            break
        best = kept
    return best


@pytest.mark.parametrize("seed", range(6))
def test_the_walk_is_the_one_written_out_by_hand(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(60, 220))
    confidence = np.round(rng.beta(3, 1, n), 2 if seed % 2 else 6)
    confidence[rng.random(n) < 0.05] = np.nan
    cheap = (rng.random(n) < 0.5 + 0.48 * np.nan_to_num(confidence)).astype(float)
    strong = (rng.random(n) < np.where(cheap == 1, 0.97, 0.6)).astype(float)
    found = certify_match_strong(confidence, cheap, strong, within=0.06, delta=DELTA)
    expected = by_hand(confidence, cheap, strong, 0.06)
    with np.errstate(invalid="ignore"):
        kept = confidence >= (np.inf if found.threshold is None else found.threshold)
    assert kept.tolist() == (np.zeros(n, dtype=bool) if expected is None else expected).tolist()


def test_it_starts_at_the_empty_set_so_a_lucky_first_row_certifies_nothing():
    # 60 rows within .02: no loss and no win has p = .298, no loss and one win p = .08
    confidence, cheap, strong = np.linspace(0, 1, 60), np.ones(60), np.append(np.ones(59), 0.0)
    assert certify_match_strong(confidence, cheap, strong, within=0.02, delta=DELTA).threshold is None
    assert certify_match_strong(confidence, cheap, strong, within=0.02, delta=DELTA, levels=[0.5]).threshold == 0.5


def test_a_threshold_is_the_shortest_decimal_between_two_confidences():
    confidence = np.repeat([0.31234567, 0.81234567, 0.91234567], 200)
    cheap = np.repeat([0.0, 1.0, 1.0], 200)
    right = np.ones(600)
    assert certify_match_strong(confidence, cheap, right, within=0.02, delta=DELTA).threshold == 0.4
    assert certify_agreement(confidence, cheap, within=0.02, delta=DELTA).threshold == 0.4
    assert certify_accepted_accuracy(confidence, cheap, at_least=0.95, delta=DELTA).threshold == 0.4
    close = np.repeat([0.5, np.nextafter(0.5, 1)], 300)
    found = certify_match_strong(close, np.repeat([0.0, 1.0], 300), right, within=0.02, delta=DELTA)
    assert (found.threshold, found.n_accepted) == (np.nextafter(0.5, 1), 300)


@pytest.mark.slow
@pytest.mark.parametrize("atoms", ["two", "many at 1.0"])
def test_the_promise_holds_at_the_boundary_whatever_the_ties(atoms):
    # the loss reaches `within` exactly at the second of two atoms, or among the values below a block at 1.0
    within, n, runs, broken = 0.05, 120, 400, 0
    for run in range(runs):
        rng = np.random.default_rng([21, run])
        if atoms == "two":
            confidence = np.where(rng.random(n) < 0.5, 1.0, 0.9)
        else:
            confidence = np.where(rng.random(n) < 0.3, 1.0, rng.random(n) * 0.9)
        loss = rng.random(n) < np.where(confidence == 1.0, 0.02, 0.08)
        found = certify_match_strong(confidence, (~loss).astype(float), np.ones(n), within=within, delta=DELTA)
        if found.threshold is None:
            continue
        t = found.threshold
        kept = 0.5 * (t <= 0.9) if atoms == "two" else 0.7 * max(0.0, 0.9 - t) / 0.9
        broken += (0.5 if atoms == "two" else 0.3) * 0.02 + 0.08 * kept >= within
    assert broken / runs <= limit(runs)


def beta_rows(n, rng):
    confidence = rng.beta(4, 1, n)
    return confidence, (rng.random(n) < 0.6 + 0.4 * confidence).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "least"), [(1000, 0.48), (2000, 0.61), (5000, 0.68)])
def test_accepted_accuracy_keeps_what_is_expected_of_all_labels(n, least):
    # P(right) = .6 + .4 c over Beta(4, 1): 95 % of the kept are right down to .763 kept
    runs, kept = 200, []
    for run in range(runs):
        confidence, cheap = beta_rows(n, np.random.default_rng([n, run]))
        threshold = certify_accepted_accuracy(confidence, cheap, at_least=0.95, delta=0.05).threshold
        kept.append(0.0 if threshold is None else 1 - threshold**4)
    assert np.mean(kept) >= least - 2 * np.std(kept) / np.sqrt(runs)
    oracle = 0.763
    assert np.mean(np.array(kept) > oracle) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("name", ["S1", "S3", "S4", "S5"])
def test_starts_at_shares_of_the_same_rows_keep_the_promises_of_fallback_sequences(name):
    population, runs, broken = Population(name), 200, np.zeros(2)
    for run in range(runs):
        draw = population.draw(500, np.random.default_rng([31, run]))
        accepted = certify_accepted_accuracy(draw.confidence, draw.cheap, at_least=0.95, delta=DELTA).threshold
        aim = population.strong_accuracy - 0.03
        whole = certify_system_accuracy(draw.confidence, draw.cheap, draw.strong, at_least=aim, delta=DELTA).threshold
        broken += (
            accepted is not None and population.accepted_error(accepted) > 0.05,
            whole is not None and population.system_accuracy(whole) < aim,
        )
    assert broken.max() / runs <= limit(runs)
