"""Processes of ours without the seconds that importing costs: one process imports everything and forks on request.

    with Zygote() as zygote:
        process = zygote.start(["sender.py", ...] or ["pipeline", "collect", ...], environment)
        process.kill(); process.wait()

It stands for `python tests/sender.py ...` and `python -m pipeline ...`; `poll`, `kill`, `send_signal`, `communicate` and
`returncode` are those of subprocess.Popen.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Forked:
    """A forked process, in the manner of subprocess.Popen."""

    def __init__(self, zygote: Zygote, pid: int, out: Path, err: Path) -> None:
        self.zygote, self.pid, self.out, self.err = zygote, pid, out, err
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.zygote.ask({"poll": self.pid})["code"]
        return self.returncode

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("forked process", timeout)
            time.sleep(0.005)
        return self.out.read_text(), self.err.read_text()

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class Zygote:
    """The process that forks."""

    def __enter__(self) -> Zygote:
        self.folder = tempfile.TemporaryDirectory()
        self.count = 0
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        self.folder.cleanup()

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, words: list[str], environment: dict[str, str]) -> Forked:
        self.count += 1
        out, err = (Path(self.folder.name) / f"{self.count}.{name}" for name in ("out", "err"))
        answer = self.ask({"start": words, "environment": environment, "out": str(out), "err": str(err)})
        return Forked(self, answer["pid"], out, err)


def die_writing(point: str, artefact: str) -> None:
    """Die with SIGKILL while an artefact is written ("write"), or when it is whole but not yet in its place ("rename")."""
    import pyarrow.parquet as pq

    replace, write = Path.replace, pq.ParquetWriter.write_table

    def dying_replace(self: Path, target: Path) -> Path:
        if Path(target).name == artefact:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    def dying_write(self: pq.ParquetWriter, table: Any, *args: Any, **options: Any) -> None:
        write(self, table, *args, **options)
        if artefact in str(self.where):
            os.kill(os.getpid(), signal.SIGKILL)

    if point == "rename":
        Path.replace = dying_replace  # type: ignore[method-assign]
    else:
        pq.ParquetWriter.write_table = dying_write


def hurry() -> None:
    """Wait for nothing as long as usual: of the batch API, its polls, its silence and the SDK's retries."""
    from together import AsyncTogether

    from pipeline.collect.providers import together_batch
    from pipeline.collect.sending.batch_sender import send_batches

    together_batch.READ_TIMEOUT_S = 0.3  # type: ignore[attr-defined]
    (send_batches.__kwdefaults__ or {}).update(poll=0.002, looks=(0.0, 0.0, 0.0))
    AsyncTogether._calculate_retry_timeout = lambda *_, **__: 0.002  # type: ignore[method-assign,assignment]


def become(message: dict[str, Any]) -> None:
    """In the fork: run the command and leave with its exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    with contextlib.suppress(BaseException):
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(message[name], os.O_WRONLY | os.O_CREAT), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(message["environment"])
    code = 1
    try:
        import sender

        words = message["start"]
        if words[0] == "sender.py":
            code = sender.main(*words[1:])
        else:
            from pipeline.__main__ import main

            if os.environ.get("HURRIED"):
                hurry()
            point, _, which = os.environ.get("DIE_AT", "").partition(":")
            if which.isdigit():
                sender.die_at(point, int(which))
            elif point:
                die_writing(point, which)
            code = main(words[1:])
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Import everything, then fork on request. No thread is ever started here."""
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    import sender  # noqa: F401

    import pipeline.collect.providers.together_batch
    import pipeline.commands
    import pipeline.deliver.report.figures
    import pipeline.stages  # noqa: F401
    from pipeline.run.libraries import LATER

    sdk = ("together.resources", "together.pagination", "httpcore", "h11", "anyio._backends._asyncio", "certifi")
    for name in (*LATER, *sdk, "pyarrow.pandas_compat"):
        import_module(name)
    gc.freeze()  # what is here stays, and is not gone through in each fork

    for line in sys.stdin:
        message = json.loads(line)
        if "start" in message:
            pid = os.fork()
            if pid == 0:
                become(message)
            answer: dict[str, Any] = {"pid": pid}
        else:
            done, status = os.waitpid(message["poll"], os.WNOHANG)
            answer = {"code": os.waitstatus_to_exitcode(status) if done else None}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
