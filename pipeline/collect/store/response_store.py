"""ResponseStore: every attempt and every raw reply, durable, so that none is ever paid twice.

The promise: after any crash at most the requests that were in flight are paid again, and no other; no committed reply
is ever lost or asked again. SQLite in WAL mode with synchronous=FULL; one writing process per task, many readers.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pipeline.collect.store.attempt_row import COLUMNS, Row, ending, opening, unpacked, whole
from pipeline.collect.store.reserve import Reserve
from pipeline.collect.store.schema import connect, errors, prepare, refuse_emptied
from pipeline.collect.store.stored_reply import Failure, StoredReply
from pipeline.errors import DataError, DiskFull, UsageError
from pipeline.run.atomic import disk_errors, make_folder

__all__ = ["ResponseStore", "Row", "chunks", "ending", "opening"]
T = TypeVar("T")
CHUNK = 400


class ResponseStore:
    """The store's file. Use as a context manager.

    Raises UsageError when the file cannot be written or was made by a newer version, DataError when it is damaged,
    DiskFull when a commit finds no space.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.damaged: list[str] = []
        """Request ids whose kept reply failed its checksum; they were set aside and will be asked again."""
        try:
            with disk_errors(self.path):
                make_folder(self.path.parent)
        except FileExistsError:
            raise UsageError(
                f"{self.path.parent}: is a file, but a folder is needed; choose another with --runs-dir"
            ) from None
        refuse_emptied(self.path)
        self.reserve = Reserve(self.path)
        self.full: DiskFull | None = None
        """The disk is full: what comes back is kept in the room that was set aside, and nothing more may leave."""
        self._write = connect(self.path)
        try:
            prepare(self._write, self.path)
            self._read = connect(self.path)
        except BaseException:
            self._write.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close both connections; what is committed is on disk already."""
        self._read.close()
        self._write.close()
        self.reserve.free()

    # Reading

    def get(self, request_id: str) -> StoredReply | None:
        """The kept reply to a request; None when there is none."""
        return next(self.replies([request_id]), None)

    def replies(self, request_ids: Iterable[str]) -> Iterator[StoredReply]:
        """Kept replies in the order of the ids; ids without one are left out. Streams."""
        for chunk in chunks(request_ids, CHUNK):
            marks = ",".join("?" * len(chunk))
            with self._errors():
                rows = self._read.execute(
                    f"SELECT {COLUMNS} FROM attempt WHERE state='ok' AND request_id IN ({marks}) ORDER BY id",  # noqa: S608
                    chunk,
                ).fetchall()
                counts = dict(
                    self._read.execute(
                        f"SELECT request_id, count(*) FROM attempt WHERE request_id IN ({marks}) GROUP BY request_id",  # noqa: S608
                        chunk,
                    ).fetchall()
                )
            found = {row[0]: row for row in rows}  # the last one wins: an empty reply is asked for twice
            for request_id in chunk:
                row = found.get(request_id)
                reply = self._reply(row, counts[request_id]) if row is not None else None
                if reply is not None:
                    yield reply

    def _reply(self, row: Sequence[Any], attempts: int) -> StoredReply | None:
        (request_id, task, example_id, role, service, model, host, form, state, status, seconds, *_,
         input_tokens, output_tokens, reasoning, _, _, number) = row  # fmt: skip
        found = whole(row)
        if found is None:
            self.damaged.append(request_id)
            self.durably(partial(self.set_aside, [number]))
            return None
        body, told, at = found
        return StoredReply(
            request_id, task, example_id, role, service, model, host, form, state, status, body, seconds,
            told, at, attempts, input_tokens, output_tokens, reasoning,
        )  # fmt: skip

    def known(self, request_ids: Sequence[str]) -> tuple[dict[str, tuple[str, int]], list[int]]:
        """Requests that need not be sent: id -> ("ok" or "rejected", number of the attempt that settled it).

        And the numbers of attempts whose kept reply is damaged: they count as not there (see `set_aside`).
        """
        found: dict[str, tuple[str, int]] = {}
        damaged: list[int] = []
        for chunk in chunks(request_ids, CHUNK):
            marks = ",".join("?" * len(chunk))
            with self._errors():
                rows = self._read.execute(
                    f"SELECT {COLUMNS} FROM attempt WHERE state IN ('ok','rejected') AND request_id IN ({marks})",  # noqa: S608
                    chunk,
                ).fetchall()
            for row in rows:
                request_id, state, number = row[0], row[8], row[-1]
                if state == "ok" and whole(row) is None:
                    damaged.append(number)
                elif found.get(request_id, ("",))[0] != "ok":
                    found[request_id] = state, number
        return found, damaged

    def asked_once(self, request_ids: Sequence[str]) -> set[str]:
        """Of these, the requests whose one reply is empty: a run that ended there had not asked once more. Batches do not."""
        marks = ",".join("?" * len(request_ids))
        found = self.query(
            f"SELECT request_id FROM attempt WHERE request_id IN ({marks}) AND state='ok' GROUP BY request_id "  # noqa: S608
            "HAVING count(*)=1 AND max(reason)='empty' AND max(wire_form) IS NOT 'batch'",
            request_ids,
        )
        return {request_id for (request_id,) in found}

    def tries(self, request_ids: Sequence[str]) -> dict[str, int]:
        """How often requests were tried without a reply to keep, though the service answered: id -> attempts."""
        marks = ",".join("?" * len(request_ids))
        found = self.query(
            f"SELECT request_id, count(*) FROM attempt WHERE request_id IN ({marks}) AND (state='invalid' OR (state='http_error' "  # noqa: S608
            "AND (http_status IN (403, 404) OR http_status >= 500) AND reason IS NOT 'other_form')) GROUP BY request_id",
            request_ids,
        )
        return dict(found)

    def failure(self, request_id: str) -> Failure | None:
        """Why a request has no reply; None when it has one or was never tried."""
        with self._errors():
            rows = self._read.execute(
                "SELECT state, reason, http_status FROM attempt WHERE request_id=? ORDER BY id", (request_id,)
            ).fetchall()
        if not rows or any(state == "ok" for state, _, _ in rows):
            return None
        state, reason, status = rows[-1]
        return Failure(reason or state, status, len(rows), any(state == "rejected" for state, _, _ in rows))

    def bodies(self, request_id: str) -> list[bytes]:
        """Raw bodies of all attempts of a request, failed ones included, damaged ones not, oldest first."""
        with self._errors():
            rows = self._read.execute(
                "SELECT body FROM attempt WHERE request_id=? AND body IS NOT NULL ORDER BY id", (request_id,)
            ).fetchall()
        return [body for (packed,) in rows if (body := unpacked(packed)) is not None]

    def query(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Rows of a reading statement."""
        with self._errors():
            return self._read.execute(sql, values).fetchall()

    def unsound(self) -> Iterator[int]:
        """Numbers of the attempts whose kept reply fails its checksum. Reads all of them, one at a time."""
        with self._errors():
            for row in self._read.execute(f"SELECT {COLUMNS} FROM attempt WHERE state='ok'"):  # noqa: S608
                if whole(row) is None:
                    yield row[-1]

    # Writing: rows are written on the calling thread, `commit` alone waits for the disk

    def begin(self) -> None:
        """Open a transaction."""
        with self._errors():
            self._write.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make it durable. Raises DiskFull when there is no space; nothing of the transaction is kept then."""
        with self._errors():
            self._write.execute("COMMIT")

    def rollback(self) -> None:
        """Drop an open transaction."""
        if self._write.in_transaction:
            self._write.execute("ROLLBACK")

    def transaction(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Run statements as one durable transaction."""

        def run() -> None:
            with self._errors():
                for statement, values in statements:
                    self._write.execute(statement, values)

        self.durably(run)

    def durably(self, operation: Callable[[], object]) -> None:
        """Run `operation`, which notes things, as one durable transaction.

        On a full disk the room set aside is freed for it: what came back is kept; see `note` for what is about to leave.
        """
        try:
            self._once(operation)
        except DiskFull as error:
            self.full = self.full or error
            if not self.reserve.free():
                raise
            self._once(operation)

    def _once(self, operation: Callable[[], object]) -> None:
        self.begin()
        try:
            operation()
            self.commit()
        except BaseException:
            self.rollback()
            raise

    def apply(self, statement: str, values: Sequence[Any]) -> None:
        """Within a transaction: run a statement."""
        with self._errors():
            self._write.execute(statement, values)

    def session(self, task: str) -> int:
        """Begin sending for a task: returns the number below all numbers of this session's attempts.

        Raises DiskFull when there is no room to set aside for replies in flight.
        """
        number = 0

        def begin() -> None:
            nonlocal number
            with self._errors():
                made = self._write.execute(
                    "INSERT INTO session (task, host, pid, started_at) VALUES (?,?,?,?)",
                    (task, socket.gethostname(), os.getpid(), time.time()),
                )
                number = int(made.lastrowid or 0)  # within the transaction: another process may begin right after it

        self.reserve.take()
        self.full = None
        self.durably(begin)
        return number << 32

    def note(self, opened: Sequence[Row] = (), ended: Sequence[Row] = ()) -> None:
        """Within a transaction: attempts that are about to leave (see `opening`), and attempts that ended (see `ending`).

        Raises DiskFull for one that is about to leave when the disk was found full.
        """
        if opened and self.full is not None:
            raise self.full
        with self._errors():
            if opened:
                self._write.executemany("INSERT INTO open VALUES (?,?,?,?,?,?,?,?,NULL)", opened)
            if ended:
                self._write.executemany(
                    "INSERT INTO attempt VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", ended
                )
                self._write.executemany("DELETE FROM open WHERE id=?", [row[:1] for row in ended])

    def note_uses(self, rows: Sequence[tuple[str, str, str, str]]) -> None:
        """Within a transaction: (task, role, example_id, request_id) of rows that a request serves."""
        with self._errors():
            self._write.executemany(
                "INSERT INTO used VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET request_id=excluded.request_id WHERE request_id<>excluded.request_id",
                rows,
            )

    def forgive(self, numbers: Iterable[int]) -> None:
        """Within a transaction: these refusals were not the rows' fault; ask again next time."""
        with self._errors():
            self._write.executemany(
                "UPDATE attempt SET state='http_error' WHERE id=? AND state='rejected'", [(n,) for n in numbers]
            )

    def settle_as_refused(self, request_id: str) -> None:
        """Within a transaction: this row has had its tries, and the service answers others: it is not asked again."""
        with self._errors():
            self._write.execute(
                "UPDATE attempt SET state='rejected' WHERE id=(SELECT max(id) FROM attempt WHERE request_id=?) AND state IN ('http_error','invalid')",
                (request_id,),
            )

    def set_aside(self, numbers: Iterable[int]) -> None:
        """Within a transaction: these kept replies are damaged; they are asked for again when needed."""
        with self._errors():
            self._write.executemany(
                "UPDATE attempt SET state='damaged', reason='checksum' WHERE id=?", [(n,) for n in numbers]
            )

    def adopt(self, task: str) -> int:
        """Mark what an earlier, killed run of this task left open: perhaps paid. Returns how many. Batches stay open."""
        mine = "FROM open WHERE task=? AND batch IS NULL"
        left = self.query(f"SELECT count(*) {mine}", [task])[0][0]
        if left:
            columns = "id, request_id, task, example_id, role, service, model, sent_at"
            self.transaction(
                [
                    (
                        f"INSERT INTO attempt ({columns}, state, reason) SELECT {columns}, 'unknown', 'killed' {mine}",
                        (task,),
                    ),
                    (f"DELETE {mine}", (task,)),
                ]
            )
        return int(left)

    def in_batches(self, task: str, roles: Sequence[str]) -> int:
        """Requests of a task's roles that lie in a batch which was submitted and has not been fetched."""
        marks = ",".join("?" * len(roles))
        sql = f"SELECT count(*) FROM open WHERE task=? AND batch IS NOT NULL AND role IN ({marks})"  # noqa: S608
        return int(self.query(sql, [task, *roles])[0][0])

    def fact(self, key: str) -> Any:
        """A remembered JSON value, such as what doctor found out about a model; None when there is none."""
        with self._errors():
            row = self._read.execute("SELECT value FROM fact WHERE key=?", (key,)).fetchone()
        try:
            return None if row is None else json.loads(row[0])
        except (ValueError, TypeError):
            raise DataError(
                f"{self.path}: the note {key!r} is damaged ({str(row[0])[:40]!r}); restore a backup of the store"
            ) from None

    def facts(self, prefix: str) -> list[tuple[str, Any]]:
        """Remembered values whose key starts with the prefix."""
        names = self.query("SELECT key FROM fact WHERE substr(key, 1, ?)=?", [len(prefix), prefix])
        return [(name, self.fact(name)) for (name,) in names]

    def remember(self, key: str, value: Any) -> None:
        """Remember a JSON value."""
        self.durably(partial(self.note_fact, key, value))

    def note_fact(self, key: str, value: Any) -> None:
        """Within a transaction: remember a JSON value."""
        with self._errors():
            self._write.execute("INSERT OR REPLACE INTO fact VALUES (?,?)", (key, json.dumps(value)))

    def compact(self) -> bool:
        """Give deleted space back to the disk, so that nothing deleted is left in the file or its journal.

        False when another process reads the store and keeps its bytes in the journal or the file.
        """
        with self._errors():
            self._write.execute("VACUUM")
            busy, *_ = self._write.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def _errors(self) -> AbstractContextManager[None]:
        return errors(self.path)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items, in order."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
