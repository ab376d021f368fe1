"""Run: the directory of one evaluation, with the names of all artefacts. Every write is all or nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cascade_threshold import json_text
from pipeline.errors import DataError, UsageError
from pipeline.run import footer
from pipeline.run.atomic import atomic, disk_errors, make_folder, write_bytes
from pipeline.run.digests import digest
from pipeline.run.record import RunRecord

if TYPE_CHECKING:  # reading shards does not need pandas
    import pandas as pd

RUN = "run.json"
REPLIES = "replies.parquet"
TOKENS = "tokens.parquet"
GRADED = "graded.parquet"
PREDICTIONS = "predictions.parquet"
CALIBRATION = "calibration.json"
RELIABILITY = "reliability.parquet"
SWEEP = "sweep.parquet"
RECOMMENDATION = "recommendation.json"
POLICY = "policy.json"
DECISION = "decision.json"
STORE = "responses.sqlite"
LOOKS = "looks.jsonl"


class Folder:
    """A directory and the artefacts in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """Where an artefact lies; its folder exists afterwards."""
        with disk_errors(self.directory):
            make_folder(self.directory)
        return self.directory / name

    def has(self, name: str) -> bool:
        """Whether the artefact was written (writes are whole, so it is complete)."""
        return (self.directory / name).is_file()

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON artefact. Raises UsageError that names the stage to run when it is not there."""
        return read_json(self.existing(name))

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON artefact; NaN and infinities become null."""
        write_bytes(self.path(name), dump_json(value))

    def read_table(self, name: str) -> pd.DataFrame:
        """A Parquet artefact as a DataFrame; its metadata are the frame's `attrs`."""
        table = self.read_arrow(name)
        frame: pd.DataFrame = table.to_pandas()
        frame.attrs = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items() if k != b"pandas"}
        return frame

    def read_arrow(self, name: str, columns: Sequence[str] | None = None, *, repeating: Sequence[str] = ()) -> pa.Table:
        """A Parquet artefact, or some of its columns. Raises as `read_parquet`, and UsageError when it is not there."""
        return read_parquet(self.existing(name), columns, repeating=repeating)

    def write_table(self, name: str, table: pa.Table, metadata: Mapping[str, str] | None = None) -> None:
        """Write a Parquet artefact: see `parquet_options`."""
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **(metadata or {})})
        with atomic(self.path(name)) as temporary:
            pq.write_table(table, temporary, **parquet_options(table.schema))
            footer.seal(temporary)

    def write_parts(
        self, name: str, schema: pa.Schema, parts: Iterable[pa.Table], metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write a Parquet artefact of which each part is a row group, and only one is held at a time."""
        schema = schema.with_metadata(dict(metadata or {}))
        with atomic(self.path(name)) as temporary:
            with pq.ParquetWriter(temporary, schema, **parquet_options(schema)) as writer:
                for part in parts:
                    writer.write_table(part.replace_schema_metadata(schema.metadata), row_group_size=max(1, len(part)))
            footer.seal(temporary)

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        """Write a DataFrame as Parquet; its `attrs` become the file's metadata."""
        metadata = {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in frame.attrs.items()}
        table = pa.Table.from_pandas(frame, preserve_index=False)
        self.write_table(name, table.replace_schema_metadata(None), metadata)

    def existing(self, name: str) -> Path:
        """Path of an artefact that must be there. Raises UsageError with the stage that writes it."""
        path = self.directory / name
        if not path.is_file():
            stage = {
                REPLIES: "collect",
                TOKENS: "collect",
                GRADED: "collect",
                PREDICTIONS: "measure",
                CALIBRATION: "calibrate",
                RELIABILITY: "calibrate",
                SWEEP: "sweep",
                RECOMMENDATION: "recommend",
                POLICY: "recommend",
            }.get(name, "evaluate")
            raise UsageError(f"{path}: does not exist yet; run the stage `{stage}` first, with the same options")
        return path


class Run(Folder):
    """The directory runs/<task>/<run_id>/ and the artefacts in it."""

    def __init__(self, runs_dir: Path, task: str, run_id: str) -> None:
        super().__init__(runs_dir / task / run_id)
        self.runs_dir, self.task, self.run_id = runs_dir, task, run_id
        self._record: RunRecord | None = None

    def named(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The content of an artefact with the task's and the run's names after its schema."""
        return {"schema": content["schema"], "task": self.task, "run_id": self.run_id, **content}

    @property
    def record(self) -> RunRecord:
        """What run.json says, read once; a new record where there is none yet, or one that is damaged or of another version."""
        if self._record is None:
            self._record = RunRecord(task=self.task, run_id=self.run_id)
            if self.has(RUN):
                with suppress(DataError):  # what it said of the sending is lost; everything else is found anew
                    self._record = RunRecord.of_json(read_json(self.directory / RUN), RUN)
        return self._record

    def update(self, **fields: Any) -> RunRecord:
        """Set fields of run.json and return the whole; roles and stages that are not given stay as they were."""
        told = finite(fields)
        for name in ("probes", "spending", "stages"):
            if name in told:
                told[name] = {**(self.record.model_dump()[name] or {}), **told[name]}
        self._record = RunRecord.model_validate({**self.record.model_dump(), **told})
        self.write_json(RUN, sealed(self._record.to_json()))
        return self._record

    @classmethod
    def all(cls, runs_dir: Path, task: str | None = None) -> list[Run]:
        """Every run of a task, or of all tasks, newest first; those whose record is damaged are left out."""
        found = []
        for path in runs_dir.glob(f"{task or '*'}/*/{RUN}"):
            run = cls(runs_dir, path.parent.parent.name, path.parent.name)
            try:
                found.append((str(run.read_json(RUN).get("started") or ""), run.run_id, run))
            except DataError:  # a damaged record of one run must not stop the others
                continue
        return [run for _, _, run in sorted(found, key=lambda entry: entry[:2], reverse=True)]


def parquet_options(schema: pa.Schema, *, level: int = 3) -> dict[str, Any]:
    """Writer options shared by every Parquet file of a run: zstd 3, dictionaries for strings only, page checksums.

    level  of zstd; 1 for what is read once and removed

    Floats are written plainly: BYTE_STREAM_SPLIT cannot be read by fastparquet and Spark 3, and on runs of the bundled tasks it made
    files 1 to 10 % larger, but for tokens.parquet (3 % smaller).
    """
    strings = [column for column, kind in _leaves(schema) if pa.types.is_string(kind)]
    return {
        "compression": "zstd",
        "compression_level": level,
        "use_dictionary": strings or False,
        "write_page_checksum": True,
    }


def _leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    def walk(prefix: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
        if pa.types.is_struct(kind):
            for i in range(kind.num_fields):
                yield from walk(f"{prefix}.{kind.field(i).name}", kind.field(i).type)
        elif pa.types.is_list(kind):
            yield from walk(f"{prefix}.list.element", kind.value_type)
        else:
            yield prefix, kind

    for field in schema:
        yield from walk(field.name, field.type)


def read_parquet(
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    repeating: Sequence[str] = (),
    among: pc.Expression | None = None,
) -> pa.Table:
    """A Parquet file that the product wrote, its footer and page checksums verified; those of `columns` that it has.

    Text columns named in `repeating` come as the file holds them, as codes into their distinct values. `among` picks rows. The
    only reader of artefacts. Raises DataError when the file is truncated, damaged or no Parquet.
    """
    try:
        with path.open("rb") as handle:
            footer.check(handle)
        with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=list(repeating)) as file:
            wanted = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
            if among is None:
                return file.read(columns=wanted)
        return pq.read_table(path, columns=wanted, filters=among, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path}: damaged ({str(error).splitlines()[0]}); delete it and run the stage again, nothing is paid twice"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises DataError when it is damaged."""
    try:
        value = json_text.parse(path.read_bytes())
    except ValueError as error:
        raise DataError(
            f"{path}: damaged JSON ({error}); delete it and run `evaluate` again, nothing is paid twice"
        ) from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds no JSON object; delete it and run `evaluate` again, nothing is paid twice")
    if "digest" in value and not str(value.get("schema")).startswith("cascade-policy") and sealed(value) != value:
        raise DataError(
            f"{path}: damaged (its digest does not match); delete it and run `evaluate` again, nothing is paid twice"
        )
    return value


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a JSON artefact with its own digest, by which a changed bit is noticed."""
    plain = {k: v for k, v in finite(content).items() if k != "digest"}
    return {**plain, "digest": digest(plain)}


def dump_json(value: Any) -> bytes:
    """JSON as the artefacts hold it: indented, sorted as given, floats exact, NaN and infinities null."""
    return (json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(
        "utf-8", "backslashreplace"
    )


def finite(value: Any) -> Any:
    """Copy of a JSON value in which what is not a finite number is None, and numpy scalars are Python's."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        return finite(value.item())
    return value
