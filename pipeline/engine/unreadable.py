"""Refuses a run in which one model gave no reply that can be read, and says what the replies were instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.config.vocabulary import ROLES
from pipeline.errors import DataError
from pipeline.run.record import Measured

_WHAT = {
    "out_of_set": "none of the labels",
    "truncated": "cut before a whole label",
    "empty": "empty",
    "filtered": "withheld by a content filter",
    "failed": "no reply",
}
_REMEDY = {
    "out_of_set": "let the prompt ask for exactly one of the answers and nothing else, or spell `labels` as the model answers",
    "truncated": "raise {role}.params.max_tokens, or switch reasoning off (reasoning: {{enabled: false}})",
    "empty": "raise {role}.params.max_tokens, or switch reasoning off (reasoning: {{enabled: false}})",
    "filtered": "choose another model, or ask the service to switch its filter off",
    "failed": "`status` says why they failed",
}


def require_readable(task: str, facts: Measured) -> None:
    """Raise DataError when replies of a role came and none of them is an answer; logprobs are another matter."""
    for role in ROLES:
        statuses = {status: n for status, n in facts.statuses[role].items() if n}
        came = sum(n for status, n in statuses.items() if status != "failed")
        if came and not any(status not in _WHAT for status in statuses):
            raise DataError(f"{task}: {_words(role, statuses, facts.unreadable_texts[role])}")


def _words(role: str, statuses: Mapping[str, int], texts: Iterable[tuple[str, int]]) -> str:
    total = sum(statuses.values())
    ranked = sorted(statuses.items(), key=lambda pair: -pair[1])
    causes = ", ".join(f"{n:,} of {total:,} {role} answers are {_WHAT[status]}" for status, n in ranked)
    seen = ", ".join(f"{text!r} {n:,} time{'s' * (n != 1)}" for text, n in texts if text.strip())
    main = next(status for status, _ in ranked if status != "failed")
    return (
        f"no reply of the {role} model can be read: {causes}{f': {seen}' if seen else ''}; {_REMEDY[main].format(role=role)}. "
        "The replies are kept: another way of reading them costs nothing"
    )
