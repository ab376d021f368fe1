"""Ranking: how well probabilities order a query's passages, or a row's options, with and without escalation.

Precision@k as trec_eval counts it, average precision (MAP over queries) and nDCG@k, with gains 1 and 0 or those of graded labels
(Järvelin and Kekäläinen 2002), each as its expected value over the orders of tied passages; for options
the share of rows whose first option is right and the mean reciprocal rank (MRR) of the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtrit

from pipeline.decide.advice.number_text import MINUS
from pipeline.decide.arrays import Flags, Floats, Ints
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.curves.joined_scores import by_gain, by_relevance
from pipeline.decide.held_out import LEVEL, interval_level, shown_split
from pipeline.decide.predictions import Rows
from pipeline.decide.testing.share_interval import UNSEEN, share_interval
from pipeline.decide.thresholds import accepted

Texts = CodedTexts | npt.NDArray[np.object_]

CUT = 10
PRECISION_AT = (1, 3)
TIES = "expected value over all orders of tied ones"
BARE_VERDICT = "bare verdict: yes before no, ties by their expected value"
BY_PROBABILITY = "its own P(yes)"


@dataclass(frozen=True)
class Ranked:
    """One query's passages from first to last, in blocks that tie on every score.

    `gain` (m,) of each passage; `ends` (blocks,): how many passages stand up to the end of each block. Measures are expected
    values over all orders of the tied ones, in closed form (McSherry and Najork 2008, ECIR).
    """

    gain: Floats
    ends: Ints

    @classmethod
    def of(cls, gain: Floats, *scores: Floats) -> Ranked:
        """Order by the scores, the first score first, larger before smaller; null ones (NaN) last."""
        keys = np.array([-np.nan_to_num(score, nan=-np.inf) for score in scores])
        order = np.lexsort(keys[::-1])
        keys = keys[:, order]
        new = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
        return cls(np.asarray(gain[order], dtype=np.float64), np.append(np.flatnonzero(new) + 1, len(gain)))

    @property
    def sizes(self) -> Ints:
        """Passages of each block."""
        return np.diff(self.ends, prepend=0)

    def expected(self, gain: Floats) -> Floats:
        """Expected gain at each position: the mean of its block."""
        sums = np.add.reduceat(gain, self.ends - self.sizes)
        return np.repeat(sums / self.sizes, self.sizes)


def average_precision(ranked: Ranked) -> float:
    """Mean of the precision at each relevant passage (gain above 0); NaN without one."""
    relevant = (ranked.gain > 0).astype(np.float64)
    if not relevant.any():
        return float("nan")
    total, before, start = 0.0, 0.0, 0
    for size, end in zip(ranked.sizes, ranked.ends, strict=True):
        hits = float(relevant[start:end].sum())
        place = np.arange(1, size + 1)
        others = (
            (place - 1) * (hits - 1) / max(size - 1, 1)
        )  # expected number of relevant passages before it in its own block
        total += float((hits / size * (before + 1 + others) / (start + place)).sum())
        before, start = before + hits, int(end)
    return total / float(relevant.sum())


def ndcg(ranked: Ranked, cut: int = CUT) -> float:
    """Discounted cumulative gain of the first `cut` over that of the best order; NaN without a relevant passage."""
    if not (ranked.gain > 0).any():
        return float("nan")
    discount = 1 / np.log2(np.arange(2, min(cut, len(ranked.gain)) + 2))
    best = np.sort(ranked.gain)[::-1]
    return float((ranked.expected(ranked.gain)[:cut] * discount).sum() / (best[:cut] * discount).sum())


def precision_at(ranked: Ranked, k: int) -> float:
    """Relevant ones among the first k over k, as trec_eval counts: a list shorter than k cannot reach 1."""
    return float(ranked.expected((ranked.gain > 0).astype(np.float64))[:k].sum() / k)


def passages(
    group: Texts,
    relevant: Floats,
    score: Floats,
    strong_says: Floats,
    kept: Flags,
    *,
    relevance: Floats,
    strong_share: tuple[float, float],
    gain: Floats | None = None,
    strong_score: Floats | None = None,
    level: float = LEVEL,
) -> dict[str, Any]:
    """Metrics over queries of the cheap model alone, the cascade and the strong model; arrays of shape (n,).

    `relevant` 1 or 0; `gain` of graded labels as shares of the largest, else `relevant`; `score` the cheap model's P(yes), NaN null; `strong_says` 1, 0
    or NaN (missing or unreadable); `kept` rows that the cheap model answers. The two models' words meet on one scale, the
    probability of being relevant: `relevance` of a kept row (calibrated); of an escalated one a logistic regression on the cheap
    logit and the strong verdict, fitted on the escalated rows of other queries, or where these are too few `strong_share`, how
    often passages are relevant that the strong model answers with no and with yes (see `share_relevant`). A bare 1 or 0 would
    lose the order. Of graded passages it is the expected gain throughout (see `joined_scores`). Where the strong answer is missing the cheap order stands. The strong model alone is its bare verdict, or
    where each of its answers came with logprobs its own P(yes), `strong_score`, which then stands for the verdict throughout.
    Ties count by their expected value. Queries without a relevant passage have no average precision and no nDCG, and are counted.
    Where strong answers are missing throughout, its entries are None. Intervals are over queries, and `difference` is the cascade
    minus the cheap model on the same queries.
    """
    value = relevant if gain is None else gain
    _, code = np.unique(np.asarray(group, dtype=object).astype(str), return_inverse=True)
    silent = np.isnan(strong_says)
    told = strong_score is not None and not silent.all() and not np.isnan(strong_score[~silent]).any()
    verdict = strong_says if strong_score is None or not told else np.where(silent, np.nan, strong_score)
    orders: dict[str, tuple[Floats, ...]] = {"cheap": (score,)}
    if not silent.all():
        told_rows = ~kept & ~silent
        asked = (
            by_relevance(code, relevant, score, verdict, strong_says, told_rows, strong_share)
            if gain is None
            else by_gain(code, value, score, verdict, told_rows)
        )
        # a missing verdict ranks between yes and no, in the cheap model's order
        orders |= {
            "cascade": (np.where(kept | silent, relevance, asked), score),
            "strong": (np.where(silent, 0.5, verdict), np.where(silent, score, 0.0)),
        }
    queries = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code))[:-1])
    measures: dict[str, Callable[[Ranked], float]] = {"ndcg_at_10": ndcg, "map": average_precision}
    measures |= {f"precision_at_{k}": partial(precision_at, k=k) for k in PRECISION_AT}
    out: dict[str, Any] = {
        "kind": "passages",
        "queries": len(queries),
        "without_relevant": sum(not (value[q] > 0).any() for q in queries),
        "null_scores": int(np.isnan(score).sum()),
        "strong_missing": int((~kept & silent).sum()),
        "ties": TIES,
        "strong_is": BY_PROBABILITY if told else BARE_VERDICT,
        "difference": None,
        "sentence": None,
        **dict.fromkeys(("cheap", "cascade", "strong")),
    }
    found: dict[str, dict[str, Floats]] = {}
    for who, scores in orders.items():
        answered = [q for q in queries if who != "strong" or not silent[q].all()]
        ranked = [Ranked.of(value[q], *(s[q] for s in scores)) for q in answered]
        found[who] = {name: np.array([f(r) for r in ranked]) for name, f in measures.items()}
        out[who] = {name: _mean(values, level) for name, values in found[who].items()}
    if "cascade" in found:
        out["difference"] = {
            name: _difference(found["cascade"][name] - found["cheap"][name], level) for name in measures
        }
        out["sentence"] = _bought("nDCG@10", out["difference"]["ndcg_at_10"], escalated=int((~kept).sum()))
    return out


def _bought(name: str, difference: Mapping[str, Any], *, escalated: int) -> str | None:
    """One sentence if escalation does not clearly improve the order."""
    value, lower, upper = (difference[k] for k in ("value", "lower", "upper"))
    if not escalated or value is None or lower is None or lower > 0:
        return None
    text = f"{value:+.3f} [{lower:+.3f}, {upper:+.3f}]".replace("-", MINUS)
    if upper < 0:
        return f"Escalation makes the ranking worse: {name} changes by {text} against the cheap model's order."
    return f"Escalation does not clearly improve the ranking: {name} changes by {text} against the cheap model's order."


def share_relevant(relevant: Floats, strong_says: Floats) -> tuple[float, float]:
    """Share of relevant passages where the strong model says no, and where it says yes, each with half a row added to both
    sides so that neither is ever 0 or 1. From rows that are not the ones ranked."""
    counts = [(np.nansum(relevant[strong_says == says]), (strong_says == says).sum()) for says in (0, 1)]
    no, yes = (float((k + 0.5) / (n + 1)) for k, n in counts)
    return no, yes


def options(
    label: Texts,
    names: Sequence[Sequence[str]],
    probabilities: Sequence[Mapping[str, float] | None],
    strong_answer: Texts,
    kept: Flags,
    *,
    strong_probabilities: Sequence[Mapping[str, float] | None] | None = None,
    level: float = LEVEL,
) -> dict[str, Any]:
    """Top-1 accuracy and MRR of the cheap model alone, the cascade and the strong model, over n rows.

    `names` are each row's option letters, `probabilities` the cheap model's by letter, None where null: then nothing is
    ranked, and the row scores 0. In a cascade an escalated row puts the strong answer first and keeps behind it the strong
    model's order where each of its answers came with probabilities, else the cheap one. Without these the strong model
    alone gives no order, so it has no MRR.
    """
    silent = np.array([s is None for s in strong_answer], dtype=bool)
    theirs = strong_probabilities or [None] * len(label)
    told = not silent.all() and all(p is not None for p, s in zip(theirs, silent, strict=True) if not s)
    chances, others = (
        [None if p is None else [p.get(n, 0.0) for n in letters] for letters, p in zip(names, given, strict=True)]
        for given in (probabilities, theirs)
    )
    cheap = [_places(letters, p, y) for letters, p, y in zip(names, chances, label, strict=True)]
    cascade = [
        c if k or s is None else _behind(letters, q if told else p, y, s)
        for c, k, s, letters, p, q, y in zip(cheap, kept, strong_answer, names, chances, others, label, strict=True)
    ]
    out: dict[str, Any] = {
        "kind": "options",
        "rows": len(label),
        "null_scores": sum(p is None for p in probabilities),
        "strong_missing": int((~kept & silent).sum()),
        "ties": TIES,
        "strong_is": "its answer, then its own probabilities" if told else "its answer alone, which gives no order",
        "difference": None,
        "sentence": None,
    }
    known = not silent.all()
    for who, ranked in (("cheap", cheap), ("cascade", cascade if known else None)):
        out[who] = None
        if ranked is not None:
            top, reciprocal = np.array(ranked, dtype=np.float64).reshape(-1, 2).T
            out[who] = {"top_1": _mean(top, level), "mrr": _mean(reciprocal, level)}
    if known:
        moved = np.array(cascade, dtype=np.float64).reshape(-1, 2) - np.array(cheap, dtype=np.float64).reshape(-1, 2)
        out["difference"] = {"top_1": _difference(moved[:, 0], level), "mrr": _difference(moved[:, 1], level)}
        out["sentence"] = _bought("MRR", out["difference"]["mrr"], escalated=int((~kept).sum()))
    right = np.array([s == y for s, y in zip(strong_answer, label, strict=True)], dtype=float)[~silent]
    order = [
        _behind(letters, q, y, s)[1]
        for letters, q, y, s in zip(names, others, label, strong_answer, strict=True)
        if told and s is not None
    ]
    out["strong"] = (
        {"top_1": _mean(right, level), "mrr": _mean(np.array(order), level) if told else None} if known else None
    )
    return out


def _places(names: Sequence[str], chances: Sequence[float] | None, label: str) -> tuple[float, float]:
    """Expected share of orders with the right option first, and expected reciprocal rank, over orders of tied options."""
    if chances is None or label not in names:
        return 0.0, 0.0
    mine = chances[list(names).index(label)]
    before, tied = sum(p > mine for p in chances), sum(p == mine for p in chances)
    return float(before == 0) / tied, sum(1 / (before + i) for i in range(1, tied + 1)) / tied


def _behind(names: Sequence[str], chances: Sequence[float] | None, label: str, first: str) -> tuple[float, float]:
    """The same with the option `first` put in front of the others' order."""
    if label == first:
        return 1.0, 1.0
    others = [n for n in names if n != first]
    kept = [1.0] * len(others) if chances is None else [p for n, p in zip(names, chances, strict=True) if n != first]
    if label not in others:
        return 0.0, 0.0
    mine = kept[others.index(label)]
    before, tied = 1 + sum(p > mine for p in kept), sum(p == mine for p in kept)
    return 0.0, sum(1 / (before + i) for i in range(1, tied + 1)) / tied


