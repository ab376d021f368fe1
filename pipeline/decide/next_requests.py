"""NextRequests: what production should see in its next 1,000 requests if nothing changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.decide.monitor_facts import MonitorFacts

WATCHED = 1000
CERTAINTY = 0.99


@dataclass(frozen=True)
class CountBand:
    """A share on the certify rows, and the fewest and most of WATCHED requests that should fall under it."""

    value: float
    lower: int
    upper: int
    n: int


@dataclass(frozen=True)
class NextRequests:
    """Beta-binomial bands at CERTAINTY with a Jeffreys prior; None where the certify rows do not tell."""

    escalated: CountBand | None
    out_of_set_rate: float | None
    out_of_set: CountBand | None
    no_logprobs_rate: float | None
    no_logprobs: CountBand | None
    accepted_error_bound: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {name: vars(value) if isinstance(value, CountBand) else value for name, value in vars(self).items()}
        return {"of": WATCHED, "certainty": CERTAINTY, **plain}


def next_requests(facts: MonitorFacts) -> NextRequests:
    """The bands of a policy's monitor facts."""
    n, k = facts.n_certify, facts.n_escalated
    return NextRequests(
        escalated=_band(k, n) if n and k is not None and 0 <= k <= n else None,
        out_of_set_rate=facts.out_of_set_rate,
        out_of_set=_band_of(facts.out_of_set_rate, n),
        no_logprobs_rate=facts.no_logprobs_rate,
        no_logprobs=_band_of(facts.no_logprobs_rate, n),
        accepted_error_bound=facts.accepted_error_bound,
    )


def _band_of(share: float | None, n: int | None) -> CountBand | None:
    return _band(share * n, n) if n and share is not None else None


def _band(k: float, n: int) -> CountBand:
    from scipy import stats  # takes long to load

    law, tail = stats.betabinom(WATCHED, k + 0.5, n - k + 0.5), (1 - CERTAINTY) / 2
    return CountBand(k / n, int(law.ppf(tail)), int(law.ppf(1 - tail)), n)
