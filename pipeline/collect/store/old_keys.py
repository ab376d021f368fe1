"""OldKeys: replies of a store of format 1, found under the keys of today, so that nothing is paid twice.

Format 1 named every API "together" and told 0 from 0.0. Replies of another server were set apart when the file was brought
to format 2 (see `schema`): their old key begins with the host that answered. A key is a digest, so it can only be found
from its request: this is done for the requests of a task before they are looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from urllib.parse import urlsplit

from pipeline.collect.request import Request
from pipeline.collect.store.response_store import ResponseStore, chunks
from pipeline.collect.store.schema import OLD_KEYS, apart
from pipeline.run.digests import digest

SAMPLING = ("temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty")


def adopt(store: ResponseStore, requests: Iterable[Request]) -> int:
    """Name the old replies to these requests by today's keys. Returns how many requests that gave a reply."""
    if not store.fact(OLD_KEYS):
        return 0
    found = 0
    for chunk in chunks(requests, 200):
        old = {key: request for request in chunk for key in _old_ids(request)}
        marks = ",".join("?" * len(old))
        held = store.query(f"SELECT DISTINCT request_id FROM attempt WHERE request_id IN ({marks})", list(old))  # noqa: S608
        names = [(key, old[key].request_id, old[key].service) for (key,) in held]
        if names:
            store.durably(partial(_rename, store, names))
            found += len(names)
    return found


def _rename(store: ResponseStore, names: list[tuple[str, str, str]]) -> None:
    for old, new, service in names:
        store.apply("UPDATE attempt SET request_id=?, service=? WHERE request_id=?", [new, service, old])
        store.apply("UPDATE used SET request_id=? WHERE request_id=?", [new, old])


def _old_ids(request: Request) -> Iterator[str]:
    """The keys that format 1 gave this request, its sampling parameters written as they are now or as 0.0 for 0."""
    api = "://" in request.service
    floats = {k: float(v) if k in SAMPLING and type(v) is int else v for k, v in request.params.items()}
    for params in (request.params, floats):
        service = "together" if api else request.service
        key = digest(request.canonical | {"service": service, "params": dict(params)})
        if api:
            yield apart(urlsplit(request.service).netloc, key)
        elif key != request.request_id:
            yield key
