"""Cascade: a thin helper for the Together SDK. Ask the cheap model, decide, ask the strong one where that is needed.

    cascade = Cascade(policy.load("policy.json"), Together(max_retries=0), log="decisions.jsonl")
    result = cascade.answer([{"role": "user", "content": "..."}])

With an AsyncTogether client use `await cascade.answer_async(...)`. Each answer writes one JSON line, without any text of
the request, that `monitor` reads.
"""

from __future__ import annotations

import datetime as dt
import inspect
import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_threshold.answers import AnswerSet, read_answer
from cascade_threshold.completion import Reply, parse
from cascade_threshold.policy import ACCEPT, ESCALATE, Decision, Policy, request_digest
from cascade_threshold.pricing import price_of

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
    """Dollars of all calls made for this request, at the policy's prices; None when a reply does not say its tokens."""
    decision: Decision
    text: str | None
    """The used reply's text as it came."""


class Cascade:
    """Both models behind one policy. Safe to share between threads as far as the client is.

    `client`: a Together or AsyncTogether client, or one for each of "cheap" and "strong". `log`: a file that lines are appended to, or a function that takes a
    line. `shadow`: share of accepted requests for which the strong model is asked as well, so that `monitor` can test the
    promise without people; drawn with `seed`.
    """

    def __init__(
        self,
        policy: Policy,
        client: Any,
        *,
        log: str | Path | Callable[[str], object] | None = None,
        shadow: float = 0.0,
        seed: int | None = None,
    ) -> None:
        if not 0 <= shadow <= 1:
            raise ValueError(f"shadow is a share between 0 and 1, got {shadow!r}")
        self.policy = policy
        self._clients = dict(client) if isinstance(client, Mapping) else {"cheap": client, "strong": client}
        self._write = log if callable(log) or log is None else _appender(Path(log))
        self._shadow, self._random = shadow, random.Random(seed)
        self._human = bool(policy.document["strong"].get("human"))
        self._request = request_digest(policy)
        self._arguments = {
            role: _arguments(self._clients[role], policy.request(role))
            for role in ("cheap", "strong")
            if policy.document[role]["model"] is not None and not policy.asks_by_row(role)
        }

    def answer(
        self,
        messages: Messages,
        *,
        options: int | Sequence[Any] | None = None,
        prompt_sha256: str | None = None,
        request_id: str | None = None,
    ) -> Answer:
        """Answer one request. `options` and `prompt_sha256` as in `Policy.decide`; `request_id` goes into the log.

        A cheap call that fails escalates. A strong call that fails raises the SDK's error, as there is nobody left to ask.
        """
        turn = _Turn(self, options, prompt_sha256, request_id)
        if turn.decision is None:
            try:
                turn.cheap(self._raw("cheap", messages, options).text())
            except Exception as error:
                turn.failed(error)
        if turn.asks_strong():
            try:
                turn.strong(self._raw("strong", messages, options).text())
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
    ) -> Answer:
        """`answer`, for an AsyncTogether client."""
        turn = _Turn(self, options, prompt_sha256, request_id)
        if turn.decision is None:
            try:
                turn.cheap(await (await self._raw("cheap", messages, options)).text())
            except Exception as error:
                turn.failed(error)
        if turn.asks_strong():
            try:
                turn.strong(await (await self._raw("strong", messages, options)).text())
            except Exception:
                if not turn.shadow:
                    raise
                turn.usd.append(None)
        return turn.finish()

    def _raw(self, role: str, messages: Messages, options: int | Sequence[Any] | None) -> Any:
        client = self._clients[role]
        body = self._arguments.get(role) or _arguments(client, self.policy.request(role, options=options))
        # the raw response, because a reply that is not JSON must escalate, not raise
        return client.chat.completions.with_raw_response.create(messages=list(messages), **body)

    def _draws_shadow(self) -> bool:
        return self._shadow > 0 and not self._human and self._random.random() < self._shadow

    def _usd(self, role: str, reply: Reply) -> float | None:
        price = price_of(self.policy.document[role])
        return None if price is None else price.usd(reply.usage)


class _Turn:
    """One request on its way: what was asked and answered so far. Knows nothing of networks."""

    def __init__(self, cascade: Cascade, options: Any, prompt_sha256: str | None, request_id: str | None) -> None:
        self.cascade, self.policy = cascade, cascade.policy
        self.options, self.prompt_sha256, self.request_id = options, prompt_sha256, request_id
        self.decision: Decision | None = self.policy.blanket
        self.shadow = False
        self.usd: list[float | None] = []
        self.texts: dict[str, str | None] = {}
        self.strong_answer: str | None = None

    def cheap(self, text: str) -> None:
        reply = parse(text)
        self.decision = self.policy.decide(text, options=self.options, prompt_sha256=self.prompt_sha256)
        self.usd.append(self.cascade._usd("cheap", reply))
        self.texts["cheap"] = reply.text
        self.shadow = self.decision.action == ACCEPT and self.cascade._draws_shadow()

    def failed(self, error: Exception) -> None:
        # the class alone: an SDK error's text may hold the key
        self.usd.append(None)
        reason = f"the cheap model's call failed: {type(error).__name__}"
        self.decision = Decision(ESCALATE, None, None, None, self.policy.threshold, reason, "failed")

    def asks_strong(self) -> bool:
        assert self.decision is not None
        return (self.decision.action == ESCALATE and not self.cascade._human) or self.shadow

    def strong(self, text: str) -> None:
        reply = parse(text)
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
        if self.cascade._write is None:
            return
        line = {
            "time": dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds"),
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
        self.cascade._write(json.dumps(line, ensure_ascii=False) + "\n")


def _arguments(client: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a request body as the SDK's arguments; those that it does not know go through `extra_body`."""
    known = inspect.signature(client.chat.completions.create).parameters
    extra = {name: value for name, value in body.items() if name not in known}
    return {
        **{name: value for name, value in body.items() if name in known},
        **({"extra_body": extra} if extra else {}),
    }


def _appender(path: Path) -> Callable[[str], object]:
    lock = threading.Lock()

    def append(line: str) -> None:
        with lock, path.open("a", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write(line)

    return append
