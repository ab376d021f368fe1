"""Random bytes into the readers of foreign text, guided by coverage, for as many seconds as said (default 60 in all).

    make fuzz                               the second half of it
    python scripts/fuzz_bytes.py 600        ten minutes

Needs atheris, which has wheels for some systems only and is therefore in no lock: pip install atheris. Without it this says so
and ends with 0. An error that a reader does not document stops the run with the bytes that led to it in crash-*.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

READERS = ("json", "yaml", "completion", "policy", "log", "recorded")


def reader(name: str) -> Callable[[bytes], Any]:
    """A function of bytes that raises only what the reader documents, which is caught here."""
    from cascade_threshold import completion, json_text, policy_schema
    from cascade_threshold.errors import CascadeError
    from pipeline.collect.providers import recorded
    from pipeline.config import yaml_text
    from pipeline.deliver.monitoring import log_record

    def lines(data: bytes) -> Iterable[str]:
        return data.decode("utf-8", "replace").splitlines()

    read: dict[str, Callable[[bytes], Any]] = {
        "json": json_text.parse,
        "yaml": lambda data: yaml_text.plain(yaml_text.read(data.decode("utf-8", "replace"), "config")),
        "completion": completion.parse,
        "policy": lambda data: policy_schema.checked(json_text.parse(data)),
        "log": lambda data: list(log_record.records(lines(data))),
        "recorded": recorded.parsed,
    }
    documented = {
        "json": (json_text.JsonError,),
        "policy": (json_text.JsonError, CascadeError),
        "yaml": (CascadeError,),
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
            one = reader(name)
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", "-verbosity=0"], one)
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
