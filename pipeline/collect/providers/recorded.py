"""Recorded: replies from a file, one JSON object a line, in the shape of a batch output file."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from cascade_threshold.completion import interruption
from pipeline.collect.data.id_places import IdPlaces
from pipeline.collect.data.text_column import PIECE, TextColumn
from pipeline.collect.providers import recorded_line
from pipeline.collect.providers.provider import Attempt
from pipeline.collect.providers.recorded_line import parsed, row_id
from pipeline.collect.providers.service import Service
from pipeline.collect.request import Request
from pipeline.config.task import Model, TaskConfig
from pipeline.errors import ConfigError, DataError
from pipeline.run.digests import file_digest

_ANEW = ("id", "created", "system_fingerprint", "request_id")


def _content(response: dict[str, Any]) -> tuple[bool, bytes]:
    body = response["body"]
    said = {k: v for k, v in body.items() if k not in _ANEW} if isinstance(body, dict) else body
    text = json.dumps(said, sort_keys=True)
    success = 200 <= response["status_code"] < 300 and not (isinstance(body, dict) and interruption(body))
    return success, hashlib.blake2b(text.encode(), digest_size=16).digest()


class Recorded:
    """Answers requests of one role by their example id. Costs nothing; usage is priced as if it had been sent.

    The file's lines are {"custom_id": example id, "response": {"status_code": 200, "body": chat completion}}. Of
    two lines with one id a reply goes before an error, and equal ones count once; a line of another shape is a failed row.
    Only the ids and the places of the lines are held in memory. Raises DataError for two different replies of one row, and for a file
    without any.
    """

    paid = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.address = self.path.name
        self._ids = TextColumn()
        """The row id of each line; None where it names none."""
        self._counts: dict[int, int] = {}
        """Of a row whose first line does not count, the line that does, by the number of the first, from 0."""
        self._offsets = array("Q", [0])
        """Where each line begins, and the end."""
        self.duplicates: list[str] = []
        """Ids of lines that were passed over because another line of the same id counts."""
        self.recovered: list[str] = []
        """Of these, ids whose success counts beside an error."""
        self.unreadable: list[int] = []
        """Numbers of lines that name no row."""
        self._handle: BinaryIO | None = None
        try:
            self._read()
        finally:
            self.close()

    @property
    def service(self) -> str:
        """ "recorded/" and twelve hex digits of the file's sha256: another file is another source."""
        return f"recorded/{file_digest(self.path)[:12]}"

    def _read(self) -> None:
        offset, why, piece = 0, "", list[str | None]()
        try:
            with self.path.open("rb") as lines:
                for number, line in enumerate(lines):
                    offset += len(line)
                    self._offsets.append(offset)
                    custom_id, problem = (None, "") if line.isspace() else row_id(line)
                    if problem:
                        self.unreadable.append(number + 1)
                        why = why or f"line {number + 1}: {problem}"
                    piece.append(custom_id)
                    if len(piece) == PIECE:
                        self._ids.add(piece)
                        piece = []
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read ({error.strerror}); `replies` of the config names the file of recorded replies"
            ) from None
        self._ids.add(piece)
        self._places = IdPlaces(self._ids)
        if not len(self._places):
            raise DataError(
                f'{self.path}: holds no replies{f" ({why})" if why else ""}; expected lines of {{"custom_id": ..., "response": {{...}}}}'
            )
        for custom_id, first, number in self._places.repeated():
            self._again(custom_id, first, number)

    def _again(self, custom_id: str, first: int, number: int) -> None:
        """A further line of a row."""
        known = self._counts.get(first, first)
        before, content = _content(parsed(self._line(known))[1])
        success, mine = _content(parsed(self._line(number))[1])
        if before and success and content != mine:
            raise DataError(
                f"{self.path}:{number + 1}: another reply of {custom_id!r} than on line {known + 1}; "
                "one row has one reply, so remove the one that does not count"
            )
        self.duplicates.append(custom_id)
        if before != success:
            self.recovered.append(custom_id)
        if success and not before:
            self._counts[first] = number

    def notes(self) -> list[str]:
        """Notices about the file, a sentence each."""
        said = []
        if self.duplicates:
            n = len(self.duplicates)
            said.append(
                f"{self.path.name}: {n:,} line{'s' * (n != 1)} repeat{'s' * (n == 1)} an id (such as {self.duplicates[0]!r}): "
                f"{len(self.recovered):,} where a reply counts beside an error, the rest alike"
            )
        if self.unreadable:
            n = len(self.unreadable)
            said.append(
                f"{self.path.name}: {n:,} line{'s' * (n != 1)} name{'s' * (n == 1)} no row (the first is line {self.unreadable[0]:,})"
            )
        return said

    def require_match(self, example_ids: Iterable[str], role: str) -> None:
        """Raise DataError when the file holds none of the wanted rows: both spellings are shown."""
        first, rest = list[str](), iter(example_ids)
        while piece := list(islice(rest, PIECE)):
            first = first or piece[:3]
            if (self._places.find(piece) >= 0).any():
                return
        if first:
            mine = ", ".join(map(repr, islice(self._distinct(), 3)))
            raise DataError(
                f"{self.path}: none of its ids is a row's: the file has {mine}, the dataset has {', '.join(map(repr, first))}; "
                f"name the column with the file's ids as dataset.id, or another file as {role}.replies"
            )

    def missing(self, example_ids: Sequence[str]) -> list[str]:
        """Wanted ids that the file lacks."""
        return [name for name, place in zip(example_ids, self._places.find(example_ids), strict=True) if place < 0]

    def unknown(self, example_ids: Iterable[str]) -> list[str]:
        """Ids of the file that no row has."""
        wanted = set(example_ids)
        return [custom_id for custom_id in self._distinct() if custom_id not in wanted]

    def _distinct(self) -> Iterator[str]:
        again = {number for _, _, number in self._places.repeated()}
        told = enumerate(custom_id for piece in self._ids.pieces() for custom_id in piece)
        return (custom_id for number, custom_id in told if custom_id is not None and number not in again)

    def lines(self, example_ids: Sequence[str]) -> list[bytes | None]:
        """The lines that tell of some rows; None for a row that the file lacks."""
        places = self._places.find(example_ids).tolist()
        return [None if place < 0 else self._line(self._counts.get(place, place)) for place in places]

    def line(self, example_id: str) -> bytes | None:
        """The line that tells of a row; None when the file lacks it."""
        return self.lines([example_id])[0]

    def _line(self, number: int) -> bytes:
        if self._handle is None:
            self._handle = self.path.open("rb")
        self._handle.seek(self._offsets[number])
        return self._handle.read(self._offsets[number + 1] - self._offsets[number])

    async def complete(self, request: Request) -> Attempt:
        """The recorded reply to the request's row; a row that the file lacks is a reply that never came."""
        found = self.line(request.example_id)
        host = self.path.name
        return recorded_line.missing(host) if found is None else recorded_line.attempt(parsed(found)[1], host)

    async def aclose(self) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def service(config: TaskConfig, role: str, settings: Model) -> Service:
    """The file of replies of a role. Raises ConfigError when there is none or it cannot be read."""
    where = config.source
    if settings.replies is None:
        raise ConfigError(f"{where}: {role}.replies is missing: provider recorded reads a file of replies")
    path = Path(config.resolve(settings.replies))
    try:
        content = file_digest(path)
    except OSError as error:
        raise ConfigError(
            f"{where}: {role}.replies: {path} cannot be read ({error.strerror}); it names the file of recorded replies"
        ) from None
    return Service(f"recorded/{content[:12]}", settings.model, source=path, provider="recorded", role=role)


def connect(found: Service, *, concurrency: int, allow_insecure: bool, forms: Mapping[str, str]) -> Recorded:
    """The file, read. Raises DataError that names file and line."""
    return Recorded(found.source)
