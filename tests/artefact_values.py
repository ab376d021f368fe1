"""What a run and its decision leave, without what depends on how it went: two runs of the same requests leave the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

TIMES = {"seconds", "attempts", "received_at", "cheap_s", "strong_s"}


def artefacts(run: Path) -> Iterator[tuple[str, object]]:
    """(name, value) of every artefact in a run's folder that must not depend on how it went; without times and latencies."""
    assert len([p for p in run.iterdir() if p.is_dir()]) <= 1, "one decision"
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            yield path.name, frame.drop(columns=[c for c in frame if c in TIMES or c.startswith("latency")]).to_json()
        elif path.name in ("recommendation.json", "calibration.json", "policy.json"):
            value = json.loads(path.read_text())
            value.pop("digest", None)  # over everything, latencies included; a policy's `digests` are part by part
            yield path.name, without_latency(value)


def without_latency(value: object) -> object:
    if isinstance(value, dict):
        # a decision's id is of the measurements too, seconds included
        return {k: without_latency(v) for k, v in value.items() if "latency" not in k and k != "decision_id"}
    return [without_latency(v) for v in value] if isinstance(value, list) else value
