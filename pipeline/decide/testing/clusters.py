"""Promises about groups: rows of one user or thread resemble each other, so groups are counted, not rows.

The promise is about the mean over groups of the mean inside. Two ways keep it whatever the correlation inside a group:
one row drawn from each group, where rows become independent and the row tests apply; or all rows, each group entering by
its mean, with a betting test that needs nothing but bounded, independent groups (Waudby-Smith & Ramdas 2024, JRSS B 86).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.decide.advice.number_text import counted, signed
from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing.certificate import Candidates
from pipeline.decide.testing.p_values import SHOWN, Evidence
from pipeline.decide.thresholds import accepted

Texts = CodedTexts | npt.NDArray[Any]

LARGEST_VARIANCE = 0.5
"""Group means are used where they vary at most this much of what single rows do (measured: the two ways are equal there)."""
ASSUMED_CORRELATION = 0.3
"""Of rows of a group, where all rows certify: group means are used from 3.5 rows a group on."""
FEWEST_GROUPS = 20
"""Groups of several rows needed to say anything about their correlation."""
MOST_CANDIDATES = 2000
"""Distinct confidences that are each a candidate for group means; beyond them a fixed scale of thresholds is."""
_LARGEST_BET = 0.98
ONE_ROW = "one row per group drawn by hash"
MEANS = "each group by the mean of its rows"


@dataclass(frozen=True)
class Plan:
    """How groups are treated: `way` is None where every group is a single row, else ONE_ROW or MEANS.

    `group` (rows,) numbers the groups, `n` is how many there are.
    """

    way: str | None
    group: Ints
    n: int


def plan(rows: Rows, goal: Goal, fit: Rows | None) -> Plan:
    """Choose by the groups' sizes and by rows that do not certify, so the choice costs no certainty.

    Group means vary as much as (1 + (m - 1) r) / m of single rows, for m rows a group that resemble each other by the
    intraclass correlation r; the betting test wastes about half of that, so it is taken from `LARGEST_VARIANCE` down.
    Without such rows it is taken to be `ASSUMED_CORRELATION`, so sizes alone decide. Budgets and label floors always take one row of each group.
    """
    numbered = codes(rows.group)
    sizes = np.bincount(numbered)
    n = len(sizes)
    if n == len(rows):
        return Plan(None, numbered, n)
    if goal.kind == "budget" or goal.floored:
        return Plan(ONE_ROW, numbered, n)
    correlation = _correlation_of_errors(fit) if fit is not None and len(fit) else ASSUMED_CORRELATION
    variance = float(np.mean((1 + (sizes - 1) * correlation) / sizes))
    return Plan(MEANS if variance <= LARGEST_VARIANCE else ONE_ROW, numbered, n)


def _correlation_of_errors(fit: Rows) -> float:
    graded = not np.isnan(fit.cheap_correct).all()
    return intraclass_correlation(
        codes(fit.group), (~((fit.cheap_correct if graded else fit.agree) == 1)).astype(np.float64)
    )


def intraclass_correlation(group: Ints, values: Floats) -> float:
    """How alike the values of a group are, from 0 to 1, by one-way analysis of variance; 1 where too few groups tell.

    `group` (n,) numbers from 0, `values` (n,). See Donner 1986, Int Stat Rev 54, for groups of unequal size.
    """
    sizes = np.bincount(group).astype(np.float64)
    n, k = len(values), len(sizes)
    if np.count_nonzero(sizes > 1) < FEWEST_GROUPS:
        return 1.0
    inside = float(((values - means(group, values)[group]) ** 2).sum()) / (n - k)
    between = float((sizes * (means(group, values) - values.mean()) ** 2).sum()) / (k - 1)
    size = (n - float((sizes**2).sum()) / n) / (k - 1)
    total = between + (size - 1) * inside
    return float(np.clip((between - inside) / total, 0.0, 1.0)) if total > 0 else 1.0


def codes(group: Texts) -> Ints:
    """Number of each row's group, from 0, by first appearance, shape (n,). A row without a group (None) is one by itself."""
    numbered, _ = CodedTexts.of(group).factorized()
    alone = numbered < 0
    if not alone.any():
        return numbered
    numbered[alone] = numbered.max(initial=-1) + 1 + np.arange(np.count_nonzero(alone))
    return pd.factorize(numbered)[0].astype(np.int64)


def fold_of(group: Texts, folds: int, seed: int) -> Ints:
    """The part of each row in a cross-fit, 0 to folds - 1, shape (n,): by a hash of its group, whatever the order of rows."""
    coded = CodedTexts.of(group)
    number, places = coded.factorized()
    alone = np.flatnonzero(number < 0)  # a row without a group (None) is one by itself
    keys = chain(coded.texts_at(places), ((None, i) for i in alone.tolist()))
    number[alone] = len(places) + np.arange(len(alone))
    start = f"part of a cross-fit:{seed}:"
    part = np.empty(len(places) + len(alone), dtype=np.int64)
    for first in range(0, len(part), 1 << 16):  # a million digests at once would take more memory than their rows
        digests = [
            sha256(f"{start}{key}".encode("utf-8", "surrogatepass")).digest()[:8] for key in islice(keys, 1 << 16)
        ]
        part[first : first + len(digests)] = np.frombuffer(b"".join(digests), dtype=">u8") % np.uint64(folds)
    return np.asarray(part[number])


