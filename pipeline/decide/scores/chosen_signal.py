"""ChosenSignal: the signal used as the confidence, chosen on the fit rows or named by the config, and its value on every row."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cascade_threshold.learned import features, learned_confidence
from cascade_threshold.signals import SIGNALS
from pipeline.config.vocabulary import LENGTHS
from pipeline.decide.arrays import Floats
from pipeline.decide.scores import signal_choice
from pipeline.decide.scores.learned_model import Inputs, Texts, cross_fitted, fit_learned, learned_features
from pipeline.errors import UsageError

ENOUGH_ALTERNATIVES = 0.99


def signals_of(frame: pd.DataFrame) -> dict[str, Floats]:
    """Every signal that was measured, NaN for null, by name."""
    return {
        n: pd.to_numeric(frame[f"signal_{n}"]).to_numpy(np.float64, na_value=np.nan)
        for n in SIGNALS
        if f"signal_{n}" in frame
    }


_NO_CONFIDENCE = {
    "no_logprobs": "have no logprobs of the answer, or numbers that are none (above 0, such as probabilities, or below -100): choose a "
    "model and server that return logprobs",
    "unaligned": "have tokens that do not spell the answer (token ids in their place, or the logprobs of another text)",
}


def _causes(rows: pd.DataFrame) -> str:
    """How many answers have no confidence, by why."""
    if "cheap_status" not in rows:
        return ""
    counts = rows["cheap_status"].value_counts()
    told = [f"{int(counts[s]):,} of {len(rows):,} {why}" for s, why in _NO_CONFIDENCE.items() if counts.get(s)]
    return f": {'; '.join(told)}" if told else ""


def chosen_signal(
    fit: pd.DataFrame,
    outcome: Floats,
    *,
    task: str,
    wanted: str,
    reasons: Mapping[str, int],
    seed: int,
    texts: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The wanted signal, or with `auto` the one with the best risk-coverage curve on the fit rows; and the table it came from.

    `outcome` (n,): 1 right, 0 wrong, NaN unknown; `texts`: the requests' own, by example_id, for the learned signal; `reasons`: counts of "signal: why it is null" over usable replies, told in
    the table. Raises UsageError when the wanted signal is null on every row, or no row is graded.
    """
    signals = signals_of(fit)
    usable = [n for n, v in signals.items() if not np.isnan(v).all()]
    if not usable:
        where = " on the fit rows" if "split" in fit and (fit["split"] == "fit").any() else ""
        raise UsageError(
            f"{task}: no reply of the cheap model carries a usable confidence{where}{_causes(fit)}; `doctor` shows what its replies hold"
        )
    if np.isnan(outcome).all():
        raise UsageError(
            f"{task}: for no fit row is it known whether the cheap answer is right, so no signal can be chosen; `status` says which "
            "replies are missing"
        )
    if wanted not in ("auto", "learned", *usable):
        raise UsageError(
            f"{task}: signal {wanted} is null on every fit row ({SIGNALS[wanted].null_when}); it needs "
            f"{SIGNALS[wanted].needs_alternatives} alternatives (cheap.top_logprobs); signals that these replies support: {', '.join(usable)}"
        )
    named = None if wanted == "auto" else wanted
    graded, crossed = ~np.isnan(outcome), None
    if wanted in ("auto", "learned"):
        fold = signal_choice.folds(int(graded.sum()), seed)
        crossed = cross_fitted(_readable(fit, texts).take(graded), outcome[graded], fold, seed)
    name, table = signal_choice.select_signal(signals, outcome, named=named, seed=seed, crossed=crossed)
    table = [{**row, "why_null": _why_null(row["signal"], reasons)} for row in table]
    params: Mapping[str, Any] = {}
    if name == "learned":
        fitted = None if crossed is None else fit_learned(crossed[0], outcome[graded], seed=seed)
        if fitted is None:
            raise UsageError(
                f"{task}: signal learned needs at least 50 fit rows with 10 right and 10 wrong answers; choose another"
            )
        params = fitted
    return {"name": name, "version": SIGNALS[name].version, "params": dict(params)}, table


def _readable(frame: pd.DataFrame, texts: Mapping[str, str] | None) -> Inputs:
    """All that a learned signal may read: texts and segments only where every row has one."""
    segments: Texts | None = frame["segment"].to_numpy(object) if "segment" in frame else None
    if segments is not None and not all(isinstance(segment, str) for segment in segments):
        segments = None
    asked: Texts | None = None
    if texts is not None and all(example in texts for example in frame["example_id"]):
        asked = np.array([texts[example] for example in frame["example_id"]], dtype=object)
    features = learned_features(signals_of(frame), *_lengths(frame))
    return Inputs(features, frame["cheap_answer"].to_numpy(object), asked, segments)


def _lengths(frame: pd.DataFrame) -> list[Floats | None]:
    """Tokens of the answers and of the replies, NaN for null; None where the rows were graded before these were counted."""
    return [
        pd.to_numeric(frame[name]).to_numpy(np.float64, na_value=np.nan) if name in frame else None for name in LENGTHS
    ]


def default_signal(frame: pd.DataFrame) -> str:
    """The signal where none is named and no row may choose one: from the replies' shape, never from what was right.

    label_probability where at least 99 % of the usable cheap replies carry two alternatives, else label_sequence.
    """
    usable = (frame["cheap_status"] == "ok").to_numpy()
    carried = ~np.isnan(signals_of(frame).get("margin", np.full(len(frame), np.nan)))[usable]
    return "label_probability" if len(carried) and carried.mean() >= ENOUGH_ALTERNATIVES else "label_sequence"


def _why_null(signal: str, reasons: Mapping[str, int]) -> str | None:
    """The reason for which most usable replies give the signal no value; None where each of them gives one."""
    told = {why: n for reason, n in reasons.items() for name, _, why in [reason.partition(": ")] if name == signal}
    return max(told, key=lambda why: told[why], default=None)


def with_confidence(
    frame: pd.DataFrame, signal: Mapping[str, Any], texts: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The frame with the chosen signal as its confidence; the learned one by the very function that production evaluates.

    `texts`: the requests' own, by example_id, for a learned signal that reads them.
    """
    if signal["name"] == "learned":
        read = ["example_id", "cheap_answer", "segment", *LENGTHS, *(f"signal_{name}" for name in SIGNALS)]
        rows = frame[[name for name in read if name in frame]].to_dict("records")
        values = [_learned(signal["params"], row, texts) for row in rows]
        frame = frame.assign(signal_learned=np.array([np.nan if v is None else v for v in values], dtype=np.float64))
    confidence = pd.to_numeric(frame[f"signal_{signal['name']}"]).to_numpy(np.float64, na_value=np.nan)
    return frame.assign(confidence=confidence)


def _learned(numbers: Mapping[str, Any], row: Mapping[Hashable, Any], texts: Mapping[str, str] | None) -> float | None:
    """Production's own confidence of one graded row."""
    told = {name: row.get(name) for name in LENGTHS}
    answer_tokens, reply_tokens = (None if pd.isna(n) else int(n) for n in told.values())
    signals = {
        name: None if pd.isna(v := row.get(f"signal_{name}")) else float(v) for name in SIGNALS if name != "learned"
    }
    return learned_confidence(
        numbers,
        features(signals, answer_tokens, reply_tokens),
        answer=row["cheap_answer"],
        text=None if texts is None else texts.get(row["example_id"]),
        segment=row.get("segment"),
    )
