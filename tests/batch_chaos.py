"""A batch API at which anything may go wrong, drawn by seed, and a client that is killed again and again: what is kept, what is paid twice?

    with Zygote() as zygote:
        found = chaos(folder, seed, zygote)

Every call may be refused, stall, get no answer, half an answer or a web page instead, before or after it is carried out;
batches end in any state, with lines that fail, are broken, repeat, come from elsewhere or are missing, or are gone; and
the client is killed at calls and at commits. The service itself records what it was asked and what came of it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import signal
import sqlite3
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artefact_values import artefacts
from fake_batch import BatchHandler, FakeBatchApi, Job, answer, error
from fault_run import FaultRun, artefacts_match_their_schemas, no_canary, rows_are_accounted_for
from zygote import Forked, Zygote

BATCH = ("--quiet", "--provider", "together-batch")
ROWS = 24
ROLES = 2
STARTS = 80
"""Starts of the command after which it should long have been through."""
REMEDY = re.compile(r"same command|--resend-lost|check |see the account|look at it|add credit")
INVALID: tuple[dict[str, Any], ...] = (
    {"error": {"message": "upstream"}, "choices": []},
    {"choices": [{"index": 0, "finish_reason": "error", "message": {"role": "assistant", "content": "spam"}}]},
)
OTHER = {
    "page": b"<!DOCTYPE html><html>Bad gateway</html>",
    "nothing": b"",
    "null": b"null",
    "error": b'{"error": {"message": "try later"}}',
}

EARLY = ("kill", "lost", "stall", "401", "403", "408", "429", "500", "503")
LATE = ("late kill", "late lost", "late stall", "late 500", "late 502")
OTHERWISE = ("cut", "short", "open end", "gzip cut", "page", "nothing", "error")
AT = {
    "upload": (*EARLY, *LATE, *OTHERWISE),
    "create": (*EARLY, "402", *LATE, *LATE, *OTHERWISE),
    "list": (*EARLY, *LATE, *OTHERWISE),
    "status": (*EARLY, *LATE, *OTHERWISE, "null", "no files", "no files"),
    "download": (*EARLY, *LATE, *OTHERWISE, *OTHERWISE, *OTHERWISE, "tail", "tail", "gzip"),
}
"""What may happen at a call: before it is carried out, or late, after it; or the answer is another. "short" and "open end": a
part of it that says, or may seem, to be all."""
LASTING = ("lost", "408", "429", "500", "503", "late lost")
SDK_TRIES = 5


@dataclass
class Submission:
    """A request in a batch, and what came of it."""

    batch: str
    fate: str = "going"
    """going, answered, error, invalid, broken, missing; gone: its result is there no more; given up: and a client with the word knows."""
    answers: list[str] = field(default_factory=list)
    """Ids of the completions in its result lines."""


@dataclass
class ChaosBatchApi(FakeBatchApi):
    """`faults`: calls that may go wrong; then all goes well."""

    seed: int = 0
    faults: int = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chance = random.Random(self.seed)
        self.turn = threading.RLock()
        self.client: int | None = None
        self.word = False
        """Whether the client that runs may ask again what is lost."""
        self.record: dict[str, list[Submission]] = {}
        self.twice: Counter[str] = Counter()
        """Why requests were submitted again."""
        self.broken: list[str] = []
        """Where the promise was broken."""
        self.hurt: Counter[str] = Counter()
        self.gone: dict[str, Job] = {}
        """What is there no more, by its id."""
        self.burst: tuple[str, str, int] = ("", "", 0)

    def handler(self) -> type[BatchHandler]:
        return ChaosHandler

    def calm(self) -> None:
        """Nothing goes wrong from here on, and nothing is recorded."""
        self.faults, self.unlisted, self.record = 0, 0, {}

    # What goes wrong

    def draw(self, call: str) -> str:
        """What happens at a call; "" is nothing."""
        what, at, left = self.burst
        if left and at == call:
            self.burst = what, at, left - 1
        elif self.faults <= 0 or self.chance.random() > 0.2:
            return ""
        else:
            what = self.chance.choice(AT[call])
            lasting = what in LASTING and self.chance.random() < 0.5
            self.burst = what, call, SDK_TRIES - 1 if lasting else 0
        self.faults -= 1
        self.hurt[f"{call} {what}"] += 1
        return what

    def kill(self) -> None:
        while self.client is None:  # it is just being started
            pass
        os.kill(self.client, signal.SIGKILL)

    # What is asked

    def made(self, job: Job) -> None:
        super().made(job)
        self.unlisted = self.chance.randint(0, 2) if self.faults > 0 else 0
        job.polls = -self.chance.randint(0, 2)
        for custom_id in self.submitted[-1]:
            earlier = self.record.setdefault(custom_id, [])
            for one in earlier:
                if one.fate in ("going", "answered", "gone"):
                    self.broken.append(f"{custom_id[:8]} of {one.batch}, {one.fate}, is submitted again in {job.id}")
            if earlier:
                self.twice[earlier[-1].fate] += 1
            earlier.append(Submission(job.id))

    # What comes of it

    def end(self, job: Job) -> None:
        chance, lines = self.chance, self.lines(job)
        mine = {line["custom_id"]: self.record.get(line["custom_id"], [Submission(job.id)])[-1] for line in lines}
        torn = self.faults > 0 and chance.random() < 0.5
        out, errors = [], []
        for line in lines:
            fate = chance.choices(("answered", "error", "invalid", "broken", "missing"), (15, 1, 1, 1, 2))[0]
            fate = fate if torn else "answered"
            good = answer(line)
            good["response"]["body"]["id"] = f"{job.id}-{len(out)}"
            mine[line["custom_id"]].fate = fate
            if fate == "answered":
                mine[line["custom_id"]].answers.append(good["response"]["body"]["id"])
                out.append(good)
                if torn and chance.random() < 0.1:
                    out.append(chance.choice([good, error(line)]))
            elif fate == "error":
                (out if chance.random() < 0.3 else errors).append(
                    error(line, code=chance.choice(["500", 429, 503, None]))
                )
            elif fate == "invalid":
                good["response"]["body"].update(chance.choice(INVALID))
                out.append(good)
            elif fate == "broken":
                data = json.dumps(good).encode()
                out.append(data[: chance.randrange(1, len(data) - 1)])
        if torn:
            foreign = {"custom_id": f"{chance.getrandbits(256):064x}", "response": answer(lines[0])["response"]}
            out += chance.choice([[], [foreign], [b"[]", b"{}", b"\xff\xfe"], [foreign, b"7"]])
        chance.shuffle(out)
        job.status = chance.choice(["COMPLETED", "EXPIRED", "FAILED", "CANCELLED"]) if torn else "COMPLETED"
        for name, content in (("output", out), ("errors", errors)):
            if content:
                self.files[f"file-{job.id}-{name}"] = written(content)
                setattr(job, name, f"file-{job.id}-{name}")
        self.lose(job, mine)

    def lose(self, job: Job, mine: dict[str, Submission]) -> None:
        """One batch in twelve, or one of its files, is there no more."""
        if self.faults <= 0 or self.chance.random() > 1 / 12:
            return
        self.faults -= 1
        self.hurt["gone"] += 1
        what = self.chance.choice([name for name in (job.id, job.output, job.errors) if name])
        whole = what == job.id
        self.gone |= {name: job for name in (job.id, job.output, job.errors) if name and (whole or name == what)}
        for one in mine.values():
            if whole or (one.fate == "answered") == (what == job.output):
                one.fate = "gone"

    def refused(self, path: str) -> bool:
        """Whether something is asked for that is there no more; a client that was told so may give it up if it has the word."""
        for name, job in self.gone.items():
            if name in path.split("/"):
                for one in self.of(job):
                    one.fate = "given up" if one.fate == "gone" and self.word else one.fate
                return True
        return False

    def of(self, job: Job) -> Iterator[Submission]:
        """The requests of a batch."""
        for submissions in self.record.values():
            yield from (one for one in submissions if one.batch == job.id)


def written(content: list[Any]) -> bytes:
    return b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in content)


class ChaosHandler(BatchHandler):
    api: ChaosBatchApi
    answered: tuple[int, bytes, dict[str, str]] | None = None

    def call(self) -> str:
        if self.path == "/v1/batches":
            return "create" if self.command == "POST" else "list"
        if self.path.endswith("/content"):
            return "download"
        return "status" if "/v1/batches/" in self.path else "upload"

    def reply(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        self.answered = status, data, headers or {}

    def send(self, status: int, data: bytes, headers: dict[str, str], length: int | None = -1) -> None:
        self.send_response(status)
        lengths = {} if length is None else {"Content-Length": str(len(data) if length < 0 else length)}
        for name, value in {"Content-Type": "application/json", **lengths, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def handle_any(self) -> None:
        self.rfile = io.BytesIO(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        with self.api.turn:
            call = self.call()
            what = self.api.draw(call)
            if what not in (*EARLY, "402"):
                if self.api.refused(self.path):
                    self.reply(self.api.chance.choice([404, 410]), {"error": {"message": "no such thing"}})
                else:
                    super().handle_any()
            if what.endswith("kill"):
                self.api.kill()
        with suppress(BrokenPipeError, ConnectionResetError):
            self.spoilt(what)

    do_GET = do_POST = do_PUT = handle_any

    def spoilt(self, what: str) -> None:
        """Answer, or do not."""
        status, data, headers = self.answered or (0, b"", {})
        kind = what.removeprefix("late ")
        if kind in ("kill", "lost"):
            return
        if kind == "stall":
            self.connection.settimeout(20)
            self.connection.recv(1)  # until the client gives up
        elif kind.isdigit():
            self.send(int(kind), json.dumps({"error": {"message": f"status {kind}"}}).encode(), {})
        elif not what or status >= 300:
            self.send(status, data, headers)
        elif kind == "cut":
            self.send(status, data[: len(data) // 2], headers, len(data))
        elif kind == "short":
            self.send(status, data[: len(data) // 2], headers)
        elif kind == "tail":
            self.send(status, data[:-20], headers)
        elif kind == "open end":
            self.send(status, data[: len(data) // 3], headers, None)
        elif kind in ("gzip", "gzip cut"):
            packed = gzip.compress(data)
            packed = packed[: len(packed) * 2 // 3] if kind == "gzip cut" else packed
            self.send(status, packed, headers | {"Content-Encoding": "gzip"})
        elif kind == "no files":
            told = json.loads(data) | {"output_file_id": None, "error_file_id": None}
            self.send(status, json.dumps(told).encode(), headers)
        else:
            form = "text/html" if kind in ("page", "nothing") else "application/json"
            self.send(status, OTHER[kind], headers | {"Content-Type": form})


@dataclass
class Chaos:
    """What a seed came to."""

    starts: int
    kills: int
    stops: Counter[str]
    hurt: Counter[str]
    twice: Counter[str]
    """Requests that were submitted again, by what had come of them before."""
    different: list[str]
    """Artefacts that are not those of a run that nothing disturbed."""


def start(zygote: Zygote, run: FaultRun, api: ChaosBatchApi, *options: str, **environ: str) -> Forked:
    api.client, api.word = None, "--resend-lost" in options
    process = zygote.start(
        ["pipeline", *run.words("collect", *BATCH, *options)], run.environment(api) | {"HURRIED": "1"} | environ
    )
    api.client = process.pid
    return process


def chaos(folder: Path, seed: int, zygote: Zygote, faults: int = 15) -> Chaos:
    """Collect with everything going wrong that the seed says. Raises AssertionError where the promise does not hold."""
    run, chance = small(folder / "project"), random.Random(f"client {seed}")
    stops: Counter[str] = Counter()
    starts, kills, words, through = 0, 0, (), False
    with ChaosBatchApi(seed=seed, faults=faults) as api:
        while not through:
            starts += 1
            assert starts <= STARTS, (stops, api.hurt)
            point, count = chance.choice(["before_commit", "after_commit"]), chance.randint(1, 12)
            dying = {"DIE_AT": f"{point}:{count}"} if api.faults > 0 and chance.random() < 0.3 else {}
            process = start(zygote, run, api, *words, **dying)
            out, err = process.communicate()
            assert "Traceback" not in out + err, err
            assert not api.broken, (api.broken, err, api.hurt)
            words, through = (), process.returncode == 0 and len(kept(run)) == ROWS * ROLES
            if process.returncode == -signal.SIGKILL:
                kills += 1
            elif process.returncode:
                assert process.returncode in (2, 3), err
                assert REMEDY.search(err), err
                stops[re.sub(r"[\d.]+", "#", err.strip())[:90]] += 1
                words = ("--resend-lost",) if "--resend-lost" in err else ()
                if "may have been submitted" in err and chance.random() < 0.5:
                    an_hour_passes(run)
        replies_are_those_of_the_service(run, api)
        rows_are_accounted_for(run)
        artefacts_match_their_schemas(run.folder)
        no_canary(run.folder)
        asked = api.asked()
        again = start(zygote, run, api)
        assert (again.communicate()[1], again.returncode, api.asked()) == ("", 0, asked), "once more sends nothing"
        api.calm()
        calm = small(folder / "calm")
        process = start(zygote, calm, api)
        assert (process.communicate()[1], process.returncode) == ("", 0)
        disturbed = dict(artefacts(run.run_folder))
        different = [name for name, value in artefacts(calm.run_folder) if disturbed[name] != value]
        return Chaos(starts, kills, stops, api.hurt, api.twice, different)


def small(folder: Path) -> FaultRun:
    return FaultRun(folder, rows=ROWS, settings="max_failure_rate: 0.999\nmax_unreadable: 1\n")


def kept(run: FaultRun) -> dict[str, str]:
    """Request id -> the completion that is kept, read past all our own code."""
    if not run.store.exists():
        return {}
    try:
        found = run.attempts("state='ok'")
    except sqlite3.OperationalError:  # killed before the tables were there
        return {}
    ids = [(request_id, json.loads(zlib.decompress(body))["id"]) for _, _, request_id, body in found]
    assert len(ids) == len(dict(ids)), "one reply for each request"
    return dict(ids)


def replies_are_those_of_the_service(run: FaultRun, api: ChaosBatchApi) -> None:
    replies = kept(run)
    assert replies.keys() == api.record.keys()
    for request_id, submissions in api.record.items():
        made = [answer for one in submissions if one.fate == "answered" for answer in one.answers]
        assert made == [replies[request_id]], (request_id, submissions)


def an_hour_passes(run: FaultRun) -> None:
    with closing(sqlite3.connect(run.store)) as direct, direct:
        direct.execute("UPDATE batch SET created_at=created_at-3600")
