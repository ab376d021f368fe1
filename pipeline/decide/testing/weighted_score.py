"""Exact one-sided test that a cascade loses less than `within`, with wins looked for on a sample of the rows only.

Of n rows a are losses, counted on all of them; b are wins among the `sampled` rows that a coin drew, and each stands for
n / sampled rows. Given how many were drawn, wins and losses of the drawn rows are trinomial, the losses of the others binomial.
The hypothesis P(loss) - P(win) >= within is rejected when few losses and many sampled wins are seen. Outcomes are ordered by
the score statistic of a - b n / sampled; the nuisance P(win) is eliminated by its supremum over a confidence set (Berger &
Boos 1994), which keeps the test exact. P-values are made monotone: a further loss never lowers one, a further win never
raises it. With every row drawn this is the test of `paired_score`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.testing.binomial import too_few_errors_p, upper_bound
from pipeline.decide.testing.paired_score import (
    EVEN_POINTS,
    GAMMA,
    GRID_MARGIN,
    LARGEST_EXACT_ORDER,
    NUISANCE_POINTS,
    gamma_for,
    trinomial,
    window,
)

FIRST_TABLE = 16
"""Wins that the first table of p-values reaches; each further table reaches twice as far."""
MOST_CELLS = 4_000_000
"""Of a table; where more would be needed p-values are those of the fewer wins, which is never less strict."""
EVEN_UP_TO = 500
"""Rows, or sampled rows, up to which the nuisance is searched in even steps as well."""
_Z_TIE = 1e-9


def restricted_win_rate(a: npt.ArrayLike, b: npt.ArrayLike, n: int, sampled: int, within: float) -> Floats:
    """Maximum likelihood estimate of P(win) when P(loss) = P(win) + within, broadcast over a and b; 0 < sampled <= n."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    both = 1 + sampled / n
    linear = (a + b) * (1 - within) - both * within * (n - a)
    root = np.sqrt(linear * linear + 4 * both * n * b * within * (1 - within))
    return np.asarray(np.clip((linear + root) / (2 * both * n), 0.0, (1 - within) / both), dtype=np.float64)


def score(a: npt.ArrayLike, b: npt.ArrayLike, n: int, sampled: int, within: float) -> Floats:
    """Score statistic of a losses and b sampled wins; smaller speaks more strongly for the cascade."""
    weight = n / sampled
    win = restricted_win_rate(a, b, n, sampled, within)
    difference = np.asarray(a, dtype=np.float64) - weight * np.asarray(b, dtype=np.float64) - n * within
    spread = np.sqrt(n * (within + win + weight * win - within * within))
    return np.asarray(difference / spread, dtype=np.float64)


