"""BatchRecord: what the results of one batch say of its requests, kept in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pipeline.collect.providers import batch_result
from pipeline.collect.providers.provider import Attempt
from pipeline.collect.providers.together_batch import TogetherBatch
from pipeline.collect.sending.response_class import Action, Outcome, judge
from pipeline.collect.sending.result_files import ResultFiles
from pipeline.collect.store.response_store import ResponseStore, Row, chunks, ending
from pipeline.redact import redact_bytes


@dataclass
class BatchRecord:
    """How the requests of a batch ended."""

    outcomes: list[tuple[str, Outcome]] = field(default_factory=list)
    """By request; one that has an answer after an error has both, in this order."""
    troubles: Counter[str] = field(default_factory=Counter)
    """Lines that are of no use, by reason."""
    maybe_paid: int = 0
    """Requests without a result that may have been paid for."""


def write(
    store: ResponseStore,
    provider: TogetherBatch,
    number: int,
    rows: Mapping[str, Row],
    files: ResultFiles,
    next_number: Callable[[], int],
) -> BatchRecord:
    """Keep all that came of a batch, whose open requests are `rows` by their ids, and close it. Raises DiskFull, with nothing kept."""
    found = BatchRecord()

    def note() -> None:
        nonlocal found
        found = BatchRecord()  # where the disk is full, all of it is noted again in the room that was set aside
        reading = _Reading(provider, rows, next_number, found)
        for path in files.paths:
            for chunk in chunks(batch_result.lines(path), 400):
                store.note((), [row for row in map(reading.ended, chunk) if row is not None])
        for request_id in rows.keys() - reading.answered.keys():
            store.note((), [reading.missing(request_id, files)])
        store.apply("UPDATE batch SET state='done', status=? WHERE number=?", [files.batch.status, number])

    store.durably(note)
    return found


@dataclass
class _Reading:
    provider: TogetherBatch
    rows: Mapping[str, Row]
    next_number: Callable[[], int]
    found: BatchRecord
    answered: dict[str, bool] = field(default_factory=dict)
    """Requests that have a line, and whether it is an answer."""
    unnamed: int = 0
    """Lines that do not tell whose they are: each may be the paid answer to any request that has none."""

    def ended(self, line: bytes) -> Row | None:
        """The record of one result line; None for a line that was not asked for, or that repeats another."""
        custom_id, status, body = batch_result.read(line)
        row = self.rows.get(custom_id or "")
        if custom_id is None or row is None:
            self.unnamed += custom_id is None
            self.found.troubles["batch_unknown_line"] += 1
            return None
        if custom_id in self.answered:
            self.found.troubles["batch_duplicate_line"] += 1
            if self.answered[custom_id] or status != 200:
                return None
            row = (self.next_number(), *row[1:])  # an answer after an error: both are recorded, and the answer counts
        failed = not 200 <= status < 300
        body = redact_bytes(body, self.provider.secret, patterns=failed)
        attempt = Attempt("reply", status, body, wire_form="batch", host=self.provider.host)
        outcome = judge(attempt)
        if failed and self.provider.change(row[6], status, body):
            outcome = Outcome(Action.AGAIN, "http_error", "other_form", outcome.message)
        self.answered[custom_id] = outcome.state == "ok"
        self.found.outcomes.append((custom_id, outcome))
        return ending(row, attempt, outcome)

    def missing(self, request_id: str, files: ResultFiles) -> Row:
        """The record of a request without a line."""
        maybe_paid = files.lost or self.unnamed > 0
        reason = f"batch_{files.batch.status.lower()}"
        if maybe_paid:
            reason = "batch_lost" if files.lost else "batch_unnamed_line"
        state = "unknown" if maybe_paid else "not_sent"
        outcome = Outcome(Action.RETRY, state, reason, files.batch.error or "in neither result file")
        self.found.outcomes.append((request_id, outcome))
        self.found.maybe_paid += maybe_paid
        return ending(self.rows[request_id], Attempt(state, host=self.provider.host, wire_form="batch"), outcome)
