"""The weighted paired test against the unweighted one, full enumeration, and its own promise about size."""

import itertools
from collections import Counter
from math import comb

import numpy as np
import pytest
from scipy import stats

from pipeline.decide.testing.binomial import too_few_errors_p
from pipeline.decide.testing.paired_score import GAMMA, PairedTest, gamma_for
from pipeline.decide.testing.weighted_score import WeightedTest, score


def chances(n: int, sampled: int, loss: float, win: float, edge: np.ndarray) -> float:
    """P(losses <= edge[sampled wins]), by two binomials for the losses given the wins."""
    of_wins = stats.binom.pmf(np.arange(sampled + 1), sampled, win)
    others, total = stats.binom.pmf(np.arange(n - sampled + 1), n - sampled, loss), 0.0
    for wins in np.flatnonzero((of_wins > 1e-10) & (edge >= 0)):
        drawn = stats.binom.pmf(np.arange(sampled - wins + 1), sampled - wins, loss / (1 - win))
        total += of_wins[wins] * np.convolve(drawn, others)[: edge[wins] + 1].sum()
    return float(total)


@pytest.mark.parametrize(("n", "within"), [(60, 0.05), (200, 0.02), (500, 0.02)])
def test_with_every_row_drawn_it_is_the_paired_test(n, within):
    a, b = (x.ravel() for x in np.meshgrid(np.arange(61), np.arange(26)))
    a, b = a[a + b <= n], b[a + b <= n]
    plain, weighted = PairedTest(n, within).p_values(a, b), WeightedTest(n, n, within).p_values(a, b)
    decisive = np.minimum(plain, weighted) <= 0.2
    assert decisive.sum() > 250
    np.testing.assert_allclose(weighted[decisive], plain[decisive], rtol=0, atol=1e-12)


def test_p_values_equal_an_enumeration_of_all_sequences():
    n, sampled, within = 9, 4, 0.2
    counts = Counter()
    for drawn in itertools.product((-1, 0, 1), repeat=sampled):
        for lost in range(n - sampled + 1):
            counts[drawn.count(1), drawn.count(-1), lost] += comb(n - sampled, lost)
    first, b, second = np.array(list(counts)).T
    many, a = np.array(list(counts.values())), first + second
    z = score(a, b, n, sampled, within)

    def chance(win: float, limit: float) -> float:
        loss, tie = win + within, 1 - 2 * win - within
        drawn = loss**first * win**b * max(tie, 0.0) ** (sampled - first - b)
        return float((many * drawn * loss**second * (1 - loss) ** (n - sampled - second))[z <= limit + 1e-9].sum())

    test, seen = WeightedTest(n, sampled, within), 0
    for losses, wins in {(int(x), int(y)) for x, y in zip(a, b, strict=True)}:
        p = test.p_values([losses], [wins])[0]
        bound = min(stats.beta.ppf(1 - GAMMA, wins + 1, sampled - wins) if wins < sampled else 1.0, (1 - within) / 2)
        limit = z[(a == losses) & (b == wins)][0]
        worst = max(chance(w, limit) for w in np.linspace(0, bound, 400))
        if p < 0.3:  # near 1 the grid is coarser and nobody minds
            seen += 1
            assert worst + GAMMA <= p <= 1.01 * worst + GAMMA + 0.01
    assert seen >= 4


@pytest.mark.parametrize(
    ("n", "q"),
    [
        pytest.param(n, q, marks=[] if (n, q) in ((60, 0.25), (200, 0.1), (500, 0.25)) else pytest.mark.slow)
        for n in (60, 200, 500)
        for q in (0.1, 0.25, 0.5)
    ],
)
def test_its_size_off_the_grid_is_at_most_delta(n, q):
    within, sampled = 0.05 if n == 60 else 0.02, round(q * n)
    most = min(sampled // 2, 30)  # more wins are treated as so many
    for delta in (0.05, 0.1):
        cut = WeightedTest(n, sampled, within, gamma=gamma_for(delta)).cuts(delta, most)
        assert (np.diff(cut) >= 0).all()
        edge = cut[np.minimum(np.arange(sampled + 1), most)]
        wins = np.unique(np.concatenate([np.geomspace(2e-5, 0.06, 15), np.linspace(0.001, 0.3, 13)]))
        sizes = [chances(n, sampled, win + within, win, edge) for win in wins]
        assert max(sizes) <= delta
        assert max(sizes) > 0.4 * delta  # and it is no test that rejects nothing


def test_the_order_of_outcomes_rises_with_losses_and_falls_with_wins():
    for n, sampled in [(60, 15), (200, 20), (500, 250), (1000, 250)]:
        z = score(np.arange(n - sampled)[:, None], np.arange(sampled)[None, :], n, sampled, 0.02)
        assert (np.diff(z, axis=0) > 0).all()
        assert (np.diff(z, axis=1) < 0).all()


def test_a_further_loss_never_lowers_the_p_value_and_a_further_win_never_raises_it():
    a, b = np.meshgrid(np.arange(80), np.arange(60))
    p = WeightedTest(500, 125, 0.02).p_values(a.ravel(), b.ravel()).reshape(a.shape)
    assert (np.diff(p, axis=1) >= 0).all()
    assert (np.diff(p, axis=0) <= 1e-12).all()


def test_without_a_sampled_row_losses_alone_decide():
    np.testing.assert_array_equal(
        WeightedTest(300, 0, 0.02).p_values([0, 2, 9], [0, 0, 0]), too_few_errors_p([0, 2, 9], 300, 0.02)
    )


def test_many_rows_are_ordered_by_a_weighted_sum_with_its_exact_law():
    n, sampled, within, losses, wins = 400, 100, 0.05, 14, 3
    test = WeightedTest(n, sampled, within, largest_exact_order=10)
    bound = stats.beta.ppf(1 - GAMMA, wins + 1, sampled - wins)
    edge = losses - 4 * wins + 4 * np.arange(sampled + 1)  # as extreme: losses - 4 x wins no larger
    worst = max(chances(n, sampled, win + within, win, edge) for win in np.geomspace(1e-5, bound, 40))
    # the searched grid ends at the first point beyond the bound
    assert test.p_values([losses], [wins])[0] == pytest.approx(worst * 1.003 + GAMMA, rel=0.02)


def test_a_sequence_has_the_p_values_of_its_outcomes_up_to_the_first_failure():
    rng = np.random.default_rng(0)
    losses, wins = np.cumsum(rng.random(400) < 0.05), np.cumsum(rng.random(400) < 0.004)
    test = WeightedTest(1000, 250, 0.02)
    found, each = test.sequence(losses, wins, 0.1), test.p_values(losses, wins)
    failed = int(np.argmax(each > 0.1))
    assert each[failed] > 0.1
    np.testing.assert_array_equal(found[: failed + 1], each[: failed + 1])
