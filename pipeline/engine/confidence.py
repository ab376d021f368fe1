"""Confidence: the one that decides, chosen from the cheap model's replies."""

from __future__ import annotations

from pipeline.collect.data import predictions_file
from pipeline.collect.task_input import TaskInput
from pipeline.decide.predictions import Rows
from pipeline.decide.scores.chosen_signal import chosen_signal, default_signal, with_confidence
from pipeline.engine import unreadable
from pipeline.engine.reading import Graded
from pipeline.errors import UsageError
from pipeline.run.predictions import Predictions


def with_signal(task: TaskInput, rows: Graded) -> Predictions:
    """The rows with the confidence that decides."""
    config, frame, facts = task.config, rows.frame, rows.facts
    if facts is None:
        return Predictions.of(frame, predictions_file.SIGNAL, [])
    if set(facts.statuses["cheap"]) == {"failed"}:
        raise UsageError(f"{config.task}: no reply of the cheap model is kept; run the stage `collect` first")
    unreadable.require_readable(config.task, facts)
    fit, wanted = frame[frame["split"] == "fit"], config.signal or default_signal(frame)
    if not len(fit):
        fit = frame  # nothing is chosen from them: they only fill the table of signals
    signal, table = chosen_signal(
        fit,
        Rows.from_frame(fit).outcome(task.labeled),
        task=config.task,
        wanted=wanted,
        reasons=facts.reasons,
        seed=config.seed,
        texts=task.texts,
    )
    return Predictions.of(with_confidence(frame, signal, task.texts), signal, table)
