"""A batch API on a real socket: files, batches, results, as WIRE describes them; `script` says how each batch ends.

    with FakeBatchApi(script=[complete(), expire(0.5)]) as api: ...

The script gives one ending to each batch in the order of submission, then every batch completes. Answers are those of
the fake chat API, in no particular order.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fake_provider import completion

Ending = Callable[[list[dict[str, Any]]], tuple[str, list[Any] | None, list[Any] | None]]
"""Input lines -> (status, output lines or None, error lines or None)."""


def answer(line: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": completion(line["body"])}}


def error(line: dict[str, Any], message: str = "internal error", code: Any = "500") -> dict[str, Any]:
    return {"custom_id": line["custom_id"], "error": {"message": message, "code": code}}


def complete(change: Callable[[list[Any]], list[Any]] | None = None) -> Ending:
    return lambda lines: ("COMPLETED", (change or (lambda out: out))([answer(x) for x in lines]), None)


def partly(status: str, share: float) -> Ending:
    """Ends in `status` with answers for a share of the lines, and nothing about the rest."""
    return lambda lines: (status, [answer(x) for x in lines[: int(len(lines) * share)]], None)


def errors_only(status: str = "FAILED", message: str = "internal error", code: Any = "500") -> Ending:
    return lambda lines: (status, None, [error(x, message, code) for x in lines])


def go_on() -> Ending:
    """Goes on until `release`."""
    return lambda lines: ("IN_PROGRESS", None, None)


@dataclass
class Job:
    id: str
    file_id: str
    polls: int = 0
    status: str = "VALIDATING"
    output: str | None = None
    errors: str | None = None
    listings: int = 0


@dataclass
class FakeBatchApi:
    script: list[Ending] = field(default_factory=list)
    polls: int = 1
    """Looks at a batch before it ends."""
    unlisted: int = 0
    """Listings that a new batch is missing from."""
    listed: Callable[[list[Any]], Any] = lambda jobs: jobs
    """The form in which batches are listed."""
    refuse: Callable[[str, str], int | None] = lambda method, path: None
    """(method, path) -> status to answer with instead."""
    instead: Callable[[str, str], tuple[bytes, dict[str, str]] | None] = lambda method, path: None
    """(method, path) -> body and headers to answer with instead; what was asked for is done all the same."""

    def __post_init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, Job] = {}
        self.submitted: list[list[str]] = []
        self.calls: list[tuple[str, str]] = []

    def __enter__(self) -> FakeBatchApi:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (self.handler(),), {"api": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handler(self) -> type[BatchHandler]:
        """The class that answers."""
        return BatchHandler

    def made(self, job: Job) -> None:
        """A batch was created."""
        self.jobs[job.id] = job
        self.submitted.append([line["custom_id"] for line in self.lines(job)])

    def lines(self, job: Job) -> list[dict[str, Any]]:
        """What a batch was asked."""
        return [json.loads(line) for line in self.files[job.file_id].splitlines()]

    def asked(self) -> int:
        """Requests submitted in all batches: what is paid at most."""
        return sum(len(ids) for ids in self.submitted)

    def release(self) -> None:
        """Let the batches that go on end after as many looks as any."""
        for job in self.jobs.values():
            if job.status == "IN_PROGRESS":
                job.status, job.polls = "VALIDATING", 0

    def end(self, job: Job) -> None:
        lines = self.lines(job)
        ending = self.script.pop(0) if self.script else complete()
        job.status, output, errors = ending(lines)
        random.Random(1).shuffle(output or [])
        for name, content in (("output", output), ("errors", errors)):
            if content is not None:
                file_id = f"file-{job.id}-{name}"
                self.files[file_id] = b"".join(
                    (x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in content
                )
                setattr(job, name, file_id)


class BatchHandler(BaseHTTPRequestHandler):
    api: FakeBatchApi

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        if (other := self.api.instead(self.command, self.path)) is not None:
            data, headers = other[0], {**(headers or {}), **other[1]}
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def handle_any(self) -> None:
        api = self.api
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        api.calls.append((self.command, self.path))
        status = api.refuse(self.command, self.path)
        if status is not None:
            self.reply(status, {"error": {"message": f"status {status}"}})
        elif (self.command, self.path) == ("POST", "/v1/files"):
            file_id = f"file-{len(api.files)}"
            self.reply(302, headers={"Location": f"{api.url}/upload/{file_id}", "X-Together-File-Id": file_id})
        elif self.command == "PUT":
            api.files[self.path.rpartition("/")[2]] = body
            self.reply(200)
        elif self.path.endswith("/preprocess"):
            file_id = self.path.split("/")[3]
            self.reply(
                200,
                {
                    "id": file_id,
                    "bytes": 1,
                    "created_at": 1,
                    "filename": "x.jsonl",
                    "FileType": "jsonl",
                    "object": "file",
                    "purpose": "batch-api",
                },
            )
        elif self.path.endswith("/content"):
            self.reply(200, api.files.get(self.path.split("/")[3], b""))
        elif (self.command, self.path) == ("POST", "/v1/batches"):
            job = Job(f"batch-{api.port}-{len(api.jobs)}", json.loads(body)["input_file_id"])
            api.made(job)
            self.reply(201, {"job": self.describe(job)})
        elif (self.command, self.path) == ("GET", "/v1/batches"):
            for job in api.jobs.values():
                job.listings += 1
            self.reply(200, api.listed([self.describe(j) for j in api.jobs.values() if j.listings > api.unlisted]))
        else:
            job = api.jobs[self.path.rpartition("/")[2]]
            job.polls += 1
            if job.status == "VALIDATING" and job.polls > api.polls:
                api.end(job)
            self.reply(200, self.describe(job))

    do_GET = do_POST = do_PUT = handle_any

    def describe(self, job: Job) -> dict[str, Any]:
        return {
            "id": job.id,
            "status": job.status,
            "input_file_id": job.file_id,
            "output_file_id": job.output,
            "error_file_id": job.errors,
            "progress": 50.0,
        }
