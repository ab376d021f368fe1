"""Monitor: tests whether production still keeps the promise, from the policy file and the logs alone.

Three kinds of findings, from weak to strong:

- drift (a warning): without labels, the newest replies are compared with calibration; each test at level 1 %
- another model (the promise no longer holds): the promise is about the models that calibration saw. A stray reply that
  escalated is a warning; a kept one, or more than 1 % of all, is not
- evidence (the promise no longer holds): labels, or strong answers, for kept requests show more errors than the policy allows,
  by e-processes that may be looked at after every line; all kinds together raise a false alarm in at most 5 % of logs
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade_threshold.policy import Policy
from pipeline.decide.advice.number_text import counted
from pipeline.deliver.monitoring import log_reader as log
from pipeline.deliver.monitoring import monitor_text as say
from pipeline.deliver.monitoring.drift import Check, confidence_check, share_check
from pipeline.deliver.monitoring.eprocess import LEVEL, Evidence, watch
from pipeline.deliver.monitoring.log_reader import Entry, ProductionLog

WINDOW = 2000
"""Drift is judged on this many of the newest replies; evidence on all of them."""
STRAY_SHARE = 0.01
"""More than this share of replies by models that calibration never saw breaks the promise, even where all of them escalated."""
TORN_SHARE = 0.01
"""Labels lost in lines cut off by a crash are tolerated up to this share of all labels."""
WEEK = 7 * 86400.0
WEEKS = 12
SKIPPED = {  # singular and plural
    log.BAD: ("could not be read", "could not be read"),
    log.TORN: ("breaks off in the middle", "break off in the middle"),
    log.COPY: ("is a copy of another (counted once)", "are copies of others (counted once)"),
    log.LATE: ("is a label for another line", "are labels for other lines"),
    log.ORPHAN: (
        "is a label for a request that is not in this log once (give the logs of earlier days as well)",
        "are labels for requests that are not in this log once (give the logs of earlier days as well)",
    ),
    log.STRONG: ("is a reply of the strong model", "are replies of the strong model"),
    log.OTHER_POLICY: ("was decided by another policy", "were decided by another policy"),
    log.OTHER_REQUEST: (
        "was asked with other parameters or another prompt",
        "were asked with other parameters or another prompt",
    ),
    log.OTHER_DECISION: (
        "was decided otherwise than this policy decides",
        "were decided otherwise than this policy decides",
    ),
    log.NAMELESS_MODEL: ("names no model", "name no model"),
}
WARNINGS = (log.OTHER_POLICY, log.OTHER_REQUEST, log.OTHER_DECISION, log.NAMELESS_MODEL)


@dataclass(frozen=True)
class Finding:
    """One kind of evidence: what was counted, and what the test says of it."""

    kind: str
    """labels, shadow (disagreement with the strong model) or paired (strong right minus cheap right)."""
    bound: float | None
    labels: int
    errors: float
    tested: bool
    alarm: bool
    value: float | None
    largest: float | None
    needed: float
    """The value at which the alarm is raised."""
    alarm_at: int | None
    alarm_time: str | None
    text: str


def check(
    policy: Policy,
    lines: Iterable[str | bytes | Mapping[str, Any]],
    *,
    window: int = WINDOW,
    days: float | None = None,
    today: dt.date | None = None,
) -> dict[str, Any]:
    """Check a production log against its policy. Never raises, whatever the lines contain; see `log_reader`.

    `window`: drift is judged on so many of the newest replies; `days`: and on those of so many days before the newest.
    `today`: the day that `review_by` is compared with; None leaves that out.

    Returns a JSON-ready report: `verdict` ("broken", "untested", "drift" or "holds"), `holds` (False only for "broken"),
    `tested` (some evidence was tested, and no line that carries a label was lost), `text` (the same in sentences, the verdict
    first), `lines` (what became of each), `models` (others that answered), `checks` (drift), `evidence`, `weeks`.
    """
    reader = ProductionLog(policy)
    entries = reader.entries(lines)
    newest = _newest(entries, window, days)
    checks = _drift(policy, newest)
    evidence = _evidence(policy, [entry for entry in entries if entry.accepted])
    return _report(reader, entries, len(newest), checks, evidence, _overdue(policy, today))


def _newest(entries: Sequence[Entry], window: int, days: float | None) -> Sequence[Entry]:
    newest = entries[-window:]
    last = next((e.time for e in reversed(newest) if e.time is not None), None)
    if days is None or last is None:
        return newest
    return [e for e in newest if e.time is None or e.time > last - days * 86400]


def _drift(policy: Policy, entries: Sequence[Entry]) -> list[Check]:
    facts = policy.document["monitor"]
    m, n = len(entries), facts["n_certify"]
    escalated = None if not n or facts["n_escalated"] is None else facts["n_escalated"] / n
    statuses = [entry.status for entry in entries]
    confidences = [entry.confidence for entry in entries if entry.confidence is not None]
    checks = [
        confidence_check(confidences, facts["confidence_quantiles"], facts.get("n_confidence") or n),
        share_check(
            "escalation rate", sum(not e.accepted for e in entries), m, escalated, n, what="Escalated", two_sided=True
        ),
        share_check(
            "answers out of the set",
            statuses.count("out_of_set"),
            m,
            facts["out_of_set_rate"],
            n,
            what="Answers out of the set",
            two_sided=False,
        ),
        share_check(
            "missing logprobs",
            statuses.count("no_logprobs") + statuses.count("unaligned"),
            m,
            facts["no_logprobs_rate"],
            n,
            what="Replies without usable logprobs",
            two_sided=False,
        ),
    ]
    if policy.reads_text or policy.reads_segment:
        untold = sum(statuses.count(status) for status in ("no_text", "no_segment"))
        checks.append(
            share_check(
                "requests without what is read",
                untold,
                m,
                _null_though_usable(facts),
                n,
                what="Requests without the text or a known segment that the signal reads",
                two_sided=False,
            )
        )
    return checks


def _null_though_usable(facts: Mapping[str, Any]) -> float | None:
    """Share of calibrated replies with status ok that had no confidence."""
    rates = facts.get("status_rates")
    if rates is None or facts["null_rate"] is None:
        return None
    return max(0.0, float(facts["null_rate"] - sum(rate for status, rate in rates.items() if status != "ok")))


def _evidence(policy: Policy, kept: Sequence[Entry]) -> list[Finding]:
    """Every kind of evidence; those that the log has share the level."""
    facts = policy.document["monitor"]
    found: list[tuple[str, list[tuple[float, float | None]], float | None, float]] = [
        ("labels", [(float(e.wrong), e.time) for e in kept if e.wrong is not None], facts["accepted_error_bound"], 0.0),
        (
            "shadow",
            [(float(e.disagrees), e.time) for e in kept if e.disagrees is not None],
            facts.get("accepted_disagreement_bound"),
            0.0,
        ),
        ("paired", [(float(e.lost), e.time) for e in kept if e.lost is not None], paired_bound(policy), -1.0),
    ]
    usable = sum(bool(values) and bound is not None and lowest < bound < 1 for _, values, bound, lowest in found)
    level = LEVEL / max(1, usable)
    return [_finding(kind, values, bound, lowest, level) for kind, values, bound, lowest in found]


def paired_bound(policy: Policy) -> float | None:
    """What the strong model may have right more often than the cheap one among kept requests: within / coverage.

    None unless the target is match_strong and something is kept.
    """
    target, facts = policy.document["certificate"]["target"], policy.document["monitor"]
    n, escalated = facts["n_certify"], facts["n_escalated"]
    if target is None or target["kind"] != "match_strong" or not n or escalated is None or escalated >= n:
        return None
    return float(target["within"] / (1 - escalated / n))


def _finding(
    kind: str, values: list[tuple[float, float | None]], bound: float | None, lowest: float, level: float
) -> Finding:
    total = sum(x for x, _ in values)
    if not values or bound is None or not lowest < bound < 1:
        text = say.untestable(kind, len(values))
        return Finding(kind, bound, len(values), total, False, False, None, None, 1 / level, None, None, text)
    found: Evidence = watch([x for x, _ in values], bound, level=level, lowest=lowest)
    when = None if found.alarm_at is None else values[found.alarm_at - 1][1]
    day = None if when is None else dt.datetime.fromtimestamp(when, dt.UTC).isoformat(timespec="seconds")
    return Finding(
        kind,
        bound,
        len(values),
        total,
        True,
        found.alarm_at is not None,
        found.value,
        found.largest,
        1 / level,
        found.alarm_at,
        day,
        say.evidence(kind, found, level, day),
    )


def _overdue(policy: Policy, today: dt.date | None) -> str | None:
    """The day by which the policy had to be reviewed, when it has passed."""
    due = policy.document.get("review_by")
    return due if isinstance(due, str) and today is not None and due < today.isoformat() else None


def _stray(reader: ProductionLog) -> bool:
    """Whether other models answered so many requests that the promise no longer covers this production."""
    others, judged = reader.counts[log.OTHER_MODEL], reader.counts[log.JUDGED]
    share = others / max(1, others + judged)
    return reader.stray_kept > 0 or (others > 1 and share > STRAY_SHARE) or (others > 0 and share >= 0.5)


def _lost_labels(reader: ProductionLog, evidence: list[Finding]) -> int:
    """Labels that could not be read, those in torn lines only when they are more than a few."""
    read = max(e.labels for e in evidence)
    return reader.unread_labels + (reader.torn_labels if reader.torn_labels > TORN_SHARE * read else 0)


def _weeks(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The newest weeks, counted back from the last line with a time."""
    timed = [e for e in entries if e.time is not None]
    if not timed:
        return []
    last = max(e.time for e in timed if e.time is not None)
    weeks: dict[int, list[Entry]] = {}
    for e in timed:
        assert e.time is not None
        weeks.setdefault(int((last - e.time) // WEEK), []).append(e)
    return [
        {
            "ends": dt.datetime.fromtimestamp(last - back * WEEK, dt.UTC).isoformat(timespec="seconds"),
            "judged": len(part),
            "escalated": sum(not e.accepted for e in part),
            "labels": sum(e.accepted and e.wrong is not None for e in part),
            "errors": sum(e.accepted and bool(e.wrong) for e in part),
        }
        for back, part in sorted(weeks.items())
        if back < WEEKS
    ]


def _fate(fate: str, lines: int) -> str:
    one, more = SKIPPED[fate]
    return one if lines == 1 else more


def _changed(counts: Mapping[str, int], checks: list[Check], stray: bool, overdue: str | None) -> list[str]:
    """What is otherwise than at calibration, though the promise may still hold."""
    changed = [c.name for c in checks if c.alarm]
    changed += [f"{counted(counts[f], 'line')} {_fate(f, counts[f])}" for f in WARNINGS if counts[f]]
    if (others := counts[log.OTHER_MODEL]) and not stray:
        replies, escalated = ("reply", "which") if others == 1 else ("replies", "all of which")
        changed.append(f"{others:,} {replies} of another model, {escalated} escalated")
    if overdue:
        changed.append(f"the policy was due for review by {overdue}")
    return changed


def _read(counts: Mapping[str, int], newest: int) -> str:
    """How many lines were read and judged, and what became of the others."""
    skipped = [f"{counts[fate]:,} {_fate(fate, counts[fate])}" for fate in SKIPPED if counts[fate]]
    judged = f"{counts[log.JUDGED]:,} judged, the newest {newest:,} of them for drift"
    return f"Read {counted(counts['read'], 'line')}: {judged}" + (f"; {', '.join(skipped)}." if skipped else ".")


def _report(
    reader: ProductionLog,
    entries: Sequence[Entry],
    newest: int,
    checks: list[Check],
    evidence: list[Finding],
    overdue: str | None,
) -> dict[str, Any]:
    counts = reader.counts
    alarms, stray, lost = [e for e in evidence if e.alarm], _stray(reader), _lost_labels(reader, evidence)
    changed = _changed(counts, checks, stray, overdue)
    misplaced = counts[log.ORPHAN]
    tested = any(e.tested for e in evidence) and not lost and not misplaced
    untested = lost or misplaced or not counts[log.JUDGED]
    states = (("broken", stray or alarms), ("untested", untested), ("drift", changed))
    verdict = next((name for name, so in states if so), "holds" if tested else "untested")
    readable = None if not counts["read"] else 1 - (counts[log.BAD] + counts[log.TORN]) / counts["read"]
    found = say.Found(
        reader.policy.task,
        verdict,
        tested,
        say.lost(lost, misplaced, reader.orphan),
        readable,
        counts["read"],
        counts[log.JUDGED],
        stray,
        changed,
        [e.kind for e in alarms],
    )
    seen = reader.policy.document["cheap"]["response_models_seen"]
    return {
        "schema": "cascade-monitor/1",
        "task": reader.policy.task,
        "policy": reader.policy.document["digest"],
        "verdict": verdict,
        "holds": verdict != "broken",
        "tested": tested,
        "text": [
            say.verdict(found),
            *([say.others(reader.models, seen, stray)] if counts[log.OTHER_MODEL] else []),
            *(c.text for c in checks),
            *(e.text for e in evidence),
            _read(counts, newest),
            say.BLIND_SPOT if tested else say.nothing_tested(found),
        ],
        "readable_share": readable,
        "unread_labels": lost + misplaced,
        "review_overdue": overdue,
        "lines": {name: counts[name] for name in ("read", log.JUDGED, *SKIPPED, log.OTHER_MODEL)},
        "models": dict(reader.models),
        "checks": [dict(vars(c)) for c in checks],
        "evidence": [dict(vars(e)) for e in evidence],
        "weeks": _weeks(entries),
    }
