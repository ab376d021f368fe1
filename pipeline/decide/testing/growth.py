"""Growth: what a test would say of the present rows together with so many further rows like them.

The further rows are drawn from a posterior law, so that what chance did to the present ones is not taken for the truth: how
many fall between two candidate thresholds by the Bayesian bootstrap (Rubin 1981, Ann Stat 9), and what comes of them by logistic
curves over the rank of the confidence (ridge prior, Laplace's approximation), which the rows between the two thresholds then
correct (beta prior worth `PRIOR_ROWS` rows). The present rows stay as they are: they are part of the grown sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from pipeline.decide.arrays import Flags, Floats, Ints
from pipeline.decide.target import Goal
from pipeline.decide.testing.binomial import too_few_errors_p
from pipeline.decide.testing.certificate import Candidates
from pipeline.decide.testing.paired_score import PairedTest, gamma_for
from pipeline.decide.testing.threshold_search import Sample, Trial
from pipeline.decide.testing.weighted_score import WeightedTest, weighted_test

DRAWS = 200
PRIOR_ROWS = 1.0
"""Rows that the curve's rate counts for beside those between two thresholds: few, since where the surest rows are all right a
logistic curve says that some are wrong."""
EXACT_ORDER = 3000
"""Above this many rows outcomes are put in the quicker order, which needs about as many rows."""
PARTS = 8
_PRIOR_SD = np.array([5.0, 2.5])
_NEWTON_STEPS = 30


@dataclass(frozen=True)
class Outcomes:
    """What came of each row, (n,): the cheap answer is `wrong`, the strong one is `missed` (known or held to be wrong); `told`:
    the strong answer was looked at, so that the row says how often it is wrong."""

    wrong: Flags
    missed: Flags
    told: Flags

    @classmethod
    def of(cls, drawn: Sample, goal: Goal) -> Outcomes:
        """As the goal's test counts them, what is unknown against the promise."""
        rows, strong = drawn.rows, drawn.strong_correct
        wrong = ~(rows.cheap_correct == 1)
        if goal.kind == "agree_with_strong":
            wrong = ~((rows.cheap_correct if drawn.human else rows.agree) == 1)
        missed = ~(strong == 1) if goal.kind == "system_accuracy" else np.asarray(strong == 0)
        told = np.ones(len(rows), dtype=bool)
        if rows.sampled and not drawn.human:
            told = np.where(wrong, ~np.isnan(strong), rows.drawn == 1)
            if goal.kind == "agree_with_strong":
                told = rows.drawn == 1
        return cls(wrong, missed, np.asarray(told, dtype=bool))


