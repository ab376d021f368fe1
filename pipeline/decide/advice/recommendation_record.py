"""RecommendationRecord: the content of recommendation.json, and what else is decided from the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import pandas as pd

from cascade_threshold.calibrator import Calibrator
from cascade_threshold.pricing import Price
from pipeline.config.vocabulary import ROLES
from pipeline.decide.advice.findings import of_ranking, of_usual_rules
from pipeline.decide.advice.reply_warnings import ReplyCounts
from pipeline.decide.advice.warnings import gravest_first
from pipeline.decide.arrays import Floats
from pipeline.decide.calibration import readings
from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.curves.at_threshold import mix_weights
from pipeline.decide.curves.baselines import baselines
from pipeline.decide.curves.caching import caching
from pipeline.decide.curves.ranking import RankingScale, ranked_rows
from pipeline.decide.curves.text_router import cross_fitted_scores, router_scores
from pipeline.decide.curves.usual_rules import Setting, usual_rules
from pipeline.decide.held_out import interval_level, shown_split
from pipeline.decide.monitor_facts import MonitorFacts, certify_facts
from pipeline.decide.predictions import Rows
from pipeline.decide.recommend import Recommendation, recommend
from pipeline.decide.sweep import with_estimates
from pipeline.decide.target import Goal, TargetLike
from pipeline.decide.testing.certificate import Certificate
from pipeline.decide.thresholds import accepted


@dataclass(frozen=True)
class Advice:
    """All that is decided from the rows: recommendation.json, the sweep with its estimates, and what `monitor` is held to."""

    record: dict[str, Any]
    sweep: pd.DataFrame
    monitor: MonitorFacts


@dataclass(frozen=True)
class Spending:
    """What calls cost: prices by role, whether they went through a batch API, and the share of each prompt that was cached."""

    prices: Mapping[str, Price]
    batch: bool
    cached_share: Mapping[str, float | None]


def advise(
    frame: pd.DataFrame,
    target: TargetLike,
    certificate: Certificate,
    sweep: pd.DataFrame,
    calibrator: Calibrator,
    *,
    human: bool,
    labeled: bool,
    prevalence: Mapping[str, float] | None,
    max_unreadable: float,
    data: str,
    replies: ReplyCounts | None,
    texts: Mapping[str, str] | None,
    scale: RankingScale | None,
    spending: Spending | None,
    seed: int,
) -> Advice:
    """The recommendation, its calibrated reading, the ranking, and what it is compared with: baselines and usual rules.

    frame       the rows as predictions.parquet has them
    prevalence  production's label mix, where the rows have another
    texts       what was asked about each row, by id
    scale       by what the rows are ranked; None where they are not
    spending    None of a table of predictions
    human, max_unreadable, data and replies as `recommend` takes them
    """
    rows = Rows.from_frame(frame)
    found = recommend(
        rows,
        target,
        certificate=certificate,
        sweep=sweep,
        human=human,
        prevalence=prevalence,
        data=data,
        replies=replies,
        max_unreadable=max_unreadable,
        seed=seed,
    )
    ranking = None
    if scale is not None:
        ranking = ranked_rows(frame, found.threshold, readings(calibrator, rows, seed=seed), scale)
    routed = None if texts is None else _routed(rows, texts, labeled, seed)
    # rules are compared and tested row by row, which needs every strong answer
    rules = [] if rows.sampled else _usual_rules(found, rows, frame, target, routed, human)
    told = replace(found, warnings=gravest_first(found.warnings, of_ranking(ranking), of_usual_rules(rules)))
    record = {
        **told.to_json(),
        "calibrated_threshold": calibrator(found.threshold),
        "baselines": _baselines(rows, found.expected["escalation_rate"].value, routed if labeled else None, prevalence),
        "caching": None if spending is None else _caching(found, rows, frame, spending, prevalence),
        "ranking": ranking,
        "usual_rules": rules,
    }
    return Advice(
        record,
        with_estimates(sweep, found.threshold, found.expected),
        certify_facts(rows, frame["cheap_status"], found.threshold, Goal.of(target), prevalence),
    )


def _caching(
    found: Recommendation, rows: Rows, frame: pd.DataFrame, spending: Spending, prevalence: Mapping[str, float] | None
) -> dict[str, Any] | None:
    """What both cost with the prompts cached as measured, and with none cached."""
    told = {name: found.expected[name] for name in ("usd_per_1000", "strong_usd_per_1000")}
    split = told["usd_per_1000"].split or "certify"
    part = rows.of(split)
    weights = None if prevalence is None else mix_weights(part.label, prevalence)
    return caching(
        _columns(frame, split, [f"{role}_{what}" for role in ROLES for what in ("usd", "cached_tokens")]),
        escalated=~accepted(part.confidence, found.threshold),
        asks_cheap=found.threshold is not None,
        prices=spending.prices,
        batch=spending.batch,
        shares=spending.cached_share,
        measured={name: e.value for name, e in told.items()},
        weights=weights,
    )


def _routed(rows: Rows, texts: Mapping[str, str], labeled: bool, seed: int) -> Floats | None:
    """What the text router says of each row that figures are of, (n,), NaN elsewhere; None where there is none."""
    fit, scored = rows.of("fit"), rows.split.isin((shown_split(rows.split), "certify"))
    every, said = rows.take(scored), np.full(len(rows), np.nan)
    told = _Told(every.example_id, texts)
    scores = (
        router_scores(_Told(fit.example_id, texts), 1 - fit.outcome(labeled), told, seed=seed)
        if len(fit)
        else cross_fitted_scores(told, 1 - every.outcome(labeled), every.group, seed=seed)
    )
    if scores is None:
        return None
    said[scored] = scores
    return said


@dataclass(frozen=True)
class _Told(Sequence[str]):
    """The texts of some rows, made as they are asked for."""

    ids: CodedTexts
    texts: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, which: int) -> str: ...
    @overload
    def __getitem__(self, which: slice) -> list[str]: ...
    def __getitem__(self, which: int | slice) -> str | list[str]:
        return [self.texts[i] for i in self.ids[which]] if isinstance(which, slice) else self.texts[self.ids[which]]


def _usual_rules(
    found: Recommendation, rows: Rows, frame: pd.DataFrame, target: TargetLike, routed: Floats | None, human: bool
) -> list[dict[str, Any]]:
    """What people usually do, on the rows that the figures are of."""
    split = shown_split(rows.split)
    part, held = rows.of(split), rows.of("certify")
    routers = None if routed is None else (routed[rows.split == split], routed[rows.split == "certify"])
    level, goal = interval_level(rows.split), Goal.of(target)
    grouped = found.certificate.unit == "groups"
    shown, tested = (
        Setting(r, goal, s, level, human, grouped, _first_token(frame, s))
        for r, s in ((part, split), (held, "certify"))
    )
    return usual_rules(shown, tested, found.threshold, routers=routers)


def _first_token(frame: pd.DataFrame, split: str) -> Floats | None:
    """The first token's probability on the rows of a split; None where it is the confidence itself, or is not known."""
    if "signal_first_token" not in frame:
        return None
    columns = _columns(frame, split, ["signal_first_token", "confidence"])
    first, confidence = (columns[name].to_numpy(dtype=np.float64) for name in ("signal_first_token", "confidence"))
    return None if np.isnan(first).all() or np.array_equal(first, confidence, equal_nan=True) else first


def _columns(frame: pd.DataFrame, split: str, names: Sequence[str]) -> pd.DataFrame:
    """Those of some columns that there are, on the rows of a split."""
    there, inside = frame[[name for name in names if name in frame]], (frame["split"] == split).to_numpy()
    return there if inside.all() else there[inside]


def _baselines(
    rows: Rows, rate: float | None, routed: Floats | None, prevalence: Mapping[str, float] | None
) -> list[dict[str, Any]]:
    """Random escalation, the oracle and a router that reads the text only, along all rates and at the recommended one."""
    split = shown_split(rows.split)
    held, router = rows.of(split), None if routed is None else routed[rows.split == split]
    rates = sorted({*np.linspace(0, 1, 21).tolist(), *([] if rate is None else [float(rate)])})
    weights = None if prevalence is None else mix_weights(held.label, prevalence)
    table = baselines(held, rates, router, weights=weights, split=split)
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
