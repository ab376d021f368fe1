"""LogReader: log records as decisions under one policy, in order of time, each request once.

A record is a JSON object of one of three forms, each of which may also carry `label` (the right answer), `correct` (true or
false), or `strong_answer` (what the strong model said about the same request), and for kind choose `options`:

- a decision line, as `Cascade` writes it: action, confidence, status, answer, model, policy, request
- a raw completion of the cheap model (`choices`); completions of the strong model are passed over
- a raw completion inside `completion`, or inside `response.body` as batch output files have it

Beside a raw completion stand the request's `text` and `segment`, where the policy's signal reads them.

Nothing raises on what a line holds: what cannot be read is counted.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from cascade_threshold import json_text
from cascade_threshold.policy import ACCEPT, ESCALATE, OTHER_PROMPT, Policy, alias, request_digest
from pipeline.deliver.monitoring.audit import AuditReader
from pipeline.deliver.monitoring.log_record import AUDIT, LogRecord, records

# Why a line is not compared with calibration. Each is counted in the report.
BAD = "bad"
TORN = "torn"
COPY = "copy"
LATE = "late"
ORPHAN = "orphan"
STRONG = "strong"
OTHER_MODEL = "other_model"
NAMELESS_MODEL = "nameless_model"
OTHER_POLICY = "other_policy"
OTHER_REQUEST = "other_request"
OTHER_DECISION = "other_decision"
JUDGED = "judged"

TIMES = ("time", "timestamp", "ts", "@timestamp", "datetime")
IDS = ("event", "id", "request_id", "custom_id")


class Entry(NamedTuple):
    """One request, as the policy decides it."""

    accepted: bool
    confidence: float | None
    status: str
    wrong: bool | None
    """Whether the cheap answer is wrong, by its label; None without one."""
    disagrees: bool | None
    """Whether the strong model gave another answer; None where it was not asked."""
    lost: int | None = None
    """Strong answer right minus cheap answer right (1, 0 or -1); None unless both are known."""
    time: float | None = None
    """Seconds since 1970, UTC."""


class ProductionLog:
    """Reads records; `counts` says what became of them, `models` which others answered."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.counts: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.policies: Counter[str] = Counter()
        self.unread_labels = 0
        """Lines with a label that could not be read, and kept answers whose label is not in the set."""
        self.torn_labels = 0
        """The same of lines that a crash cut off."""
        self.orphan: str | None = None
        """Id of a label whose request is not in the log."""
        self.stray_kept = 0
        """Decision lines that kept the answer of a model that calibration never saw."""
        self._audit = AuditReader(policy)
        seen = frozenset(policy.document["cheap"]["response_models_seen"])
        strong = policy.document["strong"]
        self._strong = (
            frozenset([*strong["response_models_seen"], strong["model"], alias(policy.task, "strong")]) - seen - {None}
        )
        self._request = request_digest(policy)

    def entries(self, lines: Iterable[str | bytes | Mapping[str, Any]]) -> list[Entry]:
        """The requests that the policy's calibration covers, each once, by time (without one: in file order)."""
        found = []
        for fields in self._once(records(lines)):
            fate, entry = self._read(fields)
            self.counts[fate] += 1
            if entry is not None:
                found.append(entry)
        return sorted(found, key=_filled([e.time for e in found]))

    def _once(self, lines: Iterable[LogRecord]) -> Iterator[Mapping[str, Any]]:
        """Readable records, each request once; a copy that brings a label lends it to the one that is kept."""
        kept: dict[object, dict[str, Any]] = {}
        late: list[Mapping[str, Any]] = []
        for record in lines:
            self.counts["read"] += 1
            if record.fields is None:
                self.counts[TORN if record.torn else BAD] += 1
                if record.torn:
                    self.torn_labels += record.labeled
                else:
                    self.unread_labels += record.labeled
                continue
            if _is_verdict(record.fields):
                late.append(record.fields)
                continue
            key = _identity(record.fields)
            if key is None:
                key = len(kept), "alone"
            if key not in kept:
                kept[key] = dict(record.fields)
                continue
            self.counts[COPY] += 1
            first = kept[key]
            first.update(
                {k: record.fields[k] for k in AUDIT if first.get(k) is None and record.fields.get(k) is not None}
            )
        self._lend(late, kept.values())
        yield from kept.values()

    def _lend(self, late: list[Mapping[str, Any]], lines: Iterable[dict[str, Any]]) -> None:
        """Labels that came later, in lines of their own, to the one request that has their id; a newer one corrects an older."""
        asked: dict[str, list[dict[str, Any]]] = {}
        for line in lines if late else ():
            for name in {str(line[k]) for k in IDS if line.get(k) is not None}:
                asked.setdefault(name, []).append(line)
        for verdict in sorted(late, key=_filled([_time(v) for v in late])):
            name = _id(verdict) or ""
            found = asked.get(name, [])
            if len(found) > 1:  # another policy may have decided the same request
                found = [line for line in found if self._is_mine(line)]
            if len(found) == 1:
                self.counts[LATE] += 1
                _correct(found[0], {k: verdict[k] for k in AUDIT if verdict.get(k) is not None})
            else:
                self.counts[ORPHAN] += 1
                self.orphan = name

    def _is_mine(self, line: Mapping[str, Any]) -> bool:
        """Whether the line was decided by this policy, or does not say by which and is about no other task."""
        if _absent(line.get("policy")):
            return _absent(line.get("task")) or line["task"] == self.policy.task
        return _is_or_none(line["policy"], self.policy.document["digest"])

    def _read(self, record: Mapping[str, Any]) -> tuple[str, Entry | None]:
        action = record.get("action")
        if isinstance(action, str) and action.strip().lower() in (ACCEPT, ESCALATE):
            return self._decision_line(record, action.strip().lower())
        inner = completion_in(record)
        return self._unjudged(record) if inner is None else self._raw(record, inner)

    def _unjudged(self, record: Mapping[str, Any]) -> tuple[str, None]:
        self.unread_labels += _is_labeled(record)
        return BAD, None

    def _decision_line(self, line: Mapping[str, Any], action: str) -> tuple[str, Entry | None]:
        confidence = _number(line.get("confidence"))
        if confidence is None and not _absent(line.get("confidence")):
            return self._unjudged(line)
        if not self._is_mine(line):
            self.policies[str(line.get("policy") or line.get("task"))[:12]] += 1
            return OTHER_POLICY, None
        model = line.get("model")
        if isinstance(model, str) and not self.policy.knows_model(model):
            self.models[model] += 1
            self.stray_kept += action == ACCEPT
            return OTHER_MODEL, None
        if line.get("request") not in (None, self._request) or line.get("reason") == OTHER_PROMPT:
            return OTHER_REQUEST, None
        decision = self.policy.decide_confidence(confidence)
        if decision.action != action:
            return OTHER_DECISION, None
        status = line.get("status")
        status = status if isinstance(status, str) else "ok" if confidence is not None else "unknown"
        answer = line.get("answer") if action == ACCEPT else line.get("cheap_answer", line.get("answer"))
        return JUDGED, self._entry(line, action, decision.confidence, status, answer)

    def _raw(self, record: Mapping[str, Any], completion: Any) -> tuple[str, Entry | None]:
        if self.policy.signal is None:
            return self._unjudged(record)
        decision = self.policy.decide(completion, **of_the_request(record))
        if decision.status == "failed" and not isinstance(completion, Mapping):
            return self._unjudged(record)
        model = decision.model
        if model in self._strong:
            return STRONG, None
        if decision.status != "failed" and not self.policy.knows_model(model):
            if model is None:
                return NAMELESS_MODEL, None
            self.models[model] += 1
            return OTHER_MODEL, None
        return JUDGED, self._entry(record, decision.action, decision.confidence, decision.status, decision.answer)

    def _entry(self, line: Mapping[str, Any], action: str, confidence: float | None, status: str, answer: Any) -> Entry:
        found = self._audit.read(line, answer)
        kept = action == ACCEPT
        self.unread_labels += kept and found.unreadable
        return Entry(kept, confidence, status, found.wrong, found.disagrees, found.lost, _time(line))


