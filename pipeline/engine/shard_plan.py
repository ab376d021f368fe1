"""ShardPlan: a task's rows and raw replies, written to self-contained shards as the work on them goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.collect.data.examples import Example
from pipeline.collect.providers.recorded import Recorded
from pipeline.collect.store.response_store import ResponseStore, chunks
from pipeline.collect.task_input import TaskInput
from pipeline.config.vocabulary import ROLES
from pipeline.engine import kept_manifest, raw_reply, shards
from pipeline.engine.raw_reply import NONE, RawReply
from pipeline.engine.shards import Asked, Shard
from pipeline.errors import DataError
from pipeline.run import address, schemas
from pipeline.run.atomic import scratch
from pipeline.run.digests import digest
from pipeline.run.directory import Run

PIECE = 512
"""Rows whose replies are fetched at once."""
HELD_BYTES = 16_000_000
"""Raw replies that are held before they are written."""

Fetch = Callable[[list[Example]], list[RawReply]]
"""The raw replies of rows that want one of a role."""


@dataclass
class ShardPlan:
    """Shards in order; `made` are those that were drawn so far."""

    task: TaskInput
    folder: str
    fetch: dict[str, Fetch]
    made: list[Shard]

    def __iter__(self) -> Iterator[Shard]:
        return self.shards()

    def shards(self, strong: Collection[str] | None = None, *, alone: bool = False) -> Iterator[Shard]:
        """All rows, with the strong replies to the rows that `strong` names; None: to all that get one.

        alone  these rows without the others, and without their cheap replies
        """
        roles = ("strong",) if alone else self.task.roles
        asked, human = {role: self._asked(role) for role in roles}, self.task.human
        rows = self.task.dataset.examples
        for place, start in enumerate(range(0, len(rows), shards.SHARD)):
            examples = rows[start : start + shards.SHARD]
            if alone:
                examples = [e for e in examples if e.id in (strong or ())]
            if not examples:
                continue
            keys, number = self._keys(roles, examples, strong), len(self.made)
            shard = Shard(
                address.stored(self.folder, f"rows-{number:05d}", partial(self._write_rows, examples, keys)),
                "",
                place,
                self.task.config.kind,
                self._answers,
                asked,
                None if human is None else float(human.usd_per_request),
            )
            # another price or version finds nothing of this one's in its way, in a folder that more than one run writes to
            name = f"{number:05d}-{kept_manifest.question(shard)[: address.DIGITS]}"
            shard = replace(shard, out=address.joined(self.folder, name))
            self.made.append(shard)
            yield shard

    def _write_rows(self, examples: list[Example], keys: dict[str, dict[str, str]], path: Path) -> None:
        with schemas.table_writer(path, schemas.SHARD, level=1) as table:
            held = 0
            for piece in chunks(examples, PIECE):
                held += self._write(table, piece, keys)
                if held >= HELD_BYTES:
                    table.flush()
                    held = 0

    def _keys(
        self, roles: Iterable[str], examples: list[Example], strong: Collection[str] | None
    ) -> dict[str, dict[str, str]]:
        """By role and row id, the keys of a shard's requests. What comes from a file is rendered here, and not held."""
        keys = self.task.request_ids(roles, examples)
        if strong is not None:
            keys["strong"] = {name: key for name, key in keys["strong"].items() if name in strong}
        return keys

    @property
    def _answers(self) -> tuple[str, ...] | None:
        config = self.task.config
        return None if config.answer_set is None else config.answers

    def _asked(self, role: str) -> Asked:
        service, settings = self.task.services[role], self.task.settings(role)
        alternatives = settings.top_logprobs if role == "cheap" else 0
        return Asked(service.provider, service.model, settings.price, service.batch, alternatives)

    def _write(self, table: schemas.TableWriter, examples: list[Example], keys: dict[str, dict[str, str]]) -> int:
        """Add some rows with the raw replies of each role; the bytes of these."""
        columns: list[Iterable[Any]] = [
            [e.id for e in examples],
            [e.group for e in examples],
            [e.segment for e in examples],
            [e.label for e in examples],
            [None if e.options is None else json.dumps(e.options) for e in examples],
            [self.task.wants("strong", e.split) for e in examples],
        ]
        size = 0
        for role in ROLES:
            mine = keys.get(role, {})
            wanted = [e for e in examples if e.id in mine]
            told = iter(self.fetch[role](wanted) if wanted else ())
            raw = [next(told) if e.id in mine else NONE for e in examples]
            size += sum([len(reply.body or b"") for reply in raw])
            columns += [[mine.get(e.id) for e in examples], *zip(*raw, strict=True)]
        table.add(zip(*columns, strict=True))
        return size


@contextmanager
def planned(task: TaskInput, run: Run) -> Iterator[ShardPlan]:
    """The task's shards, in a folder that is gone afterwards."""
    with ExitStack() as stack:
        fetch = {role: _fetch(task, role, stack) for role in task.roles}
        yield ShardPlan(task, stack.enter_context(_folder(task, run)), fetch, [])


@contextmanager
def _folder(task: TaskInput, run: Run) -> Iterator[str]:
    """The folder of a run's shards while they are read: in the run's own, or where --shards-dir says.

    A run that is killed or interrupted leaves it, and the next one of the same rows goes on with what is in it.
    """
    where = task.options.shards_dir
    if where is not None and address.is_remote(where):
        store = digest([str(task.options.runs_dir.resolve())])[:8]  # replies that are kept elsewhere may be others
        folder = address.joined(where, f"{run.task}-{run.run_id}-{store}")
        try:
            yield folder
        except Exception:
            with suppress(DataError):  # the first reason matters more
                address.removed(folder)
            raise
        address.removed(folder)
        return
    with scratch(run.path("shards") if where is None else Path(where) / f"{run.task}-{run.run_id}") as local:
        yield str(local.resolve())


def _fetch(task: TaskInput, role: str, stack: ExitStack) -> Fetch:
    """Where a role's raw replies come from: the store, or its file where nothing of the task is paid for."""
    if task.is_read_from_file(role):
        return _from_file(task, role, stack)
    store = stack.enter_context(ResponseStore(task.store_path))
    ids = {r.example_id: r.request_id for r in task.requests(role)}

    def fetch(examples: list[Example]) -> list[RawReply]:
        kept = {reply.request_id: raw_reply.stored(reply) for reply in store.replies([ids[e.id] for e in examples])}
        return [kept.get(ids[e.id], NONE) for e in examples]

    return fetch


def _from_file(task: TaskInput, role: str, stack: ExitStack) -> Fetch:
    file = Recorded(task.services[role].source)
    stack.callback(file.close)
    rows = task.dataset.examples
    file.require_match(
        (name for name, split in zip(rows.ids(), rows.splits, strict=True) if task.wants(role, split)), role
    )
    for note in file.notes():
        task.say(note)
    return lambda examples: list(map(raw_reply.recorded, file.lines([e.id for e in examples])))
