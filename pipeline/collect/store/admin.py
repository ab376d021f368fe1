"""Admin of the response store: what it holds and cost, removing replies, handing them on, checking the file."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cascade_threshold import json_text
from cascade_threshold.pricing import Usage, price_of
from pipeline.collect.sending.response_class import message_in
from pipeline.collect.sending.spend_cap import price_key
from pipeline.collect.store.response_store import ResponseStore, chunks
from pipeline.errors import DiskFull, Stopped, UsageError
from pipeline.redact import redact
from pipeline.run.atomic import atomic

ALL = """(SELECT id, request_id, task, role, service, model, state, reason, sent_at, received_at FROM attempt UNION ALL
    SELECT id, request_id, task, role, service, model, 'open', NULL, sent_at, NULL FROM open)"""


BYTES_REMAIN = "purge:bytes_remain"
"""The fact that a purge could not rewrite the file."""
COUNTS = ("input_tokens", "output_tokens", "cached_tokens")
Groups = dict[tuple[str, ...], dict[str, Any]]
"""Records of `summary` by task, role, service and model."""


def _remembered_price(store: ResponseStore, service: str, model: str) -> dict[str, Any] | None:
    """The last price of a model, as `price_of` reads it; an older version wrote the tokens' price alone."""
    found = store.fact(price_key(service, model))
    if isinstance(found, dict) and "input" in found:
        return {"usd_per_million_tokens": found | {"batch_discount": store.fact(f"batch_discount:{service}:{model}")}}
    return found if isinstance(found, dict) else None


def summary(store: ResponseStore, task: str | None = None) -> list[dict[str, Any]]:
    """What was sent and kept, one record per task, role, service and model.

    Keys: task, role, service, model, requests (asked at least once), kept, purged, failed (reason -> requests without a
    reply), attempts, maybe_paid (attempts that left and never came back), in_flight (left, still open), input_tokens,
    output_tokens, cached_tokens (of replies that tell; None when none does), replies_without_usage, usd (of the tokens that
    are known, at the last known price; None when either is not), price (as `price_of` reads it), first, last (UTC times).
    """
    where, values = ("WHERE task=?", [task]) if task else ("", [])
    groups = _attempts(store, where, values)
    _count_outcomes(store, where, values, groups)
    _count_usage(store, where, values, groups)
    for group in groups.values():
        if group["replies_without_usage"] and not group["input_tokens"]:  # none tells, so nothing is known
            group.update(dict.fromkeys(COUNTS))
            group["usd"] = None if group["usd_untold"] else group["usd"]
    return [{**group, "failed": dict(group["failed"])} for group in groups.values()]


def _attempts(store: ResponseStore, where: str, values: list[str]) -> Groups:
    """What was sent, by task, role, service and model; nothing of what came back is counted yet."""
    groups: Groups = {}
    for row in store.query(
        f"SELECT task, role, service, model, count(DISTINCT request_id), count(*), sum(state='unknown'), sum(state='open'),"  # noqa: S608
        f" min(sent_at), max(coalesce(received_at, sent_at)) FROM {ALL} {where} GROUP BY task, role, service, model ORDER BY task, role, service, model",
        values,
    ):
        row = (*_names(row[:4]), *row[4:])
        price = _remembered_price(store, row[2], row[3])
        groups[row[:4]] = {
            "task": row[0],
            "role": row[1],
            "service": row[2],
            "model": row[3],
            "requests": row[4],
            "kept": 0,
            "purged": 0,
            "failed": Counter(),
            "attempts": row[5],
            "maybe_paid": row[6],
            "in_flight": row[7],
            "input_tokens": 0,
            "output_tokens": 0,
            "cached_tokens": 0,
            "replies_without_usage": 0,
            "usd_untold": 0,
            "usd": 0.0 if price else None,
            "price": price,
            "first": _utc(row[8]),
            "last": _utc(row[9]),
        }
    return groups


def _count_outcomes(store: ResponseStore, where: str, values: list[str], groups: Groups) -> None:
    """Count requests that are kept, purged, or failed and why."""
    # the last attempt of a request tells why it failed; its kept attempts, if any, tell that it did not
    for *key, state, reason, n, settled_ok, purged in store.query(
        f"""WITH mine AS (SELECT id, request_id, task, role, service, model, state, reason FROM {ALL} {where}),
            last AS (SELECT max(id) id, max(state='ok') kept, max(state='purged') purged FROM mine GROUP BY mine.request_id, mine.task, mine.role)
        SELECT mine.task, mine.role, service, model, state, reason, count(*), last.kept, last.purged FROM last JOIN mine USING (id)
        GROUP BY mine.task, mine.role, service, model, state, reason, last.kept, last.purged""",  # noqa: S608
        values,
    ):
        group = groups[_names(key)]
        if settled_ok:
            group["kept"] += n
        elif purged:
            group["purged"] += n
        elif state != "open":
            group["failed"][reason or state] += n


