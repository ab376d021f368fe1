"""Break the code on purpose, one line at a time, and see that the named tests notice.

    python scripts/mutants.py              # every mutation of tests/mutants.toml
    python scripts/mutants.py looks        # those whose name contains a word

A mutation replaces a text that occurs exactly once in a file of a copy of the project; the tests named beside it must then
fail. One that survives, one whose text is no longer there, and one whose tests already fail without it end with exit code 1.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tests" / "mutants.toml"
COPIED = ("cascade_threshold", "pipeline", "tests", "configs", "datasets", "pyproject.toml", "docs", "README.md")
NO_TEST = 5  # pytest's exit code where nothing was collected


class Mutation(NamedTuple):
    """One change and the tests that must fail on it."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]


def mutations(word: str) -> list[Mutation]:
    """The list, in its order; only names with a word in them where one is given."""
    with LIST.open("rb") as handle:
        entries: list[dict[str, Any]] = tomllib.load(handle)["mutation"]
    return [found for entry in entries if word in (found := Mutation(**entry)).name]


def copy_of_the_project(folder: Path) -> Path:
    """What the tests need, in a folder of its own."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


def tests_pass(folder: Path, tests: list[str]) -> bool | None:
    """Whether the tests pass in a copy; None where none was collected."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *tests],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == NO_TEST else done.returncode == 0


def tried(folder: Path, mutation: Mutation, sound: dict[tuple[str, ...], bool | None]) -> str:
    """What became of a mutation: killed, or why not. `sound`: whether tests pass in the unbroken project, as far as known."""
    path = folder / mutation.file
    text = path.read_text("utf-8")
    if text.count(mutation.old) != 1:
        return f"STALE: {mutation.old!r} occurs {text.count(mutation.old)} times in {mutation.file}"
    tests = tuple(mutation.tests)
    if tests not in sound:
        sound[tests] = tests_pass(folder, mutation.tests)
    if (before := sound[tests]) is not True:
        return "BROKEN: its tests fail without it" if before is False else "BROKEN: it names no test"
    path.write_text(text.replace(mutation.old, mutation.new), "utf-8")
    try:
        return "SURVIVED" if tests_pass(folder, mutation.tests) else "killed"
    finally:
        path.write_text(text, "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("word", nargs="?", default="", help="only mutations whose name contains it")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    todo, alive = mutations(arguments.word), 0
    sound: dict[tuple[str, ...], bool | None] = {}
    with tempfile.TemporaryDirectory() as scratch:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(arguments.workers):
            copies.put(copy_of_the_project(Path(scratch) / str(number)))

        def one(mutation: Mutation) -> str:
            folder = copies.get()
            try:
                return tried(folder, mutation, sound)
            finally:
                copies.put(folder)

        with ThreadPoolExecutor(arguments.workers) as threads:
            for mutation, fate in zip(todo, threads.map(one, todo), strict=True):
                alive += fate != "killed"
                print(f"{fate:9} {mutation.name}", flush=True)
    print(f"{len(todo)} mutations, {alive} not killed")
    return 1 if alive or not todo else 0


if __name__ == "__main__":
    sys.exit(main())
