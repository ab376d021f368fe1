"""Manifest: what the work on a shard returns. Only plain values travel between processes, even when the work fails."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline import errors
from pipeline.run import garbage

Spec = TypeVar("Spec")


@dataclass(frozen=True)
class Manifest:
    """Result of the work on a shard."""

    sha256: dict[str, str]
    """Digest of each file that was written, by its address."""
    rows: int
    facts: dict[str, Any] = field(default_factory=dict)
    """Sufficient statistics as plain values: what can be added up over shards."""


@dataclass(frozen=True)
class Failure:
    """Why the work on a shard failed, in words: an exception object may hold anything."""

    kind: str
    message: str
    trace: str

    def error(self) -> Exception:
        """The error to raise where the work was asked for."""
        found = getattr(errors, self.kind, None)
        if isinstance(found, type) and issubclass(found, errors.CascadeError):
            return found(self.message)
        return RuntimeError(f"the work on a shard failed\n{self.trace}")


def computed(work: Callable[[Spec], Manifest], shard: Spec) -> Manifest | Failure:
    """Run the work on a shard in this process, one that works for another."""
    try:
        with garbage.searched_rarely():
            return work(shard)
    except Exception as error:
        return Failure(type(error).__name__, str(error), traceback.format_exc())


def manifest(found: Manifest | Failure) -> Manifest:
    """The manifest, or the failure raised as an error of this process."""
    if isinstance(found, Failure):
        raise found.error()
    return found