def _mean(values: Floats, level: float) -> dict[str, Any]:
    """Mean of the known values, which lie in [0, 1], with an interval that holds near 1 and where all are the same."""
    known = values[~np.isnan(values)]
    n = len(known)
    if n == 0:
        return {"value": None, "lower": None, "upper": None, "level": level, "n": 0}
    lower, upper = share_interval(known, np.ones(n, dtype=bool), group=np.arange(n), level=level)
    return {"value": float(known.mean()), "lower": lower, "upper": upper, "level": level, "n": n}


def _difference(values: Floats, level: float) -> dict[str, Any]:
    """Mean of paired differences with Student's interval, widened by half a query that moves from one end to the other."""
    known = values[~np.isnan(values)]
    n = len(known)
    if n < 2:
        return {"value": float(known[0]) if n else None, "lower": None, "upper": None, "level": level, "n": n}
    spread = float(np.hypot(known.std(ddof=1) / n**0.5, UNSEEN / n))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * spread
    value = float(known.mean())
    return {"value": value, "lower": max(-1.0, value - half), "upper": min(1.0, value + half), "level": level, "n": n}


@dataclass(frozen=True)
class RankingScale:
    """What answers say about the place of a passage or an option."""

    yes: str
    """Of kind judge: the answer that says that a passage is relevant."""
    letters: Mapping[str, Sequence[str]] | None
    """Of kind choose: the names of each row's options by its id; None for kind judge."""
    grades: Mapping[str, float] | None
    """Gain of each label where relevance is graded; a passage is then ranked by its expected gain."""


