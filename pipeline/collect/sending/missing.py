"""Missing: the requests of a role that the store does not answer yet, each once, as an iterator that reads a little ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from pipeline.collect.request import Request
from pipeline.collect.sending.role import RoleSending
from pipeline.collect.store.group_commit import GroupCommit
from pipeline.collect.store.response_store import ResponseStore, chunks

LOOKAHEAD = 256


def missing(
    role: RoleSending, store: ResponseStore, commits: GroupCommit, task: str, *, first: int, note: Callable[[str], None]
) -> Iterator[tuple[str, Request, int]]:
    """Requests to send, each once, with the tries that earlier runs gave them. Notes which row uses which request.

    `first` is the number below those of this call's attempts, `note` tells people of damaged replies.
    """
    for chunk in chunks(role.requests, LOOKAHEAD):
        named = [(request.request_id, request) for request in chunk]
        known, damaged = store.known([request_id for request_id, _ in named])
        for request_id in store.asked_once(list(known)) if role.paid else ():
            if known[request_id][1] < first:  # killed after an empty reply, before the second try
                del known[request_id]
        if damaged:
            role.report.damaged += len(damaged)
            commits.also(partial(store.set_aside, damaged))
            note(
                f"warning: {len(damaged)} kept replies in {store.path} are damaged; they are set aside and asked for again"
            )
        uses = [(task, request.role, request.example_id, request_id) for request_id, request in named]
        commits.also(partial(store.note_uses, uses))
        tried = store.tries([request_id for request_id, _ in named if request_id not in known]) if role.paid else {}
        _read_first(role, store, {r: known[r] for r, _ in named if r in known}, dict(named), first=first)
        mine: set[str] = set()
        for request_id, request in named:
            if request_id in mine or request_id in role.open or request_id in role.failed:
                role.report.identical += 1
            elif request_id in known:
                _count_known(role, store, request, request_id, *known[request_id], first=first)
            else:
                mine.add(request_id)
                yield request_id, request, tried.get(request_id, 0)


def _count_known(
    role: RoleSending, store: ResponseStore, request: Request, request_id: str, state: str, number: int, *, first: int
) -> None:
    if number > first:  # answered since this call began
        role.report.identical += 1
        return
    role.report.from_store += 1
    if state == "rejected":
        failure = store.failure(request_id)
        role.report.failed_by_reason[failure.reason if failure else state] += 1
        return
    role.answered = request


def _read_first(
    role: RoleSending,
    store: ResponseStore,
    known: Mapping[str, tuple[str, int]],
    requests: Mapping[str, Request],
    *,
    first: int,
) -> None:
    """Read the replies of earlier calls before anything else is sent: they may show that nothing should be."""
    for request_id, (state, number) in known.items():
        if not role.reads:
            return
        if state != "rejected" and number <= first and (kept := store.get(request_id)) is not None:
            role.read(requests[request_id], kept.body)
