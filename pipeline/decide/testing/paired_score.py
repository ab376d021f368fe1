"""Exact one-sided test that a cascade loses less than `within` of the strong model's accuracy, from paired outcomes.

Over n rows, a = rows where the cascade loses against the strong model, b = rows where it wins; (a, b) is trinomial. The
hypothesis P(loss) - P(win) >= within is rejected when few losses and many wins are seen. The order of outcomes is Tango's
score statistic; the nuisance P(win) is eliminated by its supremum over a confidence set (Berger & Boos 1994), which keeps
the test exact for every n. References: Tango 1998 (Stat Med 17), Berger & Boos 1994 (JASA 89), Hsueh, Liu & Chen 2001
(Biometrics 57).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.testing.binomial import upper_bound

Complex = npt.NDArray[np.complex128]
Below = Callable[[float, npt.NDArray[np.intp]], Floats]
"""P(an outcome at least as extreme) for one nuisance value, for the outcomes with these indices."""

GAMMA = 1e-3
"""Probability spent on the confidence bound of the nuisance parameter; added to every p-value."""
GRID_MARGIN = 3e-3
"""Relative increase of every p-value that covers what a finite grid of nuisance values can miss (measured: at most half of it)."""
LARGEST_EXACT_ORDER = 20_000
"""Above this many rows outcomes are ordered by a - b, whose law comes from one Fourier transform per nuisance value."""
RUNS_AT_ONCE, MARGIN_Z = 64, 0.25
"""A sequence is tested together up to where the normal law puts its failure and a margin, then in parts of so many runs."""
NUISANCE_POINTS, EVEN_POINTS = 140, 80
KEPT_CELLS = 20_000
"""A law of at most so many outcomes is kept for the next test of as many rows: in all at most 50 MB, mostly a tenth of it."""
_Z_TIE = 1e-9


def restricted_win_rate(a: npt.ArrayLike, b: npt.ArrayLike, n: int, within: float) -> Floats:
    """Maximum likelihood estimate of P(win) when P(loss) = P(win) + within, broadcast over a and b."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    linear = -a - b + (2 * n - a + b) * within
    root = np.sqrt(linear * linear + 8 * n * b * within * (1 - within))
    return np.asarray(np.clip((root - linear) / (4 * n), 0.0, (1 - within) / 2), dtype=np.float64)


def score(a: npt.ArrayLike, b: npt.ArrayLike, n: int, within: float) -> Floats:
    """Tango's score statistic of (a, b); smaller speaks more strongly for the cascade."""
    win = restricted_win_rate(a, b, n, within)
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64) - n * within
    return np.asarray(difference / np.sqrt(n * (2 * win + within * (1 - within))), dtype=np.float64)


def gamma_for(delta: float) -> float:
    """The usual gamma, or a hundredth of delta where delta is small: chosen beforehand, it leaves the test exact."""
    return min(GAMMA, delta / 100)


