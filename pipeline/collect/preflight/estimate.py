"""Estimate: what a run would send and cost, and the confirmation it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade_threshold.pricing import Price, Usage, text_of
from pipeline.collect.request import Request
from pipeline.collect.sending.spend_cap import most_output, usd_bound
from pipeline.collect.store.batch_ledger import submitted
from pipeline.collect.store.response_store import ResponseStore, chunks
from pipeline.errors import SpendingRefused

ASK_ABOVE_USD = 5.0
BYTES_PER_TOKEN = 4.0
"""For English text with the tokenisers of 2026; an estimate, labeled so in the report."""
TEMPLATE_TOKENS = 20
"""What a chat template adds to two messages."""
LONG_REPLY = 256
"""A reply that may have more tokens than this is expected to hold more than a label."""


def estimate(
    requests: Mapping[str, Iterable[Request]],
    prices: Mapping[str, Price],
    store: ResponseStore,
    *,
    task: str,
    rows: int,
    paid: bool,
    batch: Collection[str] = (),
    free: Collection[str] = (),
    answer_bytes: float | None = None,
) -> dict[str, Any]:
    """Requests, tokens and dollars per role. `requests` holds those of the rows that need an answer of the role.

    Keys: rows, paid, usd (estimate), usd_at_most, saved {splits, identical, from_store, in_batch: requests that need no
    sending, the last ones as they lie in a batch of `task` that is not fetched yet}, and roles -> {model, rows, requests,
    identical, from_store, in_batch, to_send, input_tokens, output_tokens, usd, usd_at_most, price, as_of, basis}.
    Tokens are estimates: `basis` says of what. `batch`: roles asked through a batch API; `free`: roles whose replies are not paid for,
    so that their dollars are 0 whatever the price; `answer_bytes`: of a label, on average.
    """
    roles = {}
    out = submitted(store, task)
    for role, wanted in requests.items():
        roles[role] = _estimate_role(wanted, prices[role], store, out, role in batch, answer_bytes)
        if role in free:
            roles[role] |= {"usd": 0.0, "usd_at_most": 0.0}
    return {
        "rows": rows,
        "paid": paid,
        "roles": roles,
        "usd": sum(r["usd"] for r in roles.values()),
        "usd_at_most": sum(r["usd_at_most"] for r in roles.values()),
        "to_send": sum(r["to_send"] for r in roles.values()),
        "saved": {
            "splits": sum(rows - r["rows"] for r in roles.values()),
            "identical": sum(r["identical"] for r in roles.values()),
            "from_store": sum(r["from_store"] for r in roles.values()),
            "in_batch": sum(r["in_batch"] for r in roles.values()),
        },
    }


def _estimate_role(
    wanted: Iterable[Request],
    price: Price,
    store: ResponseStore,
    out: set[str],
    batch: bool,
    answer_bytes: float | None,
) -> dict[str, Any]:
    rows = identical = from_store = in_batch = to_send = prompt_bytes = most = 0
    kept = _Kept()
    usd_at_most = 0.0
    seen: set[bytes] = set()
    first: Request | None = None
    for chunk in chunks(wanted, 400):
        named = [(request.request_id, request) for request in chunk]
        known, _ = store.known([request_id for request_id, _ in named])
        kept.read(store, [request_id for request_id, (state, _) in known.items() if state == "ok"])
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
                kept.expected += _tokens(request.prompt_bytes) if known[request_id][0] == "ok" else 0.0
                continue
            if request_id in out:
                in_batch += 1
                continue
            to_send += 1
            prompt_bytes += request.prompt_bytes
            most = max(most, most_output(request.params))
            usd_at_most += usd_bound(request, price, batch=batch)
    input_tokens = kept.ratio * (prompt_bytes / BYTES_PER_TOKEN + TEMPLATE_TOKENS * to_send)
    each, basis = kept.output(most, answer_bytes, {} if first is None else first.params)
    output_tokens = to_send * each
    used = Usage(round(input_tokens), round(output_tokens), round(input_tokens * kept.cached_share))
    usd = price.usd(used, batch=batch, replies=to_send) or 0.0
    return {
        "model": first.model if first else None,
        "rows": rows,
        "requests": len(seen),
        "identical": identical,
        "from_store": from_store,
        "in_batch": in_batch,
        "to_send": to_send,
        "input_tokens": round(input_tokens),
        "output_tokens": round(output_tokens),
        "basis": basis,
        "usd": usd,
        "usd_at_most": usd_at_most,
        **price.public(),
        "price": text_of(price),
        "as_of": None if price.as_of is None else price.as_of.isoformat(),
    }


def sampled(report: Mapping[str, Any], rates: Sequence[Mapping[str, float]], rate: float) -> dict[str, Any]:
    """The estimate with what each rate of the coin is expected to buy and to escalate, under `strong_rates`.

    Below a rate of 1 the strong role's `usd` and `to_send` are what is expected of it; `usd_at_most` stays that of all rows.
    """
    out, strong = (
        {**report, "strong_rates": [dict(r) for r in rates], "strong_rate": rate},
        dict(report["roles"]["strong"]),
    )
    if rate == 1 or not strong["to_send"]:
        return out
    calls = next(r["calls"] for r in rates if r["rate"] == rate)
    share = min(1.0, max(0.0, calls - strong["from_store"] - strong["in_batch"]) / strong["to_send"])
    less = {name: round(strong[name] * share) for name in ("to_send", "input_tokens", "output_tokens")}
    strong |= {**less, "usd": strong["usd"] * share}
    roles = {**report["roles"], "strong": strong}
    totals = {name: sum(r[name] for r in roles.values()) for name in ("usd", "to_send")}
    return {**out, "roles": roles, **totals}


@dataclass
class _Kept:
    """What the kept replies of a role tell about those to come, the trial's among them."""

    replies: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    expected: float = 0.0
    """Prompt tokens that would have been estimated for them."""

    def read(self, store: ResponseStore, request_ids: Sequence[str]) -> None:
        """Add what these kept replies were billed for."""
        marks = ",".join("?" * len(request_ids))
        found = store.query(
            f"""SELECT count(*), sum(input_tokens), sum(output_tokens), sum(cached_tokens) FROM attempt WHERE state='ok'
            AND input_tokens > 0 AND output_tokens > 0 AND request_id IN ({marks})""",  # noqa: S608
            list(request_ids),
        )[0]
        replies, inputs, outputs, cached = (n or 0 for n in found)
        self.replies += replies
        self.input_tokens += inputs
        self.output_tokens += outputs
        self.cached_tokens += cached

    @property
    def ratio(self) -> float:
        """Prompt tokens that came, over those that were expected; 1 when that is not known."""
        return self.input_tokens / self.expected if self.replies and self.expected else 1.0

    @property
    def cached_share(self) -> float:
        """Of the prompt tokens."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else 0.0

    def output(self, most: int, answer_bytes: float | None, params: Mapping[str, Any]) -> tuple[float, str]:
        """Tokens of a reply, and what that is estimated from."""
        prompt = f"{BYTES_PER_TOKEN:g} bytes a token" if not self.replies else "the prompts"
        if self.replies:
            return self.output_tokens / self.replies, f"{prompt} and lengths of {self.replies} kept replies"
        thinks = most > LONG_REPLY or _thinks(params)
        if answer_bytes is None or thinks:
            return float(most), f"{prompt}, and max_tokens for every reply"
        return min(float(most), 1 + answer_bytes / BYTES_PER_TOKEN), f"{prompt}, and the length of a label"


def _thinks(params: Mapping[str, Any]) -> bool:
    """Whether the parameters ask for reasoning; those that switch it off do not."""
    off = ({"enabled": False}, {"type": "disabled"}, {"effort": "none"}, False, None, "", "none")
    return any(params.get(name) not in off for name in ("reasoning_effort", "reasoning", "thinking"))


def _tokens(prompt_bytes: int) -> float:
    return prompt_bytes / BYTES_PER_TOKEN + TEMPLATE_TOKENS


def estimate_lines(report: Mapping[str, Any]) -> list[str]:
    """The estimate for people."""
    out = []
    for role, r in report["roles"].items():
        as_of = f", as of {r['as_of']}" if r["as_of"] else ""
        batch = f", {r['in_batch']:,} in a batch that is not fetched yet" if r["in_batch"] else ""
        out.append(
            f"{role}: {r['model']} · {r['rows']:,} rows · {r['to_send']:,} to send ({r['from_store']:,} in the store{batch}, {r['identical']:,} identical) · about "
            f"{r['input_tokens']:,} tokens in, {r['output_tokens']:,} out (estimated from {r['basis']}) · {_dollars(r)} ({r['price']}{as_of})"
        )
    if rates := report.get("strong_rates"):
        each = "; ".join(f"{_rate(r['rate'])} {r['calls']:,.0f} (escalates {r['escalation_rate']:.0%})" for r in rates)
        out.append(
            f"strong answers that strong.sample is expected to buy, never a promise: {each}; here {_rate(report['strong_rate'])}"
        )
    saved = report["saved"]
    if any(saved.values()):
        batch = f"{saved['in_batch']:,} in a batch that is not fetched yet, " if saved["in_batch"] else ""
        out.append(
            f"not sent: {saved['splits']:,} answers that no split needs, {saved['from_store']:,} that the store holds, {batch}{saved['identical']:,} identical to another's"
        )
    if not report["usd_at_most"]:
        return [*out, f"in all: {report['to_send']:,} requests, which cost nothing"]
    total = f"in all: {report['to_send']:,} requests, about ${report['usd']:.2f}, at most ${report['usd_at_most']:.2f}"
    out.append(total if report["paid"] else f"{total} with the API; this provider costs nothing")
    return out


def _rate(rate: float) -> str:
    return "all" if rate == 1 else f"{rate:g}"


def _dollars(of: Mapping[str, Any]) -> str:
    return f"${of['usd']:.4f}, at most ${of['usd_at_most']:.4f}" if of["usd_at_most"] or of["usd"] else "costs nothing"


def confirm(
    report: Mapping[str, Any],
    *,
    max_usd: float | None,
    yes: bool,
    ask_above: float = ASK_ABOVE_USD,
    ask: Callable[[str], str] = input,
    terminal: bool | None = None,
) -> None:
    """Return if the run is cheap, capped or confirmed. Raises SpendingRefused otherwise."""
    if not report["paid"] or report["usd"] <= ask_above or yes or max_usd is not None:
        return
    amount = f"about ${report['usd']:.2f}, at most ${report['usd_at_most']:.2f}"
    if not (sys.stdin.isatty() and sys.stderr.isatty() if terminal is None else terminal):
        raise SpendingRefused(f"this run would cost {amount}: confirm with --yes, or cap it with --max-usd X")
    if ask(f"This run would cost {amount}. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise SpendingRefused(
            "not confirmed; nothing was sent. `--limit N` tries a part of the rows, `--max-usd X` caps the cost"
        )
