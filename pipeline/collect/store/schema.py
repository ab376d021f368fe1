"""Schema: the SQLite file of the response store, its tables, and what SQLite's errors mean to a person."""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cascade_threshold import json_text
from pipeline.collect.providers.address import service_name
from pipeline.collect.store.file_system import network_kind
from pipeline.errors import DataError, DiskFull, UsageError

SCHEMA_VERSION = 2
WAIT_S = 60.0
"""So long another process that writes, or reads what is to be removed, is waited for."""
OLD_KEYS = "old_keys"
"""The fact that a file was of format 1, whose requests had other keys."""
APPLICATION_ID = 0x63746872  # "cthr": tells our file from any other SQLite file

SCHEMA = """
CREATE TABLE session (        -- one sending process; its id is the upper half of its attempts' numbers
    id INTEGER PRIMARY KEY, task TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, started_at REAL NOT NULL);
CREATE TABLE open (           -- attempts that left (or are about to) and have not ended; a killed process leaves them here
    id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, task TEXT NOT NULL, example_id TEXT NOT NULL, role TEXT NOT NULL,
    service TEXT NOT NULL, model TEXT NOT NULL, sent_at REAL NOT NULL, batch INTEGER);
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, task TEXT NOT NULL, example_id TEXT NOT NULL, role TEXT NOT NULL,
    service TEXT NOT NULL, model TEXT NOT NULL, sent_at REAL NOT NULL,
    state TEXT NOT NULL,      -- ok, rejected, http_error, invalid, unknown (perhaps paid), not_sent, damaged, purged
    reason TEXT, http_status INTEGER, received_at REAL, seconds REAL, headers TEXT, host TEXT, wire_form TEXT,
    input_tokens INTEGER, output_tokens INTEGER, reasoning_tokens INTEGER, body BLOB, checksum BLOB, cached_tokens INTEGER);
CREATE INDEX attempt_request ON attempt (request_id);
CREATE TABLE used (           -- which row of which task a request serves
    task TEXT NOT NULL, role TEXT NOT NULL, example_id TEXT NOT NULL, request_id TEXT NOT NULL,
    PRIMARY KEY (task, role, example_id)) WITHOUT ROWID;
CREATE TABLE fact (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batch (          -- files handed to a batch API, written down before each step that cannot be undone
    number INTEGER PRIMARY KEY, task TEXT NOT NULL, service TEXT NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL, -- canary, part
    state TEXT NOT NULL,      -- prepared, creating, submitted, done, dropped
    file_id TEXT, batch_id TEXT, requests INTEGER NOT NULL, status TEXT, created_at REAL NOT NULL);
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits are on disk when they return. Transactions are opened by hand."""
    with errors(path):
        connection = sqlite3.connect(path, isolation_level=None, timeout=WAIT_S, check_same_thread=False)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=OFF")  # a purge rewrites the whole file instead
    return connection


def refuse_emptied(path: Path) -> None:
    """Raise DataError for a file of 0 bytes beside runs that were made from it: taken for a new one, everything is paid again."""
    if not path.is_file() or path.stat().st_size:
        return
    wal = path.with_name(path.name + "-wal")
    run = (
        None
        if wal.is_file() and wal.stat().st_size
        else next(filter(_was_sent, path.parent.glob("*/*/run.json")), None)
    )
    if run is not None:
        raise DataError(
            f"{path}: empty, while runs such as {run.parent.name} beside it were made from its replies; restore a backup, "
            "or remove the file to pay for all replies again"
        )


