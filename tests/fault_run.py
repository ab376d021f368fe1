"""A small task of the real command line against the fake service, and what must hold after any run of it.

run = FaultRun(folder)                     # a config for two models at the fake service, and its rows
with FakeProvider(...) as api:
    assert run(api, "collect").code == 4   # in process: the real arguments, exit codes, files
    invariants(run, api)
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asking import KEY
from fake_provider import FakeProvider, label_of

import cascade_threshold
from pipeline import deliver
from pipeline.__main__ import main
from pipeline.collect.sending import sender
from pipeline.run import schemas
from pipeline.run.directory import sealed

ROWS = 60
PRICE = '{input: 1, output: 2, as_of: 2026-11-22, source: "made up"}'
PINNED = {
    "tokens.parquet": schemas.TOKENS,
    "replies.parquet": schemas.REPLIES,
    "graded.parquet": schemas.GRADED,
    "predictions.parquet": schemas.PREDICTIONS,
}
SCHEMAS = {
    "policy.json": Path(cascade_threshold.__file__).parent / "schemas" / "policy.schema.json",
    "report.json": Path(deliver.__file__).parent / "report" / "schemas" / "report.schema.json",
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class FaultRun:
    """One task in a folder of its own; its rows are "mail 0." to "mail 59.", its label mostly the model's answer."""

    def __init__(self, folder: Path, task: str = "faulty", rows: int = ROWS, settings: str = "") -> None:
        self.folder, self.task, self.rows = folder, task, rows
        self.deadline = 30.0
        """Seconds that one attempt may take."""
        self.config, self.dataset = folder / f"{task}.yaml", folder / f"{task}.jsonl"
        self.runs, self.reports = folder / "runs", folder / "reports"
        folder.mkdir(parents=True, exist_ok=True)
        self.write_rows(
            [{"id": f"m{i}", "text": f"mail {i}.", "label": label_of(f"mail {i}.")[0]} for i in range(rows)]
        )
        self.write_config(settings)

    def write_rows(self, rows: list[Mapping[str, Any]]) -> None:
        self.rows = len(rows)
        self.dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def write_config(self, settings: str = "", provider: str = "together") -> None:
        model = f"usd_per_million_tokens: {PRICE}, params: {{temperature: 0, max_tokens: 8}}"
        self.config.write_text(
            f"task: {self.task}\nkind: classify\ndataset: {{path: {self.dataset.name}, id: id, label: label}}\nlabels: [work, personal, spam, other]\n"
            f'prompt: {{system: "For {self.task}.", user: "{{text}}"}}\nprovider: {provider}\n'
            f"cheap: {{model: small, top_logprobs: 4, {model}}}\nstrong: {{model: large, {model}}}\n"
            f"target: {{kind: match_strong, within: 0.1}}\n{settings}"
        )

    def words(self, command: str, *options: str) -> list[str]:
        pages = [] if command == "purge" else ["--reports-dir", str(self.reports)]
        return [command, str(self.config), "--runs-dir", str(self.runs), *pages, *options]

    def __call__(self, api: Any, command: str, *options: str, **environ: str) -> Ended:
        """Run a command in this process, against `api` (anything with a `url`, or an address)."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TOGETHER_API_KEY", KEY)
            patch.setenv("TOGETHER_BASE_URL", api if isinstance(api, str) else api.url)
            for name, value in environ.items():
                patch.setenv(name, value)
            for name, value in {"backoff": 0.01, "deadline": self.deadline}.items():
                patch.setitem(sender.send_roles.__kwdefaults__, name, value)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(self.words(command, "--quiet", *options))
        return Ended(code, out.getvalue(), err.getvalue())

    def environment(self, api: Any) -> dict[str, str]:
        """What a process of its own needs."""
        here = Path(__file__).parent.parent
        return {**os.environ, "TOGETHER_API_KEY": KEY, "TOGETHER_BASE_URL": api.url, "PYTHONPATH": str(here)}

    @property
    def store(self) -> Path:
        return self.runs / "responses.sqlite"

    @property
    def run_folder(self) -> Path:
        (found,) = self.runs.glob(f"{self.task}/*/run.json")
        return found.parent

    def record(self) -> dict[str, Any]:
        return json.loads((self.run_folder / "run.json").read_text())

    def table(self, name: str) -> list[dict[str, Any]]:
        (path,) = self.run_folder.rglob(name)
        return pq.read_table(path).to_pylist()

    def attempts(self, where: str = "1") -> list[tuple[Any, ...]]:
        """(state, reason, request_id, body) of attempts, read past all our own code."""
        with contextlib.closing(sqlite3.connect(self.store)) as direct:
            return direct.execute(
                f"SELECT state, reason, request_id, body FROM attempt WHERE task=? AND {where}", [self.task]
            ).fetchall()


def invariants(run: FaultRun, api: FakeProvider | None = None, command: str = "collect", code: int = 0) -> None:
    """What must hold after any run that ended, however it went; `code` is what the same command ends with once more."""
    rows_are_accounted_for(run)
    if api is not None:
        ledger_is_the_bill(run, api)
    artefacts_match_their_schemas(run.folder)
    if api is not None:
        posts = len(api.posts)
        again = run(api, command)
        assert again.code == code, again.err
        assert len(api.posts) == posts, "a third run sends nothing"
    no_canary(run.folder)


def rows_are_accounted_for(run: FaultRun) -> None:
    """Rows in = used + excluded by reason, and every used row has one status for each role that was asked."""
    counts = run.record()["counts"]
    assert counts["rows"] == run.rows == counts["used"] + sum(counts["excluded"].values())
    graded = run.table("graded.parquet")
    assert len(graded) == len({row["example_id"] for row in graded}) == counts["used"]
    assert all(row["cheap_status"] for row in graded)
    for row in graded:  # what is unknown is null, never a guess
        if row["cheap_status"] != "ok":
            assert all(value is None for name, value in row.items() if name.startswith("signal_")), row
    kept = {(row["example_id"], row["role"]) for row in run.table("replies.parquet") if row["state"] == "ok"}
    for role in ("cheap", "strong"):
        answered = {row["example_id"] for row in graded if row[f"{role}_status"] not in (None, "failed")}
        assert answered == {example for example, of in kept if of == role}


def ledger_is_the_bill(run: FaultRun, api: FakeProvider) -> None:
    """Dollars of the store = what the service's own usage comes to; of replies without usage, unknown and not nothing."""
    printed = run(api, "status", "--json").json["store"]
    mine = [group for group in printed if group["task"] == run.task]
    told = sum(group["usd"] or 0.0 for group in mine)
    assert told == pytest.approx(api.usd, rel=1e-9)
    untold = sum(post.billed and post.usage == (0, 0) for post in api.posts)
    assert sum(group["replies_without_usage"] for group in mine) >= untold
    assert sum(group["attempts"] for group in mine) >= len(api.posts), "every POST was written down"


