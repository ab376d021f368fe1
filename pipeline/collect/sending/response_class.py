"""ResponseClass: what one attempt means for its request, for the pace and for the run. Pure; the rules of the fault matrix."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic_core import from_json

from cascade_threshold import json_text
from cascade_threshold.completion import ERROR_BODY, choice_of, interruption, is_empty, unwrapped, usage_beside
from cascade_threshold.pricing import Usage
from pipeline.collect.providers.provider import Attempt
from pipeline.collect.request import Request
from pipeline.errors import AccessError, CascadeError, CreditExhausted, KeyRefused


class Action(Enum):
    """What the sender does next with a request."""

    KEEP = "keep"
    AGAIN = "again"
    """Ask at once in another form; not counted as a retry."""
    RETRY = "retry"
    RETRY_ONCE = "retry once"
    """A retry costs money or rarely helps: try once more, then keep the last result."""
    WAIT = "wait"
    """The service asks for a slower pace; this does not count as a try."""
    REJECT = "reject"
    """This row will never be answered; the others go on."""
    STOP = "stop"


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Outcome:
    """`state` is what the store records: ok, rejected, http_error, invalid, unknown, not_sent."""

    action: Action
    state: str
    reason: str = ""
    message: str = ""
    usage: Usage = NO_USAGE
    error: type[CascadeError] | None = None


KEPT = Outcome(Action.KEEP, "ok")

TOO_LONG = re.compile(
    r"context.{0,20}length|maximum context|context.{0,10}(size|window)|too (long|many tokens)|exceed_context_size|input.{0,20}(too long|exceeds)"
    r"|tokens.{0,40}(exceed|must be <=)",
    re.IGNORECASE | re.DOTALL,
)
FILTERED = re.compile(
    r"content.?(filter|policy|management)|ResponsibleAI|(safety|moderation).{0,30}(block|filter|flag|violat|reject)"
    r"|(block|filter|flag|violat|reject)\w*.{0,30}(safety|moderation|policy)",
    re.IGNORECASE | re.DOTALL,
)
CREDIT = re.compile(r"credit|billing|insufficient.?(quota|funds)|spending.?limit|payment", re.IGNORECASE)
SPENT = re.compile(
    r"insufficient.?(quota|funds|credits?|balance)|exceeded your current quota|(out of|no) (more )?credits"
    r'|(credit|spend(ing)?|billing|hard).?(limit|balance|cap)[^"]{0,20}(exceed|exhaust|reach|used|too low)|credits?[^"]{0,20}(exhaust|deplet)',
    re.IGNORECASE,
)
"""Words by which a 429 means that the balance is gone. A rate limit may mention billing too, to sell a faster plan."""
PACE = re.compile(r"rate.?limit|(requests|queries|tokens|calls) per|too many requests", re.IGNORECASE)
HTML = re.compile(rb"^\s*<(!doctype|html|head|body|\?xml)", re.IGNORECASE)


def judge(attempt: Attempt) -> Outcome:
    """What one attempt means."""
    if attempt.arrival == "not_sent":
        return Outcome(Action.RETRY, "not_sent", attempt.problem or "no_connection", attempt.detail)
    if attempt.arrival != "reply" or attempt.http_status is None:
        return Outcome(Action.RETRY_ONCE, "unknown", attempt.problem or "cut", attempt.detail)
    if attempt.problem == "too_large":
        return Outcome(Action.RETRY_ONCE, "invalid", "too_large", attempt.detail)
    if attempt.again:
        return Outcome(Action.AGAIN, "http_error", "other_form", message_in(attempt.body))
    if 200 <= attempt.http_status < 300:
        return _success(attempt.body, attempt.origin.address)
    return _refusal(attempt, attempt.http_status)


def _success(body: bytes, address: str) -> Outcome:
    try:
        value = _read(body)
    except (ValueError, RecursionError):
        if HTML.match(body):
            return Outcome(
                Action.RETRY,
                "invalid",
                "html",
                f"a web page instead of a reply: is a proxy in the way, or {address} wrong?",
            )
        return Outcome(Action.RETRY, "invalid", "not_json", "the reply is not JSON, or is cut off")
    return judge_body(value, address)


def judge_body(value: Any, address: str, usage: Usage | None = None) -> Outcome:
    """The meaning of the parsed body of a reply with a status of success; its usage is read unless one is given."""
    if not isinstance(value, dict):
        return Outcome(Action.RETRY, "invalid", "not_json", "the reply is not a JSON object")
    kept = KEPT if usage is NO_USAGE else None
    body = unwrapped(value)
    choice = choice_of(body)
    usage = usage_beside(body, choice) if usage is None else usage
    if choice == ERROR_BODY:
        said = f"{message_of(body)} (status 200: is a proxy in the way, or {address} wrong?)"
        return Outcome(Action.RETRY, "invalid", "error_body", said, usage)
    if broken := interruption(body):
        return Outcome(Action.RETRY, "invalid", "interrupted", f"the service broke off ({broken})", usage)
    if isinstance(choice, str):
        said = f"the reply is no chat completion ({choice}): is {address} that of such a service?"
        return Outcome(Action.RETRY_ONCE, "invalid", "not_a_completion", said, usage)
    if is_empty(choice):
        return Outcome(Action.RETRY_ONCE, "ok", "empty", "the reply holds no answer", usage)
    return kept or Outcome(Action.KEEP, "ok", "", "", usage)


def _read(body: bytes) -> Any:
    try:
        return from_json(body)  # twice as fast as json
    except ValueError:  # but stricter about lone surrogates
        return json.loads(body)


def _refusal(attempt: Attempt, status: int) -> Outcome:
    message = message_in(attempt.body)

    def outcome(
        action: Action, reason: str = attempt.problem or f"http_{status}", error: type[CascadeError] | None = None
    ) -> Outcome:
        return Outcome(
            action, "rejected" if action is Action.REJECT else "http_error", reason, message, NO_USAGE, error
        )

    if status == 401:
        return outcome(Action.STOP, error=KeyRefused)
    if status == 402 or (status == 403 and CREDIT.search(message)) or (status == 429 and _spent(attempt)):
        return outcome(Action.STOP, "credit", CreditExhausted)
    if status == 413 or (status in (400, 403, 422) and TOO_LONG.search(message)):
        return outcome(Action.REJECT, "too_long")
    if status in (400, 403, 422) and FILTERED.search(message):
        return outcome(Action.REJECT, "filtered")
    if status in (403, 404) or 300 <= status < 400:
        return outcome(Action.STOP, error=AccessError)
    if status == 429:
        return outcome(Action.WAIT)
    if status >= 500 or status in (408, 409, 425):
        return outcome(Action.RETRY)
    return outcome(Action.REJECT)


def _spent(attempt: Attempt) -> bool:
    """Whether a 429 says, in its message or its code, that the balance is gone, and does not ask to wait."""
    if "retry-after" in attempt.headers or "retry-after-ms" in attempt.headers:
        return False
    said = attempt.body[:20_000].decode("utf-8", "replace")
    return SPENT.search(said) is not None and PACE.search(said) is None


def message_in(body: bytes, limit: int = 300) -> str:
    """What an error body says, in one line."""
    text = body[:20_000].decode("utf-8", "replace")
    try:
        value: Any = json_text.parse(text)
    except ValueError:
        return " ".join(text.split())[:limit]
    return message_of(value, limit)


def message_of(value: Any, limit: int = 300) -> str:
    """What a parsed error body says, in one line."""
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(key):
            value = value[key]
    return " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())[:limit]


def advice(attempt: Attempt, outcome: Outcome, request: Request) -> str:
    """Message for the user when a run stops at this attempt, with the remedy."""
    status, where = attempt.http_status or 0, attempt.host
    says = f" ({outcome.message})" if outcome.message else ""
    if status == 401:
        return f"{where} refuses the key{says}: check {attempt.origin.key}"
    if outcome.reason == "credit" or status == 402:
        return f"{where} says that the account's credit or spending limit is used up{says}; add credit and run the same command again"
    if status == 404:
        return f"{where} knows no model {request.model!r}, or the address is wrong{says}: check `{request.role}.model` in the config, and {attempt.origin.address}"
    if status == 403:
        return f"{where} gives this key no access to {request.model!r}{says}: ask for access, or choose another model in the config"
    return f"{where} answers with a redirect ({status}){says}: check {attempt.origin.address}"