def _count_usage(store: ResponseStore, where: str, values: list[str], groups: Groups) -> None:
    """Count tokens and dollars of what came back."""
    for *key, batch, n, input_tokens, output_tokens, cached_tokens in store.query(
        f"""SELECT task, role, service, model, wire_form IS 'batch' AS batch, count(*), sum(input_tokens), sum(output_tokens), sum(cached_tokens) FROM
            (SELECT * FROM attempt {where}) WHERE state IN ('ok', 'purged', 'invalid') GROUP BY task, role, service, model,
            batch, coalesce(input_tokens, 0) > 0, coalesce(output_tokens, 0) > 0""",  # noqa: S608
        values,
    ):
        group = groups[_names(key)]
        used, paid = Usage(input_tokens, output_tokens, cached_tokens), price_of(group["price"])
        usd = None if paid is None else paid.usd(used, batch=bool(batch), replies=n)
        group["usd"] = None if group["usd"] is None else group["usd"] + (usd or 0.0)
        if not used.known:
            group["replies_without_usage"] += n
            group["usd_untold"] += n if usd is None else 0
            continue
        for name in COUNTS:
            group[name] += getattr(used, name) or 0


def _names(values: Sequence[Any]) -> tuple[str, ...]:
    """Names as text, those of a damaged cell too."""
    return tuple(value if isinstance(value, str) else repr(value) for value in values)


def lines(report: list[dict[str, Any]]) -> list[str]:
    """The summary for people."""
    if not report:
        return ["the store holds nothing yet"]
    out = []
    for g in report:
        untold = g["usd_untold"]
        if g["usd"] is None:
            money = "no price known" if g["price"] is None else "dollars unknown"
        else:
            money = f"{'at least ' if untold else ''}${g['usd']:.4f}"
        if g["service"].startswith(("embedded", "recorded/")):
            money = (
                f"nothing paid ({money} at the price of the model it stands for)"
                if g["usd"] is not None
                else "nothing paid"
            )
        failed = ", ".join(f"{n:,} {reason}" for reason, n in sorted(g["failed"].items())) or "none"
        out.append(f"{g['task']} {g['role']} · {g['model']} ({g['service']})")
        out.append(
            f"  requests {g['requests']:,} · kept {g['kept']:,} · failed {sum(g['failed'].values()):,} ({failed}) · attempts {g['attempts']:,}"
        )
        notes = [f"perhaps paid twice {g['maybe_paid']:,}"]
        notes += [f"in flight {g['in_flight']:,}"] if g["in_flight"] else []
        notes += [f"purged {g['purged']:,}"] if g["purged"] else []
        notes += [f"replies without usage {g['replies_without_usage']:,}"] if g["replies_without_usage"] else []
        cached = f" ({g['cached_tokens']:,} cached)" if g["cached_tokens"] else ""
        tokens = (
            "unknown" if g["input_tokens"] is None else f"{g['input_tokens']:,} in{cached}, {g['output_tokens']:,} out"
        )
        out.append(f"  tokens {tokens} · {money} · " + " · ".join(notes))
    return out


