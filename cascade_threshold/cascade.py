"""Cascade: a thin wrapper around the client that a service already has. Ask the cheap model, decide, ask the strong one where that is needed.

    cascade = Cascade(policy.load("policy.json"), Together(max_retries=0), log="decisions.jsonl")
    result = cascade.answer([{"role": "user", "content": "..."}])

With an async client use `await cascade.answer_async(...)`. Each answer writes one JSON line, without any text of
the request, that `monitor` reads.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_threshold.answers import AnswerSet, read_answer
from cascade_threshold.client_shape import ClientShape
from cascade_threshold.completion import Reply, parse
from cascade_threshold.decision_log import WARN, DecisionLog
from cascade_threshold.policy import ACCEPT, ESCALATE, Decision, Policy, request_digest
from cascade_threshold.policy_schema import ROLES
from cascade_threshold.pricing import price_of
from cascade_threshold.segment import segment_name

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Answer:
    """What the cascade answers to one request."""

    answer: str | None
    """A label of the set; None when the model that was used gave none, or when people must answer."""
    route: str
    """Whose answer it is: cheap, strong or human."""
    confidence: float | None
    """The cheap model's confidence; None when unknown or when it was not asked."""
    usd: float | None
    """Dollars of all calls made for this request, at the policy's prices; None when a reply does not report its tokens."""
    decision: Decision
    text: str | None
    """Raw text of the reply that was used."""


class Cascade:
    """Both models behind one policy. Safe to share between threads as far as the client is.

    `client`: Together, OpenAI, litellm or litellm.Router, their async forms, or a function (see `client_shape`); a mapping
    {"cheap": ..., "strong": ...} where each model has its own. `models`: other names under which a gateway knows the models.
    `log`: a file that lines are appended to, or a function that takes a line; what cannot be written is warned of once and
    counted in `log_failures`, or raises with `log_errors="raise"`. `shadow`: share of accepted requests for which the strong model
    is asked as well, so that `monitor` can test the promise without people; drawn with `seed`.
    """

    def __init__(
        self,
        policy: Policy,
        client: Any,
        *,
        log: str | Path | Callable[[str], object] | None = None,
        shadow: float = 0.0,
        seed: int | None = None,
        log_errors: str = WARN,
        models: Mapping[str, str] | None = None,
    ) -> None:
        if not 0 <= shadow <= 1:
            raise ValueError(f"shadow is a share between 0 and 1, got {shadow!r}")
        self.policy = policy
        clients = dict(client) if isinstance(client, Mapping) else dict.fromkeys(ROLES, client)
        self.log = DecisionLog(log, log_errors)
        self._shadow, self._random = shadow, random.Random(seed)
        self._human = bool(policy.document["strong"].get("human"))
        self._request, self._models = request_digest(policy), dict(models or {})
        roles = [role for role in ROLES if policy.document[role]["model"] is not None]
        self._clients = {role: ClientShape(clients[role]) for role in roles}
        self._ready = {role: self._arguments(role, None) for role in roles if not policy.asks_by_row(role)}

    @property
    def log_failures(self) -> int:
        """Decisions that could not be written to the log."""
        return self.log.failures

    def answer(
        self,
        messages: Messages,
        *,
        options: int | Sequence[Any] | None = None,
        prompt_sha256: str | None = None,
        request_id: str | None = None,
        text: str | None = None,
        segment: str | int | None = None,
    ) -> Answer:
        """Answer one request. `options`, `prompt_sha256`, `text` and `segment` as in `Policy.decide`.

        `request_id` and `segment`, where given, go into the log.

        A cheap call that fails escalates. A strong call that fails raises the SDK's error, as there is nobody left to ask.
        """
        turn = _Turn(self, options, prompt_sha256, request_id, text, segment)
        if turn.decision is None:
            try:
                turn.cheap(self._clients["cheap"].ask(list(messages), self._arguments("cheap", options)))
            except Exception as error:
                turn.failed(error)
        if turn.asks_strong():
            try:
                turn.strong(self._clients["strong"].ask(list(messages), self._arguments("strong", options)))
            except Exception:
                if not turn.shadow:
                    raise
                turn.usd.append(None)
        return turn.finish()

    async def answer_async(
        self,
        messages: Messages,
        *,
        options: int | Sequence[Any] | None = None,
        prompt_sha256: str | None = None,
        request_id: str | None = None,
        text: str | None = None,
        segment: str | int | None = None,
    ) -> Answer:
        """`answer`, for an async client."""
        turn = _Turn(self, options, prompt_sha256, request_id, text, segment)
        if turn.decision is None:
            try:
                turn.cheap(await self._clients["cheap"].ask_async(list(messages), self._arguments("cheap", options)))
            except Exception as error:
                turn.failed(error)
        if turn.asks_strong():
            try:
                turn.strong(await self._clients["strong"].ask_async(list(messages), self._arguments("strong", options)))
            except Exception:
                if not turn.shadow:
                    raise
                turn.usd.append(None)
        return turn.finish()

    def _arguments(self, role: str, options: int | Sequence[Any] | None) -> dict[str, Any]:
        if role in getattr(self, "_ready", ()):
            return self._ready[role]
        client = self._clients[role]
        body = self.policy.request(role, options=options, dialect=client.dialect)
        return client.arguments(body | ({"model": self._models[role]} if role in self._models else {}))

    def _draws_shadow(self) -> bool:
        return self._shadow > 0 and not self._human and self._random.random() < self._shadow

    def _usd(self, role: str, reply: Reply) -> float | None:
        price = price_of(self.policy.document[role])
        return None if price is None else price.usd(reply.usage)


