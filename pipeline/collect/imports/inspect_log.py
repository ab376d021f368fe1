"""Inspect: an evaluation log of inspect_ai, as .json or as the .eval archive of JSON files."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cascade_threshold import json_text
from pipeline.collect.imports.answer import Answer, from_completions, json_file, truth
from pipeline.errors import DataError

ZSTD = 93
"""Compression method of a zip archive that inspect_ai uses, and Python's zipfile reads from 3.14 on."""
MOST_SAMPLE_BYTES = 256 * 2**20


def read(path: Path, labels: Sequence[str] | None) -> list[Answer]:
    """The answers of a log's samples, graded by its first scorer. Several epochs of a sample are one group."""
    samples = _samples(path)
    if not samples:
        raise DataError(f"{path}: holds no samples; inspect writes them unless log_samples is off")
    several = len({str(s.get("id")) for s in samples}) < len(samples)
    named = [(f"{s.get('id')}/{s.get('epoch', 1)}" if several else str(s.get("id")), s) for s in samples]
    found = from_completions([(name, _completion(sample)) for name, sample in named], labels)
    out = []
    for name, sample in named:
        reply = found[name]
        scores = sample.get("scores")
        score: Any = next(iter(scores.values()), {}) if isinstance(scores, dict) else {}
        target = sample.get("target")
        label = (
            target if isinstance(target, str) else target[0] if isinstance(target, list) and len(target) == 1 else None
        )
        label = label if isinstance(label, str) else None
        graded = score if isinstance(score, dict) else {}
        out.append(
            Answer(
                name,
                reply.model,
                said if isinstance(said := graded.get("answer"), str) and said else reply.answer,
                reply.confidence,
                truth(graded.get("value")),
                label,
                str(sample.get("id")) if several else None,
                unread=reply.unread,
            )
        )
    return out


def _samples(path: Path) -> list[dict[str, Any]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.startswith("samples/") and n.endswith(".json"))
            try:
                return [json_text.parse(_member(archive, name)) for name in names]
            except (ValueError, OSError, zlib.error, struct.error, zipfile.BadZipFile, NotImplementedError) as error:
                raise DataError(
                    f"{path}: cannot be read ({error}); convert it with `inspect log convert --to json`"
                ) from None
    found = json_file(path).get("samples")
    return [s for s in found if isinstance(s, dict)] if isinstance(found, list) else []


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member, of zstd too. Raises ValueError for one that is too large or damaged."""
    info = archive.getinfo(name)
    if info.file_size > MOST_SAMPLE_BYTES:
        raise ValueError(f"{name} has {info.file_size:,} bytes, more than {MOST_SAMPLE_BYTES:,}")
    if info.compress_type != ZSTD:
        return archive.read(info)
    assert archive.fp is not None
    archive.fp.seek(info.header_offset)
    header = archive.fp.read(30)
    name_length, extra_length = struct.unpack("<HH", header[26:])
    archive.fp.seek(name_length + extra_length, 1)
    found: bytes = pa.Codec("zstd").decompress(archive.fp.read(info.compress_size), info.file_size, asbytes=True)
    if zlib.crc32(found) != info.CRC:
        raise ValueError(f"{name} is damaged: its checksum differs")
    return found


def _completion(sample: dict[str, Any]) -> dict[str, Any]:
    """The sample's output in the shape of a chat completion, whose logprobs inspect keeps as they came."""
    output = sample.get("output")
    output = output if isinstance(output, dict) else {}
    found = output.get("choices")
    choices = []
    for choice in found if isinstance(found, list) else ():
        if not isinstance(choice, dict):
            continue
        message = choice.get("message")
        message = dict(message) if isinstance(message, dict) else {}
        parts = message.get("content")
        if isinstance(parts, list):
            texts = [p.get("text") for p in parts if isinstance(p, dict) and p.get("type") == "text"]
            message["content"] = "".join(text for text in texts if isinstance(text, str))
        choices.append(
            {
                "index": 0,
                "message": message,
                "logprobs": choice.get("logprobs"),
                "finish_reason": choice.get("stop_reason") or "stop",
            }
        )
    return {"model": output.get("model"), "choices": choices}