def _id(fields: Mapping[str, Any]) -> str | None:
    return next((str(fields[k]) for k in IDS if fields.get(k) is not None), None)


def _is_verdict(fields: Mapping[str, Any]) -> bool:
    """Whether a line is a label alone, for a request that another line tells of."""
    told = any(fields.get(name) is not None for name in AUDIT)
    return (
        told
        and _id(fields) is not None
        and not any(k in fields for k in ("action", "confidence", "choices", "completion", "response"))
    )


def _correct(line: dict[str, Any], said: Mapping[str, Any]) -> None:
    """Put what a later line says in place of what was known; a label takes the place of a verdict, too."""
    line.update({"correct": None, **said} if "label" in said else said)


def _is_labeled(value: Any, depth: int = 8) -> bool:
    """Whether a label or a verdict stands anywhere in it."""
    if isinstance(value, list):
        return depth > 0 and any(_is_labeled(v, depth - 1) for v in value)
    if not isinstance(value, Mapping):
        return False
    if any(value.get(name) is not None for name in ("label", "correct")):
        return True
    return depth > 0 and any(_is_labeled(v, depth - 1) for v in value.values())


def _identity(fields: Mapping[str, Any]) -> object:
    """What two deliveries of one line have in common: id, time and policy, else their whole content.

    None when the line has neither an id nor a time: then equal lines may well be two requests.
    """
    given = _id(fields)
    when = next((str(fields[k]) for k in TIMES if fields.get(k) is not None), None)
    if fields.get("event") is not None or (given is not None and when is not None):
        return given, when, str(fields.get("policy"))[:16]  # decisions by two policies are not copies
    if given is None and when is None:
        return None
    told = {k: v for k, v in fields.items() if k not in AUDIT}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).digest()