def one_row_each(group: Ints, name: Texts) -> npt.NDArray[np.intp]:
    """Index of one row per group, each row of a group equally likely, in row order.

    The smallest hash of the rows' names decides, so no seed can draw again until the outcome pleases. `name` (n,) are
    example ids; where they are None the row number stands in.
    """
    key = np.zeros(len(group), dtype=np.uint64)
    several = np.flatnonzero(np.bincount(group)[group] > 1)
    for i, told in zip(several, CodedTexts.of(name)[several], strict=True):
        text = f"one row per group:{i if told is None else told}"
        key[i] = int.from_bytes(sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    order = np.lexsort((key, group))
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    return np.sort(order[first])


def means(group: Ints, values: Floats) -> Floats:
    """Mean of `values` (n,) inside each group, shape (groups,)."""
    return np.asarray(np.bincount(group, values) / np.bincount(group), dtype=np.float64)


def fixed_scale() -> Floats:
    """Thresholds for more rows than each can have its own: short decimals, the closer together the nearer to 1.

    A betting test takes time for every row and candidate. These do not depend on the rows, so the test stays exact.
    """
    near_one = [1 - round(m * 10.0**-digits, digits) for digits in range(3, 14) for m in range(10, 100)]
    return np.unique(np.concatenate([np.arange(450) / 500, np.round(near_one, 13), [1.0]]))


def evidence(
    laid: Candidates,
    rows: Rows,
    strong_correct: Floats,
    agree: Floats,
    goal: Goal,
    group: Ints,
    *,
    in_sequence: bool,
    weight: float | None = None,
) -> Evidence:
    """Each group enters by the mean of a value per row whose expectation is at least 0 where the promise is broken.

    What is missing counts against the promise, as in `pipeline.decide.testing.p_values`. `in_sequence`: one fixed
    sequence, of which nothing is computed beyond its first failure but some candidates that tell which came closest. Where
    answers are sampled, what the coin drew counts for `weight` rows: it makes values smaller, or for agreement larger.
    """
    wrong, n = ~(rows.cheap_correct == 1), len(rows)
    drawn = rows.drawn == 1 if rows.sampled else np.ones(n, dtype=bool)
    if not rows.sampled:
        weight = 1.0
    elif weight is None:
        weight = n / int(drawn.sum()) if drawn.any() else 0.0
    if goal.kind == "match_strong":
        loss, win = wrong & ~(strong_correct == 0), drawn & ~wrong & (strong_correct == 0)
        kept, sent, largest = loss * 1.0 - weight * win - goal.limit, np.full(n, -goal.limit), 1 - goal.limit
    elif goal.kind == "agree_with_strong":
        other = drawn & ~(agree == 1)
        kept, sent, largest = weight * other - goal.limit, np.full(n, -goal.limit), max(weight, 1.0) - goal.limit
    elif goal.kind == "accepted_accuracy":
        kept, sent, largest = wrong - (1 - goal.limit), np.zeros(n), goal.limit
    else:
        kept, sent, largest = wrong - (1 - goal.limit), ~(strong_correct == 1) - (1 - goal.limit), goal.limit
    averages, p_values = np.full(len(laid.thresholds), np.nan), np.full(len(laid.thresholds), np.nan)

    def test(i: int) -> bool:
        column = means(group, np.where(accepted(rows.confidence, float(laid.thresholds[i])), kept, sent))
        averages[i], (p_values[i],) = column.mean(), betting_p([column], largest)
        return bool(p_values[i] <= goal.delta)

    failed = next((i for i in range(len(p_values)) if not test(i) and in_sequence), len(p_values))
    if in_sequence and not (laid.n_accepted[:failed] > 0).any():
        for i in np.unique(np.linspace(0, len(p_values) - 1, SHOWN).astype(np.int64)):
            test(int(i))
    count = int(group.max()) + 1
    return Evidence(
        p_values=p_values,
        statistic=averages,
        test="betting test",
        describe=lambda i: (
            f"mean of {counted(count, 'group')} ({counted(n, 'row')}) {signed(averages[i], 4)} against what is allowed"
        ),
        # a gambler's log capital grows in proportion to the number of bets
        planned=lambda size: np.where(averages < 0, p_values**size, np.where(np.isnan(averages), np.nan, 1.0)),
    )


def betting_p(columns: Iterable[Floats], largest: float) -> Floats:
    """P-values of H: E[value] >= 0, one per column of independent values that never exceed `largest` > 0.

    The capital of a gambler who bets on values below 0 grows beyond 1/p with probability at most p under H (Ville). The
    stake follows the mean and variance seen so far (Kelly's approximation), in one fixed shuffled order of the groups.
    """
    return np.array([_bet(column, largest) for column in columns], dtype=np.float64)


def _bet(values: Floats, largest: float) -> float:
    x = np.random.default_rng(0).permutation(values)
    seen = np.arange(1, len(x) + 1)
    # a prior group at the worst value that is still harmless keeps the first stakes moderate
    mean = (np.cumsum(x) + 0.0) / (seen + 1)
    variance = (np.cumsum((x - mean) ** 2) + 0.25 * largest**2) / (seen + 1)
    stake = np.clip(-mean / (variance + mean**2), 0.0, _LARGEST_BET / largest)
    wealth = np.cumsum(np.log1p(-np.concatenate([[0.0], stake[:-1]]) * x))
    return float(min(1.0, np.exp(-max(0.0, wealth.max(initial=0.0)))))
