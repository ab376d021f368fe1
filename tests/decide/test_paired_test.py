"""The exact paired test against full enumeration, an independent likelihood, and its own promise about size."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import optimize, stats

from pipeline.decide.testing.binomial import quantile, too_few_errors_p, upper_bound
from pipeline.decide.testing.paired_score import GAMMA, GRID_MARGIN, PairedTest, gamma_for, restricted_win_rate, score


def outcomes(n: int) -> Counter:
    """How many of the 3^n sequences of wins (-1), ties (0) and losses (+1) have each (losses, wins)."""
    return Counter((d.count(1), d.count(-1)) for d in itertools.product((-1, 0, 1), repeat=n))


def cells(n: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array([(a, b) for a in range(n + 1) for b in range(n + 1 - a)])
    return pairs[:, 0], pairs[:, 1]


def law(n: int, a: np.ndarray, b: np.ndarray, loss: float, win: float) -> np.ndarray:
    return stats.multinomial.pmf(np.stack([a, b, n - a - b], axis=1), n, [loss, win, 1 - loss - win])


@pytest.mark.parametrize(("n", "within"), [(7, 0.3), (9, 0.15), (12, 0.2)])
def test_p_values_equal_an_enumeration_of_all_sequences(n, within):
    counts = outcomes(n)
    a, b = np.array(sorted(counts)).T
    many = np.array([counts[(x, y)] for x, y in zip(a, b, strict=True)])
    z = score(a, b, n, within)
    for x, y, p in zip(a, b, PairedTest(n, within).p_values(a, b), strict=True):
        bound = min(stats.beta.ppf(1 - GAMMA, y + 1, n - y), (1 - within) / 2) if y < n else (1 - within) / 2
        extreme = z <= z[(a == x) & (b == y)][0] + 1e-9

        def chance(win, extreme=extreme):
            tie = 1 - 2 * win - within
            return float((many * (win + within) ** a * win**b * max(tie, 0.0) ** (n - a - b))[extreme].sum())

        inside = max(chance(w) for w in np.linspace(0, bound, 700))
        # the searched grid ends at the first point beyond the bound
        beyond = max(inside, max(chance(w) for w in np.linspace(bound, min(1.3 * bound, (1 - within) / 2), 150)))
        if p < 0.3:  # where decisions are made; near 1 the grid is coarser and nobody minds
            assert inside + GAMMA <= p
        assert p <= beyond * (1 + GRID_MARGIN) + GAMMA + 1e-5


def test_the_restricted_estimate_maximises_the_likelihood():
    n, within = 80, 0.06
    for a, b in [(0, 0), (3, 0), (0, 5), (9, 4), (20, 31), (40, 40)]:

        def loss(win, a=a, b=b):
            probabilities = np.array([win + within, win, 1 - 2 * win - within])
            return -float(
                np.sum([k * np.log(max(p, 1e-300)) for k, p in zip((a, b, n - a - b), probabilities, strict=True)])
            )

        best = optimize.minimize_scalar(loss, bounds=(0, (1 - within) / 2), method="bounded", options={"xatol": 1e-10})
        assert restricted_win_rate(a, b, n, within) == pytest.approx(best.x, abs=1e-4)
        assert loss(float(restricted_win_rate(a, b, n, within))) <= best.fun + 1e-6


@pytest.mark.parametrize(("n", "within"), [(5, 0.02), (40, 0.01), (40, 0.3), (200, 0.02)])
def test_the_score_rises_with_losses_and_falls_with_wins(n, within):
    # the supremum over the boundary of the hypothesis covers its inside only if this holds
    a, b = cells(n)
    z = dict(zip(zip(a, b, strict=True), score(a, b, n, within), strict=True))
    for (x, y), value in z.items():
        if x + y < n:
            assert z[(x + 1, y)] > value
            assert z[(x, y + 1)] < value


def size(n: int, within: float, delta: float) -> float:
    """Largest probability of rejecting under the hypothesis, over its boundary and some of its inside."""
    a, b = cells(n)
    # a p-value below 1/2 needs fewer losses than the hypothesis expects; beyond so many wins nothing has a chance
    possible = (a - b <= n * within) & (b <= 0.3 * n + 6 * np.sqrt(0.21 * n))
    a, b = a[possible], b[possible]
    rejected = PairedTest(n, within, gamma=gamma_for(delta)).p_values(a, b) <= delta
    a, b = a[rejected], b[rejected]
    worst = 0.0
    for win in np.concatenate([np.geomspace(1e-4, 0.3, 40), [0.0]]):
        for excess in (0.0, 0.02):
            if 2 * win + within + excess < 1:
                worst = max(worst, float(law(n, a, b, win + within + excess, win).sum()))
    return worst


@pytest.mark.parametrize(
    ("n", "within", "delta"),
    [(10, 0.3, 0.1), (12, 0.2, 0.2), (60, 0.05, 0.1), (60, 0.05, 0.05), (60, 0.1, 0.01), (200, 0.02, 0.1)],
)
def test_the_size_by_enumeration_stays_below_delta(n, within, delta):
    assert size(n, within, delta) <= delta


def test_the_asymptotic_test_would_exceed_delta_where_the_exact_one_does_not():
    n, within, delta = 60, 0.05, 0.1
    a, b = cells(n)
    rejected = score(a, b, n, within) <= stats.norm.ppf(delta)
    sizes = [float(law(n, a[rejected], b[rejected], w + within, w).sum()) for w in np.geomspace(1e-4, 0.3, 40)]
    assert max(sizes) > delta >= size(n, within, delta)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "within", "delta"), [(500, 0.02, 0.1), (500, 0.02, 0.05)])
def test_the_size_by_enumeration_stays_below_delta_for_500_rows(n, within, delta):
    assert 0.85 * delta <= size(n, within, delta) <= delta


def test_both_orders_of_outcomes_agree_about_many_rows():
    n, within = 12_000, 0.02
    a, b = np.array([150, 300, 330, 600]), np.array([40, 100, 120, 420])
    by_score, by_sum = PairedTest(n, within).p_values(a, b), PairedTest(n, within, largest_exact_order=1).p_values(a, b)
    assert np.all(by_sum >= by_score - 0.01)
    assert np.all(np.abs(by_sum - by_score) < 0.08)


def test_the_order_by_sum_equals_the_law_of_a_difference_of_counts():
    n, within = 300, 0.05
    test = PairedTest(n, within, largest_exact_order=1)
    losses, wins = np.arange(n + 1)[:, None], np.arange(n + 1)[None, :]
    with np.errstate(invalid="ignore"):
        table = {
            w: np.where(
                losses + wins <= n,
                stats.binom.pmf(wins, n, w) * stats.binom.pmf(losses, np.maximum(n - wins, 0), (w + within) / (1 - w)),
                0.0,
            )
            for w in (0.01, 0.08)
        }
    for a, b in [(5, 3), (12, 2), (30, 20)]:
        for w, joint in table.items():
            expected = float(joint[losses - wins <= a - b].sum())
            found = test._below_by_sum(np.array([a]), np.array([b]))(w, np.array([0]))
            assert found[0] == pytest.approx(expected, abs=1e-9)


def test_an_empty_table_costs_115_and_231_rows_at_least():
    # without a single loss or win: (1 - within)^n, plus what the method itself spends
    for within, fewest in ((0.02, 115), (0.01, 231)):
        assert PairedTest(fewest, within).p_values([0], [0])[0] <= 0.1
        assert PairedTest(fewest - 1, within).p_values([0], [0])[0] > 0.1
    assert PairedTest(150, 0.02).p_values([0], [0])[0] == pytest.approx(0.98**150 * (1 + GRID_MARGIN) + GAMMA, abs=1e-9)


def test_certainties_near_one_can_be_had_with_enough_rows():
    # spending a fixed part on the nuisance would make delta = 0.001 impossible for any number of rows
    test = PairedTest(1200, 0.01, gamma=gamma_for(0.001))
    assert test.p_values([0], [0])[0] <= 0.001


def test_more_losses_never_help_and_more_wins_never_hurt():
    test = PairedTest(400, 0.03)
    rising = test.p_values(np.arange(30), np.full(30, 4))
    assert np.all(np.diff(rising) >= -1e-3)
    falling = test.p_values(np.full(20, 12), np.arange(20))
    assert falling[-1] < falling[0]


def test_binomial_p_values_and_bounds_equal_scipy():
    k, m = np.array([0, 1, 5, 20, 30]), np.array([10, 25, 60, 20, 200])
    assert too_few_errors_p(k, m, 0.1) == pytest.approx(stats.binom.cdf(k, m, 0.1))
    assert too_few_errors_p(0, 0, 0.1) == 1.0
    for x, n in zip(k, m, strict=True):
        result = stats.binomtest(int(x), int(n))
        assert float(upper_bound(x, n, 0.05)) == pytest.approx(result.proportion_ci(0.9, "exact").high)


def test_accepted_rows_needed_without_an_error_are_those_of_the_tables():
    # STATISTICS: zero errors at limits .10/.05/.02/.01 need 22/45/114/230 rows at delta .10 and 29/59/149/299 at .05
    for delta, needed in ((0.1, (22, 45, 114, 230)), (0.05, (29, 59, 149, 299))):
        for limit, n in zip((0.1, 0.05, 0.02, 0.01), needed, strict=True):
            assert too_few_errors_p(0, n, limit) <= delta < too_few_errors_p(0, n - 1, limit)


@pytest.mark.parametrize("p", [0.005, 0.025, 0.05, 0.95, 0.975])
@pytest.mark.parametrize("rate", [0.01, 0.5, 0.95])
def test_a_quantile_of_successes_is_scipys(p: float, rate: float) -> None:
    for trials in (1, 2, 7, 40, 1000, 250_000):
        found = quantile(p, trials, rate)
        assert found == max(int(stats.binom.ppf(p, trials, rate)), 0)
