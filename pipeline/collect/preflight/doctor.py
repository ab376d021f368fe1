"""Preflight: what will happen, before it costs anything. `doctor` tries every part once, `estimate` sends nothing."""

from __future__ import annotations

import datetime as dt
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

from pipeline.collect.preflight.probe import key, probe, refuse, remembered
from pipeline.collect.providers.provider import Provider
from pipeline.collect.request import Request
from pipeline.collect.sending.spend_cap import Allowance, usd_bound
from pipeline.collect.store import admin
from pipeline.collect.store.batch_ledger import submitted
from pipeline.collect.store.response_store import ResponseStore, chunks
from pipeline.errors import CapReached, CascadeError, CreditExhausted, KeyRefused, SpendingRefused, Stopped, UsageError

ASK_ABOVE_USD = 5.0
STALE_PRICE_DAYS = 90
BYTES_PER_TOKEN = 4.0
"""Of English text in the tokenisers of 2026; an estimate, and the report says so."""
TEMPLATE_TOKENS = 20
"""What a chat template adds to two messages."""
BYTES_PER_REPLY = 4_000
SPARE_BYTES = 200_000_000


class DatedPrice(Protocol):
    """A config's price."""

    @property
    def input(self) -> float:
        """Dollars per million tokens of the prompt."""

    @property
    def output(self) -> float:
        """Dollars per million tokens of the reply."""

    @property
    def as_of(self) -> dt.date:
        """When it was read."""

    @property
    def source(self) -> str:
        """Where."""


# Estimate