class WeightedTest:
    """The test for so many rows, so many of them sampled, and one margin; p-values of many outcomes share tables.

    Above `largest_exact_order` rows outcomes are ordered by a - k b, with k the whole number nearest to n / sampled, whose law
    comes from one Fourier transform per nuisance value; that is exact too. Without a sampled row losses alone are tested
    (binomial). Raises ValueError unless 0 <= sampled <= n, n >= 1 and 0 < within < 1.
    """

    def __init__(
        self,
        n: int,
        sampled: int,
        within: float,
        *,
        gamma: float = GAMMA,
        largest_exact_order: int = LARGEST_EXACT_ORDER,
    ) -> None:
        if n < 1 or not 0 <= sampled <= n or not 0 < within < 1:
            raise ValueError(
                f"the weighted test needs n >= 1, 0 <= sampled <= n and 0 < within < 1, got n = {n}, sampled = {sampled}, within = {within}"
            )
        self.n, self.sampled, self.within, self.gamma = n, sampled, within, gamma
        self._by_score = n <= largest_exact_order
        largest = (1 - within) / 2
        smallest = min(0.02 / n, largest / 2)
        even = np.linspace(0.0, largest, EVEN_POINTS if min(n, sampled) <= EVEN_UP_TO else 2)
        self._grid = np.union1d(np.geomspace(smallest, largest, NUISANCE_POINTS), even)
        self._tables: dict[int, Floats] = {}
        self._laws: list[tuple[int, Floats]] = []

    @property
    def method(self) -> str:
        """Name of the test as reports print it."""
        if self.sampled == 0:
            return "exact binomial test"
        order = "score" if self._by_score else "sum"
        return f"exact weighted paired {order} test (Berger-Boos), given the rows that the coin drew"

    def p_values(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
        """P-value of each outcome (a losses, b sampled wins), shapes (k,) -> (k,)."""
        losses, wins = (np.atleast_1d(np.asarray(x, dtype=np.int64)) for x in (a, b))
        if self.sampled == 0:
            return too_few_errors_p(losses, self.n, self.within)
        if not self._by_score:
            return self._by_sum(losses, wins)
        found = np.ones(len(losses))
        reach = self._reach(wins)
        for size in np.unique(reach):
            which = np.flatnonzero(reach == size)
            table = self._table(int(size))
            # more losses than the table holds are beyond all that its nuisance values make likely
            inside = which[losses[which] < table.shape[1]]
            found[inside] = table[np.minimum(wins[inside], len(table) - 1), losses[inside]]
        return found

    def sequence(self, a: npt.ArrayLike, b: npt.ArrayLike, delta: float) -> Floats:
        """P-values along a sequence of outcomes that only grow, NaN from some point after the first above `delta` on."""
        losses, wins = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
        found = np.full(len(losses), np.nan)
        reach = self._reach(wins) if self.sampled and self._by_score else np.zeros(len(wins), dtype=np.int64)
        for size in np.unique(reach):
            which = reach == size
            found[which] = self.p_values(losses[which], wins[which])
            if not (found[which] <= delta).all():
                break
        return found

    def cuts(self, delta: float, most_wins: int) -> Ints:
        """Most losses that still pass at `delta`, for 0 to `most_wins` sampled wins; -1 where none do."""
        cut = np.full(most_wins + 1, -1, dtype=np.int64)
        for b in range(most_wins + 1):
            low, high = -1, self.n - b + 1
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self.p_values([middle], [b])[0] <= delta else (low, middle)
            cut[b] = low
        return cut

    def _reach(self, wins: Ints) -> Ints:
        """Wins that the table for each outcome reaches: a function of its wins alone, so a p-value never depends on the others."""
        doublings = np.ceil(np.log2(np.maximum(wins + 2, FIRST_TABLE) / FIRST_TABLE)).astype(np.int64)
        reach = np.asarray(np.minimum(FIRST_TABLE << doublings, self.sampled), dtype=np.int64)
        for size in np.unique(reach)[::-1]:
            while size > FIRST_TABLE and self._cells(int(size)) > MOST_CELLS:
                reach[reach == size] = size = size // 2
        return reach

    def _last(self, wins: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """Index of the last nuisance value to be searched: the first beyond the bound of P(win)."""
        bound = upper_bound(wins, self.sampled, self.gamma)
        return np.asarray(
            np.minimum(np.searchsorted(self._grid, bound, side="left"), len(self._grid) - 1), dtype=np.intp
        )

    def _shape(self, most_wins: int) -> tuple[int, int]:
        win = float(self._grid[int(self._last(most_wins))])
        return window(self.sampled, win)[1] + 1, window(self.n, win + self.within)[1] + 1

    def _cells(self, most_wins: int) -> int:
        wins, losses = self._shape(most_wins)
        return wins * losses

    def _table(self, most_wins: int) -> Floats:
        """Monotone p-values, shape (wins up to `most_wins`, losses)."""
        if most_wins in self._tables:
            return self._tables[most_wins]
        shape = self._shape(most_wins)
        rows = min(most_wins + 1, shape[0])
        z = score(np.arange(shape[1])[None, :], np.arange(shape[0])[:, None], self.n, self.sampled, self.within).ravel()
        order = np.argsort(z, kind="stable")
        # how many cells are at least as extreme, cells of equal score together
        extreme = np.empty(len(z), dtype=np.intp)
        extreme[order] = np.searchsorted(z[order], z[order] + _Z_TIE, side="right")
        at = extreme.reshape(shape)[:rows]
        last = self._last(np.arange(rows))
        worst, mass, cumulative = np.zeros(at.shape), np.zeros(shape), np.zeros(len(z) + 1)
        for i in range(int(last.max()) + 1):
            first_win, first_loss, law = self._law(float(self._grid[i]))
            mass[:] = 0.0
            here = mass[first_win : first_win + len(law), first_loss : first_loss + law.shape[1]]
            here[:] = law[: here.shape[0], : here.shape[1]]
            np.cumsum(mass.ravel()[order], out=cumulative[1:])
            reached = last >= i
            worst[reached] = np.maximum(worst[reached], cumulative[at[reached]])
        p = np.minimum(worst * (1 + GRID_MARGIN) + self.gamma, 1.0)
        p = np.maximum.accumulate(np.maximum.accumulate(p, axis=1)[::-1], axis=0)[::-1]
        self._tables[most_wins] = p
        return p

    def _law(self, win: float) -> tuple[int, int, Floats]:
        """The law of sampled wins and of losses: first numbers of each, and probabilities, shape (wins, losses)."""
        first_win, first_loss, drawn = trinomial(self.sampled, win, win + self.within)
        others = self.n - self.sampled
        if others == 0:
            return first_win, first_loss, drawn
        low, high = window(others, win + self.within)
        lost = np.arange(low, high + 1)
        choices = special.gammaln(others + 1.0) - special.gammaln(lost + 1.0) - special.gammaln(others - lost + 1.0)
        law = np.exp(
            choices + special.xlogy(lost, win + self.within) + special.xlog1py(others - lost, -(win + self.within))
        )
        from scipy import signal

        joint = signal.fftconvolve(drawn, law[None, :], axes=1)
        return first_win, first_loss + low, np.maximum(joint, 0.0)

    def _by_sum(self, losses: Ints, wins: Ints) -> Floats:
        """P-values where outcomes are ordered by losses - weight x wins."""
        weight = max(1, round(self.n / self.sampled))
        sums, last, worst = losses - weight * wins, self._last(wins), np.zeros(len(losses))
        for i in range(int(last.max(initial=-1)) + 1):
            offset, law = self._sum_law(i, weight)
            reached = last >= i
            below = law[np.clip(sums[reached] - offset + 1, 0, len(law) - 1)]
            worst[reached] = np.maximum(worst[reached], below)
        return np.minimum(worst * (1 + GRID_MARGIN) + self.gamma, 1.0)

    def _sum_law(self, i: int, weight: int) -> tuple[int, Floats]:
        """Distribution function of losses - weight x wins at the i-th nuisance value: index s - offset + 1 holds P(<= s)."""
        while len(self._laws) <= i:
            win = float(self._grid[len(self._laws)])
            loss, others = win + self.within, self.n - self.sampled
            spread = np.sqrt(self.n * loss + weight * weight * self.sampled * win)
            size = 1 << int(np.ceil(np.log2(24 * spread + 128)))
            offset = round(self.n * loss - weight * self.sampled * win) - size // 2
            angle = 2 * np.pi * np.arange(size) / size
            step = np.exp(1j * angle)
            with np.errstate(divide="ignore"):  # a character of 0
                log_character = self.sampled * np.log1p(loss * (step - 1) + win * (step**-weight - 1))
                log_character += others * np.log1p(loss * (step - 1))
            mass = np.fft.fft(np.exp(log_character - 1j * angle * offset)).real / size
            law = np.clip(np.concatenate([[0.0], np.cumsum(mass)]), 0.0, 1.0)
            self._laws.append((offset, law))
        return self._laws[i]


@lru_cache(maxsize=8)
def weighted_test(n: int, sampled: int, within: float, delta: float) -> WeightedTest:
    """The test whose p-values will be judged at `delta`; the tables of the last few are kept."""
    return WeightedTest(n, sampled, within, gamma=gamma_for(delta))