def ranked_rows(
    frame: pd.DataFrame, threshold: float | None, reading: Floats, scale: RankingScale
) -> dict[str, Any] | None:
    """How well the held-out rows of a table of predictions are ranked, with and without escalation; None where nothing is: every
    query has a single passage.

    `reading` (n,): each row's calibrated confidence, by rows of other groups; without test rows all certify rows are ranked.
    """
    yes, letters, grades = scale.yes, scale.letters, scale.grades
    splits = set(frame["split"])
    mine = (frame["split"] == shown_split(splits)).to_numpy()
    part_frame, level = frame[mine], interval_level(splits)
    part, held = Rows.from_frame(part_frame), Rows.from_frame(frame[frame["split"] == "certify"])
    kept = accepted(part.confidence, threshold)

    def told(column: str) -> list[dict[str, float] | None]:
        if column not in part_frame:
            return [None] * len(part_frame)
        return [None if p is None else {e["label"]: e["probability"] for e in p} for p in part_frame[column]]

    chances, theirs = told("label_probabilities"), told("strong_probabilities")
    if letters is not None:
        names = [letters[i] for i in part.example_id]
        return options(part.label, names, chances, part.strong_answer, kept, level=level, strong_probabilities=theirs)

    gains = {yes: 1.0} if grades is None else grades
    most = max(gains.values())
    if not part_frame["group"].duplicated().any():
        return None

    def says(answers: CodedTexts) -> Floats:
        return np.array([np.nan if a is None else gains.get(a, 0.0) / most for a in answers])

    def expected(chance: Mapping[str, float]) -> float:
        return (
            sum(p * gains.get(answer, 0.0) for answer, p in chance.items()) / most if chance.keys() & gains else np.nan
        )

    score, strong_score = (
        np.array([np.nan if p is None else expected(p) for p in given], dtype=np.float64) for given in (chances, theirs)
    )
    if "signal_first_token" in part_frame:  # one logprob gives P(yes) too: p for a yes, 1 - p for a no
        alone = pd.to_numeric(part_frame["signal_first_token"]).to_numpy(np.float64, na_value=np.nan)
        said = says(part.cheap_answer)
        others = (sum(gains.values()) / most - said) / max(
            1, len(gains) - 1
        )  # the rest of the probability, spread evenly
        graded = alone * said + (1 - alone) * others
        score = np.where(np.isnan(score), graded if grades else np.where(said == 1, alone, 1 - alone), score)
    sure = reading[mine]
    label, known = says(part.label), says(held.label)
    return passages(
        part.group,
        (label > 0).astype(np.float64),
        score,
        says(part.strong_answer),
        kept,
        relevance=np.where(part.cheap_answer == yes, sure, 1 - sure) if grades is None else np.nan_to_num(score),
        strong_share=share_relevant((known > 0).astype(np.float64), says(held.strong_answer)),
        gain=None if grades is None else label,
        strong_score=strong_score,
        level=level,
    )
