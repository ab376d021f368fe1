"""ProductionLog: lines of a log read as decisions under one policy. A line that cannot be read is counted, never raised.

A line is a JSON object of one of three forms, each of which may also carry `label` (the right answer), `correct` (true or
false), or `strong_answer` (what the strong model said about the same request), and for kind choose `options`:

- a decision line, as `Cascade` writes it: action, confidence, status, answer, model, policy, request
- a raw completion of the cheap model (`choices`); completions of the strong model are passed over
- a raw completion inside `completion`, or inside `response.body` as batch output files have it
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from cascade_threshold.policy import ACCEPT, ESCALATE, NAMELESS, OTHER_PROMPT, Policy, request_digest

# Why a line is not held against the calibration. Each is counted in the report.
BAD = "bad"
STRONG = "strong"
OTHER_MODEL = "other_model"
NAMELESS_MODEL = "nameless_model"
OTHER_POLICY = "other_policy"
OTHER_REQUEST = "other_request"
OTHER_DECISION = "other_decision"
JUDGED = "judged"


class Entry(NamedTuple):
    """One request, as the policy decides it."""

    accepted: bool
    confidence: float | None
    status: str
    wrong: bool | None
    """Whether the cheap answer is wrong, by its label; None without one."""
    disagrees: bool | None
    """Whether the strong model said something else; None where it was not asked."""


class ProductionLog:
    """Reads lines one at a time; `counts` says what became of them, `models` which others answered."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.counts: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.policies: Counter[str] = Counter()
        self._seen = frozenset(policy.document["cheap"]["response_models_seen"])
        strong = policy.document["strong"]
        self._strong = frozenset([*strong["response_models_seen"], strong["model"]]) - self._seen - {None}
        self._request = request_digest(policy)

    def entries(self, lines: Iterable[str | bytes | Mapping[str, Any]]) -> Iterator[Entry]:
        """The requests that the policy's calibration speaks about, in the order of the log."""
        for line in lines:
            if isinstance(line, str | bytes) and not line.strip():
                continue
            self.counts["read"] += 1
            record = _record(line)
            fate, entry = (BAD, None) if record is None else self._read(record)
            self.counts[fate] += 1
            if entry is not None:
                yield entry

    def _read(self, record: Mapping[str, Any]) -> tuple[str, Entry | None]:
        inner = _completion(record)
        if record.get("action") in (ACCEPT, ESCALATE):
            return self._decision_line(record)
        if inner is None:
            return BAD, None
        return self._raw(record, inner)

    def _decision_line(self, line: Mapping[str, Any]) -> tuple[str, Entry | None]:
        confidence = line.get("confidence")
        if confidence is not None and (isinstance(confidence, bool) or not isinstance(confidence, int | float)):
            return BAD, None
        if not _is_or_none(line.get("policy"), self.policy.document["digest"]):
            self.policies[str(line["policy"])[:12]] += 1
            return OTHER_POLICY, None
        model = line.get("model")
        if isinstance(model, str) and self._seen and model not in self._seen:
            self.models[model] += 1
            return OTHER_MODEL, None
        if line.get("request") not in (None, self._request) or line.get("reason") == OTHER_PROMPT:
            return OTHER_REQUEST, None
        decision = self.policy.decide_confidence(confidence)
        if decision.action != line["action"]:
            return OTHER_DECISION, None
        status = line.get("status")
        status = status if isinstance(status, str) else "ok" if confidence is not None else "unknown"
        return JUDGED, self._entry(line, decision.action, decision.confidence, status, line.get("answer"))

    def _raw(self, record: Mapping[str, Any], completion: Any) -> tuple[str, Entry | None]:
        if self.policy.signal is None:
            return BAD, None
        decision = self.policy.decide(completion, options=record.get("options"))
        if decision.status == "failed" and not isinstance(completion, Mapping):
            return BAD, None
        model = decision.model
        if model in self._strong:
            return STRONG, None
        if decision.status != "failed" and self._seen and (model or NAMELESS) not in self._seen:
            if model is None:
                return NAMELESS_MODEL, None
            self.models[model] += 1
            return OTHER_MODEL, None
        return JUDGED, self._entry(record, decision.action, decision.confidence, decision.status, decision.answer)

    def _entry(self, line: Mapping[str, Any], action: str, confidence: float | None, status: str, answer: Any) -> Entry:
        wrong = disagrees = None
        if isinstance(line.get("correct"), bool):
            wrong = not line["correct"]
        elif isinstance(line.get("label"), str) and isinstance(answer, str):
            wrong = not self._same(answer, line["label"], line.get("options"))
        if isinstance(line.get("strong_answer"), str) and isinstance(answer, str):
            disagrees = not self._same(answer, line["strong_answer"], line.get("options"))
        return Entry(action == ACCEPT, confidence, status, wrong, disagrees)

    def _same(self, a: str, b: str, options: Any) -> bool:
        try:
            answers = self.policy.answer_set(options)
        except (TypeError, ValueError):
            return a.strip() == b.strip()
        return answers.fold(a) == answers.fold(b)


def _record(line: str | bytes | Mapping[str, Any]) -> Mapping[str, Any] | None:
    if isinstance(line, Mapping):
        return line
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _completion(record: Mapping[str, Any]) -> Any:
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
