"""Recorded: replies from a file, one JSON object a line, in the shape of a batch output file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from cascade_threshold import json_text
from cascade_threshold.completion import interruption
from pipeline.collect.providers.provider import Attempt
from pipeline.collect.providers.service import Service
from pipeline.collect.request import Request
from pipeline.config.task import Model, TaskConfig
from pipeline.errors import ConfigError, DataError


class _Line(NamedTuple):
    """Where a reply stands in the file."""

    offset: int
    length: int
    number: int
    success: bool
    content: bytes
    """Digest of what the reply says, without what a service numbers anew each time."""


_ANEW = ("id", "created", "system_fingerprint", "request_id")


def _parsed(line: bytes) -> tuple[str | None, dict[str, Any], str]:
    """Row id, {status_code, body}, and why there is no id. A line of another shape is a failed row."""
    try:
        value = json_text.parse(line)
    except ValueError as fault:
        return None, {}, f"no JSON ({fault})"
    custom_id = value.get("custom_id") if isinstance(value, dict) else None
    if isinstance(custom_id, int) and not isinstance(custom_id, bool):
        custom_id = str(custom_id)
    if not isinstance(custom_id, str) or not custom_id:
        return None, {}, 'no text under "custom_id"; it names the row\'s id'
    response, error = value.get("response"), value.get("error")
    if isinstance(response, dict) and response.get("body"):
        status = response.get("status_code", 200)
        status = int(status) if isinstance(status, str) and status.isdigit() else status
        good = isinstance(status, int) and 100 <= status <= 599
        return custom_id, {"status_code": status if good else 500, "body": response["body"]}, ""
    said = error or response or "no response"
    return (
        custom_id,
        {"status_code": 500, "body": {"error": said if isinstance(said, dict) else {"message": str(said)}}},
        "",
    )


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
    Only the places of the lines are held in memory. Raises DataError for two different replies of one row, and for a file
    without any.
    """

    paid = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.address = self.path.name
        self._places: dict[str, _Line] = {}
        self.duplicates: list[str] = []
        """Ids of lines that were passed over because another line of the same id counts."""
        self.recovered: list[str] = []
        """Of these, ids whose success counts beside an error."""
        self.unreadable: list[int] = []
        """Numbers of lines that name no row."""
        self._read()
        self._handle: BinaryIO | None = None

    @property
    def service(self) -> str:
        """ "recorded/" and twelve hex digits of the file's sha256: another file is another source."""
        return f"recorded/{self._digest}"

    def _read(self) -> None:
        digest, offset, why = hashlib.sha256(), 0, ""
        try:
            with self.path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    digest.update(line)
                    if line.strip():
                        custom_id, response, problem = _parsed(line)
                        if custom_id is None:
                            self.unreadable.append(number)
                            why = why or f"line {number}: {problem}"
                        else:
                            self._add(custom_id, _Line(offset, len(line), number, *_content(response)))
                    offset += len(line)
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read ({error.strerror}); `replies` of the config names the file of recorded replies"
            ) from None
        if not self._places:
            raise DataError(
                f'{self.path}: holds no replies{f" ({why})" if why else ""}; expected lines of {{"custom_id": ..., "response": {{...}}}}'
            )
        self._digest = digest.hexdigest()[:12]

    def _add(self, custom_id: str, line: _Line) -> None:
        known = self._places.setdefault(custom_id, line)
        if known is line:
            return
        if known.success and line.success and known.content != line.content:
            raise DataError(
                f"{self.path}:{line.number}: another reply of {custom_id!r} than on line {known.number}; "
                "one row has one reply, so remove the one that does not count"
            )
        self.duplicates.append(custom_id)
        if known.success != line.success:
            self.recovered.append(custom_id)
        if line.success and not known.success:
            self._places[custom_id] = line

    def notes(self) -> list[str]:
        """What a person should know of the file, a sentence each."""
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
        wanted = list(example_ids)
        if wanted and not any(example_id in self._places for example_id in wanted):
            mine = ", ".join(map(repr, list(self._places)[:3]))
            raise DataError(
                f"{self.path}: none of its ids is a row's: the file has {mine}, the dataset has {', '.join(map(repr, wanted[:3]))}; "
                f"name the column with the file's ids as dataset.id, or another file as {role}.replies"
            )

    def missing(self, example_ids: Iterable[str]) -> list[str]:
        """Wanted ids that the file lacks."""
        return [example_id for example_id in example_ids if example_id not in self._places]

    def unknown(self, example_ids: Iterable[str]) -> list[str]:
        """Ids of the file that nobody wants."""
        wanted = set(example_ids)
        return [custom_id for custom_id in self._places if custom_id not in wanted]

    async def complete(self, request: Request) -> Attempt:
        """The recorded reply to the request's row; a row that the file lacks is a reply that never came."""
        place = self._places.get(request.example_id)
        if place is None:
            return Attempt(
                "reply",
                422,
                b'{"error": {"message": "not in the file of recorded replies"}}',
                host=self.path.name,
                problem="not_recorded",
            )
        if self._handle is None:
            self._handle = self.path.open("rb")
        self._handle.seek(place.offset)
        response = _parsed(self._handle.read(place.length))[1]
        status, body = response["status_code"], response["body"]
        raw = (
            body.encode()
            if isinstance(body, str)
            else json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        )
        # nobody is there to be asked more slowly or with another key: such an error is the row's
        of_row = status < 300 or status in (400, 413, 422) or status >= 500
        return Attempt(
            "reply", status if of_row else 422, raw, host=self.path.name, wire_form="recorded",
            problem="" if of_row else f"http_{status}",
        )  # fmt: skip

    async def aclose(self) -> None:
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
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"{where}: {role}.replies: {path} cannot be read ({error.strerror}); it names the file of recorded replies"
        ) from None
    return Service(f"recorded/{content[:12]}", settings.model, source=path, provider="recorded", role=role)


def connect(found: Service, *, concurrency: int, allow_insecure: bool, forms: Mapping[str, str]) -> Recorded:
    """The file, read. Raises DataError that names file and line."""
    return Recorded(found.source)
