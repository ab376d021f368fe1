"""BatchResult: the lines of a batch's result file, read within limits: whose each is, its status and its body."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.collect.providers import bounded
from pipeline.collect.providers.recorded_line import http_status, loaded

LINE_START = 1_000
"""What is given of a line beyond bounded.MOST_BYTES: enough to tell whose it is."""


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than a reply may be, its start, which is no JSON."""
    with path.open("rb") as handle:
        while line := handle.readline(bounded.MOST_BYTES + 1):
            if len(line) > bounded.MOST_BYTES:
                line, rest = line[:LINE_START], line
                while rest and not rest.endswith(b"\n"):
                    rest = handle.readline(bounded.MOST_BYTES)
            if line.strip():
                yield line


@dataclass(frozen=True)
class Survey:
    """What can be told of a result file without reading its results."""

    ids: frozenset[str]
    """Of the requests that were asked about, those with a line."""
    foreign: bool
    """Whether it holds something, but no result of any request, as a web page would."""
    torn: bool
    """Whether it ends in the middle of a line."""
    digest: bytes


def survey(path: Path, wanted: Collection[str]) -> Survey:
    """Survey a file for the requests `wanted`. Its last line needs no line end, but then to be whole."""
    ids, last, results = set(), b"", False
    for last in lines(path):
        results = results or b'"custom_id"' in last
        if (found := _CUSTOM_ID.search(last)) and (custom_id := found[1].decode()) in wanted:
            ids.add(custom_id)
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").digest()
        handle.seek(max(0, handle.tell() - 1))
        ended = handle.read() in (b"", b"\n")
    torn = not ended and not _whole(last)
    return Survey(frozenset(ids), bool(last) and not results, torn, digest)


def _whole(line: bytes) -> bool:
    try:
        loaded(line)
    except ValueError:
        return False
    return True


_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([0-9a-f]{64})"')


def read(line: bytes) -> tuple[str | None, int, bytes]:
    """Custom id, status and body of a line; of a broken one the id where it can be told, and the line itself."""
    try:
        value = loaded(line)
    except ValueError:
        found = _CUSTOM_ID.search(line)
        return (found[1].decode() if found else None), 200, line
    custom_id = value.get("custom_id") if isinstance(value, dict) else None
    return (custom_id, *_result(value)) if isinstance(custom_id, str) else (None, 200, line)


def _result(value: dict[str, Any]) -> tuple[int, bytes]:
    """Status and raw body of a result line: {response: {status_code, body}} or {error: {message, code}}."""
    response = value.get("response")
    if isinstance(response, dict) and "body" in response:
        # where the status is none, the body decides
        status, body = http_status(response.get("status_code")) or 200, response["body"]
    else:
        error = value.get("error") or response
        code = http_status(error.get("code")) if isinstance(error, dict) else None
        status, body = (code if code is not None and code >= 400 else 500), {"error": error}
    raw = (
        body.encode("utf-8", "surrogatepass")
        if isinstance(body, str)
        else json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
    return status, raw
