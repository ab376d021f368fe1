"""Evaluation: the main job for notebooks. A DataFrame of predictions in, an object out; the same stages as the command line.

found = pipeline.evaluate(frame, target={"kind": "match_strong", "within": 0.02})
found.threshold, found.certificate, found.sweep
found.plot_cost_accuracy()
found.report("report.html")
"""

from __future__ import annotations

import html
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cascade_threshold import Policy
from cascade_threshold.label_text import label_text
from pipeline import stages
from pipeline.collect.data import predictions_file
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.collect.task_input import TaskInput
from pipeline.config import yaml_file
from pipeline.config.options import Options
from pipeline.config.providers import PROVIDERS
from pipeline.config.vocabulary import ROLES
from pipeline.errors import CascadeError, UsageError
from pipeline.run.atomic import write_bytes
from pipeline.run.directory import POLICY, SWEEP, read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TASK = "notebook"
UNCOUNTED = (
    "Nothing was written and no look was counted: asked in this way, the same rows may be tried again and again, and each trial wears "
    "the promise down unseen. Give runs_dir to keep the run and count the look before you rely on the certificate."
)
COUNTED = "Kept in {runs_dir}; this was look {look} at these rows."


@dataclass(frozen=True)
class Promise:
    """What was tested and what came out, as recommendation.json holds it."""

    record: Mapping[str, Any]
    threshold: float | None

    @property
    def certified(self) -> bool:
        """Whether a promise stands behind the threshold."""
        return self.threshold is not None and self.record.get("delta") is not None

    def to_json(self) -> dict[str, Any]:
        """Plain values: target, delta, method, n, n_accepted, p_value, look, reason, details ..."""
        return dict(self.record)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.record[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found. Holds everything in memory; writes only where it is told to."""

    verdict: str
    """certified, uncertified, cheap_only, strong_only or optimized."""
    threshold: float | None
    """Escalate when the confidence is below; None escalates everything."""
    sentence: str
    """The recommendation in one sentence."""
    certificate: Promise
    sweep: pd.DataFrame
    """Cost and accuracy at every level, one row a threshold (the columns of sweep.parquet)."""
    policy: Policy
    note: str
    """Whether anything was written, and whether the look was counted."""
    page: bytes = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    """report.json."""

    def plot_cost_accuracy(self, ax: Axes | None = None) -> Axes:
        """Cost per 1,000 requests (or escalation rate, without prices) against accuracy, on `ax` or new axes."""
        return self._plot("decide", ax)

    def plot_reliability(self, ax: Axes | None = None) -> Axes:
        """Confidence against the share that is right, before and after calibration, on `ax` or new axes."""
        return self._plot("reliability", ax)

    def report(self, path: str | Path) -> Path:
        """Write the whole page, one self-contained HTML file; returns its path."""
        path = Path(path)
        write_bytes(path, self.page)
        return path

    def _plot(self, name: str, ax: Axes | None) -> Axes:
        import matplotlib.pyplot as plt

        from pipeline.deliver.report import figures

        paint = figures.painters(self.data).get(name)
        if paint is None:
            raise UsageError("these rows are not enough for this figure; `report` says what is missing")
        axes = plt.subplots()[1] if ax is None else ax
        paint(axes)
        axes.legend(fontsize="small")
        return axes

    def _repr_html_(self) -> str:
        rows = [("threshold", "none: everything escalates" if self.threshold is None else repr(self.threshold))]
        for name, text in (("coverage", "kept by the cheap model"), ("system_accuracy", "accuracy of the cascade")):
            value = self.policy.document["expected"][name]["value"]
            rows.append((text, "unknown" if value is None else f"{value:.1%}"))
        body = "".join(
            f"<tr><th style='text-align:left'>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows
        )
        return (
            f"<div><p><b>{html.escape(self.verdict.replace('_', ' '))}</b>: {html.escape(self.sentence)}</p>"
            f"<table>{body}</table><p><small>{html.escape(self.note)}</small></p></div>"
        )


def evaluate(
    frame: pd.DataFrame | str | Path,
    target: Any = None,
    *,
    runs_dir: str | Path | None = None,
    reports_dir: str | Path | None = None,
    **config: Any,
) -> Evaluation:
    """Evaluate a table of predictions, or the task of a config file whose models cost nothing.

    `frame`: a DataFrame with `confidence` in [0, 1] and `cheap_correct` (or `cheap_answer` with `label`), and where there is
    one `strong_correct` (or `strong_answer`), `cheap_usd`, `strong_usd`, `group`, `segment`, `split`; without `example_id` the
    index names the rows. Or the path of a config. `target`: as in a config, such as {"kind": "match_strong", "within": 0.02}.
    `config`: further keys of a config (calibration, seed, strong ...).

    Without `runs_dir` nothing is written and no look at the rows is counted, and the result says so. Raises ConfigError,
    DataError and UsageError as the command line does.
    """
    with _folder(runs_dir) as runs, tempfile.TemporaryDirectory() as scratch, _told_of_frame(Path(scratch)):
        task, overrides, table = _question(frame, target, config, Path(scratch))
        reports = Path(reports_dir) if reports_dir is not None else Path(scratch) / "reports"
        options = Options(
            predictions=table, runs_dir=runs, reports_dir=reports, quiet=True, command="pipeline.evaluate(...)"
        )
        with stages.one_thread():
            page, advice = stages.evaluate(TaskInput(yaml_file.load(Path(task), overrides), options), Allowance())
        decided = runs / page.parent.relative_to(reports)  # a run's folder has the same name in both
        promise = Promise(advice["certificate"] or {}, advice["threshold"])
        note = UNCOUNTED if runs_dir is None else COUNTED.format(runs_dir=runs, look=promise.record.get("look") or 1)
        return Evaluation(
            verdict=advice["verdict"],
            threshold=advice["threshold"],
            sentence=advice["sentence"],
            certificate=promise,
            sweep=pd.read_parquet(decided / SWEEP),
            policy=Policy(read_json(page.with_name(POLICY))),
            note=note,
            page=page.read_bytes(),
            data=read_json(page.with_name("report.json")),
        )


@contextmanager
def _folder(given: str | Path | None) -> Iterator[Path]:
    if given is not None:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _question(frame: Any, target: Any, config: dict[str, Any], scratch: Path) -> tuple[str, list[str], Path | None]:
    """A config with its overrides, or a config made here and the table beside it."""
    if isinstance(frame, str | Path):
        given = config if target is None else {**config, "target": target}
        overrides = [f"{name}={json.dumps(value)}" for name, value in given.items()]
        task = yaml_file.load(yaml_file.find(str(frame)), overrides)
        sides = (getattr(task, role) for role in ROLES)
        named = {task.provider, *(getattr(side, "provider", None) or task.provider for side in sides)}
        if any(PROVIDERS[name].costs_money for name in named):
            raise UsageError(
                f"{task.source}: its models cost money ({', '.join(sorted(named))}); run `evaluate` on the command line, which asks first"
            )
        return str(task.source), overrides, None
    if target is None:
        raise UsageError(
            'target is missing: what the threshold must keep, such as {"kind": "match_strong", "within": 0.02}'
        )
    if not isinstance(frame, pd.DataFrame):
        raise UsageError(
            f"evaluate takes a DataFrame of predictions or the path of a config, not {type(frame).__name__}"
        )
    name = config.get("task", TASK)
    path, made = scratch / "frame.parquet", scratch / f"{name if str(name).isidentifier() else TASK}.yaml"
    _store(_storable(frame, _read_columns(config)), path)
    # JSON is YAML
    made.write_text(json.dumps({"task": TASK, "kind": "classify", "target": target, **config}), encoding="utf-8")
    return str(made), [], path


def _read_columns(config: Mapping[str, Any]) -> set[Any]:
    """Names of columns that are read where a frame has them."""
    said = config.get("predictions")
    columns = said.get("columns") if isinstance(said, Mapping) else None
    return {
        *predictions_file.COLUMNS,
        *predictions_file.FURTHER,
        *(columns.values() if isinstance(columns, Mapping) else ()),
    }


def _store(table: pd.DataFrame, path: Path) -> None:
    for name in table.columns:
        try:
            pa.array(table[name], from_pandas=True)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise UsageError(
                f"the column {name!r} holds what no table can hold ({error}); write it as numbers or text"
            ) from None
    table.to_parquet(path, index=False)


@contextmanager
def _told_of_frame(scratch: Path) -> Iterator[None]:
    """Errors speak of the frame and of the arguments, not of the files that these are written to for the while."""
    try:
        yield
    except CascadeError as error:
        where = re.escape(str(scratch)) + r"/\S*?[.](parquet|yaml(:\d+)?)"
        said = re.sub(where, lambda found: "frame" if found[1] == "parquet" else "config", str(error))
        error.args = (said, *error.args[1:])
        raise


def _storable(frame: pd.DataFrame, read: set[Any]) -> pd.DataFrame:
    """The frame with an id for every row (its index, where that names them), and no column of several types. Of columns that are not
    `read` only the names are kept, for messages.
    """
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UsageError(f"the column {twice[0]!r} appears twice in the frame; rename one, or leave it out")
    table = frame.copy(deep=False)
    if "example_id" not in table:
        unique = frame.index.is_unique
        table["example_id"] = [str(name) if unique else f"row-{place}" for place, name in enumerate(frame.index, 1)]
    for name in [name for name in table.columns if name not in read]:
        table[name] = None
    for name in (name for name in table.columns if table[name].dtype.kind == "O"):
        kinds = {type(value) for value in table[name] if value is not None and value is not pd.NA and value == value}
        if len(kinds) > 1 and kinds <= {bool, int, float, str, np.bool_}:
            table[name] = [None if pd.isna(value) else label_text(value) for value in table[name]]
    return table
