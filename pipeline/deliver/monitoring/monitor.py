"""Monitor: does production still keep the promise? Everything needed is in the policy file.

Three kinds of findings, from weak to strong:

- drift (a warning): without labels, the newest replies are compared with calibration; each test at level 1 %
- another model (the promise no longer holds): the promise is about the models that calibration saw
- evidence (the promise no longer holds): labels, or strong answers, for accepted requests show more errors than the
  policy allows, by an e-process that may be looked at after every line and raises a false alarm in at most 5 % of all logs
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from cascade_threshold.policy import Policy
from pipeline.deliver.monitoring import log_reader as log
from pipeline.deliver.monitoring.drift import FEWEST, Check, confidence_check, share_check
from pipeline.deliver.monitoring.eprocess import LEVEL, Evidence, watch
from pipeline.deliver.monitoring.log_reader import Entry, ProductionLog

WINDOW = 2000
"""Drift is judged on this many of the newest replies; evidence on all of them."""

BLIND_SPOT = (
    "No check without labels can see that answers get worse while confidences stay as they were. Only the audit of accepted "
    "answers sees that: have people label a random sample of them, or ask the strong model about 1 % of them too (shadow)."
)

_SKIPPED = {
    log.BAD: "could not be read",
    log.STRONG: "are replies of the strong model",
    log.OTHER_POLICY: "were decided by another policy",
    log.OTHER_REQUEST: "were asked with other parameters or another prompt",
    log.OTHER_DECISION: "were decided otherwise than this policy decides",
    log.NAMELESS_MODEL: "name no model",
}
_WARNINGS = (log.OTHER_POLICY, log.OTHER_REQUEST, log.OTHER_DECISION, log.NAMELESS_MODEL)


def check(policy: Policy, lines: Iterable[str | bytes | Mapping[str, Any]], *, window: int = WINDOW) -> dict[str, Any]:
    """Hold a production log against its policy. Raises nothing, whatever the lines hold; see `production_log` for them.

    Returns a JSON-ready report: `verdict` ("holds", "drift", "broken", or "unknown" when nothing could be judged),
    `holds` (False only for "broken"), `text` (the same in sentences, the verdict first), `lines` (what became of each
    line), `models` (others that answered), `checks` (drift) and `evidence`.
    """
    reader = ProductionLog(policy)
    newest: deque[Entry] = deque(maxlen=window)
    wrong: list[bool] = []
    disagrees: list[bool] = []
    for entry in reader.entries(lines):
        newest.append(entry)
        if entry.accepted and entry.wrong is not None:
            wrong.append(entry.wrong)
        if entry.accepted and entry.disagrees is not None:
            disagrees.append(entry.disagrees)
    facts = policy.document["monitor"]
    checks = _drift(facts, newest)
    evidence = [
        _evidence("labels", wrong, facts["accepted_error_bound"]),
        _evidence("shadow", disagrees, facts.get("accepted_disagreement_bound")),
    ]
    return _report(reader, len(newest), checks, evidence)


def _drift(facts: Mapping[str, Any], newest: Iterable[Entry]) -> list[Check]:
    entries = list(newest)
    m, n = len(entries), facts["n_certify"]
    escalated = None if not n or facts["n_escalated"] is None else facts["n_escalated"] / n
    statuses = [entry.status for entry in entries]
    confidences = [entry.confidence for entry in entries if entry.confidence is not None]
    return [
        confidence_check(confidences, facts["confidence_quantiles"], facts.get("n_confidence") or n),
        share_check("escalation rate", sum(not e.accepted for e in entries), m, escalated, n, what="Escalated", two_sided=True),
        share_check("answers out of the set", statuses.count("out_of_set"), m, facts["out_of_set_rate"], n,
                    what="Answers out of the set", two_sided=False),
        share_check("missing logprobs", statuses.count("no_logprobs") + statuses.count("unaligned"), m,
                    facts["no_logprobs_rate"], n, what="Replies without usable logprobs", two_sided=False),
    ]  # fmt: skip


def _evidence(kind: str, failures: list[bool], bound: float | None) -> dict[str, Any]:
    what = (
        "accepted answers with a label" if kind == "labels" else "accepted answers that the strong model also answered"
    )
    empty = {"kind": kind, "bound": bound, "labels": len(failures), "errors": sum(failures), "value": None, "largest": None,
             "alarm_at": None, "alarm": False}  # fmt: skip
    if not failures:
        return empty | {"text": f"There are no {what}, so the promise itself was not tested."}
    if bound is None or not 0 < bound < 1:
        return empty | {"text": f"{len(failures)} {what} cannot be judged: the policy states no bound for them."}
    found = watch(failures, bound)
    return empty | {"value": found.value, "largest": found.largest, "alarm_at": found.alarm_at,
                    "alarm": found.alarm_at is not None, "text": _evidence_text(kind, found)}  # fmt: skip


def _evidence_text(kind: str, found: Evidence) -> str:
    share = f"{found.errors} of {found.labels} {'labeled accepted answers are wrong' if kind == 'labels' else 'accepted answers are not the strong model’s'}"
    rate = f"({found.errors / found.labels:.1%}; the policy allows {found.bound:.1%})"
    if found.alarm_at is None:
        return f"{share} {rate}: no alarm, the evidence reached {found.largest:.2g} of the {1 / LEVEL:g} it takes."
    return (
        f"{share} {rate}: ALARM at number {found.alarm_at}. The evidence against the promise reached {found.largest:.3g}; "
        f"by chance alone it reaches {1 / LEVEL:g} in at most {LEVEL:.0%} of all logs, however often one looks."
    )


def _report(reader: ProductionLog, judged: int, checks: list[Check], evidence: list[dict[str, Any]]) -> dict[str, Any]:
    counts = reader.counts
    alarms = [e for e in evidence if e["alarm"]]
    drifted = [c.name for c in checks if c.alarm]
    changed = [f"{counts[fate]} lines {_SKIPPED[fate]}" for fate in _WARNINGS if counts[fate]]
    if counts[log.OTHER_MODEL] or alarms:
        verdict = "broken"
    elif drifted or changed:
        verdict = "drift"
    else:
        verdict = "holds" if counts[log.JUDGED] else "unknown"
    text = [_verdict_sentence(verdict, reader, alarms, drifted + changed)]
    if counts[log.OTHER_MODEL]:
        names = ", ".join(f"{name!r} ({n})" for name, n in reader.models.most_common(5))
        seen = ", ".join(reader.policy.document["cheap"]["response_models_seen"])
        text.append(
            f"{counts[log.OTHER_MODEL]} replies came from models that calibration never saw: {names}; it saw {seen}. Calibrate again."
        )
    text += [c.text for c in checks]
    text += [e["text"] for e in evidence]
    text.append(BLIND_SPOT)
    skipped = [f"{counts[fate]} {why}" for fate, why in _SKIPPED.items() if counts[fate]]
    text.append(
        f"Read {counts['read']} lines: {counts[log.JUDGED]} judged, the newest {judged} of them for drift"
        + (f"; {', '.join(skipped)}." if skipped else ".")
    )
    return {
        "schema": "cascade-monitor/1",
        "task": reader.policy.task,
        "policy": reader.policy.document["digest"],
        "verdict": verdict,
        "holds": verdict != "broken",
        "text": text,
        "lines": {name: counts[name] for name in ("read", log.JUDGED, *_SKIPPED, log.OTHER_MODEL)},
        "models": dict(reader.models),
        "checks": [dict(vars(c)) for c in checks],
        "evidence": evidence,
    }


def _verdict_sentence(verdict: str, reader: ProductionLog, alarms: list[dict[str, Any]], drift: list[str]) -> str:
    task = reader.policy.task
    if verdict == "unknown":
        return f"{task}: nothing could be judged; no line of the log is a decision or a reply under this policy."
    if verdict == "holds":
        enough = reader.counts[log.JUDGED] >= FEWEST
        return f"{task}: no sign that the promise is broken" + (
            "." if enough else f", but {reader.counts[log.JUDGED]} lines are too few to tell."
        )
    if verdict == "drift":
        return f"{task}: production has changed since calibration ({'; '.join(drift)}). The promise may still hold; label some accepted answers, or calibrate again."
    reasons = (["another model answers"] if reader.counts[log.OTHER_MODEL] else []) + [
        "too many accepted answers are wrong"
        if e["kind"] == "labels"
        else "too many accepted answers differ from the strong model's"
        for e in alarms
    ]
    return f"{task}: the promise no longer holds: {' and '.join(reasons)}. Send everything to the strong model until a new policy is certified."
