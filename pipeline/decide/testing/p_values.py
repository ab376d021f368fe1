"""PValues: for each candidate threshold, the p-value of "the promise is broken here", one function per promise.

What is missing counts against the promise, never for it: an accepted row whose cheap correctness is unknown is an error,
a missing strong answer beside a wrong cheap one is a loss and beside a right one no win, an escalated row whose strong
correctness is unknown is an error. No row is dropped from n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.decide.advice.number_text import counted, p_value, shortened
from pipeline.decide.arrays import Flags, Floats, Ints
from pipeline.decide.testing import weighted_score
from pipeline.decide.testing.binomial import too_few_errors_p
from pipeline.decide.testing.certificate import Candidates
from pipeline.decide.testing.paired_score import PairedTest, gamma_for, score
from pipeline.decide.testing.weighted_score import weighted_test


@dataclass(frozen=True)
class Evidence:
    """P-values and statistics, shapes (candidates,), and how to say in words what one candidate showed.

    NaN: not tested, as it follows the first failure of a fixed sequence and decides nothing. `planned(s)` gives the p-values that
    floors, or groups, would have in a set s times as large at their present rates (of floors with probability about 0.8 or
    better); None where the rows' own outcomes are all there is, which are drawn again to plan with (`growth`).
    """

    p_values: Floats
    statistic: Floats
    test: str
    describe: Callable[[int], str]
    planned: Callable[[float], Floats] | None = None
    floor: Callable[[int], dict[str, Any] | None] | None = None
    """At a candidate, the floor that fails and decides: name, rows, right, at_least, p_value, and how many further rows of it
    would probably do (None: no number would). None where the main promise is what fails."""


SHOWN = 50
"""Candidates looked at for the closest one where none passes."""
MOST_FACTOR = 200.0
_POWER_Z = 0.84
"""Standard errors between a median outcome and one that 80 % of sets do better than."""


def against_strong(
    laid: Candidates, cheap_correct: Floats, strong_correct: Floats, within: float, delta: float
) -> Evidence:
    """H: the cascade's accuracy is lower than the strong model's by `within` or more. Statistic: Tango's score z.

    `delta` is the level at which the p-values will be judged, in one fixed sequence: they are computed up to its first
    failure, and where nothing passes at some candidates beyond it, to tell which came closest.
    """
    wrong = ~(cheap_correct == 1)
    losses = laid.cumulative(wrong & ~(strong_correct == 0))
    wins = laid.cumulative(~wrong & (strong_correct == 0))
    test = PairedTest(max(laid.n, 1), within, gamma=gamma_for(delta))

    p_values = test.sequence(losses, wins, delta)
    if len(p_values) and not (np.nan_to_num(p_values, nan=1.0)[laid.n_accepted > 0] <= delta).any():
        some = np.unique(np.linspace(0, len(p_values) - 1, SHOWN).astype(np.int64))
        p_values[some] = test.p_values(losses[some], wins[some])
    return Evidence(
        p_values=p_values,
        statistic=score(losses, wins, laid.n, within),
        test=test.method,
        describe=lambda i: (
            f"{counted(losses[i], 'row')} lost and {wins[i]:,} won against the strong model, of {laid.n:,}"
        ),
    )


def against_sampled_strong(
    laid: Candidates,
    cheap_correct: Floats,
    strong_correct: Floats,
    drawn: Flags,
    within: float,
    delta: float,
) -> Evidence:
    """As `against_strong` where strong answers are known of wrong cheap answers and of the rows `drawn` (n,) by a coin.

    Losses are counted on all rows; a win counts where the coin drew the row, for n / drawn rows.
    """
    wrong = ~(cheap_correct == 1)
    losses = laid.cumulative(wrong & ~(strong_correct == 0))
    wins = laid.cumulative(drawn & ~wrong & (strong_correct == 0))
    n, sampled = max(laid.n, 1), int(drawn.sum())
    test = weighted_test(n, sampled, within, delta)

    shown = losses / n if sampled == 0 else weighted_score.score(losses, wins, n, sampled, within)
    return Evidence(
        p_values=test.sequence(losses, wins, delta),
        statistic=shown,
        test=test.method,
        describe=lambda i: (
            f"{counted(losses[i], 'row')} lost against the strong model, of {laid.n:,}, and {wins[i]:,} won of the {sampled:,} that the coin drew"
        ),
    )


def among_all(
    laid: Candidates,
    bad: Flags,
    within: float,
    what: str,
    among: Flags | None = None,
) -> Evidence:
    """H: the share of all rows that are accepted and `bad` is `within` or more. Statistic: that share as observed.

    `among` (n,): the rows that are looked at, drawn by a coin; None: all.
    """
    n = laid.n if among is None else int(among.sum())
    errors = laid.cumulative(bad if among is None else bad & among)
    return Evidence(
        p_values=too_few_errors_p(errors, n, within),
        statistic=errors / max(n, 1),
        test="exact binomial test" if among is None else "exact binomial test of the rows that the coin drew",
        describe=lambda i: f"{counted(errors[i], 'kept answer')} {what}, of {counted(n, 'row')}",
    )


def among_accepted(laid: Candidates, cheap_correct: Floats, at_least: float) -> Evidence:
    """H: the accuracy of accepted rows is `at_least` or lower. Statistic: their error rate as observed."""
    errors = laid.cumulative(~(cheap_correct == 1))
    return Evidence(
        p_values=too_few_errors_p(errors, laid.n_accepted, 1 - at_least),
        statistic=errors / np.maximum(laid.n_accepted, 1),
        test="exact binomial test",
        describe=lambda i: f"{counted(errors[i], 'error')} among {counted(laid.n_accepted[i], 'kept answer')}",
    )


def of_system(laid: Candidates, cheap_correct: Floats, strong_correct: Floats, at_least: float) -> Evidence:
    """H: the cascade's accuracy is `at_least` or lower. Statistic: its error rate as observed."""
    errors = cascade_errors(laid, cheap_correct, strong_correct)
    return Evidence(
        p_values=too_few_errors_p(errors, laid.n, 1 - at_least),
        statistic=errors / laid.n,
        test="exact binomial test",
        describe=lambda i: f"{counted(errors[i], 'error')} of the cascade in {counted(laid.n, 'row')}",
    )


