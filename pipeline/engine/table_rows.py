"""TableRows: the rows of a task's table of predictions, graded as its config says."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.collect.data import predictions_file
from pipeline.collect.data.table_reader import columns_shown
from pipeline.collect.task_input import TaskInput
from pipeline.config.task import PredictionsTable, TaskConfig
from pipeline.errors import ConfigError


def read(task: TaskInput) -> pd.DataFrame:
    """Columns of graded rows. Raises DataError with row, value, rule and remedy, and ConfigError where a label's errors have no cost
    or a floor is for no label."""
    assert task.table is not None
    said = (task.config.predictions or PredictionsTable()).model_dump(include={"confidence", "columns"})
    labeled = task.config.target.kind != "agree_with_strong"
    frame = predictions_file.read(task.table, task.split, task.answers, **said, labeled=labeled)
    if "label" in frame:
        labels = frame["label"].dropna().unique().tolist()
        task.config.require_costs(labels)
        _require_floored(task.config, labels)
    return frame if task.human is None else _asked_of_people(frame, float(task.human.usd_per_request))


def _require_floored(config: TaskConfig, labels: list[str]) -> None:
    """Raise ConfigError where a floor is for a label that no row has, and no closed set says that it is one."""
    target = config.target
    named = set(target.label_floors or ()) - set(target.label_groups or ())
    if config.answers is None and labels and (absent := sorted(named - set(labels))):
        raise ConfigError(
            f"{config.source}: target.label_floors names {absent[0]!r}, which no row has as its label; labels there: {columns_shown(labels)}"
        )


def _asked_of_people(frame: pd.DataFrame, usd: float) -> pd.DataFrame:
    """People's answer is the label, and counts as right; it costs what the config says where the table does not tell."""
    known = frame["cheap_correct"].notna().to_numpy()
    told = frame["strong_usd"].to_numpy(np.float64) if "strong_usd" in frame else np.nan
    status = pd.Categorical.from_codes(np.where(known, 0, -1).astype(np.int8), categories=pd.Index(["ok"]))
    return frame.assign(
        strong_correct=pd.arrays.BooleanArray(np.ones(len(frame), dtype=bool), ~known),
        strong_status=status,
        strong_wanted=known,
        strong_usd=np.where(np.isnan(told), usd, told),
        **({"strong_answer": frame["label"]} if "label" in frame else {}),
    )