class _Turn:
    """State of one request: what was asked and answered so far. Does no I/O."""

    def __init__(
        self,
        cascade: Cascade,
        options: Any,
        prompt_sha256: str | None,
        request_id: str | None,
        row: str | None,
        segment: str | int | None,
    ) -> None:
        self.cascade, self.policy = cascade, cascade.policy
        self.options, self.prompt_sha256, self.request_id = options, prompt_sha256, request_id
        self.row, self.segment = row, segment
        self.decision: Decision | None = self.policy.blanket
        self.shadow = False
        self.usd: list[float | None] = []
        self.texts: dict[str, str | None] = {}
        self.strong_answer: str | None = None

    def cheap(self, completion: Any) -> None:
        reply = parse(completion)
        self.decision = self.policy.decide(
            completion,
            options=self.options,
            prompt_sha256=self.prompt_sha256,
            **self._told_of_the_request(),
        )
        self.usd.append(self.cascade._usd("cheap", reply))
        self.texts["cheap"] = reply.text
        self.shadow = self.decision.action == ACCEPT and self.cascade._draws_shadow()

    def _told_of_the_request(self) -> dict[str, Any]:
        told = {"text": self.row, "segment": self.segment}
        return {name: value for name, value in told.items() if value is not None}

    def failed(self, error: Exception) -> None:
        # the class name only: the text of an SDK error may contain the key
        self.usd.append(None)
        reason = f"the cheap model's call failed: {type(error).__name__}"
        self.decision = Decision(ESCALATE, None, None, None, self.policy.threshold, reason, "failed")

    def asks_strong(self) -> bool:
        assert self.decision is not None
        return (self.decision.action == ESCALATE and not self.cascade._human) or self.shadow

    def strong(self, completion: Any) -> None:
        reply = parse(completion)
        self.usd.append(self.cascade._usd("strong", reply))
        self.texts["strong"] = reply.text
        answers = self._answers()
        self.strong_answer = None if answers is None else read_answer(reply, answers, role="strong").answer

    def finish(self) -> Answer:
        decision = self.decision
        assert decision is not None
        escalated = decision.action == ESCALATE
        route = "cheap" if not escalated else "human" if self.cascade._human else "strong"
        if route == "human":
            self.usd.append(self.policy.document["strong"].get("usd_per_request"))
        usd = None if any(part is None for part in self.usd) else sum(part for part in self.usd if part is not None)
        answer = {"cheap": decision.answer, "strong": self.strong_answer, "human": None}[route]
        self._log(decision, route, answer, usd)
        return Answer(answer, route, decision.confidence, usd, decision, self.texts.get(route))

    def _answers(self) -> AnswerSet | None:
        try:
            return self.policy.answer_set(self.options)
        except (TypeError, ValueError):
            return None

    def _log(self, decision: Decision, route: str, answer: str | None, usd: float | None) -> None:
        if not self.cascade.log:
            return
        line = {
            "time": dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds"),
            "event": uuid.uuid4().hex,
            "task": self.policy.task,
            "id": self.request_id,
            "policy": self.policy.document["digest"][:16],
            "request": self.cascade._request,
            "model": decision.model,
            "status": decision.status,
            "action": decision.action,
            "reason": decision.reason,
            "confidence": decision.confidence,
            "calibrated_confidence": decision.calibrated_confidence,
            "threshold": decision.threshold,
            "route": route,
            "answer": answer,
            "cheap_answer": decision.answer,
            "strong_answer": self.strong_answer,
            "usd": usd,
        }
        if self.policy.document["kind"] == "choose":
            line["options"] = self.options if isinstance(self.options, int) else len(self.options or ())
        if (segment := segment_name(self.segment)) is not None:
            line["segment"] = segment
        self.cascade.log.write(json.dumps(line, ensure_ascii=False) + "\n")
