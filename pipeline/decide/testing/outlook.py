"""Outlook: what further rows, another value of the target or a larger rate of strong answers would probably bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.decide.advice.number_text import rounded_up
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing import sample_size
from pipeline.decide.testing.certificate import Certificate


@dataclass(frozen=True)
class Outlook:
    """Plans, not promises; see the functions of `sample_size`."""

    labels_needed: int | None = None
    """Rows to collect over all splits until a threshold is probably certified."""
    perhaps_fewer: int | None = None
    """Rows with which one may be certified as well, where the present ones leave the number wide open."""
    chance: float | None = None
    """That those rows certify one, or without a number that the most rows tried would."""
    tightest: dict[str, Any] | None = None
    tighter: dict[str, Any] | None = None
    larger_rates: tuple[dict[str, float], ...] = ()


def outlook(rows: Rows, goal: Goal, certificate: Certificate, *, human: bool, seed: int) -> Outlook:
    """What the certify rows and their certificate let expect."""
    held, fit = rows.of("certify"), rows.of("fit")

    def to_collect(further: int) -> int:
        return rounded_up(sample_size.to_collect(further, len(held), len(rows)))

    barred = "unreadable" in certificate.details  # no number of rows and no other value of the target would change that
    plan = best = None
    if not barred:
        plan = sample_size.labels_needed(held, goal, certificate=certificate, fit=fit, human=human, seed=seed)
        best = sample_size.tightest(held, goal, fit=fit, human=human)
    tighter = sample_size.tighter(held, goal, certificate=certificate, best=best, fit=fit, human=human, seed=seed)
    if tighter is not None:
        tighter["labels_needed"] = to_collect(tighter["labels_needed"])
    return Outlook(
        labels_needed=None if plan is None or plan.rows is None else to_collect(plan.rows),
        perhaps_fewer=None if plan is None or plan.fewer is None else to_collect(plan.fewer),
        chance=None if plan is None else plan.chance,
        tightest=best,
        tighter=tighter,
        larger_rates=() if barred else tuple(sample_size.larger_rates(held, goal, fit=fit, human=human, seed=seed)),
    )
