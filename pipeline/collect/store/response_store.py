"""ResponseStore: every attempt and every raw reply, durable, so that none is ever paid twice.

The promise: after any crash at most the requests that were in flight are paid again, and no other; no committed reply
is ever lost or asked again. SQLite in WAL mode with synchronous=FULL; one writing process per task, many readers.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pipeline.collect.providers.provider import KEPT_HEADERS, Attempt
from pipeline.collect.request import Request
from pipeline.collect.sending.response_class import Outcome
from pipeline.collect.store.schema import connect, errors, prepare
from pipeline.collect.store.stored_reply import Failure, StoredReply
from pipeline.errors import DataError, UsageError
from pipeline.run.atomic import disk_errors

T = TypeVar("T")
Row = tuple[Any, ...]
"""Values of a table row, in the order of its columns."""

CHUNK = 400
ERROR_BODY_LIMIT = 64_000

REPLY_COLUMNS = (
    "request_id, task, example_id, role, service, model, host, wire_form, state, http_status, seconds, headers, received_at, "
    "input_tokens, output_tokens, reasoning_tokens, body, checksum, id"
)


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
                self.path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise UsageError(
                f"{self.path.parent}: a file, where a folder is needed; choose another with --runs-dir"
            ) from None
        self._refuse_emptied()
        self._write = connect(self.path)
        try:
            prepare(self._write, self.path)
            self._read = connect(self.path)
        except BaseException:
            self._write.close()
            raise

    def _refuse_emptied(self) -> None:
        """A file of 0 bytes beside runs that were made from it is no new store: taken for one, everything is paid again."""
        if not self.path.is_file() or self.path.stat().st_size:
            return
        wal = self.path.with_name(self.path.name + "-wal")
        run = next(self.path.parent.glob("*/*/run.json"), None)
        if run is not None and not (wal.is_file() and wal.stat().st_size):
            raise DataError(
                f"{self.path}: empty, while runs such as {run.parent.name} beside it were made from its replies; restore a backup, "
                "or remove the file, if all replies shall be paid for again"
            )

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
                    f"SELECT {REPLY_COLUMNS} FROM attempt WHERE state='ok' AND request_id IN ({marks}) ORDER BY id",  # noqa: S608
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
        (request_id, task, example_id, role, service, model, host, form, state, status, seconds, headers, received,
         input_tokens, output_tokens, reasoning, packed, checksum, number) = row  # fmt: skip
        body = _sound(packed, checksum)
        try:
            told = json.loads(headers) if headers else {}
            at = dt.datetime.fromtimestamp(received or 0, dt.UTC)
        except (ValueError, TypeError, OverflowError, OSError):  # a damaged cell beside the body
            body = None
        if body is None:
            self.damaged.append(request_id)
            self.durably(partial(self.set_aside, [number]))
            return None
        return StoredReply(
            request_id, task, example_id, role, service, model, host, form, state, status, body, seconds,
            told, at, attempts, input_tokens, output_tokens, reasoning,
        )  # fmt: skip

    def known(self, request_ids: Sequence[str]) -> tuple[dict[str, tuple[str, int]], list[int]]:
        """Requests that need not be sent: id -> ("ok" or "rejected", number of the attempt that settled it).

        And the numbers of attempts whose kept reply fails its checksum: they count as not there (see `set_aside`).
        """
        found: dict[str, tuple[str, int]] = {}
        damaged: list[int] = []
        for chunk in chunks(request_ids, CHUNK):
            marks = ",".join("?" * len(chunk))
            with self._errors():
                rows = self._read.execute(
                    f"SELECT request_id, state, id, body, checksum FROM attempt WHERE state IN ('ok','rejected') AND request_id IN ({marks})",  # noqa: S608
                    chunk,
                ).fetchall()
            for request_id, state, number, packed, checksum in rows:
                if state == "ok" and _sound(packed, checksum) is None:
                    damaged.append(number)
                elif found.get(request_id, ("",))[0] != "ok":
                    found[request_id] = state, number
        return found, damaged

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
        """Raw bodies of all attempts of a request, failed ones included, oldest first."""
        with self._errors():
            rows = self._read.execute(
                "SELECT body FROM attempt WHERE request_id=? AND body IS NOT NULL ORDER BY id", (request_id,)
            ).fetchall()
        return [zlib.decompress(packed) for (packed,) in rows]

    def query(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Rows of a reading statement."""
        with self._errors():
            return self._read.execute(sql, values).fetchall()

    def unsound(self) -> Iterator[int]:
        """Numbers of the attempts whose kept reply fails its checksum. Reads all of them, one at a time."""
        with self._errors():
            for number, packed, checksum in self._read.execute(
                "SELECT id, body, checksum FROM attempt WHERE state='ok'"
            ):
                if _sound(packed, checksum) is None:
                    yield number

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
        """Run `operation`, which notes things, as one durable transaction."""
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
        """Begin sending for a task: returns the number below all numbers of this session's attempts."""

        def begin() -> None:
            with self._errors():
                self._write.execute(
                    "INSERT INTO session (task, host, pid, started_at) VALUES (?,?,?,?)",
                    (task, socket.gethostname(), os.getpid(), time.time()),
                )

        self.durably(begin)
        return int(self.query("SELECT max(id) FROM session", [])[0][0]) << 32

    def note(self, opened: Sequence[Row] = (), ended: Sequence[Row] = ()) -> None:
        """Within a transaction: attempts that are about to leave (see `opening`), and attempts that ended (see `ending`)."""
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
        return [
            (name, json.loads(value))
            for name, value in self.query(
                "SELECT key, value FROM fact WHERE substr(key, 1, ?)=?", [len(prefix), prefix]
            )
        ]

    def remember(self, key: str, value: Any) -> None:
        """Remember a JSON value."""
        self.durably(partial(self.note_fact, key, value))

    def note_fact(self, key: str, value: Any) -> None:
        """Within a transaction: remember a JSON value."""
        with self._errors():
            self._write.execute("INSERT OR REPLACE INTO fact VALUES (?,?)", (key, json.dumps(value)))

    def compact(self) -> None:
        """Give deleted space back to the disk, so that nothing deleted is left in the file or its journal."""
        with self._errors():
            self._write.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._write.execute("VACUUM")
            self._write.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _errors(self) -> AbstractContextManager[None]:
        return errors(self.path)