@dataclass(frozen=True)
class Floor:
    """The least share of some rows that must be right, such as those of a label (then it is its recall): which rows these
    are (n,), and whether each model is right there, NaN unknown."""

    rows: Flags
    cheap_correct: Floats
    strong_correct: Floats
    at_least: float


def with_floors(
    main: Evidence,
    laid: Candidates,
    floors: Mapping[str, Floor],
    delta: float,
) -> Evidence:
    """H: the main promise is broken, or the cascade is right in some floor's rows at its least share or less often.

    The claim is that all hold, so the largest p-value decides and delta is not split (intersection-union test). A floor
    without rows has p = 1. `delta` is only planned with.
    """
    tests = {}
    for name, floor in floors.items():
        rows = int(floor.rows.sum())
        errors = cascade_errors(laid, floor.cheap_correct, floor.strong_correct, floor.rows)
        tests[name] = (errors, rows, too_few_errors_p(errors, rows, 1 - floor.at_least))
    p_values = np.max([main.p_values, *(p for _, _, p in tests.values())], axis=0)

    def describe(i: int) -> str:
        hardest = max(tests, key=lambda name: tests[name][2][i])
        errors, rows, p = tests[hardest]
        found = f"{shortened(hardest)}: {rows - int(errors[i]):,} of {rows:,} right, floor {floors[hardest].at_least:g}, {p_value(p[i])}"
        return f"{main.describe(i)}; tightest floor, {found}"

    def planned(size: float) -> Floats:
        floored = [
            _planned_errors(e, np.full(len(e), rows), size, 1 - floors[name].at_least)
            for name, (e, rows, _) in tests.items()
        ]
        return np.asarray(np.max(floored, axis=0), dtype=np.float64)

    def missed(i: int) -> dict[str, Any] | None:
        hardest = max(tests, key=lambda name: tests[name][2][i])
        errors, rows, p = tests[hardest]
        if not (p[i] > delta and p[i] >= np.nan_to_num(main.p_values[i], nan=0.0)):
            return None
        wrong, least = int(errors[i]), floors[hardest].at_least
        return {
            "name": hardest,
            "rows": rows,
            "right": rows - wrong,
            "at_least": least,
            "p_value": float(p[i]),
            "further": _further_of_floor(wrong, rows, 1 - least, delta),
        }

    words = f"{main.test}; exact binomial tests of the floors, the largest p decides"
    return Evidence(np.asarray(p_values), main.statistic, words, describe, planned, missed)


def _further_of_floor(errors: int, rows: int, limit: float, delta: float) -> int | None:
    """Further rows with which a floor would probably pass, were its error rate as seen; None where no number up to
    `MOST_FACTOR` times as many would do. A floor without rows needs as many as pass without an error."""
    if rows == 0:
        return int(np.ceil(np.log(delta) / np.log(1 - limit)))
    sizes = np.geomspace(1.0, MOST_FACTOR, 120)
    wrong, seen = np.array([errors]), np.array([rows])
    passes = [s for s in sizes if _planned_errors(wrong, seen, float(s), limit)[0] <= delta]
    return max(1, int(np.ceil(rows * (passes[0] - 1)))) if passes else None


def _planned_errors(errors: Ints, trials: Ints, size: float, limit: float) -> Floats:
    rate = errors / np.maximum(trials, 1)
    rows = np.round(size * trials)
    worse = np.ceil(size * errors + _POWER_Z * np.sqrt(rows * rate * (1 - rate)))
    return too_few_errors_p(np.minimum(worse, rows), rows, limit)


def cascade_errors(
    laid: Candidates, cheap_correct: Floats, strong_correct: Floats, counted: Flags | None = None
) -> Ints:
    """Errors of the cascade at each candidate among the `counted` rows (all when None); what is unknown is an error."""
    among = np.ones(laid.n, dtype=bool) if counted is None else counted
    cheap_wrong, strong_wrong = among & ~(cheap_correct == 1), among & ~(strong_correct == 1)
    return laid.cumulative(cheap_wrong) + int(strong_wrong.sum()) - laid.cumulative(strong_wrong)
