"""Artefacts: what is there of a run for the page, at hand or read from its directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline.deliver.report import records
from pipeline.deliver.report.provenance import COUNTED
from pipeline.deliver.report.records import checked
from pipeline.deliver.report.rows import COLUMNS, ReportRows
from pipeline.run import directory as names
from pipeline.run.decision import Decision
from pipeline.run.directory import Run, dump_json, finite


@dataclass(frozen=True)
class Artefacts:
    """What is there of a run; None for what is not."""

    record: dict[str, Any]
    advice: records.Recommendation
    calibration: records.Calibration | None
    policy: dict[str, Any] | None
    policy_bytes: bytes | None
    sweep: pd.DataFrame | None
    sweep_metadata: dict[str, str]
    reliability: pd.DataFrame | None
    rows: ReportRows | None
    replies: pa.Table | None
    tokens: Path | None

    @classmethod
    def of_values(
        cls,
        record: dict[str, Any],
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
        metadata = {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in sweep.attrs.items()}
        rows = ReportRows.of_table(predictions)
        found, told, fitted = (dict(finite(value)) for value in (record, advice, calibration))
        return cls(
            found,
            checked(records.Recommendation, told, names.RECOMMENDATION),
            checked(records.Calibration, fitted, names.CALIBRATION),
            json.loads(policy_bytes),
            policy_bytes,
            sweep,
            metadata,
            reliability,
            rows,
            replies,
            tokens,
        )

    @classmethod
    def of(cls, run: Run | Decision) -> Artefacts:
        """Read the names. Only the recommendation must be there."""

        def table(name: str) -> pd.DataFrame | None:
            return run.read_table(name) if run.has(name) else None

        def value(name: str) -> dict[str, Any] | None:
            return run.read_json(name) if run.has(name) else None

        curves = table(names.SWEEP)
        predictions = run.read_arrow(names.PREDICTIONS, COLUMNS) if run.has(names.PREDICTIONS) else None
        record = value(names.RUN) or {}
        if isinstance(run, Decision):
            record = record | {"config": run.record()["config"]}  # run.json speaks of the run's latest decision
        return cls(
            record,
            checked(records.Recommendation, run.read_json(names.RECOMMENDATION), names.RECOMMENDATION),
            None
            if not run.has(names.CALIBRATION)
            else checked(records.Calibration, run.read_json(names.CALIBRATION), names.CALIBRATION),
            value(names.POLICY),
            run.path(names.POLICY).read_bytes() if run.has(names.POLICY) else None,
            curves,
            {} if curves is None else {str(k): str(v) for k, v in curves.attrs.items()},
            table(names.RELIABILITY),
            None if predictions is None else ReportRows.of_table(predictions),
            run.read_arrow(names.REPLIES, COUNTED) if run.has(names.REPLIES) else None,
            run.path(names.TOKENS) if run.has(names.TOKENS) else None,
        )