def _sound(packed: bytes | None, checksum: bytes) -> bytes | None:
    """The raw body; None where it is gone or is not what was written."""
    try:
        body = None if packed is None else zlib.decompress(packed)
    except (zlib.error, TypeError):
        return None
    return body if body is not None and checksum_of(body) == checksum else None


def opening(number: int, task: str, request_id: str, request: Request) -> Row:
    """The note that an attempt is about to leave."""
    return (number, request_id, task, request.example_id, request.role, request.service, request.model, time.time())


def ending(opened: Row, attempt: Attempt, outcome: Outcome) -> Row:
    """The note of how an attempt ended, with its raw body, compressed."""
    body = attempt.body if outcome.state == "ok" else attempt.body[:ERROR_BODY_LIMIT]
    headers = {k: v for k, v in attempt.headers.items() if k in KEPT_HEADERS}
    usage = outcome.usage
    return (
        *opened, outcome.state, outcome.reason or None, attempt.http_status, time.time(), attempt.seconds, json.dumps(headers) if headers else None,
        attempt.host, attempt.wire_form, usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, zlib.compress(body, 1), checksum_of(body), usage.cached_tokens,
    )  # fmt: skip


def checksum_of(body: bytes) -> bytes:
    """Sixteen bytes that tell a damaged reply."""
    return hashlib.sha256(body).digest()[:16]


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items, in order."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
