"""CalibrationRecord: the content of calibration.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cascade_threshold.calibrator import Calibrator
from pipeline.config.vocabulary import SPLITS
from pipeline.decide import calibration, metrics
from pipeline.decide.arrays import Floats
from pipeline.decide.held_out import interval_level
from pipeline.decide.predictions import Rows


@dataclass(frozen=True)
class Calibrated:
    """What calibration found: calibration.json and the reliability diagrams."""

    record: dict[str, Any]
    reliability: pd.DataFrame


def calibration_record(
    rows: Rows,
    calibrator: Calibrator,
    reading: Floats,
    signal: Mapping[str, Any],
    table: list[dict[str, Any]],
    *,
    seed: int,
) -> dict[str, Any]:
    """The calibrator as numbers, what it was chosen from, and the metrics before and after it.

    `reading` (n,): the calibrated confidence of each row, as `calibration.readings` has it.
    """
    level = interval_level(rows.split)
    measured: dict[str, dict[str, Any]] = {"before": {}, "after": {}}
    for split in SPLITS:
        part = rows.split == split
        for stage, values in (("before", rows.confidence), ("after", reading)):
            measured[stage][split] = metrics.with_intervals(
                values[part], rows.cheap_correct[part], level=level, seed=seed, group=rows.group[part]
            )
    return {
        "schema": "cascade-calibration/1",
        "signal": dict(signal),
        "signal_table": table,
        "calibrator": calibrator.to_numbers(),
        "selection": list(calibrator.selection),
        "reason": calibrator.reason,
        "metrics": measured,
        "clipped": calibration.clipped(rows.confidence),
        "level": level,
        "cross_fitted": not (rows.split == "fit").any(),
    }
