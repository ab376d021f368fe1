"""Artefacts: what the page is made of, at hand or read from a decision's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline.decide.breakdown import reply_totals
from pipeline.decide.breakdown.coded_rows import COLUMNS, TEXTS, CodedRows
from pipeline.deliver.report import records
from pipeline.run import directory as names
from pipeline.run.decision import Decision
from pipeline.run.directory import dump_json, finite
from pipeline.run.record import RunRecord, checked

AGAIN = "run `recommend` again"


@dataclass(frozen=True)
class Artefacts:
    """What the page is made of."""

    record: RunRecord
    advice: records.Recommendation
    calibration: records.Calibration
    policy: dict[str, Any]
    policy_bytes: bytes
    sweep: pd.DataFrame
    sweep_metadata: dict[str, str]
    reliability: pd.DataFrame
    rows: CodedRows
    replies: pa.Table | None
    """None of a table of predictions, as are the tokens."""
    tokens: Path | None

    @classmethod
    def of_values(
        cls,
        record: RunRecord,
        advice: dict[str, Any],
        calibration: dict[str, Any],
        policy: dict[str, Any],
        sweep: pd.DataFrame,
        reliability: pd.DataFrame,
        predictions: pa.Table,
        replies: pa.Table | None,
        tokens: Path | None,
    ) -> Artefacts:
        """What the stages of this process found, as it would be read."""
        policy_bytes = dump_json(policy)
        return cls(
            record,
            checked(records.Recommendation, finite(advice), names.RECOMMENDATION, remedy=AGAIN),
            checked(records.Calibration, finite(calibration), names.CALIBRATION, remedy=AGAIN),
            json.loads(policy_bytes),
            policy_bytes,
            sweep,
            {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in sweep.attrs.items()},
            reliability,
            CodedRows.of_table(predictions),
            replies,
            tokens,
        )

    @classmethod
    def of(cls, decision: Decision) -> Artefacts:
        """Read a decision and its run. Raises UsageError where an artefact is missing, DataError where one is of another version."""
        sweep = decision.read_table(names.SWEEP)
        return cls(
            decision.told_of_run(),  # run.json speaks of the run's latest decision
            checked(
                records.Recommendation,
                decision.read_json(names.RECOMMENDATION),
                str(decision.path(names.RECOMMENDATION)),
                remedy=AGAIN,
            ),
            checked(
                records.Calibration,
                decision.read_json(names.CALIBRATION),
                str(decision.path(names.CALIBRATION)),
                remedy=AGAIN,
            ),
            decision.read_json(names.POLICY),
            decision.existing(names.POLICY).read_bytes(),
            sweep,
            {str(k): str(v) for k, v in sweep.attrs.items()},
            decision.read_table(names.RELIABILITY),
            CodedRows.of_table(decision.read_arrow(names.PREDICTIONS, COLUMNS, repeating=TEXTS)),
            decision.read_arrow(names.REPLIES, reply_totals.COLUMNS) if decision.has(names.REPLIES) else None,
            decision.path(names.TOKENS) if decision.has(names.TOKENS) else None,
        )