def _filled(times: list[float | None]) -> Any:
    """A sort key by time; an entry without one stays behind the one before it."""
    known, last = [], -math.inf
    for time in times:
        last = last if time is None else time
        known.append(last)
    keys = iter(known)
    return lambda _: next(keys)


LAST_S = dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp()


def _time(fields: Mapping[str, Any]) -> float | None:
    """When a line was written, in seconds since 1970; None where it does not say so, or names a time that no clock shows."""
    for name in TIMES:
        value = fields.get(name)
        if isinstance(value, str):
            moment = _moment(value.strip())
            if moment is not None:
                told = (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
                return told if 0 <= told <= LAST_S else None
        number = _number(value)
        if number is not None and number > 0:
            while number > 1e11:  # milliseconds, microseconds, nanoseconds
                number /= 1000
            return number
    return None


def _moment(text: str) -> dt.datetime | None:
    """A time of ISO 8601, also with UTC written out behind it, or of RFC 5322 (as HTTP and mail write it)."""
    zone = re.sub(r"\s*(?:UTC|GMT)\Z", "+00:00", text, flags=re.IGNORECASE)
    try:
        return dt.datetime.fromisoformat(zone)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(text) if text[-1:].isalnum() and " " in text and ":" in text else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "null", "none", "nan"))


def _number(value: Any) -> float | None:
    """A number, also as text; None for anything else."""
    if isinstance(value, str) and len(value) < 60:
        try:
            value = float(value.strip())
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def piped(line: str) -> tuple[Any, dict[str, Any]]:
    """The completion in a line, and what the line tells of the request; a line that is itself a completion tells nothing."""
    try:
        record = json_text.parse(line)
    except ValueError:
        return line, {}
    if not isinstance(record, Mapping) or "choices" in record or (completion := completion_in(record)) is None:
        return line, {}
    return completion, of_the_request(record)


def of_the_request(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a line with a raw completion tells `Policy.decide` of the request: its options, text and segment."""
    text = record.get("text")
    return {
        "options": record.get("options"),
        "text": text if isinstance(text, str) else None,
        "segment": record.get("segment"),
    }


def completion_in(record: Mapping[str, Any]) -> Any:
    """The completion in a line, or None when there is none."""
    if isinstance(record.get("completion"), Mapping | str):
        return record["completion"]
    response = record.get("response")
    if isinstance(response, Mapping) and "body" in response:
        return response["body"]
    return record if "choices" in record else None


def _is_or_none(found: Any, wanted: str) -> bool:
    """A digest may be logged in full or shortened to at least 8 digits."""
    return found is None or (isinstance(found, str) and len(found) >= 8 and wanted.startswith(found))