def _was_sent(record: Path) -> bool:
    """Whether a run has replies: one that began a moment ago beside a store that another process is making has none."""
    try:
        told = json_text.parse(record.read_bytes())
    except ValueError:  # damaged: to be on the safe side
        return True
    return record.with_name("replies.parquet").is_file() or not isinstance(told, dict) or bool(told.get("spending"))


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file, or check that an old one is ours and not from the future."""
    with errors(path):
        connection.execute("BEGIN")  # one state of the file: another process may be making its tables meanwhile
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        ours = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        connection.execute("COMMIT")
        if tables and ours != APPLICATION_ID:
            raise UsageError(f"{path}: is an SQLite file of another program; choose another folder with --runs-dir")
        if version > SCHEMA_VERSION:
            raise UsageError(
                f"{path}: written by a newer version (store format {version}, this one reads {SCHEMA_VERSION}); upgrade cascade-threshold"
            )
        _choose_journal(connection, path)
        if tables:
            _upgrade(connection, version)
            return
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[
            0
        ]:  # another process may have been quicker
            for statement in SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Keep a write-ahead log. SQLite does not wait here for one that opens the same file in this moment, so this does."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if not str(error.sqlite_errorname).startswith("SQLITE_BUSY") or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _choose_journal(connection: sqlite3.Connection, path: Path) -> None:
    """A write-ahead log, whose index is shared memory, or on another machine's disk, where there is none, a rollback journal.

    Raises UsageError when a store that was moved there still has its log and is in use.
    """
    kind = network_kind(path.parent)
    if kind is None:
        _write_ahead(connection)
        return
    warnings.warn(
        f"{path}: on a network file system ({kind}), so it is kept without a write-ahead log, which is slower, and only one "
        "machine may use it at a time; a local --runs-dir is better",
        stacklevel=2,
    )
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # so that an old log is read without shared memory
    if connection.execute("PRAGMA journal_mode=TRUNCATE").fetchone()[0] != "truncate":
        raise UsageError(f"{path}: another process keeps the store busy; wait for it to end and try again")
    connection.execute("PRAGMA locking_mode=NORMAL")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # lets go of the lock


def apart(host: str, request_id: str) -> str:
    """The key of format 1 of a request that another server than Together's answered."""
    return f"{host}|{request_id}"


def _upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Bring a file of format 1 to this one: replies gain their cached tokens, and those of different servers are told apart."""
    if version == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] < SCHEMA_VERSION:  # nobody was quicker
        connection.execute("ALTER TABLE attempt ADD COLUMN cached_tokens INTEGER")
        connection.execute("INSERT OR REPLACE INTO fact VALUES (?, 'true')", [OLD_KEYS])
        connection.create_function("apart", 2, apart, deterministic=True)
        connection.create_function("named", 1, lambda host: service_name(f"https://{host}"), deterministic=True)
        # format 1 called every API "together": what other servers answered is set apart by the host that is noted beside it
        others = "service='together' AND host IS NOT NULL AND named(host) <> 'together'"
        mine = f"SELECT host FROM attempt WHERE attempt.request_id=used.request_id AND {others}"  # noqa: S608
        connection.execute(
            f"UPDATE used SET request_id=apart(({mine} LIMIT 1), request_id) WHERE EXISTS ({mine}) AND NOT EXISTS "  # noqa: S608
            "(SELECT 1 FROM attempt WHERE attempt.request_id=used.request_id AND host IS NOT NULL AND named(host)='together')"
        )
        connection.execute(f"UPDATE attempt SET request_id=apart(host, request_id), service=host WHERE {others}")  # noqa: S608
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, which say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translated(error, path) from None


def _translated(error: sqlite3.Error, path: Path) -> Exception:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL") or "disk is full" in str(error):
        return DiskFull(
            f"{path}: no space left to keep replies, so none is asked for; free some and run the same command again"
        )
    if name.startswith("SQLITE_IOERR"):
        return DiskFull(
            f"{path}: replies cannot be written ({error}); see whether the disk is full, then run the same command again"
        )
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return UsageError(f"{path}: cannot be written ({error}); choose another folder with --runs-dir")
    if name.startswith("SQLITE_BUSY"):
        return UsageError(f"{path}: another process keeps the store busy; wait for it to end and try again")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DataError(
            f"{path}: damaged ({error}); move it away and restore a backup, or save what is readable with `sqlite3 {path} .recover`"
        )
    return error
