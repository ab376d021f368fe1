"""Doctor: tries everything that a run needs once, before it costs anything."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from cascade_threshold.pricing import Price, text_of
from pipeline.collect.preflight.probe import key, probe, refuse, remembered
from pipeline.collect.preflight.questions import Advice
from pipeline.collect.providers.provider import Provider
from pipeline.collect.request import Request
from pipeline.collect.sending.role import Reader
from pipeline.collect.sending.spend_cap import Allowance, usd_bound
from pipeline.collect.store import admin
from pipeline.collect.store.response_store import ResponseStore
from pipeline.errors import CapReached, CascadeError, CreditExhausted, KeyRefused, Stopped, UsageError

STALE_PRICE_DAYS = 90
BYTES_PER_REPLY = 4_000
SPARE_BYTES = 200_000_000


def doctor(
    requests: Mapping[str, Sequence[Request]],
    prices: Mapping[str, Price],
    provider: Callable[[str], Provider],
    store: ResponseStore,
    *,
    task: str,
    paid: bool,
    allowance: Allowance | None = None,
    to_send: int = 0,
    read: Reader | None = None,
    may_be_unreadable: bool = False,
    questions: Sequence[Advice] = (),
    today: dt.date | None = None,
) -> dict[str, Any]:
    """Check what a run needs; one call per model, with the first row of `requests` per role, or the next where a reply
    speaks of its row alone.

    `provider` makes the provider of a role, `read` reads a reply for its row (an answer that is no label fails the check,
    unless it `may_be_unreadable`), `to_send` sizes the disk that is needed, `questions` are what was noticed about config and rows. Keys: task, ok, checks [{name, state: "ok" | "warn" | "fail", text, remedy, exit_code}],
    models {role: probe record}, usd. Problems are reported, not raised; see `require`.
    """
    checks: list[dict[str, Any]] = []

    def add(name: str, state: str, text: str, remedy: str | None = None, exit_code: int = UsageError.exit_code) -> None:
        code = exit_code if state == "fail" else 0
        checks.append({"name": name, "state": state, "text": text, "remedy": remedy, "exit_code": code})

    for role, price in prices.items():
        _check_price(add, role, price, today or dt.datetime.now(dt.UTC).date(), paid=paid)
    _check_disk(add, store, to_send)
    for text in admin.check(store):
        add("store", "warn", text)
    for found in questions:
        add("question", "warn", found.text, found.remedy)
    models: dict[str, Any] = {}
    for role, rows in requests.items():
        try:
            models[role] = record = _tried(
                rows, provider(role), store, task, prices.get(role), allowance or Allowance(), read
            )
        except CascadeError as error:
            if not any(str(error) == c["text"] for c in checks):  # a missing key is a single fault
                add(f"{role} model", "fail", str(error), exit_code=error.exit_code)
            if isinstance(error, KeyRefused | CreditExhausted):
                break  # whatever is asked
            continue
        _check_list_price(add, role, record, prices.get(role))
        _check_model(add, record)
        if record["usable"] and record["answer"] is None and read is not None:
            add(f"{role} answer", "warn" if may_be_unreadable else "fail", *_of_no_label(record))
    return {
        "task": task,
        "ok": all(c["state"] != "fail" for c in checks),
        "checks": checks,
        "models": models,
        "usd": sum(m["usd"] or 0.0 for m in models.values()) if paid else 0.0,
    }


def ready(
    requests: Mapping[str, Sequence[Request]],
    prices: Mapping[str, Price],
    provider: Callable[[str], Provider],
    store: ResponseStore,
    *,
    task: str,
    allowance: Allowance,
) -> dict[str, Any]:
    """Probe records per role: the remembered ones, and a call for each model that was never probed for this use.

    For the start of a paid run: a cheap model without usable logprobs is refused (UsageError) before the other requests.
    Raises CapReached when a call could cost more than the allowance leaves.
    """
    records = {}
    for role, rows in requests.items():
        one = provider(role)
        record = remembered(store, getattr(one, "host", one.service), rows[0])
        if record is None:
            record = _tried(rows, one, store, task, prices.get(role), allowance)
        refuse(record)
        records[role] = record
    return records


def _tried(
    rows: Sequence[Request],
    one: Provider,
    store: ResponseStore,
    task: str,
    price: Price | None,
    allowance: Allowance,
    read: Reader | None = None,
) -> dict[str, Any]:
    """A probe with as many of the rows as the cap has room for; remembered, and counted against the cap."""
    bounds = list(accumulate(2 * usd_bound(row, price) for row in rows))  # each may be asked in both forms
    room = len(bounds) if allowance.left is None else sum(bound <= allowance.left for bound in bounds)
    if room == 0:
        raise CapReached(
            f"stopped before the cap: ${allowance.spent:.4f} of ${allowance.cap:g} spent, and the first request to {rows[0].model} could "
            f"cost up to ${bounds[0]:g}; the same command with a larger --max-usd resumes"
        )
    record = probe(rows[:room], one, store, task=task, price=price, read=read)
    allowance.spent += bounds[room - 1] if record["usd"] is None else record["usd"]
    store.remember(key(getattr(one, "host", one.service), rows[0]), record)
    return record


def _check_price(add: Callable[..., None], role: str, price: Price, today: dt.date, *, paid: bool) -> None:
    if price.as_of is None:
        add("price", "ok", f"{role}: {text_of(price)}")
        return
    age = (today - price.as_of).days
    text = f"{role}: {text_of(price)}, as of {price.as_of} ({price.source})"
    if age < 0:
        add("price", "warn", f"{text}: that day is in the future", f"correct its as_of in {role}")
    elif age > STALE_PRICE_DAYS and paid:
        add(
            "price",
            "warn",
            f"{text}: {age} days old",
            "prices move by 15-30 % within months: look them up and update price and as_of",
        )
    else:
        add("price", "ok", text)


def _check_list_price(add: Callable[..., None], role: str, record: Mapping[str, Any], price: Price | None) -> None:
    listed = record.get("list_price")
    if listed is None or price is None or price.input is None:
        return
    theirs = Price(listed[0], listed[1], listed[2] if len(listed) > 2 else None)
    pairs = [(price.input, theirs.input), (price.output, theirs.output)]
    pairs += [(price.cached_input, theirs.cached_input)] if price.cached_input is not None else []
    if any(b is not None and abs((a or 0.0) - b) > 0.005 * b for a, b in pairs):
        text = f"{role}: the config says {text_of(price)}, the service's list {text_of(theirs)}"
        add("price", "warn", text, f"update {role}.usd_per_million_tokens")
    if price.cached_input is None and theirs.cached_input is not None and theirs.cached_input != price.input:
        text = f"{role}: the service lists ${theirs.cached_input:g} per million cached tokens of the prompt, and the config has no such price"
        add(
            "price",
            "warn",
            text,
            f"add cached_input: {theirs.cached_input:g} to {role}.usd_per_million_tokens, or costs are counted as if nothing were cached",
        )


def _check_disk(add: Callable[..., None], store: ResponseStore, to_send: int) -> None:
    free, need = shutil.disk_usage(store.path.parent).free, to_send * BYTES_PER_REPLY + SPARE_BYTES
    text = f"{free / 1e9:.1f} GB free at {store.path.parent}, about {need / 1e9:.1f} GB needed"
    add(
        "disk",
        "ok" if free > need else "fail",
        text,
        None if free > need else "free some, or choose another folder with --runs-dir",
    )


def _of_no_label(record: Mapping[str, Any]) -> tuple[str, str]:
    """What an answer says that is no label, and the remedy."""
    return (
        f"the answer of {record['model']} to row {record['example_id']}, {record['shown']}, is none of the labels",
        "make sure that the prompt asks for exactly one of the labels and nothing else, that reasoning is switched off and that max_tokens suffices",
    )


def _check_model(add: Callable[..., None], record: Mapping[str, Any]) -> None:
    name = f"{record['role']} model"
    if not record["usable"]:
        add(name, "fail", f"{record['model']} at {record['host']}: {record['problem']}", record["remedy"])
        return
    parts = [f"{record['model']} at {record['host']} answers {record['text']!r}"]
    if record["alternatives_wanted"] is not None:
        zeros = f", {record['exact_zero_share']:.0%} exact zeros" if record["exact_zero_share"] else ""
        parts.append(
            f"logprobs in shape {record['shape']} ({record['form']} form), {record['alternatives']} of {record['alternatives_wanted']} alternatives{zeros}"
        )
        if record["reasoning_in_logprobs"]:
            parts.append("reasoning tokens among the logprobs (the answer's own are found by their place)")
    add(name, "ok", "; ".join(parts))
    wanted, got = record["alternatives_wanted"], record["alternatives"]
    if wanted and got is not None and got < wanted:
        add(
            name,
            "warn",
            f"{got} alternatives per token where {wanted} were asked for",
            record["remedy"] or "signals that need more are not used",
        )
    if (
        record["response_model"]
        and record["response_model"] != record["model"]
        and not record["service"].startswith(("embedded", "recorded/"))
    ):
        add(
            name,
            "warn",
            f"answered by {record['response_model']!r}, asked for {record['model']!r}",
            "name the model exactly, or the policy may outlive it",
        )
    if not record["usage"]:
        add(
            name,
            "warn",
            "the reply does not say how many tokens it used",
            "costs will be unknown, and a cap counts upper bounds",
        )


def require(report: Mapping[str, Any]) -> None:
    """Raise UsageError, or Stopped where waiting or credit helps, with the first failed check and its remedy."""
    for check in report["checks"]:
        if check["state"] == "fail":
            kind = Stopped if check["exit_code"] == Stopped.exit_code else UsageError
            raise kind(f"{check['name']}: {check['text']}" + (f"; {check['remedy']}" if check["remedy"] else ""))


def lines(report: Mapping[str, Any]) -> list[str]:
    """The doctor's report for people."""
    signs = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}
    out = []
    for check in report["checks"]:
        out.append(f"{signs[check['state']]}  {check['name']}: {check['text']}")
        if check["remedy"] and check["state"] != "ok":
            out.append(f"      -> {check['remedy']}")
    return [*out, "ready" if report["ok"] else "not ready: see FAIL above"]
