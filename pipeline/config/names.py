"""Names in a config: fields whose value is one of a list of the vocabulary."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, StrictStr

from pipeline.config.vocabulary import CALIBRATIONS, KINDS, SIGNALS, SPLITS, TARGETS


def one_of(names: Iterable[str]) -> Any:
    """A field whose value is one of the names, which the message lists."""
    known = tuple(names)

    def check(name: str) -> str:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"must be one of {', '.join(map(repr, known))}{hint}")
        return name

    return AfterValidator(check)


KindName = Annotated[StrictStr, one_of(KINDS)]
SplitName = Annotated[StrictStr, one_of(SPLITS)]
SignalName = Annotated[StrictStr, one_of(("auto", *SIGNALS))]
CalibrationName = Annotated[StrictStr, one_of(CALIBRATIONS)]
TargetName = Annotated[StrictStr, one_of(TARGETS)]