class PairedTest:
    """The test for one number of rows and one margin; p-values of many outcomes share the work.

    `gamma` is spent on the nuisance, see `gamma_for`. Raises ValueError unless n >= 1 and 0 < within < 1.
    """

    def __init__(
        self, n: int, within: float, *, gamma: float = GAMMA, largest_exact_order: int = LARGEST_EXACT_ORDER
    ) -> None:
        if n < 1 or not 0 < within < 1:
            raise ValueError(f"the paired test needs n >= 1 and 0 < within < 1, got n = {n}, within = {within}")
        self.n, self.within, self.gamma = n, within, gamma
        self._by_score = n <= largest_exact_order
        largest = (1 - within) / 2
        smallest = min(0.02 / n, largest / 2)
        # evenly spaced points as well: with few rows the worst value lies where a geometric grid is coarse
        even = np.linspace(0.0, largest, EVEN_POINTS if n <= 500 else 2)
        self._grid = np.union1d(np.geomspace(smallest, largest, NUISANCE_POINTS), even)

    @property
    def method(self) -> str:
        """Name of the test as reports print it."""
        order = "score" if self._by_score else "sum"
        return f"exact paired {order} test (Berger-Boos)"

    def p_values(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
        """P-value of each outcome (a losses, b wins), shapes (k,) -> (k,)."""
        a, b = np.atleast_1d(np.asarray(a, dtype=np.int64)), np.atleast_1d(np.asarray(b, dtype=np.int64))
        if len(a) == 0:
            return np.zeros(0)
        pairs, back = np.unique(np.stack([a, b]), axis=1, return_inverse=True)
        # each outcome searches the grid up to the first point beyond its bound of P(win)
        last = np.searchsorted(self._grid, upper_bound(pairs[1], self.n, self.gamma), side="left")
        last = np.minimum(last, len(self._grid) - 1)
        worst = np.zeros(pairs.shape[1])
        if self._by_score:
            below = self._below_by_score(pairs[0], pairs[1], float(self._grid[last.max()]))
        else:
            below = self._below_by_sum(pairs[0], pairs[1])
        for i in range(int(last.max()) + 1):
            reached = np.flatnonzero(last >= i)
            worst[reached] = np.maximum(worst[reached], below(float(self._grid[i]), reached))
        return np.minimum(worst * (1 + GRID_MARGIN) + self.gamma, 1.0)[np.ravel(back)]

    def sequence(self, a: npt.ArrayLike, b: npt.ArrayLike, delta: float) -> Floats:
        """P-values along a sequence of outcomes that only grow, up to the first above `delta`, NaN after the run of
        equal wins that holds it. Shapes (k,) -> (k,). Where a whole run passes each has the p-value of its last, a bound.

        With the wins given the p-value rises with the losses (the nuisance is searched over the same values, the outcomes
        as extreme are nested), so of a run with equal wins the last decides, and only a failing run is looked at whole.
        """
        losses, wins = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
        ends = np.append(np.flatnonzero(np.diff(wins)), len(wins) - 1) if len(wins) else np.zeros(0, dtype=np.int64)
        of_run, lengths = np.full(len(ends), np.nan), np.diff(ends, prepend=-1)
        beyond = np.flatnonzero(score(losses[ends], wins[ends], self.n, self.within) > special.ndtri(delta) + MARGIN_Z)
        first_part = int(beyond[0]) + 1 if self._by_score and len(beyond) else len(ends)
        for part in np.split(np.arange(len(ends)), range(first_part, len(ends), RUNS_AT_ONCE)):
            of_run[part] = self.p_values(losses[ends[part]], wins[ends[part]])
            if not (failed := ~(of_run[part] <= delta)).any():
                continue
            run = int(part[np.argmax(failed)])
            of_run[run + 1 :] = np.nan
            found = np.repeat(of_run, lengths)
            inside = slice(int(ends[run] - lengths[run] + 1), int(ends[run] + 1))
            found[inside] = self.p_values(losses[inside], wins[inside])
            return found
        return np.repeat(of_run, lengths)

    def _below_by_score(self, a: Ints, b: Ints, largest: float) -> Below:
        n, within = self.n, self.within
        wins = np.arange(window(n, largest)[1] + 1)
        limit = self._largest_losses(score(a, b, n, within), wins)

        def below(win: float, which: npt.NDArray[np.intp]) -> Floats:
            first_win, first_loss, table = _cumulative(n, win, within)
            wins_here, losses_here = table.shape[0], table.shape[1] - 1
            column = limit[which, first_win : first_win + wins_here].T - (first_loss - 1)
            np.minimum(np.maximum(column, 0, out=column), losses_here, out=column)
            column += (losses_here + 1) * np.arange(wins_here)[:, None]  # a row of the table for each number of wins
            return np.asarray(table.ravel()[column].sum(axis=0), dtype=np.float64)

        return below

    def _largest_losses(self, z: Floats, wins: Ints) -> Ints:
        """For each z and number of wins, the largest number of losses whose score is at most z (-1: none), by bisection.

        The score rises with the losses, so the region {score <= z} is a staircase.
        """
        low = np.full((len(z), len(wins)), -1, dtype=np.int64)
        high = np.broadcast_to(self.n - wins + 1, low.shape).copy()
        while np.any(high - low > 1):
            middle = (low + high) // 2
            inside = score(np.maximum(middle, 0), wins[None, :], self.n, self.within) <= z[:, None] + _Z_TIE
            open_ = high - low > 1
            low, high = np.where(open_ & inside, middle, low), np.where(open_ & ~inside, middle, high)
        return low

    def _below_by_sum(self, a: Ints, b: Ints) -> Below:
        n, within = self.n, self.within
        sums = a - b

        def below(win: float, which: npt.NDArray[np.intp]) -> Floats:
            spread = np.sqrt(n * (2 * win + within * (1 - within)))
            size = 1 << int(np.ceil(np.log2(24 * spread + 128)))
            offset = round(n * within) - size // 2
            angle, up, down = _circle(size)
            log_character = n * np.log1p((win + within) * up + win * down)
            mass = np.fft.fft(np.exp(log_character - 1j * angle * offset)).real / size
            law = np.concatenate([[0.0], np.cumsum(mass)])
            return np.asarray(np.clip(law[np.clip(sums[which] - offset + 1, 0, size)], 0.0, 1.0), dtype=np.float64)

        return below


@lru_cache(maxsize=4)
def _circle(size: int) -> tuple[Floats, Complex, Complex]:
    """Angles of a Fourier transform, and what one step up and one down add to the characteristic function there."""
    angle = 2 * np.pi * np.arange(size) / size
    step = np.exp(1j * angle)
    return angle, step - 1, 1 / step - 1


def trinomial(n: int, win: float, loss: float) -> tuple[int, int, Floats]:
    """The law of wins and losses on n rows, without what lies beyond their windows (less than 1e-8 in all).

    The first number of wins and of losses in it, and their probabilities, shape (wins, losses).
    """
    first_win, last_win = window(n, win)
    first_loss, last_loss = window(n, loss)
    wins, losses = np.arange(first_win, last_win + 1), np.arange(first_loss, last_loss + 1)
    # three factors: of the losses, of the wins, and of their sum, which may not exceed n
    both = np.arange(first_win + first_loss, last_win + last_loss + 1)
    ties, factorial = np.maximum(n - both, 0), _log_factorials(n)
    of_both = np.where(both <= n, special.xlogy(ties, max(1 - win - loss, 0.0)) - factorial[ties], -np.inf)
    of_losses = special.xlogy(losses, loss) - factorial[first_loss : last_loss + 1]
    of_wins = special.xlogy(wins, win) - factorial[first_win : last_win + 1] + factorial[n]
    # row by row, the part of `of_both` that begins one further: a view
    sums = np.ndarray((len(wins), len(losses)), np.float64, of_both, strides=of_both.strides * 2)
    mass = sums + of_losses
    mass += of_wins[:, None]
    return first_win, first_loss, np.asarray(np.exp(mass, out=mass), dtype=np.float64)


def _cumulative(n: int, win: float, within: float) -> tuple[int, int, Floats]:
    """As `trinomial`, with the probability of so many wins and fewer losses than 0, 1, 2 ... after the first: (wins, losses + 1)."""
    kept = _kept_laws(n, within)
    if (found := kept.get(win)) is not None:
        return found
    first_win, first_loss, mass = trinomial(n, win, win + within)
    table = np.zeros((mass.shape[0], mass.shape[1] + 1))
    np.cumsum(mass, axis=1, out=table[:, 1:])
    if table.size <= KEPT_CELLS:
        kept[win] = first_win, first_loss, table
    return first_win, first_loss, table


@lru_cache(maxsize=2)
def _kept_laws(n: int, within: float) -> dict[float, tuple[int, int, Floats]]:
    """The small laws of a test by P(win): a threshold, its rivals and its outlook are tested on the same rows, one by one."""
    return {}


@lru_cache(maxsize=8)
def _log_factorials(n: int) -> Floats:
    """log k! of k = 0 ... n. Asked for at every nuisance value, and at most for the rows of an exact test."""
    return np.asarray(special.gammaln(np.arange(n + 1) + 1.0), dtype=np.float64)


def window(n: int, rate: float) -> tuple[int, int]:
    """Counts that a binomial(n, rate) leaves with probability below 1e-9 in all."""
    reach = 6.5 * np.sqrt(n * rate * (1 - rate)) + 20
    return max(0, int(n * rate - reach)), min(n, int(n * rate + reach) + 1)
