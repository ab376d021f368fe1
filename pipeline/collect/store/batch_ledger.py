"""BatchLedger: what of a task was handed to the batch API, written down before each step that cannot be undone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cascade_threshold.pricing import Price
from pipeline.collect.request import Request
from pipeline.collect.sending.spend_cap import price_key
from pipeline.collect.store.response_store import ResponseStore, Row


class Noted(NamedTuple):
    """A batch as it was written down."""

    number: int
    file_id: str | None
    """None until it is uploaded."""
    batch_id: str | None
    requests: int
    begun: float
    """When it was handed over, or its file prepared; seconds since 1970."""


@dataclass(frozen=True)
class BatchLedger:
    """The batches of one task. A file goes through the states prepared, creating (perhaps submitted), submitted and done."""

    store: ResponseStore
    task: str
    price: Price | None

    def prepare(self, rows: Sequence[Row], request: Request, kind: str) -> int:
        """A file is about to be uploaded, its requests (see `opening`) are open. Returns its number, that of the last row.

        What its model costs is remembered too, so that `status` can tell dollars without a config.
        """
        batch = int(rows[-1][0])
        columns = (batch, self.task, request.service, request.model, kind, len(rows), time.time())

        def write() -> None:
            self.store.apply("INSERT INTO batch VALUES (?,?,?,?,?,'prepared',NULL,NULL,?,NULL,?)", columns)
            for row in rows:
                self.store.apply("INSERT INTO open VALUES (?,?,?,?,?,?,?,?,?)", (*row, batch))
            if self.price is not None:
                self.store.note_fact(price_key(request.service, request.model), self.price.public())

        self.store.durably(write)
        return batch

    def note(self, batch: int, **columns: str | float | None) -> None:
        """What became known of a batch."""
        names = ", ".join(f"{name}=?" for name in columns)
        self.store.transaction([(f"UPDATE batch SET {names} WHERE number=?", [*columns.values(), batch])])  # noqa: S608

    def drop(self, batch: int) -> None:
        """Nothing was submitted, so nothing is paid."""
        self.store.transaction(
            [
                ("DELETE FROM open WHERE batch=?", [batch]),
                ("UPDATE batch SET state='dropped' WHERE number=?", [batch]),
            ]
        )

    def noted(self, *states: str) -> list[Noted]:
        """Batches in these states, oldest first."""
        marks = ",".join("?" * len(states))
        found = self.store.query(
            f"SELECT number, file_id, batch_id, requests, created_at FROM batch WHERE task=? AND state IN ({marks}) ORDER BY number",  # noqa: S608
            [self.task, *states],
        )
        return [Noted(*row) for row in found]

    def ids(self) -> set[str]:
        """The service's ids of all batches that were noted, those of other tasks too."""
        return {row[0] for row in self.store.query("SELECT batch_id FROM batch WHERE batch_id IS NOT NULL", [])}

    def rows(self, batch: int) -> dict[str, Row]:
        """What was written down of each request of a batch."""
        columns = "id, request_id, task, example_id, role, service, model, sent_at"
        found = self.store.query(f"SELECT {columns} FROM open WHERE batch=?", [batch])  # noqa: S608
        return {row[1]: row for row in found}


def submitted(store: ResponseStore, task: str) -> set[str]:
    """Requests of a task in batches that are not fetched yet and were, or perhaps were, submitted."""
    states = "SELECT number FROM batch WHERE state IN ('creating','submitted')"
    rows = store.query(f"SELECT request_id FROM open WHERE task=? AND batch IN ({states})", [task])  # noqa: S608
    return {request_id for (request_id,) in rows}