def estimate(
    requests: Mapping[str, Iterable[Request]],
    prices: Mapping[str, DatedPrice],
    store: ResponseStore,
    *,
    task: str,
    rows: int,
    paid: bool,
    discount: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Requests, tokens and dollars per role. `requests` holds those of the rows that need an answer of the role.

    Keys: rows, paid, usd (estimate), usd_at_most, saved {splits, identical, from_store, in_batch: requests that need no
    sending, the last ones as they lie in a batch of `task` that is not fetched yet}, and roles -> {model, rows, requests,
    identical, from_store, in_batch, to_send, input_tokens, output_tokens, usd, usd_at_most, usd_per_million_tokens, basis}.
    Tokens are estimates: `basis` says of what.
    """
    roles = {}
    out = submitted(store, task)
    for role, wanted in requests.items():
        roles[role] = _estimate_role(wanted, prices[role], store, out, 1 - (discount or {}).get(role, 0.0))
    return {
        "rows": rows, "paid": paid, "roles": roles,
        "usd": sum(r["usd"] for r in roles.values()), "usd_at_most": sum(r["usd_at_most"] for r in roles.values()),
        "to_send": sum(r["to_send"] for r in roles.values()),
        "saved": {
            "splits": sum(rows - r["rows"] for r in roles.values()), "identical": sum(r["identical"] for r in roles.values()),
            "from_store": sum(r["from_store"] for r in roles.values()), "in_batch": sum(r["in_batch"] for r in roles.values()),
        },
    }  # fmt: skip


def _estimate_role(
    wanted: Iterable[Request], price: DatedPrice, store: ResponseStore, out: set[str], factor: float
) -> dict[str, Any]:
    rows = identical = from_store = in_batch = to_send = prompt_bytes = most_output = 0
    usd_at_most = 0.0
    seen: set[bytes] = set()
    first: Request | None = None
    for chunk in chunks(wanted, 400):
        named = [(request.request_id, request) for request in chunk]
        known, _ = store.known([request_id for request_id, _ in named])
        for request_id, request in named:
            first = first or request
            rows += 1
            digest = bytes.fromhex(request_id)[:12]
            if digest in seen:
                identical += 1
                continue
            seen.add(digest)
            if request_id in known:
                from_store += 1
                continue
            if request_id in out:
                in_batch += 1
                continue
            to_send += 1
            prompt_bytes += request.prompt_bytes
            most_output += int(request.params.get("max_tokens") or request.params.get("max_completion_tokens") or 0)
            usd_at_most += usd_bound(request, price)
    kept, mean_output = _experience(store, first) if first else (0, 0.0)
    input_tokens = prompt_bytes / BYTES_PER_TOKEN + TEMPLATE_TOKENS * to_send
    output_tokens = to_send * mean_output if kept else most_output
    basis = f"{BYTES_PER_TOKEN:g} bytes a token, and " + (
        f"the length of {kept} kept replies" if kept else "max_tokens for every reply"
    )
    return {
        "model": first.model if first else None, "rows": rows, "requests": len(seen), "identical": identical, "from_store": from_store,
        "in_batch": in_batch, "to_send": to_send, "input_tokens": round(input_tokens), "output_tokens": round(output_tokens), "basis": basis,
        "usd": (input_tokens * price.input + output_tokens * price.output) * factor / 1e6, "usd_at_most": usd_at_most * factor,
        "usd_per_million_tokens": {"input": price.input, "output": price.output, "as_of": price.as_of.isoformat()},
    }  # fmt: skip


def _experience(store: ResponseStore, like: Request) -> tuple[int, float]:
    """How many kept replies of the same model tell how long a reply is, and their mean tokens; (0, 0) when too few do."""
    rows = store.query(
        "SELECT output_tokens FROM attempt WHERE state='ok' AND service=? AND model=? AND role=? AND output_tokens > 0 LIMIT 200",
        [like.service, like.model, like.role],
    )
    return (0, 0.0) if len(rows) < 20 else (len(rows), sum(n for (n,) in rows) / len(rows))


def estimate_lines(report: Mapping[str, Any]) -> list[str]:
    """The estimate for people."""
    out = []
    for role, r in report["roles"].items():
        price = r["usd_per_million_tokens"]
        batch = f", {r['in_batch']:,} in a batch that is not fetched yet" if r["in_batch"] else ""
        out.append(
            f"{role}: {r['model']} · {r['rows']:,} rows · {r['to_send']:,} to send ({r['from_store']:,} in the store{batch}, {r['identical']:,} identical) · about "
            f"{r['input_tokens']:,} tokens in, {r['output_tokens']:,} out (estimated from {r['basis']}) · ${r['usd']:.4f}, at most ${r['usd_at_most']:.4f} "
            f"(${price['input']:g} / ${price['output']:g} per million, as of {price['as_of']})"
        )
    saved = report["saved"]
    if any(saved.values()):
        batch = f"{saved['in_batch']:,} in a batch that is not fetched yet, " if saved["in_batch"] else ""
        out.append(
            f"not sent: {saved['splits']:,} answers that no split needs, {saved['from_store']:,} that the store holds, {batch}{saved['identical']:,} identical to another's"
        )
    total = f"in all: {report['to_send']:,} requests, about ${report['usd']:.2f}, at most ${report['usd_at_most']:.2f}"
    out.append(total if report["paid"] else f"{total} with the API; this provider costs nothing")
    return out


def confirm(
    report: Mapping[str, Any],
    *,
    max_usd: float | None,
    yes: bool,
    ask: Callable[[str], str] = input,
    terminal: bool | None = None,
) -> None:
    """Let a run pass that is cheap, capped or confirmed. Raises SpendingRefused otherwise."""
    if not report["paid"] or report["usd"] <= ASK_ABOVE_USD or yes or max_usd is not None:
        return
    amount = f"about ${report['usd']:.2f}, at most ${report['usd_at_most']:.2f}"
    if not (sys.stdin.isatty() and sys.stderr.isatty() if terminal is None else terminal):
        raise SpendingRefused(f"this run would cost {amount}: confirm with --yes, or cap it with --max-usd X")
    if ask(f"This run would cost {amount}. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise SpendingRefused(
            "not confirmed; nothing was sent. `--limit N` tries a part of the rows, `--max-usd X` caps the cost"
        )


# Doctor


def doctor(
    requests: Mapping[str, Sequence[Request]],
    prices: Mapping[str, DatedPrice],
    provider: Callable[[str], Provider],
    store: ResponseStore,
    *,
    task: str,
    paid: bool,
    allowance: Allowance | None = None,
    to_send: int = 0,
    status: Callable[[Request, dict[str, Any]], str | None] | None = None,
    today: dt.date | None = None,
) -> dict[str, Any]:
    """Check what a run needs; one call per model, with the first row of `requests` per role, or the next where a reply
    speaks of its row alone.

    `provider` makes the provider of a role, `status` may judge a probe's answer ("ok", "out_of_set" ...), `to_send` sizes
    the disk that is needed. Keys: task, ok, checks [{name, state: "ok" | "warn" | "fail", text, remedy, exit_code}],
    models {role: probe record}, usd. Problems are reported, not raised; see `require`.
    """
    checks: list[dict[str, Any]] = []

    def add(
        name: str, state: str, text: str, remedy: str | None = None, *, exit_code: int = UsageError.exit_code
    ) -> None:
        checks.append(
            {
                "name": name,
                "state": state,
                "text": text,
                "remedy": remedy,
                "exit_code": exit_code if state == "fail" else 0,
            }
        )

    for role, price in prices.items():
        _check_price(add, role, price, today or dt.datetime.now(dt.UTC).date(), paid=paid)
    _check_disk(add, store, to_send)
    for text in admin.check(store):
        add("store", "warn", text)
    models: dict[str, Any] = {}
    for role, rows in requests.items():
        try:
            models[role] = record = _tried(
                rows, provider(role), store, task, prices.get(role), allowance or Allowance()
            )
        except CascadeError as error:
            if not any(str(error) == c["text"] for c in checks):  # a missing key is one fault, not two
                add(f"{role} model", "fail", str(error), exit_code=error.exit_code)
            if isinstance(error, KeyRefused | CreditExhausted):
                break  # whatever is asked
            continue
        _check_list_price(add, role, record, prices.get(role))
        answer = status(rows[0], record) if status is not None and record["usable"] else None
        _check_model(add, record, answer)
    return {
        "task": task, "ok": all(c["state"] != "fail" for c in checks), "checks": checks, "models": models,
        "usd": sum(m["usd"] or 0.0 for m in models.values()) if paid else 0.0,
    }  # fmt: skip


def ready(
    requests: Mapping[str, Sequence[Request]],
    prices: Mapping[str, DatedPrice],
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
    price: DatedPrice | None,
    allowance: Allowance,
) -> dict[str, Any]:
    """A probe with as many of the rows as the cap has room for; remembered, and counted against the cap."""
    bounds = list(accumulate(2 * usd_bound(row, price) for row in rows))  # each may be asked in both forms
    room = len(bounds) if allowance.left is None else sum(bound <= allowance.left for bound in bounds)
    if room == 0:
        raise CapReached(
            f"stopped before the cap: ${allowance.spent:.4f} of ${allowance.cap:g} spent, and the first request to {rows[0].model} could "
            f"cost up to ${bounds[0]:g}; the same command with a larger --max-usd goes on"
        )
    record = probe(rows[:room], one, store, task=task, price=price)
    allowance.spent += bounds[room - 1] if record["usd"] is None else record["usd"]
    store.remember(key(getattr(one, "host", one.service), rows[0]), record)
    return record


def _check_price(add: Callable[..., None], role: str, price: DatedPrice, today: dt.date, *, paid: bool) -> None:
    age = (today - price.as_of).days
    text = f"{role}: ${price.input:g} / ${price.output:g} per million tokens, as of {price.as_of} ({price.source})"
    if age < 0:
        add("price", "warn", f"{text}: that day is in the future", f"correct {role}.usd_per_million_tokens.as_of")
    elif age > STALE_PRICE_DAYS and paid:
        add(
            "price",
            "warn",
            f"{text}: {age} days old",
            "prices move by 15-30 % within months: look them up and update price and as_of",
        )
    else:
        add("price", "ok", text)


def _check_list_price(add: Callable[..., None], role: str, record: Mapping[str, Any], price: DatedPrice | None) -> None:
    listed = record.get("list_price")
    if listed is None or price is None:
        return
    if any(
        abs(ours - theirs) > 0.005 * theirs for ours, theirs in zip((price.input, price.output), listed, strict=True)
    ):
        text = f"{role}: the config says ${price.input:g} / ${price.output:g}, the service's list ${listed[0]:g} / ${listed[1]:g} per million tokens"
        add("price", "warn", text, f"update {role}.usd_per_million_tokens")


def _check_disk(add: Callable[..., None], store: ResponseStore, to_send: int) -> None:
    free, need = shutil.disk_usage(store.path.parent).free, to_send * BYTES_PER_REPLY + SPARE_BYTES
    text = f"{free / 1e9:.1f} GB free at {store.path.parent}, about {need / 1e9:.1f} GB needed"
    add(
        "disk",
        "ok" if free > need else "fail",
        text,
        None if free > need else "free some, or choose another folder with --runs-dir",
    )


def _check_model(add: Callable[..., None], record: Mapping[str, Any], answer: str | None) -> None:
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
    if record["response_model"] and record["response_model"] != record["model"] and record["service"] == "together":
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
    if answer not in (None, "ok"):
        add(
            name,
            "warn",
            f"the first row's answer {record['text']!r} is {answer}",
            "see whether the prompt asks for exactly one of the labels",
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
