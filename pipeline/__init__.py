"""Offline evaluation: labeled rows through a cheap and a strong model, to a certified threshold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.evaluation import Evaluation


def evaluate(
    frame: pd.DataFrame | str | Path,
    target: Any = None,
    *,
    runs_dir: str | Path | None = None,
    reports_dir: str | Path | None = None,
    **config: Any,
) -> Evaluation:
    """Evaluate a table of predictions in a notebook; see `pipeline.evaluation.evaluate`."""
    from pipeline.evaluation import (
        evaluate as run,  # the main path takes seconds to load, which an import need not spend
    )

    return run(frame, target, runs_dir=runs_dir, reports_dir=reports_dir, **config)
