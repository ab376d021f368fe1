"""Records: what the page reads of the stages' JSON artefacts. A key that is missing or misspelled is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.decide.curves.at_threshold import Estimate
from pipeline.run.directory import read_json
from pipeline.run.record import Digests, Record, checked


class Outcome(Record):
    """The figure a promise is about, beside the promise."""

    kind: str
    figure: Estimate
    bound: float
    at_most: bool
    broken: bool
    reaches: bool
    by_chance: bool
    qualified: bool


class Advised(Record):
    """A warning."""

    code: str
    gravity: int
    text: str


class End(Record):
    """One model alone."""

    accuracy: Estimate
    usd_per_1000: Estimate


class Ends(Record):
    """Both models alone."""

    cheap_only: End
    strong_only: End


class Intervals(Record):
    """Of every figure: the split it is read on, the level of its interval, and what to say where no row was held out."""

    split: str
    level: float
    note: str | None


class Certificate(Record):
    """What the test found."""

    target: dict[str, Any]
    delta: float | None
    method: str
    n: int
    n_accepted: int
    unit: str
    p_value: float | None
    look: int
    looks_planned: int | None
    reason: str
    details: dict[str, Any]


class UsualRule(Record):
    """One of the rules that people usually follow."""

    name: str
    threshold: float | None
    escalation_rate: Estimate
    accuracy: Estimate
    difference: Estimate
    usd_per_1000: Estimate
    p_value: float | None
    kept: bool | None
    tested_on: str
    against_cascade: Estimate | None = None
    equal: str | None = None


class Expected(Record):
    """Estimates for the recommended threshold."""

    coverage: Estimate
    escalation_rate: Estimate
    accepted_accuracy: Estimate
    system_accuracy: Estimate
    strong_accuracy: Estimate
    cheap_accuracy: Estimate
    agreement_with_strong: Estimate
    wrong_accepted_per_1000: Estimate
    usd_per_1000: Estimate
    strong_usd_per_1000: Estimate
    latency_p50_s: Estimate
    latency_p95_s: Estimate


class Recommendation(Record):
    """recommendation.json."""

    verdict: str
    threshold: float | None
    calibrated_threshold: float | None
    sentence: str
    promise: str
    not_said: str
    warnings: tuple[Advised, ...]
    certificate: Certificate
    expected: Expected
    ends: Ends
    intervals: Intervals
    outcome: Outcome | None
    optimism: dict[str, Any] | None
    """Figures of the threshold on the certify and the test rows, and the gap between them."""
    difference: Estimate | None
    mix_difference: Estimate | None
    totals: dict[str, Estimate] | None
    unreadable: dict[str, Any] | None
    usual_rules: tuple[UsualRule, ...]
    baselines: tuple[dict[str, Any], ...]
    label_rates: tuple[dict[str, Any], ...]
    ranking: dict[str, Any] | None
    caching: dict[str, Any] | None
    labels_needed: int | None
    tightest: dict[str, Any] | None
    tighter: dict[str, Any] | None


class Signal(Record):
    """The chosen signal."""

    name: str
    version: int | None


class Compared(Record):
    """A signal beside the chosen one."""

    signal: str
    aurc: float | None
    aurc_se: float | None
    gap: float | None
    gap_se: float | None
    difference: float | None
    difference_se: float | None
    auroc: float | None
    n: int
    null_rate: float | None
    chosen: bool
    why_null: str | None


class Measure(Record):
    """A measure of the confidence on a split."""

    value: float | None
    lower: float | None
    upper: float | None
    level: float
    n: int
    method: str | None


class Measures(Record):
    """The measures of each split, by name."""

    fit: dict[str, Measure]
    certify: dict[str, Measure]
    test: dict[str, Measure]


class Metrics(Record):
    """What the confidence is worth as it came, and once calibrated."""

    before: Measures
    after: Measures


class Calibration(Record):
    """calibration.json."""

    signal: Signal
    signal_table: tuple[Compared, ...]
    calibrator: dict[str, Any]
    selection: tuple[dict[str, Any], ...]
    metrics: Metrics
    clipped: int
    level: float
    cross_fitted: bool


class PastCard(Record):
    """A figure of the first screen, with what it is compared with where there is such."""

    key: str
    name: str
    estimate: dict[str, Any]
    strong: dict[str, Any] | None = None
    change: float | None = None


class PastVerdict(Record):
    """The verdict of an earlier report."""

    code: str
    qualified: bool
    title: str
    threshold: float | None


class PastFirst(Record):
    """Of an earlier report's first screen: accuracy of the cascade minus the strong side's."""

    against: dict[str, Any] | None


class PastModel(Record):
    """A side of an earlier report."""

    name: str | None


class PastModels(Record):
    """Both sides of an earlier report."""

    cheap: PastModel
    strong: PastModel


class PastLabel(Record):
    """A label's rows in an earlier report."""

    label: str
    n: int


class PastHealth(Record):
    """Label mix and confidences of an earlier report."""

    labels: tuple[PastLabel, ...] | None
    confidence: dict[str, Any] | None


class PastProvenance(Record):
    """Where the figures of an earlier report come from."""

    config: dict[str, Any]
    digests: Digests


class Report(Record):
    """report.json, as far as the index and the task's next report read it."""

    run_id: str
    decision_id: str
    started: str | None
    description: str
    provider: str
    demonstration: bool
    models: PastModels
    verdict: PastVerdict
    first: PastFirst
    cards: tuple[PastCard, ...]
    warnings: tuple[Advised, ...]
    health: PastHealth
    provenance: PastProvenance

    def card(self, key: str) -> PastCard:
        """The card of that key."""
        return next(card for card in self.cards if card.key == key)


def read_report(path: Path) -> Report:
    """A report.json. Raises DataError where it is damaged or of another version."""
    return report_of(read_json(path), str(path))


def report_of(value: Mapping[str, Any], name: str) -> Report:
    """The content of report.json. Raises DataError where it is of another version."""
    return checked(Report, value, name, remedy="run `report` again")