def purge(
    store: ResponseStore,
    *,
    task: str | None = None,
    example_id: str | None = None,
    older_than: dt.timedelta | None = None,
) -> int:
    """Remove kept replies (all conditions hold together) from the file for good; returns how many requests.

    Counts and tokens stay, since the money was spent. A reply that another row shares, because its request is the same,
    goes too; whoever needs it again pays again. Raises UsageError without any condition, and Stopped when their bytes are
    still in the file, since another process reads it or the disk is full: another purge, of anything, removes those too.
    """
    if task is None and example_id is None and older_than is None:
        raise UsageError("purge: say what to remove: a task, an example id, or an age")
    conditions: list[str] = []
    values: list[str | float] = []
    if task is not None:
        conditions.append(
            "request_id IN (SELECT request_id FROM used WHERE task=? UNION SELECT request_id FROM attempt WHERE task=?)"
        )
        values += [task, task]
    if example_id is not None:
        conditions.append(
            "request_id IN (SELECT request_id FROM used WHERE example_id=? UNION SELECT request_id FROM attempt WHERE example_id=?)"
        )
        values += [example_id, example_id]
    if older_than is not None:
        conditions.append("coalesce(received_at, sent_at) < ?")
        values.append(time.time() - older_than.total_seconds())
    where = " AND ".join(conditions)
    query = f"SELECT count(DISTINCT request_id) FROM attempt WHERE body IS NOT NULL AND {where}"  # noqa: S608
    count = store.query(query, values)[0][0]
    rows = {name for (name,) in store.query(f"SELECT DISTINCT example_id FROM attempt WHERE {where}", values)}  # noqa: S608
    shown = [
        ("UPDATE fact SET value=? WHERE key=?", [json.dumps(record | {"text": None, "shown": ""}), key])
        for key, record in store.facts("probe:")
        if record.get("example_id") in rows
    ]
    store.transaction(
        [
            (f"UPDATE attempt SET body=NULL, checksum=NULL, state=CASE state WHEN 'ok' THEN 'purged' WHEN 'rejected' THEN 'purged' ELSE state END WHERE {where}", values),  # noqa: S608
            ("DELETE FROM used WHERE request_id IN (SELECT request_id FROM attempt GROUP BY request_id HAVING max(state='purged') AND NOT max(state='ok'))", []),
            *shown, ("INSERT OR REPLACE INTO fact VALUES (?, 'true')", [BYTES_REMAIN]),
        ]
    )  # fmt: skip
    _erase(store, int(count))
    return int(count)


def _erase(store: ResponseStore, count: int) -> None:
    """Rewrite the file, so that nothing removed is left in it. Raises Stopped when that could not be done."""
    why = "another process reads the store"
    try:
        done = store.compact()
    except (DiskFull, UsageError) as error:
        done, why = False, str(error)
    if not done:
        raise Stopped(
            f"{store.path}: {count:,} replies are removed and no longer used, but their bytes are still in the file or in its journal ({why}); "
            "run the same command again afterwards to remove these too"
        )
    store.transaction([("DELETE FROM fact WHERE key=?", [BYTES_REMAIN])])


def export(store: ResponseStore, task: str, role: str, path: Path) -> int:
    """Write the replies of one role in the shape of a batch output file, which the recorded provider reads; returns rows.

    Rows that the service refused are written with their status and error, so that a repeated run fails on the same rows.
    """
    written = 0
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for chunk in chunks(_uses(store, task, role), 400):
            replies = {
                reply.request_id: reply for reply in store.replies(dict.fromkeys(request_id for _, request_id in chunk))
            }
            for example_id, request_id in chunk:
                reply = replies.get(request_id)
                if reply is not None:
                    response = {"status_code": reply.http_status or 200, "body": _written(reply.body)}
                elif (failure := store.failure(request_id)) is not None and failure.rejected:
                    bodies = store.bodies(request_id)
                    message = redact(message_in(bodies[-1]) if bodies else failure.reason)
                    response = {
                        "status_code": failure.http_status or 400,
                        "body": {"error": {"message": message, "code": failure.reason}},
                    }
                else:
                    continue
                out.write(json.dumps({"custom_id": example_id, "response": response}, ensure_ascii=True) + "\n")
                written += 1
    return written


def _written(body: bytes) -> Any:
    """A body as a recorded line holds it: its JSON value, or the text where it is none within the limits."""
    try:
        return json_text.parse(body)
    except json_text.JsonError:
        return body.decode("utf-8", "replace")


def _uses(store: ResponseStore, task: str, role: str) -> Iterator[tuple[str, str]]:
    last = ""
    while page := store.query(
        "SELECT example_id, request_id FROM used WHERE task=? AND role=? AND example_id>? ORDER BY example_id LIMIT 1000",
        [task, role, last],
    ):
        yield from page
        last = page[-1][0]


def check(store: ResponseStore) -> list[str]:
    """Read the whole file; what is wrong with it, nothing when it is sound. Slow for large stores: seconds per gigabyte."""
    wrong = [f"{store.path}: {text}" for (text,) in store.query("PRAGMA quick_check", []) if text != "ok"]
    bad = list(store.unsound())
    wrong += [
        f"{store.path}: the reply of attempt {number} is damaged; it will be set aside and asked for again"
        for number in bad[:5]
    ]
    return wrong + ([f"{store.path}: {len(bad)} damaged replies in all"] if len(bad) > 5 else [])


def _utc(seconds: float | None) -> str | None:
    try:
        return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")
    except (TypeError, ValueError, OverflowError, OSError):  # a damaged cell
        return None