class Growth:
    """Draws of grown samples at the candidates of a trial.

    `rate`: share of the rows whose strong answer the coin draws, None where every answer is bought.
    """

    def __init__(self, drawn: Sample, trial: Trial, *, rate: float | None, seed: int) -> None:
        self.trial, self.goal, self.human = trial, trial.goal, drawn.human
        self.n, self.rate, self._seed = trial.laid.n, rate, seed
        rng = np.random.default_rng(seed)
        found, laid = Outcomes.of(drawn, self.goal), trial.laid
        block, score = _blocks(laid), _scores(drawn.rows.confidence)
        self._coin = drawn.rows.drawn == 1 if rate is not None else np.ones(self.n, dtype=bool)
        sizes = np.bincount(block, minlength=len(laid.thresholds) + 1).astype(np.float64)
        unseen = (~self._coin, ~self._coin & ~found.wrong, found.wrong & ~found.told)
        self._unseen = np.array([np.bincount(block[of], minlength=len(sizes)) for of in unseen], dtype=np.int64)
        seen = (np.ones(self.n, dtype=bool), *self._counted(found))
        self._present = np.array([np.bincount(block[of], minlength=len(sizes)) for of in seen], dtype=np.float64)
        self._widths = rng.dirichlet(sizes + 1e-9, DRAWS)
        middle = np.bincount(block, score, minlength=len(sizes)) / np.maximum(sizes, 1)

        part = _parts(sizes)

        def law(among: Flags, bad: Flags) -> Floats:
            curve = _curve(score[among], bad[among], middle, rng)
            seen, errors = (np.bincount(part[block[of]], minlength=part[-1] + 1) for of in (among, among & bad))
            inside = np.eye(part[-1] + 1)[part] * (sizes[:, None] + 1e-9)
            usual = curve @ inside / inside.sum(axis=0)
            rate = rng.beta(PRIOR_ROWS * usual + errors + 1e-6, PRIOR_ROWS * (1 - usual) + seen - errors + 1e-6)
            return np.asarray(np.minimum(curve * (rate / usual)[:, part], 1.0), dtype=np.float64)

        everywhere = found.told if self.goal.kind == "agree_with_strong" else np.ones(self.n, dtype=bool)
        self._wrong = law(everywhere, found.wrong)
        self._missed_if_wrong = law(found.wrong & found.told, found.missed)
        self._missed_if_right = law(~found.wrong & found.told, found.missed)

    def _counted(self, found: Outcomes) -> tuple[Flags, Flags, Flags]:
        """Rows that count as won, as wrong, and as wrong for both models."""
        wrong = found.wrong & self._coin if self.goal.kind == "agree_with_strong" else found.wrong
        return ~found.wrong & found.missed & self._coin, wrong, found.wrong & found.missed

    def chance(self, further: int, *, keeping: float = 0.0) -> float:
        """Share of the draws with `further` more rows in which a threshold is certified that keeps more than `keeping` of all."""
        return float(np.mean(self.certified(further, keeping=keeping)))

    def certified(self, further: int, *, keeping: float = 0.0) -> Flags:
        """Whether a threshold is certified that keeps more than `keeping` of all, in each draw with `further` more rows, (DRAWS,)."""
        n = self.n + further
        rng = np.random.default_rng([self._seed, further])
        new = rng.multinomial(further, self._widths)
        wrong = rng.binomial(new, self._wrong)
        missed = rng.binomial(wrong, self._missed_if_wrong)
        rate = 1.0 if self.rate is None else self.rate
        won = rng.binomial(new - wrong, self._missed_if_right * rate)
        if self.goal.kind == "agree_with_strong" and self.rate is not None:
            wrong = rng.binomial(wrong, rate)
        grown = np.stack([new, won, wrong, missed]) + self._present[:, None, :]
        kept, won, wrong, missed = np.cumsum(grown, axis=2)
        planned = None if self.trial.found.planned is None else self.trial.found.planned(n / self.n)
        return self._certified(n, kept, won, wrong, missed, planned, keeping)

    def at_rate(self, rate: float) -> tuple[float, float]:
        """What the present rows would say if the coin drew `rate` of them instead: the share of the draws that certify, and the
        share of rows that these escalate on average (1 where none does). Outcomes not seen today come from the law."""
        assert self.rate is not None
        rng, more = np.random.default_rng([self._seed, 1]), max(rate - self.rate, 0.0) / (1 - self.rate)
        undrawn, right, unasked = (np.broadcast_to(x, self._wrong.shape) for x in self._unseen)
        agreement = self.goal.kind == "agree_with_strong"
        fresh_wrong = rng.binomial(undrawn, self._wrong * more) if agreement else np.zeros(self._wrong.shape)
        fresh_won = rng.binomial(right, self._missed_if_right * more)
        fresh_missed = rng.binomial(unasked, self._missed_if_wrong)
        fresh = np.stack([np.zeros(self._wrong.shape), fresh_won, fresh_wrong, fresh_missed])
        kept, won, wrong, missed = np.cumsum(fresh + self._present[:, None, :], axis=2)[..., :-1]
        coins = round(rate * self.n)
        losses = wrong if agreement else wrong - missed
        if agreement:
            p = too_few_errors_p(losses, max(coins, 1), self.goal.limit)
        else:
            pairs, back = np.unique(np.stack([losses.ravel(), won.ravel()]), axis=1, return_inverse=True)
            test = weighted_test(self.n, coins, self.goal.limit, self.goal.delta)
            p = test.p_values(*pairs)[np.ravel(back)].reshape(losses.shape)
        passed = np.cumprod(p <= self.goal.delta, axis=1)
        most = np.max(kept * passed, axis=1)
        certified = most > self.goal.limit * self.n
        return float(certified.mean()), float(1 - most[certified].mean() / self.n) if certified.any() else 1.0

    def _certified(
        self, n: int, kept: Floats, won: Floats, wrong: Floats, missed: Floats, planned: Floats | None, keeping: float
    ) -> Flags:
        """Whether each draw certifies, (draws,). The last block holds the rows without a confidence, which no candidate keeps."""
        goal, candidates = self.goal, slice(0, len(self.trial.laid.thresholds))
        beyond = kept[:, candidates] > max(keeping, goal.limit if goal.paired else 0.0) * n
        others = np.zeros(beyond.shape[1]) if planned is None else planned
        if goal.paired:
            # the walk must pass down to the first candidate that keeps enough
            needed = np.arange(beyond.shape[1]) <= np.where(beyond.any(axis=1), np.argmax(beyond, axis=1), -1)[:, None]
            losses = wrong if self.human or goal.kind == "agree_with_strong" else wrong - missed
            p = self._paired(n, losses[:, candidates][needed], won[:, candidates][needed])
            passed = np.ones(beyond.shape, dtype=bool)
            passed[needed] = p <= goal.delta
            passed &= ~needed | (others <= goal.delta)
            empty = self._paired(n, np.zeros(1), np.zeros(1))[0] <= goal.delta
            return np.asarray(needed.any(axis=1) & passed.all(axis=1) & empty)
        if goal.kind == "accepted_accuracy":
            p = too_few_errors_p(wrong[:, candidates], kept[:, candidates], 1 - goal.limit)
        else:
            strong = won + missed
            errors = wrong[:, candidates] + strong[:, -1:] - strong[:, candidates]
            p = too_few_errors_p(errors, n, 1 - goal.limit)
        p = np.maximum(p, others)
        assert self.trial.weights is not None
        carried, certified = np.zeros(len(p)), np.zeros(len(p), dtype=bool)
        for i, weight in enumerate(self.trial.weights):  # as `multiple_testing.fallback`, for all draws
            level = weight * goal.delta + carried
            rejected = (level > 0) & (p[:, i] <= level)
            certified |= rejected & beyond[:, i]
            carried = np.where(rejected, level, 0.0)
        return certified

    def _paired(self, n: int, losses: Floats, wins: Floats) -> Floats:
        goal = self.goal
        if self.human or goal.kind == "agree_with_strong":
            return too_few_errors_p(losses, n if self.rate is None else max(1, round(self.rate * n)), goal.limit)
        if not len(losses):
            return np.zeros(0)
        pairs, back = np.unique(np.stack([losses, wins]), axis=1, return_inverse=True)
        gamma = gamma_for(goal.delta)
        if self.rate is None:
            test = PairedTest(n, goal.limit, gamma=gamma, largest_exact_order=EXACT_ORDER)
            return test.p_values(*pairs)[np.ravel(back)]
        weighted = WeightedTest(n, round(self.rate * n), goal.limit, gamma=gamma, largest_exact_order=EXACT_ORDER // 3)
        return weighted.p_values(*pairs)[np.ravel(back)]


def _blocks(laid: Candidates) -> Ints:
    """Number of the first candidate that accepts each row, (n,); rows that none accepts come last."""
    block = np.full(laid.n, len(laid.thresholds), dtype=np.int64)
    block[laid.order] = np.searchsorted(laid.n_accepted, np.arange(laid.n_confident), side="right")
    return block


def _parts(sizes: Floats) -> Ints:
    """Number of the part that each block belongs to: parts of neighbours with about a tenth of all rows each."""
    before = np.cumsum(sizes) - sizes
    _, part = np.unique(np.floor(before / (sizes.sum() / PARTS) + 1e-9), return_inverse=True)
    return np.asarray(part, dtype=np.int64)


def _scores(confidence: Floats) -> Floats:
    """Normal scores of the confidences' ranks, large is sure, (n,): a scale that does not depend on how they are spread."""
    _, tie, sizes = np.unique(np.nan_to_num(confidence, nan=-np.inf), return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2
    return np.asarray(special.ndtri(middle[tie] / len(confidence)), dtype=np.float64)


def _curve(x: Floats, bad: Flags, at: Floats, rng: np.random.Generator) -> Floats:
    """Draws of the posterior of P(bad | x) at the points `at`, (DRAWS, points): logistic in x with a ridge prior."""
    design, precision = np.stack([np.ones(len(x)), x], axis=1), np.diag(1 / _PRIOR_SD**2)
    beta, hessian = np.zeros(2), precision
    for _ in range(_NEWTON_STEPS):
        p = special.expit(design @ beta)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + precision
        step = np.linalg.solve(hessian, design.T @ (bad - p) - precision @ beta)
        beta = beta + np.clip(step, -3.0, 3.0)
        if np.abs(step).max() < 1e-6:
            break
    drawn = rng.multivariate_normal(beta, np.linalg.inv(hessian), DRAWS)
    return np.asarray(special.expit(drawn[:, :1] + drawn[:, 1:] * at), dtype=np.float64)
