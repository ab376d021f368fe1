"""ResultFiles: the result files of a batch that ended, fetched until none of its results can have been lost on the way.

What is in neither file is asked again, and paid again. Files without a line for some request are therefore believed only
when they come twice alike and hold results of this batch, and none that ends within a line is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.collect.providers import batch_result, bounded
from pipeline.collect.providers.batch_result import Survey
from pipeline.collect.providers.together_batch import LOST, Batch, GoneError, TogetherBatch, Unsure, unless_lost

LOOKS = 3
"""How often files that do not account for every request are fetched at most; at the end they must have come twice alike."""


@dataclass(frozen=True)
class ResultFiles:
    """What the service gives of a batch."""

    batch: Batch
    paths: tuple[Path, ...] = ()
    """Where each that was there has been fetched to."""
    lost: bool = False
    """Whether results are lost, and may be asked again."""


async def fetch(
    provider: TogetherBatch,
    batch: Batch,
    wanted: Collection[str],
    folder: Path,
    *,
    pause: Callable[[], Awaitable[None]],
    resend: bool,
) -> ResultFiles:
    """Download the files of a batch that ended, and whose requests are `wanted`, into `folder`.

    Raises UsageError where some are gone, or twice alike not whole, unless `resend` says that they may be asked again; Unsure
    where they came otherwise each time.
    """
    paths: dict[str, Path] = {}
    before: list[bytes] | None = None
    for look in range(LOOKS):
        if look:
            await pause()
            again = await unless_lost(provider.status(batch.id), batch.id, len(wanted), resend=resend)
            batch = again or Batch(batch.id, LOST)
        if batch.status == LOST:
            return ResultFiles(batch, tuple(paths.values()), lost=True)
        named = [(name, f) for name in ("output", "error") if (f := getattr(batch, f"{name}_file_id"))]
        surveys: dict[str, Survey] = {}
        for name, file_id in named:
            path = folder / f"results-{name}.jsonl"  # an id of the service makes no path
            download = provider.download(file_id, path, most=max(1, len(wanted)) * bounded.MOST_BYTES)
            if (found := await unless_lost(download, batch.id, len(wanted), resend=resend)) is not None:
                paths[name], surveys[name] = found, batch_result.survey(path, wanted)
        files = ResultFiles(batch, tuple(paths.values()), lost=len(surveys) < len(named))
        doubt, digests = _doubt(batch, surveys, wanted), [survey.digest for survey in surveys.values()]
        if not doubt and (len(_ids(surveys)) == len(wanted) or digests == before):
            return files
        alike, before = digests == before, digests
    if not alike:
        raise Unsure(
            f"{provider.host} gives other results of batch {batch.id} each time; the same command fetches them again"
        )
    await unless_lost(_refused(f"{provider.host} {doubt}"), batch.id, len(wanted), resend=resend)
    return ResultFiles(batch, files.paths, lost=True)


def _ids(surveys: Mapping[str, Survey]) -> set[str]:
    return set().union(*(survey.ids for survey in surveys.values()))


def _doubt(batch: Batch, surveys: Mapping[str, Survey], wanted: Collection[str]) -> str:
    """Why the files cannot be all that there is; empty where they may be."""
    if any(survey.torn for survey in surveys.values()):
        return "gives results that end in the middle of a line"
    if len(_ids(surveys)) == len(wanted):
        return ""
    output = surveys.get("output")
    if output is not None and output.foreign:
        return "gives something else than results"
    if batch.status == "COMPLETED" and (output is None or not output.ids):
        return "says that the batch is completed, and gives no results"
    return ""


async def _refused(why: str) -> None:
    raise GoneError(why)
