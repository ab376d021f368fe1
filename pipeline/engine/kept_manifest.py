"""KeptManifest: what came of a shard, beside its parts. A run that was killed or interrupted reads only what is missing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cascade_threshold
from cascade_threshold import json_text
from pipeline.engine.manifest import Manifest
from pipeline.errors import DataError
from pipeline.run import address
from pipeline.run.digests import digest

PACKAGES = (Path(str(cascade_threshold.__file__)).parent, Path(__file__).parent.parent)


def question(shard: Any) -> str:
    """Digest of all that decides what comes of a shard: how and from what it is read, and the code that reads it."""
    rows = shard.source.rpartition("/")[2]  # the name holds their digest
    asked = asdict(replace(shard, source=rows, out=""))
    return digest([json.loads(json.dumps(asked, default=str)), _code()])


def kept(shard: Any, asked: str, artefacts: tuple[str, ...]) -> Manifest | None:
    """The manifest that an earlier process left for the same question; None where there is none, or a part is not what it wrote."""
    try:
        told = json_text.parse(address.content(_place(shard)))
        if told["question"] != asked:
            return None
        sha256 = {shard.result(name): told["sha256"][name] for name in artefacts}
        if any(address.digest(path) != found for path, found in sha256.items()):
            return None
        return Manifest(sha256, told["rows"], told["facts"])
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return None


def keep(shard: Any, asked: str, found: Manifest, artefacts: tuple[str, ...]) -> None:
    """Write the manifest down."""
    sha256 = {name: found.sha256[shard.result(name)] for name in artefacts}
    told = {"question": asked, "sha256": sha256, "rows": found.rows, "facts": found.facts}
    address.write(_place(shard), json.dumps(told).encode())


def _place(shard: Any) -> str:
    return f"{shard.out}-manifest.json"


@lru_cache(maxsize=1)
def _code() -> str:
    found = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()
