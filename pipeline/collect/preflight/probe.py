"""Probe: one real call to a model, and what its reply says about the run to come.

What an API does with `logprobs` differs by model and server and is documented nowhere reliably, so it is tried.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from math import fsum
from typing import Any

from cascade_threshold.completion import Reply, Token, parse
from cascade_threshold.constraint import JSON_SCHEMA
from cascade_threshold.pricing import Price
from pipeline.collect.providers.provider import Attempt, Provider
from pipeline.collect.providers.wire_form import BOOLEAN, INTEGER, WireForm, adapt
from pipeline.collect.request import PROBE_REPEAT, Request
from pipeline.collect.sending import event_loop
from pipeline.collect.sending.interrupts import DRAIN_S, caught
from pipeline.collect.sending.rate_limit import LONGEST_WAIT_S, ROUNDS, wait_asked
from pipeline.collect.sending.response_class import Action, Outcome, advice, judge
from pipeline.collect.sending.role import Reader
from pipeline.collect.sending.spend_cap import price_key
from pipeline.collect.store.response_store import ResponseStore, ending, opening
from pipeline.errors import Interrupted, ProviderDown, UsageError

TRIES = 3
DEADLINE_S = 60.0
ZEROS_SUSPECT = 5
"""From this many tokens on, logprobs that are all exactly 0 are not a confidence but an artefact of sampling settings."""
ROWS = 3
"""Number of rows that are tried while failures are row-specific: refused, filtered, cut or empty."""
LOOK = 500


class Trial:
    """What the attempts of a probe brought, and whether a signal ends it: what is in flight may still come back."""

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self.outcomes: list[Outcome] = []
        self.error: Interrupted | None = None
        self._task = task

    def interrupt(self, signum: int) -> str:
        """Send nothing more."""
        self.error = Interrupted("interrupted, nothing is lost", signum)
        if self._task is not None:
            asyncio.get_running_loop().call_later(DRAIN_S, self._task.cancel)
        return (
            f"stopping: the first request gets up to {DRAIN_S:.0f} s to come back (the same signal again: stop at once)"
        )

    async def sleep(self, seconds: float) -> None:
        """Sleep until a signal at the latest."""
        end = asyncio.get_running_loop().time() + seconds
        while self.error is None and (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(0.1, left))
        if self.error is not None:
            raise self.error


def candidates(requests: Iterable[Request], store: ResponseStore) -> list[Request]:
    """The rows to try a model with: the first ones that it has not refused yet; if there are none, the first ones."""
    head = list(islice(requests, LOOK))
    known, _ = store.known([request.request_id for request in head])
    open_ = [request for request in head if known.get(request.request_id, ("", 0))[0] != "rejected"]
    return (open_ or head)[:ROWS]


def probe(
    requests: Sequence[Request],
    provider: Provider,
    store: ResponseStore,
    *,
    task: str,
    price: Price | None = None,
    read: Reader | None = None,
) -> dict[str, Any]:
    """Ask once, for real, and close the provider; retry with the next row if the failure is row-specific. The attempts are in
    the store like any other; each is its row's reply where the row had none.

    Keys: example_id, answer (the label that `read` finds; None: it is none), shown (its text), role, model, service, host, usable, problem, remedy, state (of the attempt), form ("integer", "boolean", "none"), shape ("content",
    "legacy", "none"), tokens, alternatives_wanted, alternatives (fewest that came with a token), exact_zero_share,
    reasoning_in_logprobs, reasoning_tokens, response_model, finish_reason, text, usage, usd (of all its attempts; None: not told), seconds, checked_at,
    list_price (what the service's own list says, in dollars per million tokens in and out; None: unknown).
    Raises AccessError or CreditExhausted when the service refuses, ProviderDown when it does not answer.
    """
    request = requests[0]
    if price is not None and provider.paid:
        store.remember(price_key(request.service, request.model), price.public())
    return event_loop.run(_probe(requests, provider, store, task, price, read))


async def _probe(
    requests: Sequence[Request],
    provider: Provider,
    store: ResponseStore,
    task: str,
    price: Price | None,
    read: Reader | None,
) -> dict[str, Any]:
    trial = Trial(asyncio.current_task())
    try:
        with caught(asyncio.get_running_loop(), trial.interrupt):
            for request in requests:
                found = await _examined(request, provider, store, task, trial, read)
                if found["usable"] or not _of_its_row(found):
                    break
        charged = [o.usage for o in trial.outcomes if o.state in ("ok", "invalid", "unknown")]
        costs = [None if price is None else price.usd(usage) for usage in charged]
        found["usd"] = fsum(known) if len(known := [c for c in costs if c is not None]) == len(costs) else None
        look_up = getattr(provider, "list_price", None)
        found["list_price"] = await look_up(request.model) if look_up is not None else None
        return found
    finally:
        await provider.aclose()


async def _examined(
    request: Request,
    provider: Provider,
    store: ResponseStore,
    task: str,
    trial: Trial,
    read: Reader | None,
) -> dict[str, Any]:
    """What a row's reply says, asked in the other form where the first brought no logprobs."""
    found = examine(request, *await _ask(request, provider, store, task, trial), read)
    forms: dict[str, str] | None = getattr(provider, "forms", None)
    if (
        request.top_logprobs is not None
        and not found["usable"]
        and WireForm.parse(found["form"]).logprobs == INTEGER
        and forms is not None
        and found["state"] == "ok"
        and not _of_its_row(found)
    ):
        # some servers accept the integer and then leave the logprobs out
        adapt(forms, request.model, {"logprobs": BOOLEAN})
        found = examine(request, *await _ask(request, provider, store, task, trial), read)
    if request.answers and forms is not None and found["state"] == "rejected":
        found = await _constrained(request, provider, forms, found, store, task, trial, read)
    return found


async def _constrained(
    request: Request,
    provider: Provider,
    forms: dict[str, str],
    found: dict[str, Any],
    store: ResponseStore,
    task: str,
    trial: Trial,
    read: Reader | None,
) -> dict[str, Any]:
    """What the reply says in the first form in which the constraint is taken, where the refusal did not tell which that is."""
    known, before = forms.get(request.model), WireForm.parse(found["form"])
    for form in (replace(before, logprobs=BOOLEAN), replace(before, logprobs=BOOLEAN, constraint=JSON_SCHEMA)):
        if form != before:
            forms[request.model] = str(form)
            other = examine(request, *await _ask(request, provider, store, task, trial), read)
            if other["state"] != "rejected":
                return other
    forms.pop(request.model, None)
    if known is not None:
        forms[request.model] = known
    return found


def _of_its_row(found: Mapping[str, Any]) -> bool:
    """Whether an unusable reply may be the fault of its row: another row decides."""
    return found["state"] != "ok" or not found["text"] or found["finish_reason"] in ("content_filter", "length")


async def _ask(
    request: Request, provider: Provider, store: ResponseStore, task: str, trial: Trial
) -> tuple[Attempt, Outcome]:
    """Up to a few tries, since a probe must not fail by chance. Each is recorded."""
    request = _fresh(request, store)
    request_id = request.request_id
    tries = waits = 0
    number = store.session(task)
    while True:
        number += 1
        opened = opening(number, task, request_id, request)
        store.durably(partial(store.note, [opened]))
        try:
            async with asyncio.timeout(DEADLINE_S):
                attempt = await provider.complete(request)
        except TimeoutError:
            attempt = Attempt("unknown", problem="timeout", detail=f"no whole reply within {DEADLINE_S:g} s")
        except asyncio.CancelledError:  # the drain is over
            attempt = Attempt("unknown", problem="interrupted")
        outcome = judge(attempt)
        trial.outcomes.append(outcome)
        store.durably(partial(store.note, (), [ending(opened, attempt, outcome)]))
        if trial.error is not None:
            raise trial.error
        if outcome.error is not None:
            raise outcome.error(advice(attempt, outcome, request))
        if outcome.action is Action.WAIT:
            waits += 1
            pause = wait_asked(attempt.headers)
            if waits > ROUNDS or (pause is not None and pause > LONGEST_WAIT_S):
                asked = "" if pause is None else f", now for a wait of {pause:,.0f} s"
                raise ProviderDown(
                    f"{attempt.host} keeps asking for a slower pace{asked} (http_429); run the same command again later, nothing is lost"
                )
            await trial.sleep(2 ** min(waits, 5) if pause is None else pause)
            continue
        tries += outcome.action is not Action.AGAIN
        if outcome.action in (Action.KEEP, Action.REJECT) or (outcome.state == "ok" and tries > 1):
            return attempt, outcome
        if outcome.state == "not_sent" or tries >= TRIES:
            raise ProviderDown(
                f"{attempt.host or 'the service'} does not answer ({outcome.reason}{': ' + outcome.message if outcome.message else ''}); "
                f"check the network and {attempt.origin.address}, or try again later"
            )
        await trial.sleep(min(10.0, wait_asked(attempt.headers) or 0.5) if outcome.action is not Action.AGAIN else 0)


def _fresh(request: Request, store: ResponseStore) -> Request:
    known, _ = store.known([request.request_id])
    repeat = PROBE_REPEAT
    while request.request_id in known:
        request = replace(request, repeat=repeat)
        repeat += 1
        known, _ = store.known([request.request_id])
    return request


def examine(request: Request, attempt: Attempt, outcome: Outcome, read: Reader | None = None) -> dict[str, Any]:
    """What one reply says about its model. A pure function."""
    reply = parse(attempt.body)
    tokens = reply.tokens or ()
    wants = request.top_logprobs is not None
    counts = [len(t.alternatives) for t in tokens if t.token]
    answer, shown = (None, "") if read is None or not attempt.body else read(request, attempt.body)
    problem, remedy = _verdict(request, reply, outcome, tokens, min(counts, default=0))
    return {
        "example_id": request.example_id,
        "answer": answer,
        "shown": shown,
        "role": request.role,
        "model": request.model,
        "service": request.service,
        "host": attempt.host,
        "usable": problem is None,
        "problem": problem,
        "remedy": remedy,
        "state": outcome.state,
        "form": attempt.wire_form,
        "shape": reply.shape if wants else "none",
        "tokens": len(tokens),
        "alternatives_wanted": request.top_logprobs,
        "alternatives": min(counts, default=0) if wants else None,
        "exact_zero_share": sum(t.logprob == 0 for t in tokens) / len(tokens) if tokens else None,
        "reasoning_in_logprobs": bool(tokens)
        and reply.has_reasoning
        and len(_joined(tokens)) > len((reply.text or "").encode()),
        "reasoning_tokens": reply.reasoning_tokens,
        "response_model": reply.model,
        "finish_reason": reply.finish_reason,
        "text": reply.text,
        "usage": outcome.usage.known,
        "seconds": attempt.seconds,
        "checked_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _joined(tokens: tuple[Token, ...]) -> bytes:
    return b"".join(t.bytes if t.bytes is not None else t.token.encode("utf-8", "replace") for t in tokens)


def _verdict(
    request: Request, reply: Reply, outcome: Outcome, tokens: tuple[Token, ...], fewest: int
) -> tuple[str | None, str | None]:
    """What makes the model unusable for its role, and the remedy; (None, None) if nothing does."""
    if outcome.state != "ok":
        return (
            f"the first rows were refused ({outcome.reason}: {outcome.message})",
            "see whether the rows, `params` and the model fit together",
        )
    if not reply.text:
        if reply.finish_reason == "length":
            return (
                "all max_tokens went into reasoning, no answer came",
                "set params.reasoning: {enabled: false} (gpt-oss: reasoning_effort: low), or raise params.max_tokens",
            )
        return "the reply holds no answer", "try another prompt or another model"
    if request.top_logprobs is None:
        return None, None
    usable = [t for t in tokens if t.logprob is not None and t.logprob <= 1e-6]
    if not usable:
        return (
            "no token came with a usable logprob",
            "choose another cheap model: without logprobs there is no confidence",
        )
    if len(usable) >= ZEROS_SUSPECT and all(t.logprob == 0 for t in usable):
        return (
            "every logprob is exactly 0",
            "remove top_p and top_k from params and set temperature: 0, or choose another model",
        )
    if request.top_logprobs > 1 and fewest == 0 and not any(len(t.alternatives) for t in tokens):
        return (
            None,
            "no alternatives came back: signals that need them (margin, entropy, label_probability) will not be used",
        )
    return None, None


def key(host: str, request: Request) -> str:
    """Under which name a model's probe is remembered: what it was asked for is part of it."""
    constrained = ":constrained" if request.answers else ""
    return f"probe:{host}:{request.model}:{request.role}:{request.top_logprobs}:{sorted(request.params.items())!r}{constrained}"


def forms(store: ResponseStore, host: str) -> Mapping[str, str]:
    """Request forms that models of a host were found to understand."""
    found = [record for name, record in store.facts("probe:") if record.get("host") == host and name]
    return {
        record["model"]: record["form"] for record in found if record.get("form") not in (None, "", "none", "recorded")
    }


def remembered(store: ResponseStore, host: str, request: Request) -> dict[str, Any] | None:
    """The last probe of this model for this use, if a reply came: a row that was refused says nothing about the model."""
    record = store.fact(key(host, request))
    return record if isinstance(record, dict) and (record.get("usable") or record.get("state") == "ok") else None


def refuse(record: Mapping[str, Any]) -> None:
    """Raise UsageError when the model cannot do what its role needs."""
    if not record["usable"]:
        raise UsageError(
            f"{record['role']} model {record['model']}: {record['problem']}; {record['remedy']} (found at {record['checked_at']}; `doctor` asks again)"
        )