def artefacts_match_their_schemas(folder: Path) -> None:
    """Every artefact has its pinned columns and types, fits its schema, and is what its digest says."""
    for path in folder.rglob("*.parquet"):
        if path.name in PINNED:
            assert pq.read_schema(path).remove_metadata().equals(pa.schema(list(PINNED[path.name]))), path
    for path in folder.rglob("*.json"):
        value = json.loads(path.read_text())
        if path.name in SCHEMAS:
            jsonschema.Draft202012Validator(json.loads(SCHEMAS[path.name].read_text())).validate(value)
        elif "digest" in value:
            assert sealed(value) == value, path
    assert not list(folder.rglob("*.tmp"))


def no_canary(folder: Path, *secrets: str) -> None:
    """The key is in no byte below a folder, cells of Parquet and compressed bodies included."""
    for path in (p for p in folder.rglob("*") if p.is_file()):
        for data in readable(path):
            for secret in (KEY, *secrets):
                assert secret.encode() not in data, path


def readable(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what they are when they are unpacked."""
    data = path.read_bytes()
    yield data
    if path.suffix == ".parquet":
        yield repr(pq.read_table(path).to_pylist()).encode("utf-8", "surrogatepass")
    elif data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    elif data.startswith(b"SQLite format 3"):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as direct:
            for (table,) in direct.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
                for row in direct.execute(f"SELECT * FROM {table}"):
                    yield repr(row).encode()
                    for cell in row:
                        with contextlib.suppress(zlib.error):  # a checksum
                            yield zlib.decompress(cell) if isinstance(cell, bytes) else b""
