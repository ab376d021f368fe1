"""Random bytes into the readers of foreign text, guided by coverage, for as many seconds as said (default 60 in all).

    make fuzz                               the second half of it
    python scripts/fuzz_bytes.py 600        ten minutes

Needs atheris, which has wheels for some systems only and is therefore in no lock: pip install atheris. Without it this says so
and ends with 0. An error that a reader does not document stops the run with the bytes that led to it in crash-*.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import subprocess
import sys
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

READERS = ("json", "yaml", "completion", "policy", "log", "recorded", "batch", "jsonl", "csv", "parquet", "gzip")


BODY = (
    b'{"id": "x", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", '
    b'"content": "spam"}, "logprobs": {"content": [{"token": "spam", "bytes": [115], "logprob": -0.1, "top_logprobs": []}]}}], "usage": '
    b'{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}'
)
LINE = b'{"custom_id": "r0", "response": {"status_code": 200, "body": ' + BODY + b"}}"
DECISION = (
    b'{"action": "accept", "confidence": 0.97, "answer": "spam", "label": "spam", "time": "2026-11-22T10:00:00Z"}'
)


def starts(name: str) -> list[bytes]:
    """Valid input of a reader, which the fuzzer begins with."""
    out = io.BytesIO()
    pq.write_table(
        pa.table({"id": ["a", "b"], "text": ["x", None], "label": pa.array(["s", "h"]).dictionary_encode()}), out
    )
    found: dict[str, list[bytes]] = {
        "json": [BODY],
        "yaml": [b"task: a\nlabels: [a, 'b']\nx: &a {y: 1.5, z: *a2}\nd: 2026-11-22\n"],
        "completion": [BODY],
        "policy": [b'{"schema": "cascade-policy/1", "threshold": 0.9}'],
        "recorded": [LINE],
        "batch": [LINE.replace(b"r0", b"0" * 64)],
        "log": [
            DECISION,
            b"INFO " + DECISION,
            b"action=accept confidence=0.9",
            b"{'action': 'accept'}",
            b"action,confidence\naccept,0.9",
        ],
        "jsonl": [b'{"id": "a", "text": "x", "label": "s"}\n' * 2],
        "csv": [b'id,text,label\na,"x\ny",s\n'],
        "parquet": [out.getvalue()],
        "gzip": [gzip.compress(BODY), zlib.compress(BODY)],
    }
    return found[name]


def reader(name: str, folder: str) -> Callable[[bytes], Any]:
    """A function of bytes that raises only what the reader documents, which is caught here. `folder`: for tables."""
    from cascade_threshold import completion, json_text, policy_schema
    from cascade_threshold.errors import CascadeError
    from pipeline.collect.data.table_reader import TableFile
    from pipeline.collect.providers import batch_result, bounded, recorded
    from pipeline.collect.sending.response_class import judge_body
    from pipeline.config import yaml_text
    from pipeline.deliver.monitoring import log_record

    def lines(data: bytes) -> Iterable[str]:
        return data.decode("utf-8", "replace").splitlines()

    def table(suffix: str) -> Callable[[bytes], Any]:
        def rows(data: bytes) -> Any:
            path = Path(folder) / f"table{suffix}"
            path.write_bytes(data)
            return list(TableFile(str(path), delimiters="" if suffix == ".jsonl" else ";\t|").rows())

        return rows

    def unpacked(data: bytes) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            for start in range(1, len(data), 7):
                yield data[start : start + 7]

        return asyncio.run(bounded.read(parts(), "gzip" if data[:1] < b"\x80" else "deflate", 100_000))

    def kept(data: bytes) -> Any:
        found = completion.parse(data)
        try:
            value = json_text.parse(data)
        except json_text.JsonError:
            return
        if judge_body(value, "").state == "ok" and found.problem in completion.UNREADABLE:
            raise AssertionError(f"kept as a reply, and {found.problem}")

    read: dict[str, Callable[[bytes], Any]] = {
        "json": json_text.parse,
        "yaml": lambda data: yaml_text.plain(yaml_text.read(data.decode("utf-8", "replace"), "config")),
        "completion": kept,
        "batch": batch_result.read,
        "gzip": unpacked,
        **{suffix[1:]: table(suffix) for suffix in (".jsonl", ".csv", ".parquet")},
        "policy": lambda data: policy_schema.checked(json_text.parse(data)),
        "log": lambda data: list(log_record.records(lines(data))),
        "recorded": recorded.parsed,
    }
    documented = {
        "json": (json_text.JsonError,),
        "policy": (json_text.JsonError, CascadeError),
        **dict.fromkeys(("yaml", "jsonl", "csv", "parquet"), (CascadeError,)),
        "gzip": (zlib.error, bounded.TooLargeError),
    }

    def one(data: bytes) -> None:
        try:
            read[name](data)
        except documented.get(name, ()):
            pass

    return one


def main() -> int:
    """All readers one after the other, each in a process of its own, since the fuzzer never returns."""
    try:
        import atheris
    except ImportError:
        print("fuzz_bytes: atheris is not installed (pip install atheris); coverage-guided bytes are left out")
        return 0
    if len(sys.argv) > 2:
        name, seconds = sys.argv[1:]
        with atheris.instrument_imports(include=["cascade_threshold", "pipeline", "ruamel"]):
            one = reader(name, tempfile.mkdtemp())
        corpus = Path(tempfile.mkdtemp())
        for number, content in enumerate(starts(name)):
            (corpus / str(number)).write_bytes(content)
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", "-verbosity=0", str(corpus)], one)
        atheris.Fuzz()
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    for name in READERS:
        done = subprocess.run([sys.executable, __file__, name, str(max(1, seconds // len(READERS)))], check=False)
        print(
            f"fuzz_bytes: {name}: {'no undocumented error' if done.returncode == 0 else f'exit {done.returncode}'}",
            flush=True,
        )
        if done.returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
