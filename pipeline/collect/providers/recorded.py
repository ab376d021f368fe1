"""Recorded: replies from a file, one JSON object a line, in the shape of a batch output file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.collect.providers.provider import Attempt
from pipeline.collect.providers.service import Service
from pipeline.collect.request import Request
from pipeline.config.task import Model, TaskConfig
from pipeline.errors import ConfigError, DataError


class Recorded:
    """Answers requests of one role by their example id. Costs nothing; usage is priced as if it had been sent.

    The file's lines are {"custom_id": example id, "response": {"status_code": 200, "body": chat completion}}. Only the
    places of the lines are held in memory. Raises DataError that names file and line.
    """

    paid = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.address = self.path.name
        self._places: dict[str, tuple[int, int, int]] = {}
        self.duplicates: list[str] = []
        """Ids that occur on more than one line; the first line counts."""
        self._read()
        self._handle: BinaryIO | None = None

    @property
    def service(self) -> str:
        """ "recorded/" and twelve hex digits of the file's sha256: another file is another source."""
        return f"recorded/{self._digest}"

    def _read(self) -> None:
        digest, offset = hashlib.sha256(), 0
        try:
            with self.path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    digest.update(line)
                    if line.strip():
                        custom_id = self._parse(line, number)[0]
                        if custom_id in self._places:
                            self.duplicates.append(custom_id)
                        else:
                            self._places[custom_id] = (offset, len(line), number)
                    offset += len(line)
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read ({error.strerror}); `replies` of the config names the file of recorded replies"
            ) from None
        if not self._places:
            raise DataError(
                f'{self.path}: holds no replies; expected lines of {{"custom_id": ..., "response": {{...}}}}'
            )
        self._digest = digest.hexdigest()[:12]

    def _parse(self, line: bytes, number: int) -> tuple[str, dict[str, Any]]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{self.path}:{number}: no JSON ({error}); each line is one object with custom_id and response"
            ) from None
        custom_id = value.get("custom_id") if isinstance(value, dict) else None
        if not isinstance(custom_id, str) or not custom_id:
            raise DataError(f'{self.path}:{number}: no text under "custom_id"; it names the row\'s id')
        response = value.get("response")
        if not isinstance(response, dict):
            if isinstance(value.get("error"), dict):
                return custom_id, {"status_code": 500, "body": {"error": value["error"]}}
            raise DataError(
                f'{self.path}:{number}: no object under "response"; expected {{"status_code": 200, "body": {{...}}}}'
            )
        if "body" not in response:
            raise DataError(f'{self.path}:{number}: no "body" in "response"')
        return custom_id, response

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
        offset, length, number = place
        if self._handle is None:
            self._handle = self.path.open("rb")
        self._handle.seek(offset)
        _, response = self._parse(self._handle.read(length), number)
        status, body = response.get("status_code", 200), response["body"]
        raw = (
            body.encode()
            if isinstance(body, str)
            else json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        )
        return Attempt(
            "reply", status if isinstance(status, int) else 200, raw, host=self.path.name, wire_form="recorded"
        )

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
