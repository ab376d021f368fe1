"""Where the artefacts of an evaluation lie: those of the replies in the run's folder, those of the decision below it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

OF_THE_RUN = ("run.json", "replies.parquet", "tokens.parquet", "graded.parquet")


class RunFolder:
    """`folder / name` is the path of an artefact, whichever of the two folders it lies in."""

    def __init__(self, runs: Path, printed: Mapping[str, Any]) -> None:
        self.run = runs / printed["task"] / printed["run_id"]
        self.decision = self.run / printed["decision_id"]

    def __truediv__(self, name: str) -> Path:
        return (self.run if name in OF_THE_RUN else self.decision) / name
